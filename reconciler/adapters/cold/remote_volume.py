"""Cold storage of another host: the same questions as of a folder here, answered over ssh by `volume_agent.py`.

What cannot be answered for sure raises, so that unknown is never taken for done: an answer that was lost is an
ActionError of the link, and whoever asks again looks what is true over a new connection.
"""

import errno
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from reconciler.adapters.durable.files import PIECE, Entry, Kind
from reconciler.model.host import ColdVolume
from reconciler.ports.errors import ActionError

from .remote_link import SILENCE, STANDSTILL, Link
from .volume import IDENTITY

PROGRAM: Final = Path(__file__).resolve().parents[2] / "programs" / "volume_agent.py"
GREETING: Final = "reconciler-volume-agent 1"
_STOP: Final = b'{"stop": true}\n'
_MORE: Final = b'{"data": 0}\n'
_BEATS: Final = 24
"""How many times while it may be silent the other host says that it is working."""
_WAITS: Final = 12
"""The part of that time for which it waits for an earlier connection to let a repository go."""
_AHEAD: Final = 4
"""How many pieces are asked for before the first has come: the way there and back is not waited for each time."""


@contextmanager
def connected(
    place: ColdVolume, environ: Mapping[str, str], *, silence: float = SILENCE, standstill: float = STANDSTILL
) -> Iterator["RemoteFiles"]:
    """The volume of another host, held open there over a connection of its own. Raises ActionError.

    `environ` says where ssh and what it needs are; `silence` and `standstill` are seconds. Before anything is asked of
    it the identity was compared: `volume-unmounted`, `volume-wrong` or `volume-unmarked`. The host's faults are
    `volume-unreachable`, `volume-host-untrusted`, `volume-host-refused` and `volume-host-unfit`; those of every later
    request `volume-connection-lost` and `volume-busy`.
    """
    if place.host is None:
        raise ValueError(f"{place.path} is a volume of this machine")
    with Link(place.host, environ, silence=silence, standstill=standstill) as link:
        link.start(PROGRAM, GREETING)
        files = RemoteFiles(link, place)
        try:
            yield files
        finally:
            files.close()


def refusal(place: ColdVolume, cause: str, why: str) -> ActionError:
    """Why a folder of another host is not the volume, in one sentence."""
    there = f"{place.path} on {place.host}"
    match cause:
        case "volume-wrong":
            text = f"{there} is the volume {why} and not {place.id}, which the host file names; nothing was moved"
        case "volume-unmarked":
            text = (
                f"{there} has no {IDENTITY}, so it cannot be told from another disk; nothing was moved; mark it with "
                "`reconciler volume init` there"
            )
        case "volume-not-separate":
            text = (
                f"{there} is on the disk of {why}, so no volume is mounted there; nothing was moved; mount it, or say "
                "`separate: false` in the host file if it is meant to be a folder of that disk"
            )
        case _:
            text = f"{there} cannot be opened ({why}); nothing was moved; is it mounted?"
    named = cause if cause in ("volume-wrong", "volume-unmarked") else "volume-unmounted"
    return ActionError(named, text, permanent=named == "volume-unmarked")


