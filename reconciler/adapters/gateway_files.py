"""The files of the gateways that the host file names: read in one piece, replaced in one piece, never somebody else's.

A gateway that reads a file cannot say which of the routes that were withdrawn it still uses. So each withdrawn port is
remembered beside the state (`gateways/KIND.json`) until the host file's `drain` is over, also across restarts:

1. Before the new file takes its place, every port of the old file and of the new one is noted as `written`.
2. After it, `written` is what the new file names, and each port that went has its time under `withdrawn`.

A port that is `written` and not in the file was withdrawn by a run that ended between the two, or by a person with an
editor. Nobody knows when, so its drain begins when it is first seen to be missing. Whatever step a run ends at, a port
is forgotten too late at worst.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any, Final

from reconciler.gateways.base import DAMAGED, UNWRITABLE, GatewayTextError, GatewayWriter
from reconciler.model.base import noun
from reconciler.model.host import HostFile
from reconciler.model.observed import Absent, GatewayState, Observation, Present, Unknown
from reconciler.model.routes import Route
from reconciler.model.units import seconds
from reconciler.ports.errors import ActionError

FOLDER: Final = "gateways"
VERSION: Final = 1
LIMIT: Final = 2**24
"""Bytes of the longest file that is read or written."""
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_OWNER_ONLY: Final = 0o600
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: fsync alone leaves the bytes in the drive's cache."""
_SYSTEMS_OWN: Final = ("security.", "trusted.")
"""Extended attributes that the kernel gives to a new file by its own rules."""


class _Unreadable(Exception):
    """Why a file cannot be looked at; the text is the reason."""


@noun
class _Place:
    """Where the host file says that a gateway's file is."""

    path: str
    drain: float
    """Seconds."""


@noun
class _Seen:
    """What a look found: the plan was made for it."""

    real: str
    """The path without links."""
    content: bytes | None
    """None: there was no file."""


@noun
class _Memory:
    """What is remembered of the ports that a gateway was told."""

    written: frozenset[int] = frozenset()
    withdrawn: Mapping[int, float]
    """Port -> when it was withdrawn, seconds since the epoch."""


