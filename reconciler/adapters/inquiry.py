"""Asking one server: until two completions in a row are given, and again when that has to be repeated."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from reconciler.backends.base import Answer, Backend, Sign
from reconciler.model.base import noun
from reconciler.model.observed import Absent, Health, Listener, Observation, Present, ServerProcess

from .diagnosis import LogDiagnosis
from .server_log import safe, size

PROOFS: Final = 2
"""Completions in a row: the first may have come from a server that was just dying."""
REFUSALS: Final = 3
"""Errors in a row to the same question: the first may have come from a server that was just starting."""
MISSES: Final = 3
"""Questions in a row that a server which has answered before may leave unanswered while its log stands still."""
LOADING_TIMEOUT: Final = 120.0
"""Seconds that the first completions may take: they wait for the weights."""
REPEAT_TIMEOUT: Final = 30.0
REPEAT: Final = 600.0
"""Seconds after which an idle server proves itself again."""
BUSY: Final = 0.01
"""Share of one processor from which on a server is at work: decoding takes several times that, waiting nothing."""
_GLANCE: Final = 0.02
_SOON: Final = 30.0
"""Seconds for which a listener is looked for every 20 ms: people wait for it, and a look costs 0.2 ms."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
_BODY_SHOWN: Final = 200
_WRONG_MODEL: Final = "wrong-model"

_PERMANENT: Final = frozenset({_WRONG_MODEL})
_CAUSES: Final = {
    Sign.DEAD: "unable-to-generate",
    Sign.WRONG_MODEL: _WRONG_MODEL,
    Sign.REFUSED: "refuses-requests",
}


@noun
class Evidence:
    """What asking a process has shown so far."""

    health: Health
    cause: str = ""
    detail: str = ""
    permanent: bool = False
    proved_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an inquiry works with."""

    backend: Backend
    ask: Callable[[ServerProcess, Backend, float], Awaitable[Answer | None]]
    """One question with a time limit in seconds; None where nobody answered."""
    look: Callable[[int], Observation[Listener]]
    logs: LogDiagnosis
    belongs: Callable[[int, ServerProcess], bool]
    """Whether a listener of this pid is the server's own."""
    cpu: Callable[[int], float | None]
    """Seconds of processor time that a process and what it has started have used; None where that cannot be told."""
    now: Callable[[], float]
    tell: Callable[[], None]
    """There is new evidence."""


