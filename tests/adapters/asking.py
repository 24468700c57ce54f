"""Servers inside the test that answer as they are told, and a prober that asks them with the time in its hand."""

import asyncio
import functools
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec

from reconciler.adapters.diagnosis import LogDiagnosis
from reconciler.adapters.inquiry import PACE, Pace
from reconciler.adapters.listeners import LocalListeners
from reconciler.adapters.prober import CompletionProber
from reconciler.backends.base import Question
from reconciler.backends.mlx_lm import MlxLm
from reconciler.model.ledger import ServiceProof
from reconciler.model.observed import Health, ServerProcess, Standing

DEADLINE = 20.0
REPEAT = PACE.repeat
EPOCH = 1_000_000.0
COMPLETION = (200, b'{"choices": [{"message": {"content": "p"}}]}')
NOT_YET = (503, b"{}")
DEAD = (404, b'{"error": "generation thread died"}')
REFUSED = (404, b'{"error": "no chat template"}')
ELSE = (404, b"Repo id must be in the form 'repo_name' or 'namespace/repo_name'")
DIED = "2026-11-21 10:00:00,000 - ERROR - mlx_lm.server generation thread died: nothing there\n"
FRAMES = 'Traceback (most recent call last):\n  File "/venv/mlx_lm/server.py", line 9, in _generate\n    run()\n'
NO_WEIGHTS = f"{DIED}{FRAMES}FileNotFoundError: No safetensors found in /hub/it\n"
P = ParamSpec("P")
FreePorts = Callable[[int], list[int]]
Answer = tuple[int, bytes]


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that runs in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Stub:
    """A server inside this process: it gives its answers in turn, the last one again and again, and counts."""

    def __init__(self, *answers: Answer, headers: str = "") -> None:
        self.answers = list(answers)
        self.asked: list[Mapping[str, object]] = []
        self.kinds: list[str] = []
        self.port = 0
        self._headers = headers
        self._server: asyncio.Server | None = None

    async def listen(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._server = await asyncio.start_server(self._answer, host, port)
        self.port = self._server.sockets[0].getsockname()[1]

    def vanish(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            self.asked.append(json.loads(await reader.readexactly(int(fields["content-length"]))))
            self.kinds.append(fields.get("content-type", ""))
            status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{self._headers}\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def listening(*answers: Answer, headers: str = "") -> AsyncIterator[Stub]:
    stub = Stub(*answers, headers=headers)
    await stub.listen()
    try:
        yield stub
    finally:
        stub.vanish()


class Counting(MlxLm):
    """The real backend, which counts its questions and can do something at each."""

    def __init__(self, at_each: Callable[[], object] = lambda: None) -> None:
        self.count = 0
        self.at_each = at_each

    def question(self, served_name: str) -> Question:
        self.count += 1
        self.at_each()
        return super().question(served_name)


class Asker:
    """The prober that is tested, on real ports, with the time in the test's hand."""

    def __init__(self, backend: MlxLm | None = None, pace: Pace = PACE) -> None:
        self.now = EPOCH
        backends = {"mlx-lm": backend or MlxLm()}
        look = LocalListeners().look
        self.prober = CompletionProber(backends, LogDiagnosis(backends), look, lambda: self.now, pace=pace)

    async def becomes(self, process: ServerProcess, health: Health, proof: ServiceProof | None = None) -> ServerProcess:
        """Wait for evidence until the process is judged so."""
        return await self.says(process, lambda found: found.health is health, proof)

    async def says(
        self, process: ServerProcess, that: Callable[[ServerProcess], bool], proof: ServiceProof | None = None
    ) -> ServerProcess:
        async with asyncio.timeout(DEADLINE):
            while not that(found := self.prober.judged(process, proof)):
                await self.prober.changed()
        return found

    def proof(self, process: ServerProcess, age: float) -> ServiceProof:
        """What is remembered of a process that answered `age` seconds ago."""
        return ServiceProof(instance=process.instance, at=self.now - age)


@asynccontextmanager
async def asking(backend: MlxLm | None = None, pace: Pace = PACE) -> AsyncIterator[Asker]:
    asker = Asker(backend, pace)
    try:
        yield asker
    finally:
        await asker.prober.close()


def server(port: int, label: str = "fast", pid: int | None = None, log: Path | str = "") -> ServerProcess:
    """A process that is proved ours: this one, unless another is named."""
    return ServerProcess(
        label=label,
        port=port,
        standing=Standing.OURS,
        pid=os.getpid() if pid is None else pid,
        started=5,
        since=EPOCH - 60,
        served_name="default_model",
        fields={"backend": "mlx-lm"},
        log=str(log),
    )


def tasks() -> set[str]:
    """The tasks of the loop but for this one."""
    return {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}


async def until(condition: Callable[[], object], what: str) -> None:
    """For what nobody tells: look again and again."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.005)
    assert condition(), what