class LocalGateways:
    """Gateway files of this machine. `state` is the state directory; `now` says seconds since the epoch."""

    def __init__(
        self, host_file: HostFile, writers: Mapping[str, GatewayWriter], state: Path, now: Callable[[], float]
    ) -> None:
        litellm = host_file.gateways.litellm
        self._places = {} if litellm is None else {"litellm": _place(litellm.include, litellm.drain)}
        self._writers = writers
        self._folder = state / FOLDER
        self._now = now
        self._seen: dict[str, _Seen] = {}
        self._parsed: dict[str, tuple[bytes, tuple[Route, ...]]] = {}
        self._missed: dict[tuple[str, int], float] = {}
        """When a port that went at an unknown time was first seen to be missing."""

    # ------------------------------------------------------------------------------------------------- looking

    def look(self) -> Mapping[str, Observation[GatewayState]]:
        """kind -> its state, for the kinds that the host file names. Nothing is written."""
        return {kind: self._look(kind, place) for kind, place in self._places.items()}

    def _look(self, kind: str, place: _Place) -> Observation[GatewayState]:
        self._seen.pop(kind, None)
        try:
            seen, memory = self._find(kind, place)
            routes = self._routes(kind, seen.content)
        except _Unreadable as error:
            return Unknown(reason=str(error))
        except GatewayTextError as error:
            return Unknown(reason=f"{place.path} {error.message}")
        self._seen[kind] = seen
        named = _ports(routes)
        ends = self._ends(kind, place, memory, named)
        if seen.content is None and not ends:
            return Absent()
        state = GatewayState(
            routes=routes, may_dispatch=named | ends.keys(), drained_at=max(ends.values()) if ends else None
        )
        return Present(value=state)

    def _find(self, kind: str, place: _Place) -> tuple[_Seen, _Memory]:
        if kind not in self._writers:
            raise _Unreadable(f"this version has no writer for the files of {kind}")
        real = os.path.realpath(place.path)
        return _Seen(real=real, content=_read(real)), _recall(self._memory(kind))

    def _routes(self, kind: str, content: bytes | None) -> tuple[Route, ...]:
        """What the file says; the same bytes are parsed once."""
        if content is None:
            return ()
        known = self._parsed.get(kind)
        if known is None or known[0] != content:
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError as error:
                raise GatewayTextError(DAMAGED, f"is no UTF-8 text (byte {error.start + 1})") from None
            known = self._parsed[kind] = (content, self._writers[kind].read(text))
        return known[1]

    def _ends(self, kind: str, place: _Place, memory: _Memory, named: frozenset[int]) -> dict[int, float]:
        """Port that the file no longer names -> until when the gateway may use it; only what is not over."""
        now, ends = self._now(), {}
        for port in named:
            self._missed.pop((kind, port), None)
        for port in (memory.written | memory.withdrawn.keys()) - named:
            since = memory.withdrawn.get(port)
            if since is None or since > now or port in memory.written:
                since = min(self._missed.get((kind, port), now), now)
                self._missed[kind, port] = since
            else:
                self._missed.pop((kind, port), None)
            if now < since + place.drain:
                ends[port] = since + place.drain
        return ends

    # ---------------------------------------------------------------------------------------------- publishing

    async def publish(self, kind: str, routes: tuple[Route, ...]) -> None:
        """Bring the file to these routes, in one step that cannot be cancelled half-way. Raises ActionError.

        `gateway-changed`: the file is not what the last look found. A file that is not ours is never replaced.
        """
        place = self._places.get(kind)
        if place is None:
            raise ActionError("gateway-unconfigured", f"the host file names no file of {kind}", permanent=True)
        try:
            found, memory = self._find(kind, place)
            before = self._routes(kind, found.content)
            text = self._writers[kind].write(routes).encode("utf-8")
        except _Unreadable as error:
            raise ActionError("gateway-unreadable", f"{error}; nothing was written") from error
        except GatewayTextError as error:
            named = "the routes" if error.reference == UNWRITABLE else place.path
            raise ActionError(
                error.reference, f"{named} {error.message}; nothing was written", permanent=True
            ) from error
        if len(text) > LIMIT:
            raise ActionError("gateway-file-too-long", f"{place.path} would exceed {LIMIT} bytes", permanent=True)
        if found != self._seen.setdefault(kind, found):
            raise _changed(place)
        self._bring(kind, place, text, memory, (_ports(before), _ports(routes)))

    def _bring(
        self, kind: str, place: _Place, text: bytes, memory: _Memory, ports: tuple[frozenset[int], frozenset[int]]
    ) -> None:
        """The steps of this module's description, around the replacement of the file."""
        (old, new), now, seen = ports, self._now(), self._seen[kind]
        draining = {port: since for port, since in memory.withdrawn.items() if now < since + place.drain}
        ever = memory.written | old
        if seen.content != text:
            try:
                with _beside(seen.real, text, like=seen.content is not None) as put:
                    self._remember(kind, memory, _Memory(written=ever | new, withdrawn=draining))
                    if _Seen(real=os.path.realpath(place.path), content=_read(seen.real)) != seen:
                        raise _changed(place)
                    put()
            except (OSError, _Unreadable) as error:
                raise _failed(place, seen.real, error) from error
            self._seen[kind] = _Seen(real=seen.real, content=text)
            now = self._now()
        gone = {port: now if port in old else self._missed.get((kind, port), now) for port in ever - new}
        kept = {port: since for port, since in draining.items() if port not in new}
        for port in new | gone.keys():
            self._missed.pop((kind, port), None)
        try:
            written = _Memory(written=ever | new, withdrawn=draining) if seen.content != text else memory
            self._remember(kind, written, _Memory(written=new, withdrawn=kept | gone))
        except OSError as error:
            what = f"{place.path} says the routes, but {self._memory(kind)} could not be written: {error.strerror}"
            raise ActionError("gateway-memory-unwritable", what) from error

    def _memory(self, kind: str) -> str:
        return str(self._folder / f"{kind}.json")

    def _remember(self, kind: str, before: _Memory, after: _Memory) -> None:
        """Durable when it returns. Raises OSError."""
        if before == after:
            return
        import json

        document = {
            "version": VERSION,
            "withdrawn": {str(port): after.withdrawn[port] for port in sorted(after.withdrawn)},
            "written": sorted(after.written),
        }
        os.makedirs(self._folder.parent, mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(self._folder, 0o700)
            _sync_folder(str(self._folder.parent))
        with _beside(self._memory(kind), f"{json.dumps(document)}\n".encode(), like=False) as put:
            put()


def _place(path: str, drain: str) -> _Place:
    return _Place(path=path, drain=seconds(drain))


def _ports(routes: tuple[Route, ...]) -> frozenset[int]:
    return frozenset(route.upstream.port for route in routes if route.upstream is not None)


def _changed(place: _Place) -> ActionError:
    return ActionError("gateway-changed", f"{place.path} was changed by somebody else meanwhile; nothing was written")


def _failed(place: _Place, real: str, error: OSError | _Unreadable) -> ActionError:
    if isinstance(error, _Unreadable):
        return ActionError("gateway-unreadable", f"{error}; nothing was written")
    folder = os.path.dirname(real)
    if not os.path.isdir(folder):
        why = f"there is no folder {folder}: make it, or mend the path in the host file"
        return ActionError("gateway-folder-missing", f"{place.path} was not written: {why}", permanent=True)
    why = error.strerror or str(error)
    if error.errno == errno.EBUSY:
        why += " (a file that is mounted by itself cannot be replaced: mount its folder instead)"
    elif isinstance(error.filename, str) and os.path.isabs(error.filename):
        why += f" ({error.filename})"
    return ActionError("gateway-unwritable", f"{place.path} was not written: {why}", permanent=True)


def _recall(path: str) -> _Memory:
    """What `_remember` wrote; nothing where there is no file. Raises _Unreadable: what is forgotten is not drained."""
    content = _read(path)
    if content is None:
        return _Memory(withdrawn={})
    import json

    try:
        document: dict[str, Any] = json.loads(content)
        if document["version"] > VERSION:
            raise _Unreadable(f"{path} was written by a newer reconciler: run that one, or remove the file")
        memory = _Memory(
            written=frozenset(int(port) for port in document["written"]),
            withdrawn={int(port): float(since) for port, since in document["withdrawn"].items()},
        )
        if not all(isfinite(since) for since in memory.withdrawn.values()):
            raise ValueError("a time that never comes")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise _Unreadable(
            f"{path} is damaged, so which withdrawn routes are still used cannot be said; "
            "restart the gateway and remove that file"
        ) from None
    return memory


# ------------------------------------------------------------------------------------------------------------- files


def _read(path: str) -> bytes | None:
    """The content of a plain file; None where there is none. Raises _Unreadable."""
    try:
        handle = os.open(path, _OPEN)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _Unreadable(f"{path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _Unreadable(f"{path} is not a plain file")
        content = b""
        while len(content) <= LIMIT and (part := os.read(handle, LIMIT + 1 - len(content))):
            content += part
    except OSError as error:
        raise _Unreadable(f"{path}: {error.strerror}") from error
    finally:
        os.close(handle)
    if len(content) > LIMIT:
        raise _Unreadable(f"{path} is longer than {LIMIT} bytes")
    return content


@contextmanager
def _beside(path: str, content: bytes, *, like: bool) -> Iterator[Callable[[], None]]:
    """The content in a file beside `path`, on the disk; what is yielded puts it in its place. Raises OSError.

    Mode, owner and attributes are those of the file at `path` where `like` says that there is one, else 0600 and ours.
    """
    folder, name = os.path.split(path)
    temporary = f".{name}.reconciler.tmp"
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def put() -> None:
        os.rename(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
        _sync(handle)

    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=handle)  # of a run that was killed
        made = os.open(temporary, _CREATE, _OWNER_ONLY, dir_fd=handle)
        try:
            with open(made, "wb", closefd=False) as file:
                file.write(content)
            if like:
                with suppress(FileNotFoundError):  # removed meanwhile, which is found before anything is replaced
                    _copy_standing(path, made)
            _sync(made)
        finally:
            os.close(made)
        yield put
    finally:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=handle)
        os.close(handle)


def _copy_standing(path: str, made: int) -> None:
    """Owner, attributes and mode, so that whoever could read the file still can, and nobody else."""
    before, now = os.stat(path, follow_symlinks=False), os.fstat(made)
    if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
        os.fchown(made, before.st_uid, before.st_gid)
    os.fchmod(made, stat.S_IMODE(before.st_mode))
    if hasattr(os, "listxattr"):  # Linux alone
        for name in os.listxattr(path, follow_symlinks=False):
            if not name.startswith(_SYSTEMS_OWN):
                os.setxattr(made, name, os.getxattr(path, name, follow_symlinks=False))


def _sync(handle: int) -> None:
    if _FULL_SYNC is not None:
        with suppress(OSError):
            fcntl.fcntl(handle, _FULL_SYNC)
            return
    os.fsync(handle)


def _sync_folder(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(handle)
    finally:
        os.close(handle)
