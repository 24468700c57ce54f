"""The listening side: takes requests for the loop, and tells whoever asked what comes of them."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, chdir, suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, Final

from reconciler.engine.loop import Engine, Tick
from reconciler.engine.requests import Asked, Request, confirmed
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.surface.control.asking import FORMAT, LIMIT, NAME
from reconciler.surface.render import ending, events
from reconciler.surface.unknown_label import unknown_label

_BEHIND: Final = 1_000
"""Ticks that who follows may be behind."""
_LONGEST: Final = 604_800.0
"""Seconds for which who asked may want to hear more: a week."""
_OF_LABELS: Final = (Asked.STOP, Asked.SUSPEND, Asked.START, Asked.RETRY)
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

    def __init__(self, engine: Engine, file: str, rules: str) -> None:
        self._engine = engine
        self._file = file
        self._rules = rules
        self._followers: set[asyncio.Queue[Tick]] = set()
        self._talks: set[asyncio.Task[None]] = set()
        self._last: Tick | None = None

    def told(self, tick: Tick) -> None:
        """Pass a tick on to everybody who waits for the outcome of a request."""
        self._last = tick
        for follower in list(self._followers):
            try:
                follower.put_nowait(tick)
            except asyncio.QueueFull:
                self._followers.discard(follower)  # it does not listen

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
            for task in self._talks:
                task.cancel()
            await asyncio.gather(*self._talks, return_exceptions=True)
            with suppress(FileNotFoundError):
                os.unlink(root / NAME)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.create_task(self._talk(reader, writer), name="request")
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[Tick] = asyncio.Queue(_BEHIND)
        try:
            async with asyncio.timeout(_PATIENCE):
                text = await reader.readline()
            request, seconds = self._parsed(text)
            self._followers.add(queue)
            self._ask(request)
            await self._follow(queue, writer, request, seconds)
        except Refused as refused:
            with suppress(OSError, TimeoutError):
                await _send(writer, refused.answer)
        except (OSError, ValueError, TimeoutError):
            pass  # it went away, or said nothing that could be read; what it asked for is remembered
        finally:
            self._followers.discard(queue)
            writer.close()

    async def _follow(
        self, queue: asyncio.Queue[Tick], writer: asyncio.StreamWriter, request: Request, seconds: float
    ) -> None:
        """Tell what happens until it has settled, or for so many seconds. Raises Refused."""
        end = asyncio.get_running_loop().time() + seconds
        tick: Tick | None = None
        while tick is None or not tick.steady:
            try:
                async with asyncio.timeout_at(end):
                    tick = await queue.get()
            except TimeoutError:
                break
            self._check_revision(request, tick)
            request = replace(request, revision="")
            for event in tick.events:
                await _send(writer, events.data(event))
        if tick is not None:
            await _send(writer, ending.data(tick.decision.view, tick.decision.plan, settled=tick.steady))

    def _check_revision(self, request: Request, tick: Tick) -> None:
        """What a person has seen must be what is in force now. Raises Refused."""
        found = tick.decision.view.facts.desired.revision
        if request.do is Asked.APPLY and request.revision and found != request.revision:
            self._engine.request(lambda ledger, now: confirmed(ledger, ""))
            problem = tick.decision.view.facts.source
            if problem is not None:
                raise Refused(problem.reference, problem.reason, problem.hint, ending.code_of(problem))
            raise Refused(
                "revision-moved",
                f"the desired state is {found} by now and not {request.revision}; nothing was done for the latter",
                "look at the plan again",
                ExitCode.STALE,
            )

    def _ask(self, request: Request) -> None:
        try:
            self._check_labels(request)
            self._engine.ask(request)
        except ReconcilerError as error:
            raise Refused(error.reference, error.message, error.hint, error.code) from error

    def _check_labels(self, request: Request) -> None:
        """A label is known that is in force, runs, or is suspended. Raises ReconcilerError."""
        if request.do not in _OF_LABELS or self._last is None:
            return
        view = self._last.decision.view
        known = {change.label for change in view.changes} | view.facts.ledger.suspensions.keys()
        for label in request.labels:
            if label not in known:
                raise unknown_label(label, view.targets)

    def _parsed(self, text: bytes) -> tuple[Request, float]:
        """The request of one line, and for how long its sender will wait. Raises Refused."""
        try:
            said = json.loads(text)
            if said["format"] != FORMAT:
                raise Refused("other-version", "the running watch is of another version", "restart the watch")
            labels, file, seconds = said["labels"], said["file"], said["timeout"]
            texts = isinstance(labels, list) and all(isinstance(item, str) for item in [*labels, file])
            if not texts or type(seconds) not in (int, float) or not 0 <= seconds < inf:
                raise ValueError("a field is of another type")
            request = Request(
                do=Asked(said["do"]),
                labels=tuple(labels),
                reason=str(said.get("reason", "")),
                force=said.get("force") is True,
                until=_moment(said),
                by=str(said.get("by", "")),
                revision=str(said.get("revision", "")),
                number=int(said.get("number", 0)),
            )
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise Refused(
                "no-request",
                f"that was no request ({type(error).__name__}); nothing was changed",
                "say it with the commands of reconciler, such as: reconciler stop LABEL",
            ) from error
        if file != self._file:
            raise Refused(
                "other-source",
                f"the running watch follows {self._file}, not {file}; nothing was changed",
                "end it, or name its file with -c FILE",
                ExitCode.LOCKED,
            )
        if said.get("rules", self._rules) != self._rules:
            raise Refused(
                "other-rules",
                "the running watch was started with another host file, other overrides or another environment; "
                "nothing was changed",
                "restart the watch, so that both speak of the same",
                ExitCode.LOCKED,
            )
        return request, float(min(seconds, _LONGEST))


def _moment(said: dict[str, Any]) -> float | None:
    """When a suspension ends. Raises ValueError or KeyError: there is none without an end."""
    if said["do"] != Asked.SUSPEND:
        return None
    until = said["until"]
    if type(until) not in (int, float) or not 0 < until < inf:
        raise ValueError("a suspension has an end")
    return float(until)


async def _send(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    """Raises TimeoutError where nobody reads it."""
    writer.write(json.dumps(answer).encode() + b"\n")
    async with asyncio.timeout(_PATIENCE):
        await writer.drain()
