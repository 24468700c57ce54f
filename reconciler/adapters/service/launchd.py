"""launchd: the watch as an agent of the person who is logged in.

What launchctl answers is taken from its exit code and its own words: 113 is a label that it does not know, 112 and 125
a domain that is not there, as for somebody who came by ssh while nobody is logged in at the screen. `bootout` returns
before the service is gone, and `bootstrap` fails with 5 until it is, so both are waited for.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Final

from reconciler.adapters.transcripts import transcript
from reconciler.model.observed import Absent, Observation, Present, Unknown
from reconciler.model.service import PATIENCE, Service, ServiceRun
from reconciler.model.transcript import Transcript
from reconciler.ports.errors import ActionError, ObservationError

from .plist import LABEL, described, plist
from .unit_file import UnitFile, make_log_folder

_NO_SERVICE: Final = 113
_GONE: Final = (3, 36, _NO_SERVICE)
"""What `bootout` says of a service that is not there, or that is ending already."""
_AGAIN: Final = (5, 37)
"""What `bootstrap` says while the service of the same label is still ending."""
_NO_DOMAIN: Final = re.compile(r"could not find domain|domain does not support", re.IGNORECASE)
_FIELD: Final = re.compile(r"^\t([a-z ]+) = (.*)$", re.MULTILINE)
"""One tab: what is indented further belongs to something else."""
_SECONDS: Final = PATIENCE + 15.0
_PAUSE: Final = 0.1


class Launchd:
    """The agent of one person, in the domain of the login at the screen."""

    name = "launchd"

    def __init__(
        self,
        home: str,
        uid: int,
        run: Callable[[Sequence[str]], Transcript] = transcript,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._file = UnitFile(os.path.join(home, "Library", "LaunchAgents", f"{LABEL}.plist"))
        self._domain, self._target = f"gui/{uid}", f"gui/{uid}/{LABEL}"
        self._run, self._sleep = run, sleep

    @property
    def file(self) -> str:
        """Where agents of this person are."""
        return self._file.path

    def text(self, service: Service) -> str:
        """The property list."""
        return plist(service)

    def described(self, text: str) -> Service | None:
        """The service of a property list of ours."""
        return described(text)

    def written(self) -> Observation[str]:
        """What is there."""
        return self._file.written()

    def write(self, service: Service) -> None:
        """Replace it."""
        make_log_folder(service)
        self._file.write(plist(service))

    def remove(self) -> None:
        """Remove it: launchd starts what is in the folder at a login."""
        self._file.remove()

    def run(self) -> Observation[ServiceRun]:
        """What `launchctl print` says about the label."""
        try:
            said = self._run(("launchctl", "print", self._target))
        except ObservationError as error:
            return Unknown(reason=str(error))
        if said.code == _NO_SERVICE and not _NO_DOMAIN.search(said.err + said.out):
            return Absent()
        if said.code:
            return Unknown(reason=f"launchctl says: {said.complaint}")
        fields = dict(reversed(_FIELD.findall(said.out)))
        pid, state, ended = (
            fields.get("pid", ""),
            fields.get("state", "in no known state"),
            fields.get("last exit code"),
        )
        after = f", last ended with code {ended}" if ended and ended != "(never exited)" else ""
        return Present(value=ServiceRun(pid=int(pid) if pid.isdigit() else None, detail=f"{state}{after}"))

    def start(self) -> None:
        """Load it afresh; its `RunAtLoad` starts it."""
        self.end()
        # A label that somebody has once disabled stays so, and is refused without a word about it.
        self._must(("launchctl", "enable", self._target))
        end = time.monotonic() + _SECONDS
        while True:
            said = self._asked(("launchctl", "bootstrap", self._domain, self.file))
            if not said.code:
                return
            if said.code not in _AGAIN or time.monotonic() > end:
                raise self._failed(said)
            self._sleep(_PAUSE)

    def end(self) -> None:
        """Unload it, and wait until it is gone."""
        if isinstance(self._known(), Absent):
            return
        said = self._asked(("launchctl", "bootout", self._target))
        if said.code and said.code not in _GONE:
            raise self._failed(said)
        end = time.monotonic() + _SECONDS
        while not isinstance(self._known(), Absent):
            if time.monotonic() > end:
                raise ActionError("service-not-ended", f"launchd did not end {LABEL} in {_SECONDS:.0f} s")
            self._sleep(_PAUSE)

    @property
    def starting(self) -> str:
        """By hand."""
        return f"launchctl bootstrap {self._domain} '{self.file}'"

    @property
    def ending(self) -> str:
        """By hand."""
        return f"launchctl bootout {self._target}"

    def advice(self) -> str:
        """An agent begins with a login."""
        return "launchd starts it when you log in at the screen; see: reconciler doctor unattended-restart"

    def _known(self) -> Observation[ServiceRun]:
        found = self.run()
        if isinstance(found, Unknown):
            raise ActionError("service-manager-unreachable", found.reason)
        return found

    def _must(self, words: Sequence[str]) -> None:
        if (said := self._asked(words)).code:
            raise self._failed(said)

    def _asked(self, words: Sequence[str]) -> Transcript:
        try:
            return self._run(words)
        except ObservationError as error:
            raise ActionError("service-manager-unreachable", str(error)) from error

    def _failed(self, said: Transcript) -> ActionError:
        unreachable = _NO_DOMAIN.search(said.err + said.out)
        cause = "service-manager-unreachable" if unreachable else "service-refused"
        return ActionError(cause, f"launchctl says: {said.complaint}")
