"""The listening side: takes requests for the loop, and tells whoever asked what comes of them."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, chdir, suppress
from pathlib import Path
from typing import Any, Final

from reconciler.engine.declared import Declared
from reconciler.engine.loop import Engine, Tick
from reconciler.engine.requests import Asked, Request
from reconciler.model.problem import ExitCode
from reconciler.surface.control.asking import FORMAT, LIMIT, NAME
from reconciler.surface.render import ending, events

_PATIENCE: Final = 5.0
"""Seconds in which who connects must have said what for."""


class Refused(Exception):
    """A request that is not carried out: reference, sentence, and what to do."""

    def __init__(self, reference: str, message: str, hint: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.answer = {
            "type": "error",
            "reference": reference,
            "message": message,
            "hint": hint,
            "exit_code": int(code),
        }


class Control:
    """The requests of one running loop."""

    def __init__(self, engine: Engine, declared: Declared, file: str) -> None:
        self._engine = engine
        self._declared = declared
        self._file = file
        self._followers: set[asyncio.Queue[Tick]] = set()

    def told(self, tick: Tick) -> None:
        """Pass a tick on to everybody who waits for the outcome of a request."""
        for follower in self._followers:
            follower.put_nowait(tick)

    @asynccontextmanager
    async def listening(self, root: Path) -> AsyncIterator[None]:
        """Take requests until the end of the block. Wants the lock of the state directory to be held."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            # Whoever left this behind is dead: we hold the lock. Named relatively, as an address holds 100 bytes.
            with chdir(root):
                with suppress(FileNotFoundError):
                    os.unlink(NAME)
                listener.bind(NAME)
        finally:
            os.umask(before)
        server = await asyncio.start_unix_server(self._connected, sock=listener, limit=LIMIT)
        try:
            yield
        finally:
            server.close()
            with suppress(FileNotFoundError):
                os.unlink(root / NAME)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[Tick] = asyncio.Queue()
        try:
            async with asyncio.timeout(_PATIENCE):
                text = await reader.readline()
            request, seconds = self._parsed(text)
            self._followers.add(queue)
            self._declared.accept(request.revision)
            self._engine.request(request.change)
            await self._follow(queue, writer, seconds)
        except Refused as refused:
            with suppress(OSError):
                await _send(writer, refused.answer)
        except (OSError, ValueError, TimeoutError):
            pass  # it went away, or said nothing that could be read; what it asked for is remembered
        finally:
            self._followers.discard(queue)
            writer.close()

    async def _follow(self, queue: asyncio.Queue[Tick], writer: asyncio.StreamWriter, seconds: float) -> None:
        """Tell what happens until it has settled, or for so many seconds."""
        end = asyncio.get_running_loop().time() + seconds
        tick: Tick | None = None
        while tick is None or not tick.steady:
            try:
                async with asyncio.timeout_at(end):
                    tick = await queue.get()
            except TimeoutError:
                break
            for event in tick.events:
                await _send(writer, events.data(event))
        if tick is not None:
            await _send(writer, ending.data(tick.decision.view, tick.decision.plan, settled=tick.steady))

    def _parsed(self, text: bytes) -> tuple[Request, float]:
        """The request of one line, and for how long its sender will wait. Raises Refused."""
        try:
            said = json.loads(text)
            if said["format"] != FORMAT:
                raise Refused("other-version", "the running watch is of another version", "restart the watch")
            request = Request(
                do=Asked(said["do"]),
                labels=tuple(map(str, said.get("labels", ()))),
                reason=str(said.get("reason", "")),
                force=said.get("force") is True,
                revision=str(said.get("revision", "")),
            )
            file, seconds = str(said["file"]), float(said["timeout"])
        except (ValueError, KeyError, TypeError) as error:
            raise Refused("no-request", f"that was no request ({type(error).__name__})", "see docs/cli.md") from error
        if file != self._file:
            raise Refused(
                "other-source",
                f"the running watch follows {self._file}, not {file}; nothing was changed",
                "end it, or name its file with -c FILE",
                ExitCode.LOCKED,
            )
        return request, seconds


async def _send(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
    await writer.drain()
