"""How the file system of a folder behaves, tried with real files and a second process."""

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from reconciler.model.doctor import StateFolder

_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
_SECONDS: Final = 10.0
_RENAMES: Final = 200
_PREFIX: Final = ".doctor-"
_HOLDER: Final = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("taken", flush=True)
except BlockingIOError:
    print("kept out", flush=True)
os.close(handle)
sys.stdin.read()
"""
"""Says whether it is kept out by a lock, and then holds on to what it has inherited until its input ends."""


def tried(path: Path) -> StateFolder:
    """The behaviour of the file system at `path`, or at the nearest folder above that is there. Raises OSError."""
    folder = path
    while not folder.is_dir():
        folder = folder.parent
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as name:
        place = Path(name)
        excludes, inherits, frees = _locks(place / "lock")
        return StateFolder(
            path=str(path),
            tried=str(folder),
            kind=kind(str(folder)),
            excludes=excludes,
            inherits=inherits,
            frees=frees,
            replaces=_replaces(place),
            folds_case=_folds_case(place),
            full_sync=_full_sync(place),
        )


def kind(path: str) -> str:
    """Type of the file system that a path is on; empty where nobody says it."""
    import psutil

    try:
        mounts = [(mount.mountpoint, mount.fstype) for mount in psutil.disk_partitions(all=True)]
    except (OSError, psutil.Error):
        return ""
    return kind_among(os.path.realpath(path), mounts)


def kind_among(path: str, mounts: Iterable[tuple[str, str]]) -> str:
    """The type of the mount that holds a path: the longest one, and of several at one place the last."""
    found = "", ""
    for place, type_ in mounts:
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(found[0]):
            found = place, type_
    return found[1].lower()


def _locks(path: Path) -> tuple[bool, bool, bool]:
    """Whether a lock excludes another process, is inherited, and is freed. The lock of a server needs all three."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        holder = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HOLDER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(handle,),
            cwd="/",
        )
    finally:
        os.close(handle)
    try:
        excludes = _line(holder) == "kept out"
        inherits = not _free(path)
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            holder.communicate(timeout=_SECONDS)
        holder.kill()
        holder.wait()
    return excludes, inherits, _free(path)


def _line(process: "subprocess.Popen[bytes]") -> str:
    """The first line that it says; a process that says none in time is killed."""
    timer = threading.Timer(_SECONDS, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        return process.stdout.readline().decode().strip()
    finally:
        timer.cancel()


def _free(path: Path) -> bool:
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def _replaces(place: Path) -> bool:
    """Whether a reader finds a file at every instant while it is replaced again and again."""
    path, missed, ended = place / "file", threading.Event(), threading.Event()
    path.write_bytes(b"0")

    def read() -> None:
        while not ended.is_set():
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                content = b""
            if not content:
                missed.set()

    reader = threading.Thread(target=read, name="reader")
    reader.start()
    try:
        for number in range(_RENAMES):
            staged = place / "staged"
            staged.write_bytes(str(number).encode())
            os.replace(staged, path)
    finally:
        ended.set()
        reader.join()
    return not missed.is_set() and path.read_bytes() == str(_RENAMES - 1).encode()


def _folds_case(place: Path) -> bool:
    (place / "a-name").touch()
    return (place / "A-NAME").exists()


def _full_sync(place: Path) -> bool | None:
    if _FULL_SYNC is None:
        return None
    with open(place / "synced", "wb") as file:
        file.write(b"x")
        file.flush()
        try:
            fcntl.fcntl(file.fileno(), _FULL_SYNC)
        except OSError:
            return False
    return True
