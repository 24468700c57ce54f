"""A program that ssh runs on another host: what is said to it and what it answers, with an end to every wait.

ssh gets the same arguments for every request: one constant remote command, which reads a program from its stdin and
executes it. Neither the program nor any data ever reaches a shell (S20), and nothing is asked of a person, forwarded,
or shared with another connection (S21): a second link is a second connection.
"""

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from reconciler.ports.errors import ActionError

COMMAND: Final = (
    "python3 -I -S -c "
    '\'import sys; i = sys.stdin.buffer; exec(compile(i.read(int(i.readline())), "volume_agent", "exec"))\''
)
"""What the shell of the other host is given, whatever shell that is: no character of it depends on anything.

Python runs isolated: neither its environment, nor a module in the home folder, nor a `.pth` file has a part in it.
"""
OPTIONS: Final = (
    *("BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "ForwardAgent=no", "ForwardX11=no"),
    *("ClearAllForwardings=yes", "PermitLocalCommand=no", "RemoteCommand=none", "RequestTTY=no"),
    *("ControlMaster=no", "ControlPath=none", "ControlPersist=no", "LogLevel=ERROR"),
    *("ConnectTimeout=10", "ConnectionAttempts=1", "ServerAliveInterval=15", "ServerAliveCountMax=3"),
)
"""They win over the user's configuration of ssh, which says all else: port, user, key, way through."""
SILENCE: Final = 120.0
"""Seconds without a byte after which a connection on which something is expected counts as lost."""
STANDSTILL: Final = 1800.0
"""Seconds for which the other host may say that it works on a request, and nothing comes of it."""
_GRACE: Final = 5.0
"""Seconds that ssh has to end by itself."""
_LINE: Final = 16 * 2**20
_AHEAD: Final = 128 * 2**20
"""Bytes that are taken in without having been asked for."""
_COMPLAINT: Final = 16_384
_TOLD: Final = 300
_PIPE: Final = 2**18
_SSH_FAILED: Final = 255
_NO_HOST_KEY: Final = re.compile(r"Host key verification failed|host key is known|IDENTIFICATION HAS CHANGED|revoked")
_NO_ENTRY: Final = re.compile(r"Permission denied|Too many authentication failures")
_TOKENS: Final = re.compile(r"(HF_|HUGGING_FACE_).*|.*(TOKEN|API_KEY|MASTER_KEY|SECRET|PASSWORD).*")
_SAFE: Final = "no complete copy was removed"


def arguments(host: str, environ: Mapping[str, str]) -> list[str]:
    """How ssh is started for a host. Raises ActionError `volume-unreachable` where PATH has none."""
    program = shutil.which("ssh", path=environ.get("PATH"))
    if program is None:
        raise ActionError(
            "volume-unreachable", f"there is no ssh in PATH, so {host} cannot be reached; nothing was changed"
        )
    return [program, *(word for option in OPTIONS for word in ("-o", option)), "--", host, COMMAND]


class Link:
    """One connection and the program at its other end; used by one thread.

    Every method raises ActionError, from the first failure on always the same: `volume-unreachable`,
    `volume-host-untrusted`, `volume-host-refused`, `volume-host-unfit` before the program has said its greeting,
    `volume-connection-lost` after it.
    """

    def __init__(
        self, host: str, environ: Mapping[str, str], *, silence: float = SILENCE, standstill: float = STANDSTILL
    ) -> None:
        self.host = host
        self.silence, self._standstill = silence, standstill
        command = arguments(host, environ)
        try:
            # A session of its own: a Ctrl-C is for us, and what is under way is ended in its order.
            self._ssh = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                env={name: value for name, value in environ.items() if not _TOKENS.fullmatch(name)},
            )
        except OSError as error:
            raise ActionError("volume-unreachable", f"{command[0]} cannot be started: {error.strerror}") from error
        pipes = self._ssh.stdin, self._ssh.stdout, self._ssh.stderr
        self._into, self._out_of, self._errors = (pipe.fileno() for pipe in pipes if pipe is not None)
        for number in (self._into, self._out_of, self._errors):
            os.set_blocking(number, False)
        self._reading = {self._out_of, self._errors}
        self._said, self._complaint = bytearray(), bytearray()
        self._greeted, self._open = False, True
        self._failure: ActionError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()

    def start(self, program: Path, greeting: str) -> None:
        """Send the program, and wait for its greeting; what a login script prints before it is skipped."""
        text = program.read_bytes()
        self.send(b"%d\n" % len(text), text)
        until = time.monotonic() + 2 * self.silence
        while self._line(until) != greeting.encode():
            continue
        self._greeted = True

    # ------------------------------------------------------------------------------------------------------- talking

    def send(self, *parts: bytes | memoryview) -> None:
        """Say all of it."""
        heard = time.monotonic()
        for part in parts:
            rest = memoryview(part)
            while rest:
                if self._turn(heard, writing=True):
                    with contextlib.suppress(BlockingIOError):
                        rest = rest[self._write(rest[:_PIPE]) :]
                heard = time.monotonic()

    def frame(self) -> dict[str, Any]:
        """The next line that is an answer."""
        until = time.monotonic() + self._standstill
        while "alive" in (said := self._parsed(self._line(until))):
            continue
        return said

    def glance(self) -> dict[str, Any] | None:
        """An answer that is there already; None: there is none."""
        self._check()
        self._take(0.0)
        while (end := self._said.find(b"\n")) >= 0:
            if "alive" not in (said := self._parsed(self._cut(end))):
                return said
        return None

    def exactly(self, length: int) -> bytes:
        """So many bytes."""
        heard, had = time.monotonic(), len(self._said)
        while len(self._said) < length:
            self._turn(heard)
            if len(self._said) > had:
                heard, had = time.monotonic(), len(self._said)
        data = bytes(memoryview(self._said)[:length])
        del self._said[:length]
        return data

    def _line(self, until: float) -> bytes:
        heard, searched = time.monotonic(), 0
        while (end := self._said.find(b"\n", searched)) < 0:
            searched = len(self._said)
            if searched > _LINE:
                raise self.nonsense()
            if time.monotonic() > until:
                raise self._failed("did not come to an end in time")
            self._turn(heard)
            if len(self._said) > searched:
                heard = time.monotonic()
        return self._cut(end)

    def _cut(self, end: int) -> bytes:
        line = bytes(self._said[:end])
        del self._said[: end + 1]
        return line

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            raise self.nonsense() from None
        if not isinstance(said, dict):
            raise self.nonsense()
        return said

    # --------------------------------------------------------------------------------------------------------- bytes

    def _check(self) -> None:
        if self._failure is not None:
            raise ActionError(self._failure.cause, self._failure.message, permanent=self._failure.permanent)

    def _turn(self, heard: float, *, writing: bool = False) -> bool:
        """Wait until something can be read or written, and read it; whether something can be written."""
        self._check()
        if len(self._said) > _AHEAD:
            raise self.nonsense()
        if self._out_of not in self._reading:
            raise self._failed("ended the connection")
        left = heard + self.silence - time.monotonic()
        if left <= 0:
            raise self._failed(f"said nothing for {self.silence:.0f} s")
        return self._take(left, writing=writing)

    def _take(self, seconds: float, *, writing: bool = False) -> bool:
        poll = select.poll()
        for number in self._reading:
            poll.register(number, select.POLLIN)
        if writing:
            poll.register(self._into, select.POLLOUT)
        writable = False
        for number, _ in poll.poll(seconds * 1000):
            if number == self._into:
                writable = True
            else:
                self._read(number)
        return writable

    def _read(self, number: int) -> None:
        try:
            data = os.read(number, _PIPE)
        except BlockingIOError:
            return
        if not data:
            self._reading.discard(number)
        elif number == self._out_of:
            self._said += data
        else:
            self._complaint += data
            del self._complaint[:-_COMPLAINT]

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self._into, data)
        except BrokenPipeError:
            self._reading.discard(self._out_of)
            raise self._failed("ended the connection") from None

    # ----------------------------------------------------------------------------------------------------------- end

    def nonsense(self) -> ActionError:
        """The error of an answer that is none; nothing more is asked."""
        return self._failed("sent something that is no answer")

    def close(self) -> None:
        """End ssh: tell it, wait, kill it. When the other end has answered all, its program is gone then."""
        if not self._open:
            return
        self._open = False
        self._end(_GRACE if self._failure is None else 0.0)
        for pipe in (self._ssh.stdin, self._ssh.stdout, self._ssh.stderr):
            if pipe is not None:
                pipe.close()
        if self._failure is None:
            self._failure = ActionError("volume-connection-lost", f"the connection to {self.host} was closed")

    def _end(self, grace: float) -> int:
        """The exit status of ssh, which has ended; what it still says is taken in meanwhile."""
        if self._ssh.stdin is not None:
            self._ssh.stdin.close()
        until = time.monotonic() + grace
        while self._reading and (left := until - time.monotonic()) > 0:
            self._take(left)
            self._said.clear()
        try:
            return self._ssh.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._ssh.kill()
            return self._ssh.wait()

    def _failed(self, what: str) -> ActionError:
        """Why it is over; ssh has ended when this returns, and where it has not done so by itself it was killed."""
        if self._failure is None:
            by_itself = self._out_of not in self._reading
            status = self._end(_GRACE if by_itself else 0.0)
            self._failure = failure(self.host, what, self._last_words(), status if by_itself else None, self._greeted)
        return self._failure

    def _last_words(self) -> str:
        """The last line that ssh or the other host has complained in, redacted, on one line and cut."""
        from reconciler.model.secret import redacted

        text = redacted(self._complaint.decode("utf-8", "replace"))
        line = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
        return "".join(c if c.isprintable() else "?" for c in line)[:_TOLD]


