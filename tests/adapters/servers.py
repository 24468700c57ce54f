"""Real servers in a state directory of their own, all of which are ended when the test is over."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import psutil

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.listeners import LocalListeners
from reconciler.adapters.processes import LocalProcesses
from reconciler.adapters.records import Lock, Run
from reconciler.model.base import plain
from reconciler.model.observed import Absent, ServerProcess, Standing
from reconciler.model.target import LaunchOrder
from reconciler.ports.errors import ActionError, ObservationError

REPOSITORY: Final = Path(__file__).resolve().parents[2]
FAKE: Final = REPOSITORY / "tests" / "programs" / "fake_server.py"
DEADLINE: Final = 20.0
_MARK: Final = "SERVER_OF_TEST"

_ONE_REQUEST: Final = """
import asyncio, json, os, signal, sys
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.listeners import LocalListeners
from reconciler.adapters.processes import LocalProcesses
from reconciler.model.target import LaunchOrder

root, kind, point, order = sys.argv[1:5]
def at(here):
    if here == point:
        os.kill(os.getpid(), signal.SIGKILL)
processes = LocalProcesses(root, SystemClock(), LocalListeners(), at=at)
order = LaunchOrder(**json.loads(order))
if kind == "launch":
    asyncio.run(processes.launch(order))
else:
    asyncio.run(getattr(processes, kind)(processes.records()[order.label]))
print("done", flush=True)
sys.stdin.read()
"""


def until(condition: Callable[[], object], what: str) -> None:
    """Return once a condition holds; fail with its name when that takes too long."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.003)


class Servers:
    """One state directory, the adapter that is under test, and what it has started."""

    def __init__(self, folder: Path, free_ports: Callable[[int], list[int]]) -> None:
        self.root = folder / "state"
        self._mark = str(folder)
        self._free_ports = free_ports
        self.processes = self.adapter()

    def adapter(self, **arguments: Any) -> LocalProcesses:
        """Another one on the same directory, as another process would have it."""
        return LocalProcesses(self.root, SystemClock(), LocalListeners(), **arguments)

    def order(self, label: str, *switches: str, port: int | None = None, **changes: Any) -> LaunchOrder:
        """A launch of the fake server."""
        port = port or self._free_ports(1)[0]
        values: dict[str, Any] = {
            "label": label,
            "port": port,
            "host": "127.0.0.1",
            "argv": (sys.executable, "-S", str(FAKE), f"--port={port}", *switches),
            "env": {_MARK: self._mark},
            "files": {},
            "spec_hash": "5bec",
            "fields": {"port": str(port)},
            "artifact": "a11",
            "served_name": "default_model",
            "memory": 1024,
            "revision": "c0ffee" * 6 + "c0ff",
            "generation": 3,
        }
        values["env"] |= changes.pop("env", {})
        return LaunchOrder(**(values | changes))

    def launch(self, label: str, *switches: str, **changes: Any) -> ServerProcess:
        """Start a server and wait until it has said that it is ready."""
        order = self.order(label, *switches, **changes)
        asyncio.run(self.processes.launch(order))
        until(lambda: "ready" in self.log(label), f"{label} is ready")
        return self.record(label)

    def record(self, label: str) -> ServerProcess:
        return self.processes.records()[label]

    def stands(self, label: str, standing: Standing) -> ServerProcess:
        """Wait until the proof of a record says this."""
        until(lambda: self.record(label).standing is standing, f"{label} is {standing}")
        return self.record(label)

    def run(self, label: str) -> Run:
        return Run(str(self.root), label)

    def edit(self, label: str, /, **changes: Any) -> None:
        """Write something else into a record, as a disk, a person or an accident would."""
        path = Path(self.run(label).record_path)
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def log(self, label: str) -> str:
        path = Path(self.run(label).log_path)
        return path.read_text() if path.exists() else ""

    def is_free(self, label: str) -> bool:
        return self.run(label).lock() is Lock.FREE

    def listens(self, port: int) -> bool:
        return not isinstance(LocalListeners().look([port])[port], Absent)

    def other(
        self, kind: str, order: LaunchOrder, point: str = "", *, new_session: bool = False
    ) -> "subprocess.Popen[bytes]":
        """One request by another process, which kills itself at `point`, or says `done` and waits."""
        code = [sys.executable, "-c", _ONE_REQUEST, str(self.root), kind, point, json.dumps(plain(order))]
        pipe = subprocess.PIPE
        return subprocess.Popen(code, cwd=REPOSITORY, stdin=pipe, stdout=pipe, start_new_session=new_session)

    def killed_at(self, kind: str, order: LaunchOrder, point: str) -> None:
        """One request by another process that is killed at a point of it."""
        with self.other(kind, order, point) as other:
            assert other.wait(DEADLINE) == -signal.SIGKILL

    def processes_of_test(self) -> list[psutil.Process]:
        """Every live process that a launch of this test has led to."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(_MARK) == self._mark
            except psutil.Error:
                continue
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def leaders(self) -> list[int]:
        """Pids of the servers, their workers left out."""
        return [process.pid for process in self.processes_of_test() if os.getsid(process.pid) == process.pid]

    def close(self) -> None:
        """End each by its pid."""
        for process in self.processes_of_test():
            process.kill()
        until(lambda: not self.processes_of_test(), "the servers of this test have ended")
        with contextlib.suppress(ObservationError):
            self.processes.records()  # reaps them


def refused(request: Coroutine[Any, Any, None]) -> ActionError:
    """The error of a request that must fail."""
    try:
        asyncio.run(request)
    except ActionError as error:
        return error
    raise AssertionError("it was carried out")
