"""Schedules of faults: what a run of one is, every single one, every pair, and random ones from a seed."""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from reconciler.ports.errors import ActionError

from .disk import Crash, Faults, Machine
from .worlds import Request, Scenario, World

ATTEMPTS: Final = 3
"""How often it may take to converge after the last fault (I5)."""
KINDS: Final = ("kill", "power", "eio", "enospc", "unmount", "corrupt", "unreadable")
"""What happens at a step; `rot` is another fault, and happens after the run."""
ROT: Final = "rot@1"
_ONE: Final = re.compile(r"(?P<kind>[a-z]+)@(?P<step>[0-9]+)")


@dataclass(frozen=True)
class Schedule:
    """Faults of the first run and, where there is one, of the second, such as `kill@34+eio@12`."""

    seed: int
    first: str
    second: str = ""

    def __str__(self) -> str:
        return f"{self.seed} {self.first} {self.second}".rstrip()


def faults(text: str) -> Faults:
    """The faults of one run, from their text."""
    made = Faults()
    for part in text.split("+") if text else ():
        match = _ONE.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not like kill@12; kinds are {', '.join(KINDS)}")
        step = int(match["step"])
        match match["kind"]:
            case "kill" | "power" as kind:
                made.crash, made.power = step, kind == "power"
            case "eio" | "enospc" as kind:
                made.error, made.code = step, errno.EIO if kind == "eio" else errno.ENOSPC
            case "unmount":
                made.unmount = step
            case "corrupt":
                made.corrupt = step
            case "unreadable":
                made.unreadable = step
            case "rot":
                made.rot = True
            case other:
                raise ValueError(f"there is no fault {other!r}")
    return made


def run(scenario: Scenario, schedule: Schedule) -> list[str]:
    """What was found wrong in one schedule; each is one line that says how to repeat it."""
    world = scenario.template().clone(schedule.seed)
    bad = []
    for number, text in enumerate((schedule.first, schedule.second)):
        if text or not number:
            meet(scenario.request if number else scenario.first or scenario.request, world, faults(text))
            bad += scenario.always(world)
    bad += converge(scenario, world)
    return [f"{scenario.name} {schedule}: {reason}" for reason in dict.fromkeys(bad)]


def meet(request: Request, world: World, present: Faults) -> None:
    """Ask once, while these faults happen; after a crash the machine is up again."""
    world.machine.begin(present)
    try:
        request(world)
    except Crash:
        world.machine.crashed(power=present.power)
    except (ActionError, OSError):
        pass
    world.machine.begin(Faults())
    world.external.mounted = True
    if present.rot:
        world.rot()


def converge(scenario: Scenario, world: World) -> list[str]:
    """Ask again without faults until it is done, then once more: that must change nothing."""
    refused: Exception | None = None
    for _ in range(ATTEMPTS):
        try:
            scenario.request(world)
        except (ActionError, OSError) as error:
            refused = error
        else:
            refused = None
            break
    bad = [f"I5: refused in the end: {refused}"] if refused is not None else []
    bad += scenario.always(world) + scenario.finally_(world)
    if refused is None:
        before = world.machine.writes
        scenario.request(world)
        if changes := world.machine.writes - before:
            bad.append(f"I3: asking again made {changes} changes")
    return bad


def length(scenario: Scenario) -> Machine:
    """A run without faults: its machine knows the number of steps and reading requests."""
    world = scenario.template().clone(0)
    world.machine.begin(Faults())
    (scenario.first or scenario.request)(world)
    return world.machine


def singles(scenario: Scenario, seeds: int = 3) -> Iterator[Schedule]:
    """One fault of every kind at every step; a loss of power with several outcomes."""
    machine = length(scenario)
    for step in range(1, machine.steps + 1):
        for kind in KINDS[:-1]:
            for seed in range(seeds if kind == "power" else 1):
                yield Schedule(seed, f"{kind}@{step}")
        if scenario.fragile_copy:
            yield Schedule(0, f"kill@{step}+{ROT}")
    for step in range(1, machine.reads + 1):
        yield Schedule(0, f"unreadable@{step}")


def pairs(scenario: Scenario, first: range | None = None, second: range | None = None) -> Iterator[Schedule]:
    """A crash at every step, and another one at every step of the run after it."""
    steps = length(scenario).steps
    number = 0
    for one in first or range(1, steps + 1):
        for two in second or range(1, steps + 1):
            for kinds in ("kill kill", "kill power", "power kill", "power power"):
                number += 1
                before, after = kinds.split()
                yield Schedule(number, f"{before}@{one}", f"{after}@{two}")


def randoms(scenario: Scenario, count: int, seed: int = 0) -> Iterator[Schedule]:
    """Mixtures: a crash or none, with an error, an unmount, a corruption or none, and perhaps a crash after it."""
    machine = length(scenario)
    random = Random(f"{scenario.name} {seed}")

    def some(kinds: tuple[str, ...], chance: float, steps: int = machine.steps) -> list[str]:
        return [f"{random.choice(kinds)}@{random.randint(1, steps)}"] if steps and random.random() < chance else []

    def mixture(chance: float) -> str:
        parts = some(("kill", "power"), chance) + some(("eio", "enospc"), 0.3) + some(("unmount",), 0.3)
        parts += some(("corrupt",), 0.25) + some(("unreadable",), 0.1, machine.reads)
        if scenario.fragile_copy and random.random() < 0.15:
            parts.append(ROT)
        return "+".join(parts)

    for _ in range(count):
        yield Schedule(random.randrange(2**30), mixture(0.75), mixture(0.8) if random.random() < 0.6 else "")
