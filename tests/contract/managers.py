"""A person's account with a service manager, whose program is a fake and whose services are real processes."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.adapters.service.launchd import Launchd
from reconciler.adapters.service.systemd import Systemd
from reconciler.adapters.transcripts import transcript
from reconciler.model.observed import Present
from reconciler.model.transcript import Transcript
from reconciler.ports.service import ServiceManager

PROGRAM: Final = Path(__file__).resolve().parents[1] / "programs" / "fake_manager.py"
UID: Final = 501


@dataclass(frozen=True)
class Account:
    """A home, the programs of a manager on the PATH, and what the manager knows."""

    root: Path

    @property
    def store(self) -> Path:
        """What the fake remembers."""
        return self.root / "manager"

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """With the programs of the manager first on the PATH."""
        self.store.mkdir(exist_ok=True)
        programs = self.root / "programs"
        programs.mkdir(exist_ok=True)
        for name in ("launchctl", "systemctl", "loginctl"):
            path = programs / name
            path.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{PROGRAM}' {name} \"$@\"\n")
            path.chmod(0o755)
        path_variable = f"{programs}:{base.get('PATH', '/usr/bin:/bin')}"
        return {**base, "PATH": path_variable, "HOME": str(self.root), "FAKE_MANAGER": str(self.store)}

    def run(self, words: Sequence[str]) -> Transcript:
        """One of its programs, found as the real one is."""
        environ = self.environment({"PATH": os.environ["PATH"]})
        found = next(path for path in (Path(part, words[0]) for part in environ["PATH"].split(":")) if path.exists())
        return transcript((str(found), *words[1:]), 30.0, environ)

    def leave(self) -> None:
        """Nobody is logged in any more."""
        self.store.mkdir(exist_ok=True)
        (self.store / "absent").touch()

    def calls(self) -> list[str]:
        """Every call so far."""
        return (self.store / "calls").read_text().splitlines()

    def end(self, manager: ServiceManager) -> None:
        """Leave no process behind."""
        (self.store / "absent").unlink(missing_ok=True)
        found = manager.run()
        if isinstance(found, Present) and found.value.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(found.value.pid, signal.SIGKILL)


def launchd(account: Account) -> ServiceManager:
    """launchd's side of an account."""
    return Launchd(str(account.root), UID, account.run)


def systemd(account: Account) -> ServiceManager:
    """systemd's side of an account."""
    return Systemd(str(account.root / ".config" / "systemd" / "user"), "somebody", account.run)


MANAGERS: Final[Sequence[Callable[[Account], ServiceManager]]] = (launchd, systemd)
