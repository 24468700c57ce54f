"""Launches and a no-op apply, each beside the least that could do the same (G10, G11, G12 and two models)."""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.ratios import timed
from benchmarks.servers import Machine, began, child, end, machine, spawn, until_all_answer, until_open
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.listeners import LocalListeners
from reconciler.adapters.processes import LocalProcesses
from reconciler.model.target import LaunchOrder
from reconciler.programs.tiny_model import write_cached
from tests.ports import free_ports

MANY = 40


def launching(root: Path, rounds: int) -> None:
    """Print every table of this module."""
    command = child(root)
    _order_to_exec(root, command, rounds)
    _port_open(root, max(3, rounds // 3))
    with machine(root / "many", command, MANY) as many:
        _start_many(many, command, max(3, rounds // 5))
        _nothing_to_do(many, rounds)
    _two_models(root, max(3, rounds // 5))


def pairs(title: str, names: tuple[str, str], rounds: int, one: Callable[[], tuple[float, float]]) -> None:
    """Print the medians of a floor and of what is measured, and of their ratio round by round."""
    one()  # warms the caches
    taken = [one() for _ in range(rounds)]
    ratio = statistics.median(ours / floor for floor, ours in taken)
    print(f"\n{title}\n{'':36} {'ms':>8} {'ratio':>7}")
    for index, name in enumerate(names):
        value = statistics.median(pair[index] for pair in taken)
        print(f"{name:36} {value * 1e3:8.2f} {1.0 if index == 0 else ratio:7.2f}", flush=True)


def _order(label: str, argv: Sequence[str], port: int) -> LaunchOrder:
    return LaunchOrder(
        label=label,
        port=port,
        host="127.0.0.1",
        argv=tuple(argv),
        env={},
        files={},
        spec_hash="a" * 12,
        fields={},
        artifact="",
        served_name="default_model",
        memory=0,
        revision="",
        generation=0,
    )


def _launched(root: Path, argv: Sequence[str], port: int, seen: Callable[[Path], float]) -> float:
    """Seconds from the order to what `seen` waits for in the world."""
    processes = LocalProcesses(root, SystemClock(), LocalListeners(), grace=1.0)

    async def run() -> float:
        order = _order("bench", argv, port)
        start = time.monotonic()
        await processes.launch(order)
        moment = seen(root / "logs" / "bench.log")
        await processes.stop(processes.records()["bench"])
        return moment - start

    return asyncio.run(run())


def _bare(root: Path, argv: Sequence[str], seen: Callable[[Path], float]) -> float:
    log = root / "bare.log"
    start = time.monotonic()
    pid = spawn(argv, dict(os.environ), log)
    moment = seen(log)
    end([pid])
    return moment - start


def _order_to_exec(root: Path, command: Sequence[str], rounds: int) -> None:
    def one() -> tuple[float, float]:
        (port,) = free_ports(1)
        argv = [*command, f"--port={port}"]
        with tempfile.TemporaryDirectory(dir=root) as state:
            return _bare(root, argv, began), _launched(Path(state), argv, port, began)

    pairs("G11, from the order to the child's first line: <= 5 ms", ("posix_spawn", "launch"), rounds, one)


def _port_open(root: Path, rounds: int) -> None:
    hub = root / "hub"
    write_cached(hub, "bench/tiny", "Hello.")
    model = next(hub.glob("models--bench--tiny/snapshots/*"))

    def one() -> tuple[float, float]:
        port, other = free_ports(2)
        argv = [sys.executable, "-m", "mlx_lm", "server", f"--model={model}", "--host=127.0.0.1"]
        with tempfile.TemporaryDirectory(dir=root) as state:
            bare = _bare(root, [*argv, f"--port={port}"], lambda _: until_open(port))
            ours = _launched(Path(state), [*argv, f"--port={other}"], other, lambda _: until_open(other))
            return bare, ours

    pairs("G11, a real mlx_lm.server: port open, <= 1.03", ("python -m mlx_lm server", "launch"), rounds, one)


def _start_many(many: Machine, command: Sequence[str], rounds: int) -> None:
    def one() -> tuple[float, float]:
        ports = free_ports(MANY)
        start = time.monotonic()
        pids = [spawn([*command, f"--port={port}"], os.environ, many.root / "bare.log") for port in ports]
        floor = until_all_answer(ports) - start
        end(pids)
        many.declare(0)
        many.run("apply", "--yes")
        many.declare(MANY)
        start = time.monotonic()
        with subprocess.Popen(many.argv("apply", "--yes"), env=many.env, stdout=subprocess.DEVNULL) as running:
            ours = until_all_answer(many.ports)
            running.wait()
        first = min(began(many.state / "logs" / f"model-{number:05d}.log") for number in range(MANY))
        from_first.append((ours - first) / floor)
        return floor, ours - start

    from_first: list[float] = []
    pairs(
        f"G12, {MANY} children until all answer: <= 1.5 from the first one on; the start of apply itself included here",
        (f"{MANY} posix_spawn", "apply"),
        rounds,
        one,
    )
    print(f"{'from the first child on':36} {'':8} {statistics.median(from_first):7.2f}", flush=True)


def _nothing_to_do(many: Machine, rounds: int) -> None:
    def stamps() -> dict[str, tuple[int, int]]:
        paths = [many.published, *many.state.rglob("*")]
        return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_ino) for p in paths}

    before = stamps()
    plan, apply = timed({"plan": many.argv("plan"), "apply": many.argv("apply", "--yes")}, rounds, many.env)
    wrote = [path for path, stamp in stamps().items() if before.get(path) != stamp]
    print(f"\nG10, apply with nothing to do, {MANY} servers up: <= 1.1 of plan, and no file touched")
    print(f"{'':36} {'ms':>8} {'ratio':>7}")
    for timing in (plan, apply):
        print(f"{timing.name:36} {timing.wall * 1e3:8.2f} {timing.ratio:7.2f}")
    print(f"files touched: {len(wrote)}", flush=True)


def _two_models(root: Path, rounds: int) -> None:
    command = [sys.executable, "-m", "mlx_lm", "server"]
    hub = root / "two-hub"
    for name in ("a", "b"):
        write_cached(hub, f"bench/{name}", "Hello.")
    models = [next(hub.glob(f"models--bench--{name}/snapshots/*")) for name in ("a", "b")]
    with machine(root / "two", command, 0) as two:
        two.ports = free_ports(2)
        (two.root / "hf").mkdir()
        os.symlink(hub, two.root / "hf" / "hub")

        def one() -> tuple[float, float]:
            ports = free_ports(2)
            by_hand = [sys.executable, "-m", "benchmarks.by_hand", str(root / "bare.log")]
            by_hand += [f"{m}={p}" for m, p in zip(models, ports, strict=True)]
            start = time.monotonic()
            pids = subprocess.run(by_hand, check=True, capture_output=True, text=True).stdout.split()
            floor = time.monotonic() - start
            for pid in pids:
                os.kill(int(pid), signal.SIGKILL)
            entries = [
                f"  {n}: {{source: {{repo: bench/{n}}}, port: {p}}}" for n, p in zip("ab", two.ports, strict=True)
            ]
            text = "\n".join(["version: 1", "gateways: {litellm: {mode: direct}}", "models:", *entries])
            (two.root / "ensemble.yaml").write_text(text + "\n")
            start = time.monotonic()
            two.run("apply", "--yes")
            ours = time.monotonic() - start
            two.declare(0)
            two.run("apply", "--yes")
            return floor, ours

        pairs(
            "Two tiny models, from nothing to proved and published: <= 1.15 of starting them by hand and polling",
            ("by hand", "apply"),
            rounds,
            one,
        )
