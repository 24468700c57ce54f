"""systemd: the watch as a unit of one user's own service manager."""

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from reconciler.adapters.transcripts import transcript
from reconciler.model.observed import Absent, Observation, Present, Unknown
from reconciler.model.service import PATIENCE, Service, ServiceRun
from reconciler.model.transcript import Transcript
from reconciler.ports.errors import ActionError, ObservationError

from .unit import NAME, described, unit
from .unit_file import UnitFile, make_log_folder

_PROPERTIES: Final = "LoadState,ActiveState,SubState,MainPID,Result"
_UNREACHABLE: Final = re.compile(
    r"failed to connect to bus|not been booted with systemd|no medium found", re.IGNORECASE
)
_WANTS: Final = "default.target.wants"
_SECONDS: Final = PATIENCE + 15.0
"""`disable --now` and `restart` return when the service has ended, or has begun."""


class Systemd:
    """The unit of one user."""

    name = "systemd"

    def __init__(
        self,
        folder: str,
        user: str,
        run: Callable[[Sequence[str]], Transcript] = lambda words: transcript(
            words, _SECONDS, with_runtime(os.environ)
        ),
    ) -> None:
        """`folder` is where units of this user are read from."""
        self._file = UnitFile(os.path.join(folder, NAME))
        self._user, self._run = user, run

    @property
    def file(self) -> str:
        """Where units of this user are."""
        return self._file.path

    def text(self, service: Service) -> str:
        """The unit."""
        return unit(service)

    def described(self, text: str) -> Service | None:
        """The service of a unit of ours."""
        return described(text)

    def written(self) -> Observation[str]:
        """What is there."""
        return self._file.written()

    def write(self, service: Service) -> None:
        """Replace it."""
        make_log_folder(service)
        self._file.write(unit(service))

    def remove(self) -> None:
        """Remove it, and the link by which it would be started."""
        link = os.path.join(os.path.dirname(self.file), _WANTS, NAME)
        if os.path.islink(link):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link)
        self._file.remove()
        with contextlib.suppress(ObservationError):
            self._run(("systemctl", "--user", "daemon-reload"))

    def run(self) -> Observation[ServiceRun]:
        """What `systemctl show` says about the unit."""
        try:
            said = self._run(("systemctl", "--user", "show", NAME, f"--property={_PROPERTIES}"))
        except ObservationError as error:
            return Unknown(reason=str(error))
        if said.code:
            return Unknown(reason=f"systemctl says: {said.complaint}")
        fields = dict(line.split("=", 1) for line in said.out.splitlines() if "=" in line)
        pid = fields.get("MainPID", "")
        running = int(pid) if pid.isdigit() and int(pid) else None
        if running is None and fields.get("LoadState") == "not-found":
            return Absent()
        detail = f"{fields.get('ActiveState', 'unknown')} ({fields.get('SubState', 'unknown')})"
        result = fields.get("Result", "success")
        return Present(value=ServiceRun(pid=running, detail=detail + (f", {result}" if result != "success" else "")))

    def start(self) -> None:
        """Have the unit read, started with the user's manager from now on, and started now."""
        self._must(("daemon-reload",))
        self._must(("enable", NAME))
        self._must(("restart", NAME))

    def end(self) -> None:
        """Stop it, and have it started no more."""
        if isinstance(found := self.run(), Absent):
            return
        if isinstance(found, Unknown):
            raise ActionError("service-manager-unreachable", found.reason)
        self._must(("disable", "--now", NAME))

    @property
    def starting(self) -> str:
        """By hand."""
        return f"systemctl --user daemon-reload && systemctl --user enable --now {NAME}"

    @property
    def ending(self) -> str:
        """By hand."""
        return f"systemctl --user disable --now {NAME}"

    def advice(self) -> str:
        """Whether the user's manager, and with it every server, ends with the last session."""
        try:
            said = self._run(("loginctl", "show-user", self._user, "--property=Linger"))
        except ObservationError:
            return ""
        if said.code or "Linger=no" not in said.out:
            return ""
        return (
            "it starts when you log in, and ends with your last session, the servers too; to have it from boot on: "
            f"loginctl enable-linger {self._user}"
        )

    def _must(self, words: Sequence[str]) -> None:
        try:
            said = self._run(("systemctl", "--user", *words))
        except ObservationError as error:
            raise ActionError("service-manager-unreachable", str(error)) from error
        if said.code:
            cause = "service-manager-unreachable" if _UNREACHABLE.search(said.err) else "service-refused"
            raise ActionError(cause, f"systemctl says: {said.complaint}")


def with_runtime(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which the user's manager is found, where `su` or ssh has left out where it is."""
    runtime = f"/run/user/{os.getuid()}"
    return {"XDG_RUNTIME_DIR": runtime, **environ} if os.path.isdir(runtime) else dict(environ)


def unit_folder(environ: Mapping[str, str]) -> str:
    """Where the user's manager reads units that a person has put there (systemd.unit(5))."""
    base = environ.get("XDG_CONFIG_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.config"), "systemd", "user")
