"""Asking one server: until two completions in a row are given, and again when that has to be repeated."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

from reconciler.backends.base import Answer, Backend, Sign
from reconciler.model.base import noun
from reconciler.model.observed import Absent, Health, Listener, Observation, Present, ServerProcess

from .connections import Connection
from .diagnosis import LogDiagnosis
from .server_log import end, safe, size
from .standstill import Sample, Standstill, worked

PROOFS: Final = 2
"""Completions in a row: the first may have come from a server that was just dying."""
REFUSALS: Final = 3
"""Errors in a row to the same question: the first may have come from a server that was just starting."""
MISSES: Final = 3
"""Questions in a row that a server which has answered before may leave unanswered while it does nothing else."""
_PATIENCE: Final = 10.0
"""How many times as long as its first answer took a later one may take."""
_SLEPT: Final = 30.0
"""Seconds by which the clock has to jump for it to be a sleep of the machine, or a clock that was set."""
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
class Pace:
    """How often servers are looked at and asked, and how long each may take, in seconds."""

    loading: float = 120.0
    """For the first completions, which wait for the weights."""
    shortest: float = 5.0
    longest: float = 25.0
    """For a later completion, at least and at most."""
    repeat: float = 600.0
    """After which an idle server proves itself again."""
    look: float = 10.0
    """Between two looks at who is connected."""
    standstill: float = 30.0
    """For which somebody is connected and nothing is done, before it is asked."""
    misses: float = 60.0
    """Over which the unanswered questions must reach, at least, before it is given up."""


PACE: Final = Pace()


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
    connections: Callable[[int], Collection[Connection] | None]
    """Who is connected to a port; None where nobody can say."""
    cpu: Callable[[int], float | None]
    """Seconds of processor time that a process and what it has started have used; None where that cannot be told."""
    now: Callable[[], float]
    tell: Callable[[], None]
    """There is new evidence."""
    pace: Pace


class Inquiry:
    """The asking of one process, from its first sight to its end."""

    def __init__(self, process: ServerProcess, means: Means, proved_at: float | None) -> None:
        self.process = process
        self._began = means.now(), _time()
        self.evidence = Evidence(health=Health.STARTING)
        if proved_at is not None:
            self.evidence = Evidence(health=Health.SERVING, proved_at=proved_at)
        self._means = means
        self._doubt = asyncio.Event()
        self._logged = size(process.log)
        self._standstill = Standstill()
        self._read, self._steps = self._logged, 0
        """How far its log was read for lines of work, and in how many looks there were some."""
        self._patience = means.pace.longest
        self._waits = False
        """Whether it has been proved and nothing speaks against it."""
        self.task = asyncio.create_task(self._run(), name=f"ask {process.label}")

    @property
    def asked_since(self) -> float:
        """Since when it is asked, seconds since the epoch, on a clock that the machine's sleep has not put forward.

        Whoever judges by it that a start takes too long must not count the hours for which nobody could answer (X10).
        """
        wall, awake = self._began
        slept = round(self._means.now() - wall - (_time() - awake))
        return wall + (slept if abs(slept) >= _SLEPT else 0)

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

    # ------------------------------------------------------------------------------------------ looking at its clients

    @property
    def is_watched(self) -> bool:
        """Whether it counts who is connected to it: it has answered, and is not being asked just now."""
        return self._waits and not self._doubt.is_set()

    def concerns(self, connections: Collection[Connection]) -> bool:
        """Whether somebody may wait on it."""
        return self._standstill.concerns(connections)

    def seen(self, connections: Collection[Connection] | None, cpu: float | None) -> None:
        """Doubt it when somebody has been connected for long and it does nothing; costs no question."""
        if self._standstill.seconds(self._sample(connections, cpu)) >= self._means.pace.standstill:
            self._doubt.set()

    def _sample(self, connections: Collection[Connection] | None, cpu: float | None) -> Sample:
        logged = size(self.process.log)
        if connections and logged != self._read:
            self._steps += self._means.backend.at_work(end(self.process.log, self._read))
            self._read = logged
        return Sample(at=_time(), connections=connections, cpu=cpu, logged=logged, steps=self._steps)

    def _now(self) -> Sample:
        """A sample of this instant."""
        pid = self.process.pid
        cpu = self._means.cpu(pid) if pid is not None else None
        return self._sample(self._means.connections(self.process.port), cpu)

    # --------------------------------------------------------------------------------------------------- proving

    async def _prove(self) -> bool:
        proofs, refusals, pause, pace = 0, 0, _FIRST_PAUSE, self._means.pace
        while True:
            if lost := self._lost_port():
                return self._condemn("port-lost", lost)
            if not self._may_be_asked():
                if self._means.logs.of(self.process) is not None:
                    return self._condemn("unable-to-generate", "")
                late = self._means.now() - self.asked_since > _SOON
                await asyncio.sleep(_FIRST_PAUSE if late else _GLANCE)
                continue
            asked = _time()
            answer, sign = await self._ask(pace.loading)
            if sign is Sign.COMPLETION:
                self._patience = min(pace.longest, max(pace.shortest, _PATIENCE * (_time() - asked)))
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
        misses, refusals, since = 0, 0, _time()
        answer: Answer | None = None
        while not self._given_up(misses, since):
            if lost := self._lost_port():
                return self._condemn("port-lost", lost)
            before = self._now()
            answer, sign = await self._ask(self._patience)
            if sign is Sign.COMPLETION:
                return self._proved()
            refusals = refusals + 1 if sign is Sign.REFUSED else 0
            if sign in (Sign.DEAD, Sign.WRONG_MODEL) or refusals == REFUSALS:
                return self._condemn(_CAUSES[sign], _said(answer))
            reachable = self._unreachable() is None
            if reachable and worked(before, self._now()):
                return self._works()
            misses += 1
            await asyncio.sleep(self._pause(before.at) if reachable and not refusals else _FIRST_PAUSE)
        why = self._unreachable() or self._silence(answer, misses, since)
        return self._condemn("unresponsive", f"it has answered before, and now: {why}")

    def _given_up(self, misses: int, since: float) -> bool:
        long = _time() - since >= self._means.pace.misses
        return misses >= MISSES and (long or self._unreachable() is not None)

    def _pause(self, asked: float) -> float:
        """Until the next question, so that the last one ends when there was time enough for all."""
        step = (self._means.pace.misses - self._patience) / (MISSES - 1)
        return max(_FIRST_PAUSE, asked + step - _time())

    def _silence(self, answer: Answer | None, misses: int, since: float) -> str:
        said = f"only {answer.status}" if answer is not None else f"nothing within {self._patience:.0f} s"
        return f"{said}, {misses} times in a row in {_time() - since:.0f} s, and it does nothing else"

    async def _due(self) -> bool:
        """False: it is not idle, and its traffic stands for a proof."""
        proved_at, repeat, began = self.evidence.proved_at or 0.0, self._means.pace.repeat, _time()
        self._waits = True
        try:
            # A clock that was set back must not put it off.
            async with asyncio.timeout(min(repeat, max(0.0, proved_at + repeat - self._means.now()))):
                await self._doubt.wait()
        except TimeoutError:
            logged, before = size(self.process.log), self._logged
            self._logged = logged
            if logged > before or (self._standstill.worked_at or 0.0) > began:
                self.evidence = Evidence(health=Health.SERVING, proved_at=self._means.now())
                return False
        finally:
            self._waits = False
        return True

    async def _ask(self, seconds: float) -> tuple[Answer | None, Sign]:
        answer = await self._means.ask(self.process, self._means.backend, seconds)
        return answer, Sign.NOT_YET if answer is None else self._means.backend.judge(answer)

    # -------------------------------------------------------------------------------------------------- concluding

    def _proved(self) -> bool:
        self._logged = size(self.process.log)
        self._doubt.clear()
        self._standstill.answered()
        self.evidence = Evidence(health=Health.SERVING, proved_at=self._means.now())
        self._means.tell()
        return True

    def _works(self) -> bool:
        """It does not answer since it is at something else, which stands for a proof."""
        self._logged = size(self.process.log)
        self._doubt.clear()
        self.evidence = Evidence(health=Health.SERVING, proved_at=self._means.now())
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


def _time() -> float:
    """Seconds on a clock that nobody sets and that stands still while the machine sleeps."""
    return asyncio.get_running_loop().time()


def _said(answer: Answer | None) -> str:
    return "" if answer is None else safe(answer.body.decode(errors="replace"))[:_BODY_SHOWN]