class RemoteFiles:
    """A folder of another host: the `Files` of `files.py`, whose requests raise ActionError of the link, too.

    One request at a time: what is written cannot be read from this very connection meanwhile.
    """

    def __init__(self, link: Link, place: ColdVolume) -> None:
        """Hold it there. Raises ActionError, where it is not the volume, too."""
        self._link, self._place = link, place
        self._open, self._writing = True, False
        self._stream: _Stream | None = None
        told = {"op": "open", "path": place.path, "id": place.id, "separate": place.separate}
        link.send(_line({**told, "beat": link.silence / _BEATS, "wait": link.silence / _WAITS}))
        answer = link.frame()
        if "refused" in answer:
            raise refusal(place, str(answer["refused"]), str(answer.get("why")))
        self._device = self.value(answer, place.path)

    def close(self) -> None:
        """Every later request fails."""
        self._open, self._stream = False, None

    def device(self) -> str:
        """The number of its file system there; of no local one."""
        return f"ssh://{self._place.host}/{self._device}"

    def look(self, path: str) -> Entry | None:
        """What is there, by lstat."""
        match self._ask("look", path):
            case None:
                return None
            case [("file" | "folder" | "link" | "other") as kind, int(size), int(names)]:
                return Entry(kind=Kind(kind), size=size, names=names)
            case _:
                raise self._link.nonsense()

    def names(self, path: str) -> tuple[str, ...]:
        """What a folder holds, sorted."""
        said = self._ask("names", path)
        if not isinstance(said, list) or not all(_is_name(name) for name in said):
            raise self._link.nonsense()
        return tuple(sorted(said))

    def target(self, path: str) -> str:
        """Where a link leads, as it is written."""
        said = self._ask("target", path)
        if not isinstance(said, str):
            raise self._link.nonsense()
        return said

    def read(self, path: str) -> bytes:
        """A small file."""
        with closing(_Stream(self, "read", path, small=True)) as stream:
            return b"".join(data for _, data in stream)

    def chunks(self, path: str) -> Iterator[bytes]:
        """A file, piece by piece."""
        with closing(_Stream(self, "read", path)) as stream:
            for _, data in stream:
                yield data

    def digest(self, path: str, watch: Callable[[int], None] = lambda read: None) -> str:
        """SHA-256 of what the medium holds."""
        with closing(_Stream(self, "digest", path)) as stream:
            for length, _ in stream:
                watch(length)
        if not isinstance(stream.result, str):
            raise self._link.nonsense()
        return stream.result

    def make_folder(self, path: str) -> None:
        """Make one folder."""
        self._ask("make_folder", path)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        self._ask("link", path, target=target)

    def write(self, path: str, chunks: Iterable[bytes]) -> None:
        """Make a file of these pieces."""
        self.request("write", path)
        answer, self._writing = None, True
        try:
            for piece in _pieces(chunks):
                if (answer := self._link.glance()) is not None:
                    break
                self._link.send(b'{"data": %d}\n' % len(piece), piece)
        except BaseException:
            with suppress(ActionError):
                self._link.send(_STOP)
                self._link.frame()
            raise
        finally:
            self._writing = False
        self._link.send(_STOP)
        self.value(self._link.frame() if answer is None else answer, path)

    def sync(self, path: str) -> None:
        """Wait until it survives a loss of power there."""
        self._ask("sync", path)

    def rename(self, old: str, new: str) -> None:
        """Give it another name in one step."""
        self._ask("rename", old, to=new)

    def remove(self, path: str) -> None:
        """Remove a file or a link."""
        self._ask("remove", path)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        self._ask("remove_folder", path)

    # ---------------------------------------------------------------------------------------------------- requests

    def _ask(self, op: str, path: str, **facts: Any) -> Any:
        self.request(op, path, **facts)
        return self.value(self._link.frame(), path)

    def request(self, op: str, path: str, *more: bytes, **facts: Any) -> Link:
        """Ask; what was being read is not read on. Raises OSError where nothing can be asked now."""
        if not self._open:
            raise OSError(errno.EBADF, "Bad file descriptor: the connection was closed", path)
        if self._writing:
            raise OSError(errno.EBUSY, "a file is being written over this connection", path)
        if self._stream is not None:
            self._stream.close()
        self._link.send(_line({"op": op, "path": path, **facts}), *more)
        return self._link

    def value(self, answer: Mapping[str, Any], path: str) -> Any:
        """What an answer says. Raises OSError where that is an error there, with the number that it has here."""
        if "ok" in answer:
            return answer["ok"]
        if "busy" in answer:
            raise ActionError(
                "volume-busy",
                f"another connection to {self._place.path} on {self._place.host} is changing the same repository; "
                "nothing was changed by this one; try again when it has ended",
            )
        if "error" not in answer:
            raise self._link.nonsense()
        text = "".join(c if c.isprintable() else "?" for c in str(answer.get("text")))[:300]
        number = getattr(errno, str(answer["error"]), None) if answer["error"] else None
        raise OSError(number, text, path) if isinstance(number, int) else OSError(text)

    def follow(self, stream: "_Stream | None") -> None:
        """What is being read now."""
        self._stream = stream


class _Stream:
    """The pieces of one file, as they come."""

    def __init__(self, files: RemoteFiles, op: str, path: str, **facts: Any) -> None:
        self._files, self._path, self._brings = files, path, op == "read"
        self._link: Link | None = files.request(op, path, _MORE * _AHEAD, **facts)
        self.result: Any = None
        """What was said in the end."""
        files.follow(self)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Length and content of each; the latter is empty where a digest was asked for."""
        while True:
            if self._link is None:
                raise OSError(errno.EBADF, "something else was asked meanwhile", self._path)
            link, answer = self._link, self._link.frame()
            if "piece" not in answer:
                self._finish()
                self.result = self._files.value(answer, self._path)
                return
            data = self._data(link, answer)
            link.send(_MORE)
            yield answer["piece"], data

    def close(self) -> None:
        """Read no more of it; what is on its way is skipped."""
        if (link := self._link) is None:
            return
        with suppress(ActionError):  # the next request will tell
            self._finish()
            while "piece" in (answer := link.frame()):
                self._data(link, answer)

    def _finish(self) -> None:
        link, self._link = self._link, None
        self._files.follow(None)
        if link is not None:
            link.send(_STOP)

    def _data(self, link: Link, answer: Mapping[str, Any]) -> bytes:
        length = answer["piece"]
        if not isinstance(length, int) or not 0 < length <= PIECE:
            raise link.nonsense()
        return link.exactly(length) if self._brings else b""


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and "/" not in name


def _pieces(chunks: Iterable[bytes]) -> Iterator[memoryview]:
    for chunk in chunks:
        whole = memoryview(chunk)
        for start in range(0, len(whole), PIECE):
            yield whole[start : start + PIECE]
