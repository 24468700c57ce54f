"""A machine with a cache, a host file and a LiteLLM in front: what tests declare, say and look at on it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import psutil

from reconciler.model.problem import ExitCode
from reconciler.programs.tiny_model import write_cached
from tests.cli.home import Home, Result
from tests.ports import free_port
from tests.programs.tiny_cache import TinyCache, model_files

T = TypeVar("T")

STUB: Final = Path(__file__).resolve().parents[1] / "programs" / "stub_server.py"
DEADLINE: Final = 60.0
_PAUSE: Final = 0.005


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(ask: Callable[[], T], what: str, working: "subprocess.Popen[str] | None" = None) -> T:
    """What `ask` gives, as soon as it gives something true; not awaited from a process that has ended."""
    end = time.monotonic() + DEADLINE
    while True:
        ended = working is not None and working.poll() is not None
        if given := ask():
            return given
        assert not ended, f"it ended, and never: {what}"
        assert time.monotonic() < end, f"never: {what}"
        threading.Event().wait(_PAUSE)


class Ensemble:
    """Labels with ports of their own; the model of a label is `demo/LABEL` in the cache."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.published = home.root / "litellm.yaml"
        self.run_folder = home.root / "state" / "run"
        self.ports: dict[str, int] = {}
        self.runtime: Sequence[str] = ()
        """What runs instead of mlx_lm.server, or around it."""
        self.host: dict[str, Any] = {}
        """More of the host file."""
        self.env: dict[str, str] = {}
        """More of the environment of every command."""

    # ------------------------------------------------------------------------------------------------- declaring

    def models(self, *labels: str) -> None:
        """Real models that answer with their label."""
        for label in labels:
            write_cached(self.home.hub, f"demo/{label}", f"Hello from {label}.")

    def stubs(self, *labels: str) -> None:
        """Models for the stub server, which runs in place of the real one."""
        self.runtime = (sys.executable, "-S", str(STUB))
        for label in labels:
            TinyCache(self.home.hub).add(f"demo/{label}", model_files())

    def snapshot(self, label: str) -> Path:
        """The folder that the server of a label loads."""
        return next(self.home.hub.glob(f"models--demo--{label}/snapshots/*"))

    def put(self, label: str, name: str, content: bytes | None) -> None:
        """Replace a file of a model, or remove it."""
        path = self.snapshot(label) / name
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)

    def order(self, label: str, **orders: Any) -> None:
        """What the stub server of a label is to do from its next start on; nothing: serve."""
        self.put(label, "orders.json", json.dumps(orders).encode())

    def starts(self, label: str) -> list[int]:
        """The pid of every stub server that was started for a label."""
        path = self.snapshot(label) / "starts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def port(self, label: str) -> int:
        """The port of a label."""
        return self.ports.setdefault(label, free_port())

    def declare(self, *labels: str, **more: Mapping[str, object]) -> None:
        """Write the host file, and a desired state of these labels; `more` by label goes into its model."""
        models = {
            label: {"source": {"repo": f"demo/{label}"}, "port": self.port(label), **more.get(label, {})}
            for label in labels
        }
        self.home.write(json.dumps({"version": 1, "gateways": {"litellm": {"mode": "direct"}}, "models": models}))
        host = {
            "version": 1,
            "accept_cpu": True,
            "memory": {"budget": "64GiB"},
            "status_page": {"port": "none"},
            "gateways": {"litellm": {"include": str(self.published), "drain": "100ms"}},
            **({"runtimes": {"mlx-lm": {"command": list(self.runtime)}}} if self.runtime else {}),
            **self.host,
        }
        self.home.write(json.dumps(host), "host.yaml").chmod(0o600)

    # --------------------------------------------------------------------------------------------------- commands

    def run(self, *args: str, **env: str) -> Result:
        """One command to its end."""
        return self.home.run(*args, env=self.home.environment(**self.env, **env), timeout=120)

    def apply(self, code: ExitCode = ExitCode.OK, *args: str, **env: str) -> str:
        """`apply`, which must end with this code; what it said."""
        done = self.run("apply", "--yes", *args, **env)
        assert done.code == code, done.out + done.err
        return done.out + done.err

    @contextmanager
    def applying(self, *args: str) -> Iterator["subprocess.Popen[str]"]:
        """An `apply` that is under way; ended with the block."""
        said: IO[str]
        with (self.home.root / "applying.txt").open("w") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "reconciler", "apply", "--yes", *args],
                cwd=self.home.root,
                env=self.home.environment(**self.env),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def said(self) -> str:
        """What the `apply` that is under way has said so far."""
        return (self.home.root / "applying.txt").read_text()

    def status(self, label: str) -> dict[str, Any]:
        """One label of `status -o json`."""
        document = json.loads(self.run("status", "-o", "json").out)
        found: dict[str, Any] = {server["label"]: server for server in document["servers"]}[label]
        return found

    def explain(self, subject: str) -> dict[str, Any]:
        """`explain -o json`."""
        document: dict[str, Any] = json.loads(self.run("explain", subject, "-o", "json").out)
        return document

    def events(self) -> list[dict[str, Any]]:
        """`events -o json`, oldest first."""
        events: list[dict[str, Any]] = json.loads(self.run("events", "-n", "1000", "-o", "json").out)["events"]
        return events

    def launches(self, label: str) -> int:
        """How often a server of this label was started, by the history."""
        return sum(e["action"] == "launch" and e["kind"] == "done" for e in self.of(label))

    def of(self, label: str) -> list[dict[str, Any]]:
        """The events of one label."""
        return [event for event in self.events() if event["subject"] == f"server/{label}"]

    # ---------------------------------------------------------------------------------------------------- looking

    def record(self, label: str) -> dict[str, Any]:
        """The run record of a label."""
        found: dict[str, Any] = json.loads((self.run_folder / f"{label}.json").read_text())
        return found

    def pid(self, label: str) -> int:
        """The process of a label, which lives."""
        pid = self.record(label)["pid"]
        assert isinstance(pid, int)
        assert alive(pid)
        return pid

    def started(self, label: str, working: "subprocess.Popen[str] | None" = None) -> int:
        """The process of a label, as soon as its record names it."""

        def pid() -> int:
            found = self.record(label)["pid"] if (self.run_folder / f"{label}.json").exists() else None
            return int(found or 0)

        return until(pid, f"{label} is started", working)

    def labels(self) -> list[str]:
        """Labels that have a record."""
        return sorted(path.stem for path in self.run_folder.glob("*.json"))

    def running(self) -> list[int]:
        """Every live process that serves a model of this cache, whoever started it."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = any(str(self.home.root) in part for part in process.cmdline())
                serves = any(part.startswith("--model=") for part in process.cmdline())
                if ours and serves and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return sorted(found)

    def routed(self) -> set[str]:
        """The labels that LiteLLM's managed file names."""
        text = self.published.read_text() if self.published.is_file() else ""
        return {label for label in self.ports if f'model_name: "{label}"' in text}

    def ever_routed(self) -> set[str]:
        """The labels that were ever given a route, by the history."""
        said = " ".join(e["text"] for e in self.events() if e["action"] == "publish" and e["kind"] == "started")
        return self.ports.keys() & set(said.replace(",", " ").replace(";", " ").split())

    def clear(self) -> None:
        """Stop everything as a user would; then nothing of ours may run."""
        self.declare()
        if self.run_folder.is_dir():
            self.apply()
            assert self.labels() == []
        assert self.running() == []

    def end(self) -> None:
        """End what a test that failed has left, each by its pid."""
        for pid in self.running():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def listening(pid: int) -> set[tuple[str, int]]:
    """Every address on which a process accepts connections."""
    sockets = psutil.Process(pid).net_connections(kind="inet")
    return {(c.laddr.ip, c.laddr.port) for c in sockets if c.status == psutil.CONN_LISTEN}
