"""Asks a server for a real completion until two in a row are given, and remembers what came of it."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from reconciler.backends.base import Answer, Backend, Sign
from reconciler.model.base import noun
from reconciler.model.observed import Health, Listener, Observation, Present, ServerProcess

if TYPE_CHECKING:
    import aiohttp

PROOFS: Final = 2
"""Completions in a row: the first may have come from a server that was just dying."""
TIMEOUT: Final = 120.0
"""Seconds that one completion may take: the first one waits for the weights."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

Look = Callable[[int], Observation[Listener]]


@noun
class Evidence:
    """What asking a process has shown so far."""

    health: Health
    detail: str = ""


STARTING: Final = Evidence(health=Health.STARTING)
Key = tuple[str, int | None, int | None]


class CompletionProber:
    """The readiness ladder of one event loop: our listener, an HTTP answer, two completions.

    `/health` and `/v1/models` are not asked: mlx_lm.server 0.32 answers the first with 200 while it loads and lists
    the whole cache in the second.
    """

    def __init__(self, backends: Mapping[str, Backend], look: Look, now: Callable[[], float]) -> None:
        self._backends = backends
        self._look = look
        self._now = now
        self._asked: dict[Key, float] = {}
        self._evidence: dict[Key, Evidence] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._changed: asyncio.Event | None = None

    def judged(self, process: ServerProcess) -> ServerProcess:
        """A proved process with what is known about it; where nothing is, asking begins. Wants a running loop."""
        key = (process.label, process.pid, process.started)
        if key not in self._tasks and process.pid is not None:
            self._asked[key] = self._now()
            self._tasks[key] = asyncio.create_task(self._ask(key, process), name=f"ask {process.label}")
        found = self._evidence.get(key, STARTING)
        return replace(process, health=found.health, detail=found.detail, asked_since=self._asked.get(key))

    async def changed(self) -> None:
        """Return when there is new evidence since the last return."""
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()
        self._changed.clear()

    async def close(self) -> None:
        """End all asking."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _found(self, key: Key, health: Health, detail: str = "") -> None:
        self._evidence[key] = Evidence(health=health, detail=detail)
        if self._changed is None:
            self._changed = asyncio.Event()
        self._changed.set()

    async def _ask(self, key: Key, process: ServerProcess) -> None:
        proofs, pause = 0, _FIRST_PAUSE
        backend = self._backends.get(process.fields.get("backend", ""))
        if backend is None:
            return self._found(key, Health.ZOMBIE, f"no backend {process.fields.get('backend')!r} is installed")
        while proofs < PROOFS:
            if stranger := self._stranger(process):
                return self._found(key, Health.ZOMBIE, stranger)
            answer = await self._complete(backend, process)
            sign = Sign.NOT_YET if answer is None else backend.judge(answer)
            if sign is Sign.DEAD and answer is not None:
                return self._found(key, Health.ZOMBIE, answer.body[:200].decode(errors="replace"))
            if sign is Sign.COMPLETION:
                proofs, pause = proofs + 1, 0.0
            else:
                proofs, pause = 0, min(_LONGEST_PAUSE, max(_FIRST_PAUSE, pause * 1.5))
                await asyncio.sleep(pause)
        return self._found(key, Health.SERVING)

    def _stranger(self, process: ServerProcess) -> str | None:
        """Why the port does not lead to the process: mlx_lm.server lives on, model in memory, when it lost its port."""
        listener = self._look(process.port)
        if not isinstance(listener, Present) or listener.value.pid in (None, process.pid):
            return None
        return f"port {process.port} is held by pid {listener.value.pid}, so nothing reaches pid {process.pid}"

    async def _complete(self, backend: Backend, process: ServerProcess) -> Answer | None:
        """One question; None where nobody answered."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        question = backend.question(process.served_name)
        url = f"http://{process.host}:{process.port}{question.path}"
        try:
            async with self._session.post(url, data=json.dumps(dict(question.body))) as response:
                return Answer(status=response.status, body=await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
