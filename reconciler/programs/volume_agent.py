"""Serves one folder of a volume to another host: requests on stdin, answers on stdout, and nothing outside is reached.

It is sent over ssh and executed there; it needs Python 3.8 and nothing else. A request is one JSON line, the first of
them `open` (every `beat` seconds it is said that the program works; for `wait` seconds another connection is waited for
that changes the same repository):

    {"op": "open", "path": "/Volumes/shelf", "id": "<32 hex digits>", "separate": true, "beat": 5, "wait": 10}
    {"op": "look", "path": "a/b"}      names, target, make_folder, link, sync, rename, remove, remove_folder
    {"op": "read", "path": "a/b"}      digest, write: lines follow that belong to it, the last one {"stop": true}
    {"data": 3}                        3 bytes follow, to be written; 0: send one more piece (`read`, `digest`)

An answer is one JSON line: `{"ok": ...}`, `{"error": "ENOSPC", "text": ...}`, `{"refused": cause, "why": ...}` or
`{"busy": true}`. Before that of `read` and `digest` come `{"piece": length}`, after which `read` sends the bytes. While
a request is worked on, `{"alive": true}` says so. End of file on stdin ends the program at once.

What a request means is what `LocalFiles` of `reconciler/adapters/durable/files.py` does; a test asks both the same.
Like that it holds a descriptor of the folder and works through it alone: when the volume goes, requests fail, and
none reaches what then lies at the same path. No component of a path is followed when it is a link.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import stat
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, NoReturn

GREETING = "reconciler-volume-agent 1"
PIECE = 4 * 2**20
"""Bytes that are read at a time; the other side sends no longer pieces either."""
SMALL = 64 * 2**20
"""Bytes of the longest file that is read where the request says `small`."""
LINE = 2**20
"""Bytes of the longest request."""
IDENTITY = b".reconciler-volume"
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)
NO_CACHE = getattr(fcntl, "F_NOCACHE", 48 if sys.platform == "darwin" else None)
NO_SUCH_REQUEST = (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY)
ALWAYS_THERE = ("/", "~", "/System/Volumes/Data")
"""Places on disks that are no volume of their own; the last is where macOS keeps everything but the system."""


class Refused(Exception):
    """The folder is not the volume that was asked for: the cause, and what was found."""


class Busy(Exception):
    """Another connection is changing the same repository."""


def end(status: int) -> NoReturn:
    """At once: whatever was begun and not answered is found by the next connection."""
    os._exit(status)


class Channel:
    """The other side."""

    def __init__(self, source: BinaryIO, sink: int) -> None:
        self._source, self._sink = source, sink
        self._lock = threading.Lock()
        self._works = False
        self._more = False
        """Whether lines follow that belong to the request."""

    def line(self) -> dict[str, Any]:
        """What the other side says next; where it says nothing any more, the program ends."""
        text = self._source.readline(LINE)
        if not text:
            end(0)
        try:
            return dict(json.loads(text.decode()))
        except (ValueError, TypeError):  # also a line that was cut off
            end(1)

    def request(self) -> dict[str, Any]:
        """The next request; from now on it is worked on."""
        said = self.line()
        self._more = said.get("op") in ("read", "digest", "write")
        self._works = True
        return said

    def piece(self) -> bytes | None:
        """What follows the request; None: nothing more does."""
        said = self.line()
        if "stop" in said:
            self._more = False
            return None
        length = said.get("data", -1)
        data = self._source.read(length) if 0 <= length <= PIECE else b""
        if len(data) != length:
            end(1)
        return data

    def send(self, said: dict[str, Any], data: bytes = b"") -> None:
        rest = memoryview(json.dumps(said).encode() + b"\n" + data)
        with self._lock:
            try:
                while rest:
                    rest = rest[os.write(self._sink, rest) :]
            except OSError:
                end(1)

    def answer(self, said: dict[str, Any]) -> None:
        """The last word about a request; what still follows it is skipped."""
        self._works = False
        self.send(said)
        while self._more:
            self.piece()

    def beat(self, seconds: float) -> None:
        """Say that a request is worked on, also while the system keeps us waiting."""

        def tell() -> None:
            while True:
                time.sleep(seconds)
                if self._works:
                    self.send({"alive": True})

        threading.Thread(target=tell, daemon=True).start()


class Volume:
    """A folder that is held. Raises Refused where it is not the volume, and OSError."""

    def __init__(self, path: str, identity: str, separate: bool, wait: float) -> None:
        try:
            self._handle = os.open(encoded(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Refused("volume-unmounted", error.strerror or str(error)) from error
        self.device = os.fstat(self._handle).st_dev
        for place in ALWAYS_THERE if separate else ():
            with suppress(OSError):
                if os.stat(os.path.expanduser(place)).st_dev == self.device:
                    raise Refused("volume-not-separate", place)
        try:
            self._identity = self._open_identity()
            found = os.pread(self._identity, 256, 0).decode("ascii", "replace").strip()
        except FileNotFoundError:
            raise Refused("volume-unmarked", "") from None
        except OSError as error:
            raise Refused("volume-unmounted", error.strerror or str(error)) from error
        if re.fullmatch("[0-9a-f]{32}", found) is None:
            raise Refused("volume-unmarked", "")
        if found != identity:
            raise Refused("volume-wrong", found)
        self._claimed: set[bytes] = set()
        self._wait = wait

    def _open_identity(self) -> int:
        flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return os.open(IDENTITY, os.O_RDWR | flags, dir_fd=self._handle)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return os.open(IDENTITY, os.O_RDONLY | flags, dir_fd=self._handle)

    def do_look(self, request: dict[str, Any], channel: Channel) -> list[Any] | None:
        try:
            with self._folder_of(request["path"]) as (folder, name):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            if not os.fstat(self._handle).st_nlink:  # in a folder that was removed everything is absent
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None
            return None
        if stat.S_ISREG(status.st_mode):
            return ["file", status.st_size, status.st_nlink]
        if stat.S_ISDIR(status.st_mode):
            return ["folder", 0, 1]
        return ["link" if stat.S_ISLNK(status.st_mode) else "other", 0, 1]

    def do_names(self, request: dict[str, Any], channel: Channel) -> list[str]:
        with self._opened(request["path"], FOLDER) as handle:
            return [decoded(os.fsencode(name)) for name in os.listdir(handle)]

    def do_target(self, request: dict[str, Any], channel: Channel) -> str:
        with self._folder_of(request["path"]) as (folder, name):
            return decoded(os.readlink(name, dir_fd=folder))

    def do_read(self, request: dict[str, Any], channel: Channel) -> None:
        with self._file(request["path"]) as handle:
            if request.get("small") and os.fstat(handle).st_size > SMALL:
                raise OSError(f"{request['path']} is too long to be read in one piece")
            for piece in pieces(handle, channel):
                channel.send({"piece": len(piece)}, piece)

    def do_digest(self, request: dict[str, Any], channel: Channel) -> str:
        digest = hashlib.sha256()
        with self._file(request["path"]) as handle:
            forget_cached(handle)
            for piece in pieces(handle, channel):
                digest.update(piece)
                channel.send({"piece": len(piece)})
        return digest.hexdigest()

    def do_make_folder(self, request: dict[str, Any], channel: Channel) -> None:
        with self._changed(request["path"]) as (folder, name):
            os.mkdir(name, dir_fd=folder)

    def do_link(self, request: dict[str, Any], channel: Channel) -> None:
        with self._changed(request["path"]) as (folder, name):
            os.symlink(encoded(request["target"]), name, dir_fd=folder)

    def do_write(self, request: dict[str, Any], channel: Channel) -> None:
        with self._changed(request["path"]) as (folder, name):
            handle = os.open(name, CREATE, 0o666, dir_fd=folder)
        try:
            if NO_CACHE is not None:
                with suppress(OSError):
                    fcntl.fcntl(handle, NO_CACHE, 1)
            while (piece := channel.piece()) is not None:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(handle, rest) :]
        finally:
            os.close(handle)

    def do_sync(self, request: dict[str, Any], channel: Channel) -> None:
        path = request["path"]
        entry = self.do_look(request, channel) if path else ["folder"]
        with self._opened(path, FOLDER if entry and entry[0] == "folder" else READ) as handle:
            synced(handle)

    def do_rename(self, request: dict[str, Any], channel: Channel) -> None:
        with self._changed(request["path"]) as (before, name), self._changed(request["to"]) as (after, other):
            os.rename(name, other, src_dir_fd=before, dst_dir_fd=after)

    def do_remove(self, request: dict[str, Any], channel: Channel) -> None:
        with self._changed(request["path"]) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def do_remove_folder(self, request: dict[str, Any], channel: Channel) -> None:
        with self._changed(request["path"]) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    @contextmanager
    def _changed(self, path: str) -> Iterator[tuple[int, bytes]]:
        """Where a change is made: never to the identity, and by one connection at a time."""
        top = parts(path)[0]
        if top == IDENTITY:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        self._claim(top[1:].rpartition(b".")[0] if top.startswith(b".") else top)
        with self._folder_of(path) as found:
            yield found

    def _claim(self, repository: bytes) -> None:
        """Wait until nobody else changes what belongs to this repository.

        A connection that was cut off may leave a program here that the disk keeps waiting: what it does late must not
        meet what its successor does. It is a lock of one byte of the identity file, far behind its end, and it goes
        with the process. A file system without locks has none of it.
        """
        if repository in self._claimed:
            return
        until = time.monotonic() + self._wait
        while True:
            try:
                fcntl.lockf(self._identity, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 2**32 + zlib.crc32(repository))
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    break
            if time.monotonic() > until:
                raise Busy
            time.sleep(0.05)
        self._claimed.add(repository)

    @contextmanager
    def _folder_of(self, path: str) -> Iterator[tuple[int, bytes]]:
        """The folder that a path is in, and its last name; no link is followed on the way."""
        *folders, name = parts(path)
        handle = os.dup(self._handle)
        try:
            for folder in folders:
                inner = os.open(folder, FOLDER, dir_fd=handle)
                os.close(handle)
                handle = inner
            yield handle, name
        finally:
            os.close(handle)

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        if encoded(path) == IDENTITY:  # to close another descriptor of it would give the locks up (POSIX)
            os.lseek(self._identity, 0, os.SEEK_SET)
            yield self._identity
            return
        if path:
            with self._folder_of(path) as (folder, name):
                handle = os.open(name, flags, dir_fd=folder)
        else:
            handle = os.open(".", flags, dir_fd=self._handle)
        try:
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def _file(self, path: str) -> Iterator[int]:
        with self._opened(path, READ) as handle:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(f"{path} is no plain file")
            yield handle


def encoded(path: str) -> bytes:
    """Names are bytes here, whatever the locale of this host."""
    return path.encode("utf-8", "surrogateescape")


def decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def parts(path: str) -> list[bytes]:
    names = encoded(path).split(b"/")
    if {b"", b".", b".."} & set(names):
        raise OSError(f"{path!r} is no path below a folder")
    return names


def pieces(handle: int, channel: Channel) -> Iterator[bytes]:
    """What a file holds, a piece for every time that the other side asks for one."""
    while channel.piece() is not None:
        piece = os.read(handle, PIECE)
        if not piece:
            return
        yield piece


def synced(handle: int) -> None:
    if FULL_SYNC is not None:
        try:
            fcntl.fcntl(handle, FULL_SYNC)
            return
        except OSError as error:
            if error.errno not in NO_SUCH_REQUEST:
                raise
    os.fsync(handle)


def forget_cached(handle: int) -> None:
    """Let the next reads of this descriptor come from the medium: only clean pages are dropped, so it is synced."""
    synced(handle)
    if sys.platform == "darwin":
        if NO_CACHE is not None:
            fcntl.fcntl(handle, NO_CACHE, 1)
    else:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def answered(volume: Volume, request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """What is said about one request."""
    try:
        return {"ok": getattr(volume, f"do_{request['op']}")(request, channel)}
    except Busy:
        return {"busy": True}
    except OSError as error:
        return {"error": errno.errorcode.get(error.errno or 0, ""), "text": error.strerror or str(error)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {"error": "EINVAL", "text": str(error)}


def main() -> None:
    channel = Channel(sys.stdin.buffer, sys.stdout.fileno())
    os.write(sys.stdout.fileno(), f"\n{GREETING}\n".encode())  # a login script may have printed half a line
    first = channel.request()
    channel.beat(float(first["beat"]))
    try:
        volume = Volume(first["path"], first["id"], first["separate"], float(first["wait"]))
    except Refused as refused:
        channel.answer({"refused": refused.args[0], "why": refused.args[1]})
        end(0)
    channel.answer({"ok": volume.device})
    while True:
        request = channel.request()
        channel.answer(answered(volume, request, channel))


if __name__ == "__main__":
    main()
