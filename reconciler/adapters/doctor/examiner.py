"""This machine, as the checks of an examination ask about it."""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from reconciler.adapters import sock_diag
from reconciler.adapters.cache.hf_cache import cache_root
from reconciler.adapters.host_file import VARIABLE, usual_places
from reconciler.adapters.state_dir import DATABASE, StateDir
from reconciler.adapters.transcripts import transcript
from reconciler.model.doctor import (
    ClockState,
    Complaint,
    Disk,
    GitState,
    Install,
    Leftover,
    LentPorts,
    Listening,
    Owned,
    StateFolder,
)
from reconciler.model.host import HostFile
from reconciler.model.observed import Absent, Observation, Present, Unknown
from reconciler.model.problem import ReconcilerError
from reconciler.ports.errors import ObservationError

from . import file_system, installs, unfinished

T = TypeVar("T")

_LENT: Final = "/proc/sys/net/ipv4/ip_local_port_range"
_RESERVED: Final = "/proc/sys/net/ipv4/ip_local_reserved_ports"
_PRIVATE: Final = ("", DATABASE, f"{DATABASE}-wal", "cache.db", "run", "logs", "templates", "reconciler.lock")
_TOKENS: Final = ("token", "stored_tokens")
_NOWHERE: Final = frozenset({bytes(16), bytes(10) + b"\xff\xff" + bytes(4)})
"""0.0.0.0, ::, and the first as an address of the second kind."""


class LocalExaminer:
    """Looks at this machine."""

    def __init__(self, host: HostFile, host_file: str | None, desired: str | None, now: Callable[[], float]) -> None:
        """`host_file`: the path that was named for it; `desired`: the path of the desired file, where there is one."""
        self._host, self._named, self._desired, self._now = host, host_file, desired, now
        self._state = StateDir()

    @property
    def uid(self) -> int:
        """Ours."""
        return os.getuid()

    def state_folder(self) -> Observation[StateFolder]:
        """Tried with real files."""
        return _looked(lambda: file_system.tried(self._state.root))

    def state_owners(self) -> Observation[tuple[Owned, ...]]:
        """The directory, and what is known to be in it."""
        root = self._state.root
        return _looked(lambda: tuple(_owned(os.path.join(root, name) if name else str(root) for name in _PRIVATE)))

    def database(self) -> Observation[Complaint | None]:
        """Read, and never mended."""
        if not self._state.database.exists():
            return Present(value=None)
        try:
            why = self._state.damage()
        except ReconcilerError as error:
            return Present(value=Complaint(reference=error.reference, message=error.message, hint=error.hint))
        if not why:
            return Present(value=None)
        return Present(
            value=Complaint(
                reference="state-damaged",
                message=f"{self._state.database} is damaged: {why}",
                hint="reconciler apply  # sets it aside, and keeps what can still be read of it",
            )
        )

    def disks(self) -> Observation[tuple[Disk, ...]]:
        """By the free blocks that a user may have."""
        places = {"state": str(self._state.root), "models": cache_root(os.environ)}
        return _looked(lambda: tuple(_disk(what, path) for what, path in places.items()))

    def installs(self) -> Observation[tuple[Install, ...]]:
        """By metadata on the disk."""
        return _looked(lambda: installs.installs(self._host.runtimes))

    def listening(self) -> Observation[tuple[Listening, ...]]:
        """By netlink, which sees the sockets of every user."""
        if sys.platform != "linux":
            return Absent()
        return _looked(lambda: tuple(_listening(sock_diag.sockets(1 << sock_diag.LISTEN))))

    def leftovers(self) -> Observation[tuple[Leftover, ...]]:
        """All of the cache, which costs a listing for each repository."""
        cache = cache_root(os.environ)
        if not os.path.isdir(cache):
            return Present(value=())
        return _looked(lambda: tuple(unfinished.leftovers(cache, self._now())))

    def lent_ports(self) -> Observation[LentPorts]:
        """As the kernel has them now."""
        if not os.path.exists(_LENT):
            return Absent()
        return _looked(_lent)

    def git(self) -> Observation[GitState | Complaint]:
        """Called as the source calls it."""
        if self._desired is None:
            return Absent()
        from .git_settings import looked

        place = self._desired
        return _looked(lambda: looked(place))

    def clock(self) -> Observation[ClockState]:
        """Now, and the last event."""
        try:
            events = self._state.events(last=1)
        except ReconcilerError:
            events = ()  # another check says what is wrong with the database
        last = events[-1].at if events else None
        return Present(value=ClockState(now=self._now(), last_event=last, synchronised=_synchronised()))

    def tokens(self) -> Observation[tuple[Owned, ...]]:
        """The files of `hf auth login`."""
        home = os.path.expanduser(os.environ.get("HF_HOME") or _cache_folder())
        named = os.environ.get("HF_TOKEN_PATH")
        paths = [os.path.join(home, name) for name in _TOKENS] + ([os.path.expanduser(named)] if named else [])
        return _looked(lambda: tuple(_owned(paths)))

    def host_file(self) -> Observation[Owned]:
        """The first of the places where it is looked for."""
        named = self._named or os.environ.get(VARIABLE)
        found = tuple(_owned([named] if named else usual_places()))
        return Present(value=found[0]) if found else Absent()


def _looked(look: Callable[[], T]) -> Observation[T]:
    """What is seen, or why nothing can be."""
    try:
        return Present(value=look())
    except OSError as error:
        return Unknown(reason=f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _owned(paths: Iterable[str]) -> Iterator[Owned]:
    """Those that are there. A link is looked through, as whoever reads the file does."""
    for path in paths:
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        yield Owned(path=path, ours=status.st_uid == os.geteuid(), mode=stat.S_IMODE(status.st_mode))


def _disk(what: str, path: str) -> Disk:
    folder = Path(path)
    while not folder.is_dir():
        folder = folder.parent
    found = os.statvfs(folder)
    return Disk(what=what, path=path, free=found.f_bavail * found.f_frsize)


def _listening(messages: Iterable[bytes]) -> Iterator[Listening]:
    for message in messages:
        # struct inet_diag_sockid: two ports, then 16 bytes of the local address, of which IPv4 has the first four.
        yield Listening(port=sock_diag.port(message), wide=message[8:24] in _NOWHERE)


def _lent() -> LentPorts:
    first, last = (int(word) for word in Path(_LENT).read_text(encoding="ascii").split())
    try:
        listed = Path(_RESERVED).read_text(encoding="ascii").strip()
    except OSError:
        listed = ""
    ranges = [part.partition("-") for part in listed.split(",") if part]
    return LentPorts(first=first, last=last, reserved=tuple((int(low), int(high or low)) for low, _, high in ranges))


def _synchronised() -> Observation[bool]:
    if sys.platform != "linux":
        return Absent()
    try:
        said = transcript(("timedatectl", "show", "--property=NTPSynchronized", "--value"))
    except ObservationError as error:
        return Unknown(reason=str(error))
    word = said.out.strip()
    return Present(value=word == "yes") if word in ("yes", "no") else Unknown(reason=said.complaint)


def _cache_folder() -> str:
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "huggingface")
