"""Other supervisors of the same children, where they can be had: supervisord, and pm2 if it is on the PATH."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

SUPERVISOR = "supervisor==4.3.0"


class Peer(Protocol):
    """One supervisor with the same children."""

    name: str
    pid: int
    """Of its daemon."""

    def change(self, port: int, flag: str) -> Sequence[str]:
        """Give one child another flag in the file; the command that makes it so."""
        ...


class Supervisord:
    """supervisord with its defaults."""

    name = "supervisord"

    def __init__(self, program: str, root: Path, command: Sequence[str], ports: Sequence[int]) -> None:
        self._folder, self._root, self._command = Path(program).parent, root, tuple(command)
        self._flags = dict.fromkeys(ports, "v0")
        self._write()
        self._log = (root / "out").open("wb")
        argv = [program, "-n", "-c", str(root / "conf")]
        self._process = subprocess.Popen(argv, stdout=self._log, stderr=self._log, start_new_session=True)
        self.pid = self._process.pid

    def change(self, port: int, flag: str) -> Sequence[str]:
        self._flags[port] = flag
        self._write()
        return [str(self._folder / "supervisorctl"), "-c", str(self._root / "conf"), "update"]

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._log.close()

    def _write(self) -> None:
        root = self._root
        head = (
            f"[supervisord]\nlogfile={root}/log\npidfile={root}/pid\n[unix_http_server]\nfile={root}/sock\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisorctl]\nserverurl=unix://{root}/sock\n"
        )
        programs = (
            f"[program:m{port}]\ncommand={' '.join(self._command)} --port={port} {flag}\nautorestart=true\n"
            "stdout_logfile=NONE\nstderr_logfile=NONE\n"
            for port, flag in self._flags.items()
        )
        (root / "conf").write_text(head + "".join(programs))


class Pm2:
    """pm2 with its defaults, a process each."""

    name = "pm2"

    def __init__(self, program: str, root: Path, command: Sequence[str], ports: Sequence[int]) -> None:
        self._program, self._root, self._command = program, root, tuple(command)
        self._flags = dict.fromkeys(ports, "v0")
        self.env: Mapping[str, str] = {**os.environ, "PM2_HOME": str(root / "pm2"), "PM2_DISCRETE_MODE": "true"}
        self._write()
        self._run("start", str(root / "apps.json"))
        self.pid = int((root / "pm2" / "pm2.pid").read_text())

    def change(self, port: int, flag: str) -> Sequence[str]:
        self._flags[port] = flag
        self._write()
        home = f"PM2_HOME={self._root / 'pm2'}"
        return ["/usr/bin/env", home, self._program, "startOrReload", str(self._root / "apps.json")]

    def end(self) -> None:
        self._run("kill")

    def _run(self, *args: str) -> None:
        subprocess.run([self._program, *args], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, check=True)

    def _write(self) -> None:
        apps = [
            {
                "name": f"m{port}",
                "script": self._command[0],
                "args": [*self._command[1:], f"--port={port}", flag],
                "interpreter": "none",
                "exec_mode": "fork",
            }
            for port, flag in self._flags.items()
        ]
        (self._root / "apps.json").write_text(json.dumps({"apps": apps}))


@contextmanager
def peers(root: Path, command: Sequence[str], ports: Mapping[str, Sequence[int]]) -> Iterator[list[Peer]]:
    """Those that can be had, each with children on its own ports; all gone afterwards."""
    made: list[Supervisord | Pm2] = []
    try:
        if supervisord := _supervisord():
            made.append(Supervisord(supervisord, _folder(root, "s"), command, ports["supervisord"]))
        if pm2 := shutil.which("pm2"):
            made.append(Pm2(pm2, _folder(root, "p"), command, ports["pm2"]))
        yield list(made)
    finally:
        for peer in made:
            peer.end()
        time.sleep(0.2)


def _folder(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


def _supervisord() -> str | None:
    """The one on the PATH, else one in an environment of its own outside of the repository; None: it cannot be had."""
    if found := shutil.which("supervisord"):
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reconciler-bench" / "supervisor"
    program = cache / "bin" / "supervisord"
    if not program.exists():
        pip = [str(cache / "bin" / "python"), "-m", "pip", "install", SUPERVISOR]
        try:
            for argv in ([sys.executable, "-m", "venv", str(cache)], pip):
                subprocess.run(argv, check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError):
            print("\nsupervisord is not here and could not be installed: nothing is compared with it", flush=True)
            return None
    return str(program)
