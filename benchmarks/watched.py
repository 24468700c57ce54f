"""A running watch beside the least that could do its work, and beside other supervisors (G7, G7b, G8, G9, a tick)."""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.peers import peers
from benchmarks.servers import Machine, child, machine, until_all_answer
from benchmarks.successors import Successor, owners
from reconciler.adapters.sock_diag import LISTEN, sockets
from tests.ports import free_ports

MANY = 40
SECONDS = float(os.environ.get("SECONDS", "60"))
HINT = 5.0
"""Seconds between two files that are written where the desired file is."""
REST = 0.6
"""Seconds in which everybody has come to rest."""


def watched(root: Path, rounds: int) -> None:
    """Print every table of this module."""
    command = child(root)
    with Contest(root / "watched", command) as contest:
        _healed(contest, max(5, rounds // 2))
        _changed(contest, max(5, rounds // 2))
        _idle(contest)
        _tick(contest, rounds)
    _dying(root / "dying")


# ---------------------------------------------------------------------------------------------------------- contestants


@dataclass
class Contestant:
    """Somebody with forty children."""

    name: str
    pid: int
    ports: Sequence[int]
    change: Callable[[int, str], Sequence[str]]
    """Write down that the child of a port gets another flag; the command that makes it so."""


class Contest(ExitStack):
    """The floor, our watch and the peers, each with children of its own."""

    def __init__(self, root: Path, command: Sequence[str]) -> None:
        super().__init__()
        root.mkdir()
        self.root, self.command = root, command
        self.all: list[Contestant] = []

    def __enter__(self) -> "Contest":
        super().__enter__()
        try:
            self.all = [self._floor(), self._ours(), *self._peers()]
            for contestant in self.all:
                until_all_answer(contestant.ports)
        except BaseException:
            self.close()
            raise
        time.sleep(5)  # supervisord calls a child started after a second
        return self

    def _floor(self) -> Contestant:
        repo, ports = self.root / "floor", free_ports(MANY)
        flags = dict.fromkeys(ports, "v0")
        repo.mkdir()
        _git(repo, "init", "-q", "-b", "main")

        def change(port: int, flag: str) -> Sequence[str]:
            flags[port] = flag
            (repo / "servers").write_text("".join(f"{port} {flag}\n" for port, flag in flags.items()))
            _git(repo, "add", "servers")
            return _commit(repo)

        subprocess.run(change(ports[0], "v0"), check=True)
        argv = [sys.executable, "-m", "benchmarks.floor_loop", str(repo), *self.command]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        self.callback(_end, process)
        return Contestant("asyncio, pidfd, inotify", process.pid, ports, change)

    def _ours(self) -> Contestant:
        self.machine = made = self.enter_context(machine(self.root / "ours", self.command, MANY))
        _git(made.root, "init", "-q", "-b", "main")
        options: dict[int, int] = {}

        def change(port: int, flag: str) -> Sequence[str]:
            options[port] = 1 + int(flag.removeprefix("v"))
            made.declare(MANY, options)
            _git(made.root, "add", "ensemble.yaml")
            return _commit(made.root)

        subprocess.run(change(made.ports[0], "v0"), check=True)
        made.run("apply", "--yes")
        process = self.enter_context(_watch(made))
        return Contestant("reconciler watch", process.pid, made.ports, change)

    def _peers(self) -> Iterator[Contestant]:
        ports = {name: free_ports(MANY) for name in ("supervisord", "pm2")}
        for peer in self.enter_context(peers(self.root, self.command, ports)):
            yield Contestant(peer.name, peer.pid, ports[peer.name], peer.change)


@contextmanager
def _watch(made: Machine) -> Iterator["subprocess.Popen[bytes]"]:
    log = (made.root / "watch.out").open("wb")
    with log, subprocess.Popen(made.argv("watch"), env=made.env, stdout=log, stderr=log) as process:
        while not (made.state / "reconciler.sock").exists():
            time.sleep(0.01)
        try:
            yield process
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def _git(repo: Path, *args: str) -> None:
    subprocess.run(["git", "-C", str(repo), *_NOBODY, *args], check=True, capture_output=True)


def _commit(repo: Path) -> Sequence[str]:
    return ["git", "-C", str(repo), *_NOBODY, "commit", "-q", "--allow-empty", "-m", "change"]


_NOBODY = ("-c", "user.name=x", "-c", "user.email=x@example.invalid", "-c", "commit.gpgsign=false")


class Taken:
    """What every contestant has taken for the same thing, round by round."""

    def __init__(self, contest: "Contest") -> None:
        self.seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contest.all}
        self._cpu = dict.fromkeys(self.seconds, 0.0)
        self.more = dict.fromkeys(self.seconds, "")

    @contextmanager
    def of(self, contestant: Contestant) -> Iterator[list[float]]:
        """The seconds of one contestant, with the processor time that it uses within the block."""
        before = _used(contestant.pid)[0]
        yield self.seconds[contestant.name]
        self._cpu[contestant.name] += _used(contestant.pid)[0] - before

    def show(self, title: str) -> None:
        """Medians, and ratios to the first contestant, round by round as far as both were measured."""
        floor = next(iter(self.seconds.values()))
        print(f"\n{title}\n{'':28} {'ms':>9} {'max':>9} {'ratio':>8} {'own CPU ms':>11}")
        for name, values in self.seconds.items():
            ratio = statistics.median(one / other for one, other in zip(values, floor, strict=False))
            median, most, cpu = (1e3 * number for number in (statistics.median(values), max(values), self._cpu[name]))
            print(f"{name:28} {median:9.2f} {most:9.2f} {ratio:8.2f} {cpu / len(values):11.2f}  {self.more[name]}")


# ------------------------------------------------------------------------------------------------------------- healing


def _healed(contest: Contest, rounds: int) -> None:
    taken = Taken(contest)
    for number in range(rounds):
        for contestant in contest.all:
            if number < 3 or contestant.name != "supervisord":
                time.sleep(REST)
                with taken.of(contestant) as seconds:
                    seconds.append(_heal(contestant.ports[number % MANY]))  # each once: a second death has to wait
    taken.show(f"G7, kill -9 until a new process answers, {MANY} children: <= 1/40 of supervisord")


def _heal(port: int) -> float:
    successor = Successor(port)
    start = time.monotonic()
    os.kill(successor.pid, signal.SIGKILL)
    return successor.wait() - start


# ------------------------------------------------------------------------------------------------------------ changing


def _changed(contest: Contest, rounds: int) -> None:
    taken = Taken(contest)
    others = dict.fromkeys(taken.seconds, 0)
    for number in range(rounds):
        for contestant in contest.all:
            if number >= 3 and contestant.name in ("supervisord", "pm2"):
                continue
            port = contestant.ports[-1 - number % MANY]
            command = contestant.change(port, f"v{number + 1}")
            time.sleep(REST)
            before = owners(contestant.ports)
            with taken.of(contestant) as seconds:
                seconds.append(_change(command, port))
            time.sleep(REST)
            until_all_answer(contestant.ports)
            after = owners(contestant.ports)
            others[contestant.name] += sum(after[p] != inode for p, inode in before.items() if p != port)
            taken.more[contestant.name] = f"{others[contestant.name]} others restarted"
    title = f"G9, the end of `git commit` until the one changed of {MANY} answers: <= 0.5 of supervisorctl update"
    taken.show(title)


def _change(command: Sequence[str], port: int) -> float:
    """Seconds from the end of a commit, or the beginning of another command, until a new process answers."""
    successor = Successor(port)
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        if "git" in command:
            process.wait()
            start = time.monotonic()
        return max(0.0, successor.wait() - start)


# ---------------------------------------------------------------------------------------------------------------- rest


def _idle(contest: Contest) -> None:
    for hints in (False, True):
        time.sleep(REST)
        before = {contestant.name: _used(contestant.pid) for contestant in contest.all}
        start = end = time.monotonic()
        while (end := time.monotonic()) < start + SECONDS:
            time.sleep(min(HINT, max(0.0, start + SECONDS - end)))
            if hints:
                (contest.machine.root / "hint").write_text(str(end))
        seconds = time.monotonic() - start
        what = f"a hint every {HINT:.0f} s" if hints else "nothing happens"
        print(f"\nG8, {MANY} healthy children for {seconds:.0f} s, {what}: <= 0.3 % and <= 60 MiB")
        print(f"{'':28} {'CPU %':>8} {'wakeups/s':>10} {'RSS MiB':>8}")
        for contestant in contest.all:
            cpu, woken, memory = _used(contestant.pid)
            cpu_before, woken_before, _ = before[contestant.name]
            share, often = 100 * (cpu - cpu_before) / seconds, (woken - woken_before) / seconds
            print(f"{contestant.name:28} {share:8.3f} {often:10.2f} {memory / 2**20:8.1f}", flush=True)


def _used(pid: int) -> tuple[float, int, int]:
    """Seconds of processor time, times it was woken, and bytes of memory."""
    process = psutil.Process(pid)
    memory, woken = process.memory_info().rss, process.num_ctx_switches().voluntary
    try:  # to the nanosecond, where psutil has hundredths
        parts = [(task / "schedstat").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int(part[0]) for part in parts) / 1e9, woken, memory
    except OSError:
        times = process.cpu_times()
        return times.user + times.system, woken, memory


def _tick(contest: Contest, rounds: int) -> None:
    """One look that finds nothing to do, in this process, beside the bare questions that it cannot do without."""
    import gc

    from reconciler.engine.declared import Followed, Following
    from reconciler.engine.loop import Engine
    from reconciler.observing.observer import Observer
    from reconciler.surface.composition import Settings
    from reconciler.wiring import compose

    made = contest.machine
    pids = [made.pid(number) for number in range(MANY)]
    os.environ.update(made.env)
    composition = compose(Settings(config=made.root / "ensemble.yaml"))

    def bare() -> None:
        list(sockets(1 << LISTEN))
        for number, pid in enumerate(pids):
            os.stat(made.state / "run" / f"model-{number:05d}.json")
            Path(f"/proc/{pid}/stat").read_bytes()
            os.stat(made.root / "hf" / "hub" / f"models--bench--synth-{number:05d}" / "refs" / "main")

    async def run() -> None:
        following = Following(
            source=composition.source,
            mode=composition.mode,
            place=composition.place,
            parse=lambda bundle: composition.parse(bundle)[0],
            guard=lambda newer, ledger: None,
            rules=composition.rules,
            kept=composition.host.state.content,
        )
        declared = Followed(following)
        looking = Observer(composition.host, composition.host_file, composition.planner.backends)
        engine = Engine(looking, composition.planner, declared, rules=lambda: composition.rules)

        def tick() -> None:
            looking.forget()
            engine.tick()

        taken: dict[str, list[float]] = {"the bare questions": [], "a tick": []}
        for _ in range(4 * rounds):
            for name, work in (("the bare questions", bare), ("a tick", tick)):
                start = time.process_time()
                work()
                taken[name].append(time.process_time() - start)
            await asyncio.sleep(0)
        print(f"\nA tick of {MANY} servers that finds nothing to do, processor time\n{'':28} {'ms':>9} {'ratio':>8}")
        floor = statistics.median(taken["the bare questions"])
        for name, values in taken.items():
            median = statistics.median(values)
            print(f"{name:28} {1e3 * median:9.2f} {median / floor:8.2f}", flush=True)
        await composition.close()

    gc.collect()
    asyncio.run(run())


# --------------------------------------------------------------------------------------------------------------- dying


def _dying(root: Path) -> None:
    """A child that dies at once, until it is held, and after four times `retry`: twenty deaths in all."""
    with machine(root, [sys.executable, "-S", "-c", _BRIEF], 1) as made, _watch(made) as process:
        log, said = made.state / "logs" / "model-00000.log", made.root / "watch.out"
        used, start, retried = _used(process.pid)[0], time.monotonic(), 0
        while time.monotonic() < start + SECONDS:
            time.sleep(0.2)
            if retried < 3 and said.read_text().count("blocked server/model-00000") > retried:
                subprocess.run(made.argv("retry", "model-00000"), env=made.env, capture_output=True, check=False)
                retried += 1
        seconds, share = time.monotonic() - start, _used(process.pid)[0] - used
        began = _began(log)
        gaps = " ".join(f"{1e3 * (b - a):.0f}" for a, b in pairwise(began))
        print(f"\nG7b, a child that dies at once, for {seconds:.0f} s, with three times `retry`: <= 2 % CPU")
        print(f"{len(began)} starts, {100 * share / seconds:.2f} % CPU; ms between them: {gaps}", flush=True)


_BRIEF = "import sys, time; print('began', time.monotonic_ns(), file=sys.stderr, flush=True); sys.exit(1)"


def _began(log: Path) -> list[float]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(line.split()[1]) / 1e9 for line in lines if line.startswith("began ")]
