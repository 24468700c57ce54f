"""Tells a program of the owner: one JSON object on its standard input, in a session of its own, without a shell."""

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final

from reconciler.adapters.exits import any_exit
from reconciler.adapters.spawn import executable, scrubbed, seal
from reconciler.ports.errors import ActionError

from .courier import Undelivered

_NULL: Final = "/dev/null"
_REAPED: Final = 1.0
"""Seconds in which a killed process should be gone; one that the kernel cannot end is left to it."""


class Command:
    """One program with its arguments."""

    def __init__(self, words: Sequence[str], timeout: float, environ: Mapping[str, str]) -> None:
        """`timeout`: seconds after which it is killed, with everything that it has started."""
        self._words = words
        self._timeout = timeout
        self._environ = scrubbed(environ)

    async def deliver(self, body: bytes) -> None:
        """Run it to its end; what it prints goes nowhere. Raises Undelivered."""
        try:
            program = executable(self._words[0], self._environ["PATH"])
            pid = _spawn([program, *self._words[1:]], self._environ, body)
        except ActionError as error:
            raise Undelivered(error.message) from None
        except OSError as error:
            raise Undelivered(f"it cannot be started: {error.strerror}") from None
        code = await self._ended(pid)
        if code is None:
            raise Undelivered(f"it took longer than {self._timeout:g} s and was ended")
        if code:
            raise Undelivered(f"it ended with {code}" if code > 0 else f"it was ended by signal {-code}")

    async def _ended(self, pid: int) -> int | None:
        """Its exit code, negative for a signal; None where it had to be killed."""
        import asyncio

        over = False
        try:
            async with asyncio.timeout(self._timeout):
                await any_exit([pid])
            over = True
        except TimeoutError:
            pass
        finally:
            if not over:
                await _kill(pid)
        return await _reap(pid) if over else None


async def _kill(pid: int) -> None:
    import asyncio
    from contextlib import suppress

    # Not reaped yet, so the number is still its own. macOS refuses signals to a group of zombies.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_REAPED):
            await any_exit([pid])
            await _reap(pid)


async def _reap(pid: int) -> int:
    import asyncio

    # In a thread: on macOS the news of an end may come a moment before the end itself.
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    return os.waitstatus_to_exitcode(status)


def _spawn(argv: list[str], env: Mapping[str, str], body: bytes) -> int:
    """The pid of the program, which reads `body` and then the end of its input. Raises OSError."""
    seal()
    reading, writing = os.pipe()
    try:
        # It fits into what a pipe takes without a reader; whether the program reads it is its own affair.
        os.set_blocking(writing, False)
        if os.write(writing, body) < len(body):
            raise OSError(0, "the notification is too long for a pipe")
        os.close(writing)
        writing = -1
        actions = [
            (os.POSIX_SPAWN_DUP2, reading, 0),
            (os.POSIX_SPAWN_OPEN, 1, _NULL, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, _NULL, os.O_WRONLY, 0),
        ]
        return os.posix_spawn(
            argv[0],
            argv,
            env,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            # An ignored signal stays ignored in a child, and Python ignores some.
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
