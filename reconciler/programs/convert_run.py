"""Runs a converter of weights for as long as whoever asked for it lives, and says how far it is.

    (echo '{"command": ["/bin/cp", "-R", "/a", "/b/.x"], "dest": "/b/.x", "lock": "/b/.x.lock"}'; cat) |
        python convert_run.py

The converter runs in our process group, last in line for the processor, with nothing to read. It is ended, by TERM
and then by KILL for the whole group, as soon as our standard input ends: that is how the one who asked cancels, and
what is left of him when he was killed. The lock is held by the converter itself as well, so that it stays taken for
as long as anything of it could still write, whoever was killed. Nothing is removed here: `dest` must be absent.

One JSON object a line is printed:

    {"progress": {"bytes": 1}}                                        about twice a second: what is below `dest`
    {"exit": 0, "log": ["..."], "peak_memory": 1, "seconds": 1.0}     the end; exit is negative for a signal
    {"error": "...", "kind": "busy"}                                  nothing was started

`log` is the end of what the converter printed, `peak_memory` what its largest process held, in bytes. The kinds are
`bad-request`, `busy` (another run holds the lock, or it cannot be had) and `missing` (the program cannot be started).
"""

import codecs
import collections
import contextlib
import fcntl
import json
import os
import re
import select
import signal
import sys
import time
from typing import Any, Final

NICENESS: Final = 10
PAUSE: Final = 0.5
"""Seconds between two words about progress."""
SOON: Final = 0.02
"""Seconds between two looks at a converter that has closed its output and will end at any moment."""
GRACE: Final = 1.0
"""Seconds from TERM to KILL."""
LINES: Final = 40
_WIDTH: Final = 2_000
_READ: Final = 65_536
_HIGH: Final = 10
_LOCK: Final = 3
"""The converter's descriptor of the lock."""
_BREAK: Final = re.compile(r"[\r\n]+")
_MAXRSS: Final = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit of ru_maxrss: getrusage(2) of macOS and of Linux."""


class Refused(Exception):
    """Nothing was started; the text says why, `kind` in one word."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Log:
    """The end of what a program prints; a progress bar that rewrites its line is one line."""

    def __init__(self) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=LINES)
        self._rest = ""
        self._text = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, data: bytes) -> None:
        """Take in what was read."""
        *whole, self._rest = _BREAK.split(self._rest + self._text.decode(data))
        self.lines.extend(line[:_WIDTH] for line in whole if line.strip())
        self._rest = self._rest[-_READ:]

    def end(self) -> list[str]:
        """All that is kept."""
        return [*self.lines, *([self._rest[:_WIDTH]] if self._rest.strip() else [])][-LINES:]


def start(command: list[str], lock_path: str) -> tuple[int, int]:
    """Pid of the converter, and where to read what it prints. Raises Refused."""
    lock = _above(_lock(lock_path))
    reading, writing = map(_above, os.pipe())
    # Its children inherit the place in line. Metal dies in a child that was forked and then executed a program.
    os.nice(max(0, NICENESS - os.nice(0)))
    try:
        pid = os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, writing, 1),
                (os.POSIX_SPAWN_DUP2, writing, 2),
                (os.POSIX_SPAWN_DUP2, lock, _LOCK),
            ],
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    except OSError as error:
        raise Refused("missing", f"{command[0]} cannot be started: {error.strerror}") from error
    os.close(writing)
    return pid, reading


def follow(pid: int, output: int, dest: str) -> dict[str, Any]:
    """Wait until the converter ends, by itself or because our input has; the last word about it."""
    began = told = time.monotonic()
    log, watched = Log(), [0, output]
    while True:
        ready, _, _ = select.select(watched, [], [], PAUSE if output in watched else SOON)
        if 0 in ready and not os.read(0, _READ):
            _end(pid)
        if output in ready:
            data = os.read(output, _READ)
            log.add(data)
            if not data:
                watched.remove(output)
        ended, status, used = os.wait4(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - told >= PAUSE:
            told = time.monotonic()
            _say({"progress": {"bytes": _bytes(dest)}}, pid)
    if output in watched:  # what it has started itself may keep the pipe open
        os.set_blocking(output, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(output, _READ):
                log.add(data)
    return {
        "exit": os.waitstatus_to_exitcode(status),
        "log": log.end(),
        "peak_memory": used.ru_maxrss * _MAXRSS,
        "seconds": time.monotonic() - began,
    }


def _end(pid: int) -> None:
    """End everything in our group, and us with it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline and not os.wait4(pid, os.WNOHANG)[0]:
        select.select([], [], [], SOON)
    os.killpg(0, signal.SIGKILL)


def _say(word: dict[str, Any], pid: int) -> None:
    try:
        print(json.dumps(word), flush=True)
    except OSError:  # nobody listens any more
        _end(pid)


def _lock(path: str) -> int:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused("busy", "another conversion by this recipe is under way") from None
    except OSError as error:
        raise Refused("busy", f"{path} cannot be locked: {error.strerror}") from error
    return lock


def _above(number: int) -> int:
    """The same descriptor above the numbers that the converter's own get."""
    high = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    os.close(number)
    return high


def _bytes(folder: str) -> int:
    """Bytes of all files below a folder, which is being written."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def _request() -> tuple[list[str], str, str]:
    try:
        said = json.loads(sys.stdin.buffer.readline())
        command, dest, lock = said["command"], said["dest"], said["lock"]
    except (ValueError, LookupError, TypeError) as error:
        raise Refused("bad-request", f"no request: {type(error).__name__}") from error
    texts = [*command, dest, lock] if isinstance(command, list) and command else [None]
    if not all(isinstance(text, str) for text in texts):
        raise Refused("bad-request", "a command is a list of texts, dest and lock are texts")
    if not (os.path.isabs(dest) and os.path.isabs(lock)):
        raise Refused("bad-request", "dest and lock are absolute paths")
    return command, dest, lock


def main() -> None:
    """Do what the first line of standard input asks for."""
    with contextlib.suppress(OSError):
        os.setsid()  # the group that is ended must be ours alone
    try:
        command, dest, lock = _request()
        os.chdir("/")  # `python -m` imports from the working folder
        pid, output = start(command, lock)
    except Refused as error:
        print(json.dumps({"error": str(error), "kind": error.kind}))
        return
    _say(follow(pid, output, dest), pid)


if __name__ == "__main__":
    main()
