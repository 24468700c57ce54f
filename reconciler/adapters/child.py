"""Runs one program of `reconciler/programs` as a child: one JSON request in, JSON lines out, gone when we are.

The request is the first line of the child's stdin. After it the pipe stays open and empty for as long as the child
may live; every program ends at end of file there, so none outlives us, however we end. What it prints to stdout is
read line by line; of what it prints to stderr the end is kept, and shown only without what looks like a secret.

It is started by `posix_spawn` in a session of its own: Metal dies in a child that was forked and then executed a
program, and a signal to our group must not reach it. Its group is killed before it is reaped, so that what the child
itself has started goes with it and no signal can reach a process that got its number later.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from reconciler.model.secret import redacted
from reconciler.ports.errors import ActionError

from .exits import any_exit

T = TypeVar("T")

PROGRAMS: Final = Path(__file__).resolve().parents[1] / "programs"
PYTHON: Final = (sys.executable, "-P")
"""Our own interpreter; the folder of the program is not among the places that it imports from."""
GRACE: Final = 2.0
"""Seconds that a child has to end after the end of its input, before its group is killed."""
_LONGEST_LINE: Final = 8 * 2**20
_COMPLAINT: Final = 16_384
_TOLD: Final = 400
_LAST_STANDARD: Final = 2
_TOKENS: Final = frozenset(
    {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_OIDC_RESOURCE", "HF_OIDC_ID_TOKEN"}
)


def without_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which a child does not come by the token of a model hub (huggingface_hub 2.4, `_auth.py`).

    The last switch keeps the library from sending the one that `hf auth login` has left in a file.
    """
    return {name: value for name, value in environ.items() if name not in _TOKENS} | {
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"
    }


class Child:
    """A program that runs; made by `running`, and gone when that block is left."""

    def __init__(self, pid: int, stdin: asyncio.WriteTransport, said: asyncio.StreamReader, tail: "_Tail") -> None:
        self.pid = pid
        self.status: int | None = None
        """Its exit code, negative for a signal; None until it has been reaped."""
        self._stdin = stdin
        self._said = said
        self._tail = tail

    async def line(self) -> Mapping[str, Any] | None:
        """What it says next; None once it has closed its output. Raises ActionError when that is no JSON object."""
        try:
            text = await self._said.readline()
            said = json.loads(text) if text else None
        except ValueError:  # also a line that is too long
            raise ActionError("program-failed", "a program of ours answered with something else than JSON") from None
        if said is not None and not isinstance(said, dict):
            raise ActionError("program-failed", "a program of ours answered with something else than a JSON object")
        return said

    def complaint(self) -> str:
        """The last line of its stderr, redacted and cut; empty where it printed nothing."""
        lines = redacted(self._tail.kept.decode("utf-8", "replace")).split("\n")
        return next((line.strip()[:_TOLD] for line in reversed(lines) if line.strip()), "")

    def failed(self) -> ActionError:
        """The error of a program that closed its output without a last word."""
        complaint = self.complaint()
        return ActionError("program-failed", f"a program of ours ended early{f': {complaint}' if complaint else ''}")

    async def end(self, grace: float = GRACE) -> None:
        """Tell it to end, kill its group, and reap it. Afterwards nothing of it is left."""
        _abort(self._stdin)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(any_exit([self.pid]), grace)
        finally:
            # Not reaped yet, so the number is still its own. macOS refuses signals to a group of zombies.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        _, status = await asyncio.to_thread(os.waitpid, self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)


@contextlib.asynccontextmanager
async def running(
    program: str,
    request: Mapping[str, Any],
    *,
    environ: Mapping[str, str],
    command: Sequence[str] = PYTHON,
    niceness: int = 5,
    grace: float = GRACE,
) -> AsyncIterator[Child]:
    """A child that runs `PROGRAMS/program` with the interpreter `command`; ended before the block is left.

    That holds for a cancelled block too: the cancellation goes on when the child is gone. Raises ActionError when
    it cannot be started.
    """
    with contextlib.ExitStack() as opened:
        tail = _Tail()
        into, stdin = await _to_child(opened)
        out_of, said = _Pipe(opened), asyncio.StreamReader(limit=_LONGEST_LINE)
        errors = _Pipe(opened)
        opened.callback((await _from_child(out_of, lambda: asyncio.StreamReaderProtocol(said))).close)
        opened.callback((await _from_child(errors, lambda: tail)).close)
        argv = [*command, str(PROGRAMS / program)]
        child = Child(_spawn(argv, environ, (into.reading, out_of.writing, errors.writing)), stdin, said, tail)
        try:
            for pipe, number in ((into, into.reading), (out_of, out_of.writing), (errors, errors.writing)):
                pipe.close(number)
            # It waits for its request, so it is there; only a crash at its start could be faster.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, child.pid, os.getpriority(os.PRIO_PROCESS, 0) + niceness)
            stdin.write(json.dumps(request).encode() + b"\n")
            yield child
        finally:
            await _to_its_end(child.end(grace))


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Run something to its end although we are cancelled, and be cancelled then."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()


# --------------------------------------------------------------------------------------------------------------- pipes


class _Tail(asyncio.Protocol):
    """The end of what was said."""

    def __init__(self) -> None:
        self.kept = bytearray()

    def data_received(self, data: bytes) -> None:
        self.kept += data
        del self.kept[:-_COMPLAINT]


class _Pipe:
    """A pipe whose ends are above the standard numbers and are closed with the stack, unless they were before."""

    def __init__(self, opened: contextlib.ExitStack) -> None:
        self._open: set[int] = set()
        opened.callback(self.close_all)
        self.reading, self.writing = (self._above(number) for number in os.pipe())

    def _above(self, number: int) -> int:
        if number <= _LAST_STANDARD:  # we were started without one of our own: a child's would be closed by its exec
            low, number = number, fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _LAST_STANDARD + 1)
            os.close(low)
        self._open.add(number)
        return number

    def take(self, number: int) -> int:
        """Hand one end over to somebody who closes it."""
        self._open.discard(number)
        return number

    def close(self, number: int) -> None:
        if number in self._open:
            os.close(self.take(number))

    def close_all(self) -> None:
        for number in tuple(self._open):
            self.close(number)


async def _to_child(opened: contextlib.ExitStack) -> tuple[_Pipe, asyncio.WriteTransport]:
    pipe = _Pipe(opened)
    file = os.fdopen(pipe.take(pipe.writing), "wb", 0)
    opened.callback(file.close)
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, file)
    opened.callback(_abort, transport)
    return pipe, transport


def _abort(transport: asyncio.WriteTransport) -> None:
    """Close it with all that was not written; it closes itself when nobody reads it any more, and only once."""
    if not transport.is_closing():
        transport.abort()


async def _from_child(pipe: _Pipe, protocol: Callable[[], asyncio.Protocol]) -> asyncio.ReadTransport:
    file = os.fdopen(pipe.take(pipe.reading), "rb", 0)
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(protocol, file)
    except BaseException:
        file.close()
        raise
    return transport


def _spawn(argv: list[str], environ: Mapping[str, str], pipes: Iterable[int]) -> int:
    """The pid of a new child whose standard descriptors are these. Raises ActionError."""
    actions = [(os.POSIX_SPAWN_DUP2, number, standard) for standard, number in enumerate(pipes)]
    try:
        return os.posix_spawn(
            argv[0],
            argv,
            environ,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            # An ignored signal stays ignored in a child, and Python ignores some.
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    except OSError as error:
        said = f"{argv[0]} cannot be started: {error.strerror}"
        raise ActionError("executable-missing", said, permanent=True) from None
