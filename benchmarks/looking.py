"""What a look costs: caches, ports, questions, gateway files (G6, G13, G14, G15)."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from benchmarks.launching import pairs
from benchmarks.ratios import timed
from benchmarks.servers import child, end, spawn, until_all_answer
from benchmarks.worlds import remember, write_cache
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.diagnosis import LogDiagnosis
from reconciler.adapters.gateway_files import LocalGateways
from reconciler.adapters.listeners import LocalListeners
from reconciler.adapters.prober import CompletionProber
from reconciler.model.host import GatewayFiles, HostFile, LiteLlmFiles
from reconciler.model.observed import Health, ServerProcess, Standing
from reconciler.model.routes import Route, Upstream
from reconciler.plugins import installed_backends, installed_gateways
from reconciler.programs.tiny_model import write_cached
from tests.ports import free_ports

MANY = 40


def looking(root: Path, rounds: int, env: Mapping[str, str]) -> None:
    """Print every table of this module."""
    _cache(root, rounds, env)
    command = child(root)
    ports = free_ports(MANY)
    pids = [spawn([*command, f"--port={port}"], os.environ, root / f"{port}.log") for port in ports]
    until_all_answer(ports)
    try:
        _ports(ports, pids, rounds)
        _questions(ports, pids, rounds)
    finally:
        end(pids)
    _question_and_cache(root, rounds)
    _gateway(root, rounds)


def _cache(root: Path, rounds: int, env: Mapping[str, str]) -> None:
    write_cache(root / "small" / "hub", MANY)
    remember(root / "small" / "hub", MANY, root / "state")
    plan = [sys.executable, "-m", "reconciler", "plan", "-c", str(root / "state40.yaml")]
    commands = {
        "plan, cache of 40": ["/usr/bin/env", f"HF_HOME={root / 'small'}", *plan],
        "plan, cache of 10,000": ["/usr/bin/env", f"HF_HOME={root / 'hf'}", *plan],
    }
    print(f"\nG6, 40 models in a large cache: <= 1.15\n{'':36} {'ms':>8} {'ratio':>7}")
    for timing in timed(commands, rounds, env):
        print(f"{timing.name:36} {timing.wall * 1e3:8.2f} {timing.ratio:7.2f}", flush=True)


def _server(port: int, number: int, pid: int) -> ServerProcess:
    return ServerProcess(
        label=f"m{number}",
        port=port,
        standing=Standing.OURS,
        pid=pid,
        fields={"backend": "mlx-lm"},
        served_name="default_model",
    )


async def _proved(ports: list[int], pids: list[int]) -> float:
    """Seconds until every server has given its two completions."""
    backends, listeners = installed_backends(), LocalListeners(known=lambda: pids)
    prober = CompletionProber(backends, LogDiagnosis(backends), listeners.look, SystemClock().now)
    servers = [_server(port, number, pid) for number, (port, pid) in enumerate(zip(ports, pids, strict=True))]
    start = time.monotonic()
    while any(prober.judged(server, None).health is not Health.SERVING for server in servers):
        await prober.changed()
    taken = time.monotonic() - start
    await prober.close()
    return taken


async def _raw(ports: list[int]) -> float:
    """The same questions over bare streams."""
    body = json.dumps({"model": "x", "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1})
    request = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    async def twice(port: int) -> None:
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            await reader.read()
            writer.close()

    start = time.monotonic()
    await asyncio.gather(*(twice(port) for port in ports))
    return time.monotonic() - start


async def _connected(ports: list[int]) -> float:
    """A connection to every port at once, as the least that says that they are open."""

    async def once(port: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", port)
                transport.close()

    start = time.monotonic()
    await asyncio.gather(*(once(port) for port in ports))
    return time.monotonic() - start


def _ports(ports: list[int], pids: list[int], rounds: int) -> None:
    """What every look of the loop asks of running servers: whether their own process listens."""
    listeners = LocalListeners(known=lambda: pids)

    def one() -> tuple[float, float]:
        floor = asyncio.run(_connected(ports))
        start = time.monotonic()
        listeners.look(ports)
        return floor, time.monotonic() - start

    pairs(f"G13, {MANY} ports and who listens: <= 2", ("asyncio connections", "look"), rounds, one)
    for pid in pids[:3]:
        os.kill(pid, signal.SIGSTOP)
    try:
        pairs("G13, three of them stopped by a signal", ("asyncio connections", "look"), rounds, one)
    finally:
        for pid in pids[:3]:
            os.kill(pid, signal.SIGCONT)


def _questions(ports: list[int], pids: list[int], rounds: int) -> None:
    def one() -> tuple[float, float]:
        return asyncio.run(_raw(ports)), asyncio.run(_proved(ports, pids))

    pairs(f"two completions of {MANY} servers, with the HTTP client", ("asyncio streams", "proofs"), rounds, one)


def _question_and_cache(root: Path, rounds: int) -> None:
    """One question to a real server whose user has 10 or 1,000 models in the cache."""
    hub = root / "g14"
    write_cached(hub, "bench/tiny", "Hello.")
    model = next(hub.glob("models--bench--tiny/snapshots/*"))
    pids, ports = [], free_ports(2)
    for port, models in zip(ports, (10, 1_000), strict=True):
        home = root / f"home{models}"
        write_cache(home / ".cache" / "huggingface" / "hub", models)
        argv = [sys.executable, "-m", "mlx_lm", "server", f"--model={model}", "--host=127.0.0.1", f"--port={port}"]
        env = {"HOME": str(home), "PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"}
        pids.append(spawn(argv, env, root / f"home{models}.log"))
    try:
        until_all_answer(ports)

        def one() -> tuple[float, float]:
            few, many = (asyncio.run(_proved([port], [pid])) for port, pid in zip(ports, pids, strict=True))
            return few, many

        pairs("G14, a proof of a server beside 10 and 1,000 cached models: <= 1.1", ("10", "1,000"), rounds * 2, one)
    finally:
        end(pids)


def _gateway(root: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory(dir=root) as folder, asyncio.Runner() as loop:
        place = Path(folder)
        host = HostFile(gateways=GatewayFiles(litellm=LiteLlmFiles(include=str(place / "models.yaml"), drain="0s")))
        gateways = LocalGateways(host, installed_gateways(), place / "state", SystemClock().now)
        turn = 0

        def routes() -> tuple[Route, ...]:
            return tuple(
                Route(
                    label=f"m{number:02d}",
                    upstream=Upstream(host="127.0.0.1", port=20_000 + number, served_name="default_model"),
                    context_length=1_000 + turn,
                    request_params={},
                )
                for number in range(MANY)
            )

        def one() -> tuple[float, float]:
            nonlocal turn
            turn += 1
            gateways.look()
            wanted = routes()
            start = time.monotonic()
            loop.run(gateways.publish("litellm", wanted))
            ours = time.monotonic() - start
            content = (place / "models.yaml").read_bytes()
            start = time.monotonic()
            _replace(place / "floor.yaml", content)
            return time.monotonic() - start, ours

        pairs(f"G15, a gateway file of {MANY} models that changed", ("write, fsync, rename", "publish"), rounds, one)
        before = (place / "models.yaml").stat()
        gateways.look()
        loop.run(gateways.publish("litellm", routes()))
        after = (place / "models.yaml").stat()
        unchanged = (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        print(f"the same routes again: {'not written' if unchanged else 'WRITTEN'}", flush=True)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