class Inquiry:
    """The asking of one process, from its first sight to its end."""

    def __init__(self, process: ServerProcess, means: Means, proved_at: float | None) -> None:
        self.process = process
        self.asked_since = means.now()
        self.evidence = Evidence(health=Health.STARTING)
        if proved_at is not None:
            self.evidence = Evidence(health=Health.SERVING, proved_at=proved_at)
        self._means = means
        self._doubt = asyncio.Event()
        self._logged = size(process.log)
        self.task = asyncio.create_task(self._run(), name=f"ask {process.label}")

    async def _run(self) -> None:
        while True:
            try:
                if self.evidence.proved_at is None and not await self._prove():
                    return
                while await self._prove_again():
                    pass
                return
            except Exception as error:  # a mistake of ours says nothing about the server, and must not end the asking
                self.evidence = replace(self.evidence, detail=f"asking failed: {type(error).__name__}: {error}")
                self._means.tell()
                await asyncio.sleep(_LONGEST_PAUSE)

    def glance(self) -> None:
        """Doubt a server that has answered before when something speaks against it; costs no question."""
        if self.evidence.health is not Health.SERVING or self._doubt.is_set():
            return
        if self._unreachable() is not None:
            self._doubt.set()
            return
        logged = size(self.process.log)
        if logged != self._logged and self._means.logs.of(self.process) is not None:
            self._doubt.set()

    # --------------------------------------------------------------------------------------------------- proving

    async def _prove(self) -> bool:
        proofs, refusals, pause = 0, 0, _FIRST_PAUSE
        while True:
            if lost := self._lost_port():
                return self._condemn("port-lost", lost)
            if not self._may_be_asked():
                if self._means.logs.of(self.process) is not None:
                    return self._condemn("unable-to-generate", "")
                late = self._means.now() - self.asked_since > _SOON
                await asyncio.sleep(_FIRST_PAUSE if late else _GLANCE)
                continue
            answer, sign = await self._ask(LOADING_TIMEOUT)
            proofs = proofs + 1 if sign is Sign.COMPLETION else 0
            refusals = refusals + 1 if sign is Sign.REFUSED else 0
            if proofs == PROOFS:
                return self._proved()
            if sign in (Sign.DEAD, Sign.WRONG_MODEL) or refusals == REFUSALS:
                return self._condemn(_CAUSES[sign], _said(answer))
            if not proofs:
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 1.5)

    async def _prove_again(self) -> bool:
        """Wait until the proof is due or in doubt, and repeat it; False: it is lost."""
        if not await self._due():
            return True
        misses, refusals, pause = 0, 0, _FIRST_PAUSE
        while misses < MISSES:
            if lost := self._lost_port():
                return self._condemn("port-lost", lost)
            before = self._work()
            answer, sign = await self._ask(REPEAT_TIMEOUT)
            if sign is Sign.COMPLETION:
                return self._proved()
            refusals = refusals + 1 if sign is Sign.REFUSED else 0
            if sign in (Sign.DEAD, Sign.WRONG_MODEL) or refusals == REFUSALS:
                return self._condemn(_CAUSES[sign], _said(answer))
            # Whoever does not answer and works is at something else, if it can be reached at all.
            misses = 0 if self._worked(before) and self._unreachable() is None else misses + 1
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 4)
        why = self._unreachable() or f"no answer within {REPEAT_TIMEOUT:.0f} s, {MISSES} times in a row"
        return self._condemn("unresponsive", f"it has answered before, and now: {why}")

    async def _due(self) -> bool:
        """False: it is not idle, and its traffic stands for a proof."""
        proved_at = self.evidence.proved_at or 0.0
        try:
            # A clock that was set back must not put it off.
            async with asyncio.timeout(min(REPEAT, max(0.0, proved_at + REPEAT - self._means.now()))):
                await self._doubt.wait()
        except TimeoutError:
            logged, before = size(self.process.log), self._logged
            self._logged = logged
            if logged > before:
                self.evidence = Evidence(health=Health.SERVING, proved_at=self._means.now())
                return False
        return True

    async def _ask(self, seconds: float) -> tuple[Answer | None, Sign]:
        answer = await self._means.ask(self.process, self._means.backend, seconds)
        return answer, Sign.NOT_YET if answer is None else self._means.backend.judge(answer)

    # -------------------------------------------------------------------------------------------------- concluding

    def _proved(self) -> bool:
        self._logged = size(self.process.log)
        self._doubt.clear()
        self.evidence = Evidence(health=Health.SERVING, proved_at=self._means.now())
        self._means.tell()
        return True

    def _condemn(self, cause: str, detail: str) -> bool:
        """It cannot serve; what its log says is more exact than what it answers."""
        found = self._means.logs.of(self.process)
        self.evidence = (
            Evidence(health=Health.ZOMBIE, cause=cause, detail=detail, permanent=cause in _PERMANENT)
            if found is None
            else Evidence(health=Health.ZOMBIE, cause=found.cause, detail=found.message, permanent=found.permanent)
        )
        self._means.tell()
        return False

    def _work(self) -> tuple[float, int, float | None]:
        """Where the clock, its log and its processor time stand."""
        cpu = self._means.cpu(self.process.pid) if self.process.pid is not None else None
        return asyncio.get_running_loop().time(), size(self.process.log), cpu

    def _worked(self, before: tuple[float, int, float | None]) -> bool:
        """Whether it has done something since; lines of a log are also written for those who only look in."""
        now = self._work()
        if now[2] is None or before[2] is None:
            return now[1] != before[1]
        return now[2] - before[2] >= BUSY * (now[0] - before[0])

    def _may_be_asked(self) -> bool:
        """Say how far a start has come, and whether its own listener is there.

        mlx_lm.server 0.32 listens before it loads. A listener that is not named may be anybody's: another user's
        process, or several on one port.
        """
        port, listener = self.process.port, self._means.look(self.process.port)
        phase = Evidence(health=Health.STARTING)
        if isinstance(listener, Present) and listener.value.pid is not None:
            phase = Evidence(health=Health.STARTING, cause="loading", detail="it listens and loads its weights")
        elif not isinstance(listener, Absent):
            detail = f"whether it is this server that listens on port {port} cannot be seen"
            phase = Evidence(health=Health.STARTING, cause="listener-unnamed", detail=detail)
        if phase != self.evidence:
            self.evidence = phase
            self._means.tell()
        return phase.cause == "loading"

    def _lost_port(self, listener: Observation[Listener] | None = None) -> str | None:
        """Why the port leads to somebody else: mlx_lm.server lives on, model in memory, when it lost its port."""
        process, listener = self.process, listener or self._means.look(self.process.port)
        if not isinstance(listener, Present) or listener.value.pid is None:
            return None
        if self._means.belongs(listener.value.pid, process):
            return None
        return f"port {process.port} is held by pid {listener.value.pid}, so nothing reaches pid {process.pid}"

    def _unreachable(self) -> str | None:
        """Why no request reaches it, or None."""
        listener = self._means.look(self.process.port)
        if isinstance(listener, Absent):
            return f"nothing listens on port {self.process.port}"
        return self._lost_port(listener)


def _said(answer: Answer | None) -> str:
    return "" if answer is None else safe(answer.body.decode(errors="replace"))[:_BODY_SHOWN]
