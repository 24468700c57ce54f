"""Keeps asking the servers of one event loop for real completions, and remembers what came of it.

`/health` and `/v1/models` are not asked: mlx_lm.server 0.32 answers the first with 200 while it loads and lists the
whole cache in the second.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from reconciler.backends.base import Answer, Backend
from reconciler.model.hint import HEARD, Hint
from reconciler.model.ledger import ServiceProof
from reconciler.model.names import authority
from reconciler.model.observed import Health, Listener, Observation, ServerProcess

from .connections import Connections
from .diagnosis import LogDiagnosis
from .inquiry import PACE, Inquiry, Means, Pace
from .process_table import seen

if TYPE_CHECKING:
    import aiohttp

LARGEST: Final = 2**20
"""Bytes of an answer to a question for one token; what is longer is none."""
_CHUNK: Final = 65_536
RECENT: Final = 0.01
"""Seconds for which a look at the ports holds."""


Traffic = Callable[[Collection[int]], Connections]
"""Says who is connected to these ports: the kernel, and whoever else passes requests on to servers."""


class CompletionProber:
    """The readiness ladder of one event loop: our listener, an HTTP answer, two completions.

    Afterwards one look in `Pace.look` seconds at who is connected to any of the servers tells which of them has to
    be asked again; 40 servers without clients cost that one look, and nothing for each.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        logs: LogDiagnosis,
        look: Callable[[Iterable[int]], Mapping[int, Observation[Listener]]],
        now: Callable[[], float],
        cpu: Callable[[Collection[int]], Mapping[int, float]] = lambda leaders: {},
        traffic: Traffic = lambda ports: {},
        pace: Pace = PACE,
    ) -> None:
        """`cpu` gives the processor time of sessions by their leaders, as far as it can be told."""
        self._backends = backends
        self._look = look
        self._looked: tuple[float, Mapping[int, Observation[Listener]]] = (0.0, {})
        self._now = now
        self._cpu = cpu
        self._traffic = traffic
        self._pace = pace
        self._timer: asyncio.TimerHandle | None = None
        self._logs = logs
        self._inquiries: dict[str, Inquiry] = {}
        self._session: aiohttp.ClientSession | None = None
        self._changed: asyncio.Event | None = None

    def judged(self, process: ServerProcess, proof: ServiceProof | None) -> ServerProcess:
        """A proved process with what is known about it; where nothing is, asking begins. Wants a running loop."""
        backend = self._backends.get(process.fields.get("backend", ""))
        if backend is None:
            why = f"no backend {process.fields.get('backend')!r} is installed"
            return replace(process, health=Health.ZOMBIE, cause="backend-missing", detail=why)
        inquiry = self._inquiries.get(process.label)
        if inquiry is None or inquiry.process.instance != process.instance:
            if inquiry is not None:
                inquiry.task.cancel()
            proved_at = proof.at if proof is not None and proof.instance == process.instance else None
            inquiry = self._inquiries[process.label] = Inquiry(process, self._means(backend), proved_at)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pace.look, self._glance)
        inquiry.glance()
        found = inquiry.evidence
        return replace(
            process,
            health=found.health,
            cause=found.cause,
            detail=found.detail,
            permanent=found.permanent,
            proved_at=found.proved_at,
            asked_since=inquiry.asked_since,
        )

    def retain(self, labels: Collection[str]) -> None:
        """Ask nobody but the servers of these labels any more."""
        for label in self._inquiries.keys() - set(labels):
            self._inquiries.pop(label).task.cancel()

    async def changed(self) -> Hint:
        """Return when there is new evidence since the last return."""
        event = self._event()
        await event.wait()
        event.clear()
        return HEARD

    async def close(self) -> None:
        """End all asking."""
        tasks = [inquiry.task for inquiry in self._inquiries.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._inquiries.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _glance(self) -> None:
        """Look once at who is connected, for all servers; what they do is only asked of those that have clients."""
        self._timer = None
        watched = [inquiry for inquiry in self._inquiries.values() if inquiry.is_watched]
        try:
            found = self._traffic({inquiry.process.port for inquiry in watched}) if watched else {}
            used = [i for i in watched if i.concerns(found.get(i.process.port, ()))]
            cpu = self._cpu({i.process.pid for i in used if i.process.pid is not None}) if used else {}
            for inquiry in watched:
                inquiry.seen(found.get(inquiry.process.port), cpu.get(inquiry.process.pid or 0))
        finally:
            if self._inquiries:
                self._timer = asyncio.get_running_loop().call_later(self._pace.look, self._glance)

    def _listener(self, port: int) -> Observation[Listener]:
        """Who listens on a port: one look serves all that are asked at a time."""
        time = asyncio.get_running_loop().time
        at, answers = self._looked
        if time() - at > RECENT or port not in answers:
            ports = {inquiry.process.port for inquiry in self._inquiries.values()}
            answers = self._look({*ports, port})
            self._looked = time(), answers  # of after the look, which takes longer than this where lsof answers
        return answers[port]

    def _event(self) -> asyncio.Event:
        if self._changed is None:
            self._changed = asyncio.Event()
        return self._changed

    def _means(self, backend: Backend) -> Means:
        return Means(
            backend=backend,
            ask=self._complete,
            look=self._listener,
            belongs=_belongs,
            connections=lambda port: self._traffic([port]).get(port),
            cpu=lambda pid: self._cpu([pid]).get(pid),
            logs=self._logs,
            now=self._now,
            tell=self._event().set,
            pace=self._pace,
        )

    async def _complete(self, process: ServerProcess, backend: Backend, seconds: float) -> Answer | None:
        """One question; None where nobody answered."""
        import aiohttp

        if self._session is None:
            # A connection of ours that stayed open would look like somebody's who waits.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        question = backend.question(process.served_name)
        url = f"http://{authority(process.host, process.port)}{question.path}"
        limit = aiohttp.ClientTimeout(total=seconds)
        try:
            # An answer from where a redirect leads would prove somebody else.
            async with self._session.post(
                url, json=dict(question.body), timeout=limit, allow_redirects=False
            ) as response:
                body = bytearray()
                async for part in response.content.iter_chunked(_CHUNK):
                    body += part
                    if len(body) > LARGEST:
                        return Answer(status=response.status, body=b"")
                return Answer(status=response.status, body=bytes(body))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


def _belongs(pid: int, process: ServerProcess) -> bool:
    """Whether a listener is the server's: its first process, or one that this one has started in its session."""
    if pid == process.pid:
        return True
    found = seen(pid)
    return found is not None and found.session == process.pid
