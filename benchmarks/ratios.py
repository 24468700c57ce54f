"""Times whole processes in turns, so that a ratio holds although the machine's speed drifts."""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """One command beside the floor of the same rounds."""

    name: str
    wall: float
    """Median seconds."""
    ratio: float
    """Median of the ratios to the floor, round by round."""
    codes: frozenset[int]


def timed(commands: Mapping[str, Sequence[str]], rounds: int, env: Mapping[str, str]) -> list[Timing]:
    """Run every command once per round; the first one is the floor of the others."""
    walls: dict[str, list[float]] = {name: [] for name in commands}
    codes: dict[str, set[int]] = {name: set() for name in commands}
    for number in range(-1, rounds):
        for name, argv in commands.items():
            wall, code = _run(argv, env)
            if number >= 0:  # the first round warms the caches
                walls[name].append(wall)
                codes[name].add(code)
    floor = next(iter(walls.values()))
    return [
        Timing(
            name=name,
            wall=statistics.median(taken),
            ratio=statistics.median(one / other for one, other in zip(taken, floor, strict=True)),
            codes=frozenset(codes[name]),
        )
        for name, taken in walls.items()
    ]


def _run(argv: Sequence[str], env: Mapping[str, str]) -> tuple[float, int]:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        to_null = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
        begin = time.perf_counter()
        pid = os.posix_spawnp(argv[0], list(argv), dict(env), file_actions=to_null)
        _, status = os.waitpid(pid, 0)
        return time.perf_counter() - begin, os.waitstatus_to_exitcode(status)
    finally:
        os.close(null)
