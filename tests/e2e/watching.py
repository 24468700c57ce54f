"""A user's machine with servers that start in milliseconds, and commands that run on beside the test."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil

from reconciler.model.problem import ExitCode
from reconciler.programs.tiny_model import write_cached
from reconciler.surface.control.asking import connect
from tests.cli.home import Home
from tests.ports import free_ports

QUICK: Final = Path(__file__).resolve().parents[1] / "programs" / "quick_server.py"
DEADLINE: Final = 30.0
_PAUSE: Final = 0.01
OURS: Final = ("-m", "reconciler")


def until(condition: Callable[[], object], what: str, said: Callable[[], str] = lambda: "") -> None:
    """Return once a condition holds; fail with its name and the last words when that takes too long."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"never: {what}\n{said()}"
        time.sleep(_PAUSE)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


_ON_A_TERMINAL: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "reconciler", *sys.argv[1:]])
"""
"""Makes a terminal that of its session, as a shell is started in one."""


def kill(pid: int) -> None:
    """As the kernel does for want of memory; returns when it has ended."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), f"{pid} has ended")


class Command:
    """One command line in a process and a session of its own; what it says goes to files, or to a terminal."""

    def __init__(
        self,
        argv: list[str],
        home: Home,
        environment: Mapping[str, str],
        number: int,
        terminal: int | None = None,
        program: tuple[str, ...] = OURS,
    ) -> None:
        self._out, self._err = home.root / f"command{number}.out", home.root / f"command{number}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *(("-c", _ON_A_TERMINAL) if terminal else program), *argv],
                cwd=home.root,
                env=dict(environment),
                stdin=terminal or subprocess.DEVNULL,
                stdout=terminal or out,
                stderr=terminal or err,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def said(self) -> str:
        """Both streams, for the message of a test that fails."""
        return self.out + self.err

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has said something."""
        until(lambda: self.out.count(text) >= times or self.process.poll() is not None, f"says {text!r}", self.said)
        assert self.out.count(text) >= times, f"it ended without saying {text!r}:\n{self.said()}"

    def events(self) -> list[dict[str, Any]]:
        """What it has told so far, one JSON object a line; a line that is being written is left out."""
        return [json.loads(line) for line in self.out.splitlines(keepends=True) if line.endswith("\n")]

    def ends(self) -> int:
        """The code that it ends with."""
        return self.process.wait(DEADLINE)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and wait for its end."""
        self.process.send_signal(number)
        return self.ends()