def failure(host: str, what: str, words: str, status: int | None, greeted: bool) -> ActionError:
    """What became of a connection, from the end of what ssh has said; `status` None: it had not ended by itself."""
    said = f": {words}" if words else ""
    if greeted:
        return ActionError(
            "volume-connection-lost",
            f"{host} {what}{said}; what was asked last may have been done or not; {_SAFE}; it is looked at again",
        )
    if status == _SSH_FAILED and _NO_HOST_KEY.search(words):
        return ActionError(
            "volume-host-untrusted",
            f"{host} has not the host key that is known of it, or none is known{said}; nothing was changed; compare "
            f"its key, then `ssh {host}` once by hand",
            permanent=True,
        )
    if status == _SSH_FAILED and _NO_ENTRY.search(words):
        return ActionError(
            "volume-host-refused",
            f"{host} does not let us in without a person{said}; nothing was changed; give it a key that ssh can use",
            permanent=True,
        )
    if status is None or status == _SSH_FAILED:
        return ActionError("volume-unreachable", f"{host} cannot be reached: {words or what}; nothing was changed")
    return ActionError(
        "volume-host-unfit",
        f"{host} was reached, and no python3 ran there (exit {status}){said}; nothing was changed; install Python 3.8 "
        "or newer where a command over ssh finds it",
        permanent=True,
    )
