"""Runs many schedules: `python -m tests.crash.run [COUNT [SEED]]`, or one: `... run SCENARIO SEED FAULTS [FAULTS]`.

COUNT random ones, after every single fault and every pair of crashes. What is found is printed as a line that begins
with the arguments that repeat it.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from time import perf_counter
from typing import Final

from .scenarios import SCENARIOS, scenario_of
from .schedules import Schedule, pairs, randoms, run, singles
from .worlds import Scenario

BATCH: Final = 2_000
SHARES: Final = {"offload": 4, "turned-back": 2, "restore": 2, "publication": 2, "superseded": 1, "partial": 1}
"""How the random ones are shared out; what ends in a refusal is covered by the single faults."""
_SHOWN: Final = 20


def batch(name: str, schedules: tuple[Schedule, ...]) -> list[str]:
    """What is wrong in some schedules; in a process of its own."""
    scenario = scenario_of(name)
    return [finding for schedule in schedules for finding in run(scenario, schedule)]


def batches(scenario: Scenario, count: int, seed: int) -> Iterator[tuple[str, tuple[Schedule, ...]]]:
    """All schedules of a scenario: single faults, pairs of crashes, and `count` random ones."""
    for schedules in (singles(scenario), pairs(scenario), randoms(scenario, count, seed)):
        while some := tuple(islice(schedules, BATCH)):
            yield scenario.name, some


def say(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def many(count: int, seed: int) -> int:
    """Run all, say what was found; 1 after a finding."""
    began, total = perf_counter(), 0
    findings: list[str] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for scenario in SCENARIOS:
            share = count * SHARES.get(scenario.name, 0) // sum(SHARES.values())
            work = list(batches(scenario, share, seed))
            for found in pool.map(batch, *zip(*work, strict=True)):
                findings += found
                for finding in found[:_SHOWN]:
                    say(finding)
            done = sum(len(schedules) for _, schedules in work)
            total += done
            say(f"{scenario.name}: {done} schedules")
    rate = total / (perf_counter() - began)
    say(f"{total} schedules, {rate:.0f}/s, {len(findings)} findings")
    return 1 if findings else 0


def main(arguments: list[str]) -> int:
    """Run many, or the one that is named."""
    if arguments and not arguments[0].isdecimal():
        name, seed, *texts = arguments
        findings = run(scenario_of(name), Schedule(int(seed), *texts))
        for finding in findings:
            say(finding)
        say(f"{len(findings)} findings")
        return 1 if findings else 0
    numbers = [int(argument) for argument in arguments]
    return many(*numbers, *(10_000, 0)[len(numbers) :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