class Machine:
    """A home with tiny models, LiteLLM's managed file and the quick server as the program of `mlx-lm`."""

    def __init__(self, home: Home, *labels: str, more: str = "", real: bool = False, state: Path | None = None) -> None:
        self.home = home
        self.state = state or home.root / "state"
        self.published = home.root / "litellm.yaml"
        self._orders = home.root / "orders"
        self._orders.mkdir()
        runtime = json.dumps([sys.executable, "-S", str(QUICK), str(self._orders)])
        (home.root / "host.yaml").write_text(
            "version: 1\naccept_cpu: true\nmemory: {budget: 1024GiB}\n"
            + ("" if real else f"runtimes: {{mlx-lm: {{command: {runtime}}}}}\n")
            + ("" if "status_page:" in more else "status_page: {port: none}\n")
            + f"gateways: {{litellm: {{include: {self.published}, drain: 1ms}}}}\n{more}"
        )
        self.ports = dict(zip(labels, free_ports(len(labels)), strict=True))
        for label in labels:
            write_cached(home.hub, f"demo/{label}", f"Hello from {label}.")
        self._commands: list[Command] = []

    # ------------------------------------------------------------------------------------------------ saying

    def text(self, *labels: str, more: str = "") -> str:
        """A desired state of these labels; `more` is added to each."""
        models = "".join(
            f"  {label}:\n    source: {{repo: demo/{label}}}\n    port: {self.ports[label]}\n{more}" for label in labels
        )
        return f"version: 1\ngateways: {{litellm: {{mode: direct}}}}\nmodels:{' {}' if not labels else ''}\n{models}"

    def declare(self, *labels: str, more: str = "") -> None:
        """Write it as an editor does that writes in place."""
        self.home.write(self.text(*labels, more=more))

    def rename(self, text: str) -> None:
        """Write it as an editor does that renames a new file over the old one."""
        self.home.write(text, "ensemble.yaml~").replace(self.home.root / "ensemble.yaml")

    def order(self, label: str, what: str) -> None:
        """Tell the server of a label how to behave; nothing: as usual."""
        path = self._orders / str(self.ports[label])
        if what:
            path.write_text(what)
        else:
            path.unlink(missing_ok=True)

    def run(self, *args: str, **environment: str) -> tuple[int, str]:
        """A command to its end: its code and all that it said."""
        result = self.home.run(*args, env=self.environment(**environment), timeout=90)
        return result.code, result.out + result.err

    def applied(self, *args: str) -> str:
        """An apply that must come to the declared state."""
        code, said = self.run("apply", "--yes", *args)
        assert code == ExitCode.OK, said
        return said

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a command on this machine."""
        return self.home.environment(**{"RECONCILER_STATE": str(self.state), **more})

    def start(
        self, *args: str, terminal: int | None = None, program: tuple[str, ...] = OURS, **environment: str
    ) -> Command:
        """A command that runs on beside the test, which ends it; `program` is what Python runs instead of ours."""
        environ, number = self.environment(**environment), len(self._commands)
        command = Command(list(args), self.home, environ, number, terminal, program)
        self._commands.append(command)
        return command

    def watch(self, *args: str) -> Command:
        """A watch that has taken up its work."""
        command = self.start("watch", *args)
        until(lambda: command.process.poll() is not None or self.is_watched(), "the watch listens", command.said)
        assert command.process.poll() is None, command.said()
        return command

    def is_watched(self) -> bool:
        """Whether a watch takes requests here."""
        connection = connect(self.state)
        if connection is None:
            return False
        with connection:
            return True

    def served(self, *labels: str, told: Callable[[], str] = lambda: "") -> dict[str, int]:
        """Wait until exactly these labels run and are routed; label -> pid."""
        until(lambda: self.routed() == set(labels) and set(self.labels()) == set(labels), f"{labels} are served", told)
        return {label: self.pid(label) for label in labels}

    # ----------------------------------------------------------------------------------------------- looking

    def record(self, label: str) -> dict[str, Any]:
        """The run record of a label."""
        found: dict[str, Any] = json.loads((self.state / "run" / f"{label}.json").read_text())
        return found

    def pid(self, label: str) -> int:
        """Who serves a label; 0 while it is being started, or has just ended."""
        try:
            return int(self.record(label)["pid"] or 0)
        except FileNotFoundError:
            return 0

    def labels(self) -> list[str]:
        """Which labels have a run record."""
        return sorted(path.stem for path in (self.state / "run").glob("*.json"))

    def routed(self) -> set[str]:
        """Which labels LiteLLM's file leads to their ports."""
        if not self.published.is_file():
            return set()
        text = self.published.read_text()
        return {label for label, port in self.ports.items() if f"127.0.0.1:{port}/v1" in text}

    def stamp(self) -> tuple[int, int, bytes]:
        """What tells whether LiteLLM's file was touched."""
        status = self.published.stat()
        return status.st_ino, status.st_mtime_ns, self.published.read_bytes()

    def log(self, label: str) -> str:
        """What the server of a label has written."""
        return (self.state / "logs" / f"{label}.log").read_text()

    def servers(self) -> dict[int, str]:
        """pid -> command line of every live server that was started for this machine, found without any record."""
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = process.cmdline()
                if any(str(self.home.hub) in word for word in command) and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = " ".join(command)
        return found

    def one_each(self, *labels: str) -> dict[str, int]:
        """Exactly one live process for each of these labels, on its port, by its record; label -> pid."""
        servers = self.servers()
        pids = {label: self.pid(label) for label in self.labels()}
        assert sorted(pids) == sorted(labels)
        assert sorted(pids.values()) == sorted(servers)
        for label, pid in pids.items():
            assert f"--port={self.ports[label]} " in servers[pid]
        return pids

    def events(self, *args: str) -> list[dict[str, Any]]:
        """What `events` tells."""
        result = self.home.run("events", "-o", "ndjson", "-n", "10000", *args, env=self.environment())
        assert result.code == ExitCode.OK, result.err
        return [json.loads(line) for line in result.out.splitlines()]

    def told(self, kind: str, subject: str = "") -> list[dict[str, Any]]:
        """The events of one kind, about one subject."""
        return [e for e in self.events() if e["kind"] == kind and subject in ("", e["subject"])]

    def lock_is_free(self) -> bool:
        """Whether nobody holds the lock of the state directory."""
        descriptor = os.open(self.state / "reconciler.lock", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    # ------------------------------------------------------------------------------------------------ ending

    def close(self) -> None:
        """End the commands, then the servers as a user would; none may be left."""
        for command in self._commands:
            if command.process.poll() is None:
                command.end(signal.SIGKILL)
        try:
            if self.labels():
                for label in self.ports:
                    self.order(label, "")
                self.declare()
                self.applied()
            assert self.servers() == {}
        finally:
            for pid in self.servers():
                with suppress(ProcessLookupError):
                    kill(pid)


@contextmanager
def machine_of(
    home: Home, *labels: str, more: str = "", real: bool = False, state: Path | None = None
) -> Iterator[Machine]:
    """A machine of which nothing is left at the end of the block."""
    made = Machine(home, *labels, more=more, real=real, state=state)
    try:
        yield made
    finally:
        made.close()
