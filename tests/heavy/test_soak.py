"""A day of a watch in minutes: 8,640 cycles with churn, and nothing grows; a seeded leak is found by the same means."""

import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import linear_regression
from typing import Final

import psutil
import pytest

from reconciler.adapters.log_rotation import LARGEST
from reconciler.adapters.server_log import OLDER
from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.committed import Committed, committed
from tests.e2e.watching import Command, kill, until
from tests.heavy.asking import ask, settle

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900), pytest.mark.fault("X21")]

FLAWED: Final = Path(__file__).resolve().parents[1] / "programs" / "flawed_watch.py"
LABELS: Final = ("alpha", "beta", "gamma")
CYCLES: Final = 8_640
"""A day, looked at every ten seconds."""
SEEDED: Final = 2_000
"""Cycles after which a seeded leak must have been found."""
CHURN: Final = 20
"""Every so many cycles something happens."""
WINDOW: Final = 200
"""Cycles of which the least counts: how many connections are open and how many servers run goes up and down."""
DESCRIPTORS: Final = 0.001
"""Descriptors, and threads, that a cycle may add: a tenth of one in a hundred cycles."""
BYTES: Final = 2 * 2**20 / CYCLES
"""Of memory that a cycle may add: 2 MiB in a day."""


@dataclass(frozen=True)
class Growth:
    """What one cycle adds, by a line through the second half of the windows."""

    descriptors: float
    threads: float
    memory: float
    """Bytes."""


@pytest.fixture
def machine(home: Home) -> Iterator[Committed]:
    """Four models, three of them declared."""
    with committed(home, *LABELS, "delta") as made:
        made.declare(*LABELS)
        yield made


@pytest.mark.fault("X20")
def test_x21_a_day_of_churn_leaves_no_trace(machine: Committed) -> None:
    watch = machine.watch()
    watch.says("settled ensemble")
    log = machine.state / "logs" / "alpha.log"
    with log.open("ab") as file:
        file.write(b"a chatty server\n" * (LARGEST // 16 + 1))
    growth = soaked(machine, watch, CYCLES)
    assert abs(growth.descriptors) < DESCRIPTORS, growth
    assert abs(growth.threads) < DESCRIPTORS, growth
    assert growth.memory < BYTES, growth
    assert log.stat().st_size < LARGEST, "it was begun anew while its server went on"
    assert log.with_name(f"{log.name}{OLDER}").exists()
    machine.declare(*LABELS)
    settle(machine)
    machine.one_each(*LABELS)
    assert watch.end() == ExitCode.TERMINATED


@pytest.mark.parametrize("kind", ["descriptors", "memory"])
def test_x21_a_seeded_leak_is_found(machine: Committed, kind: str) -> None:
    watch = machine.start("watch", program=(str(FLAWED), kind), PYTHONPATH=str(FLAWED.parents[2]))
    until(machine.is_watched, "the watch listens", watch.said)
    growth = soaked(machine, watch, SEEDED)
    if kind == "descriptors":
        assert growth.descriptors > 5 * DESCRIPTORS, growth
    else:
        assert growth.memory > 5 * BYTES, growth


# ------------------------------------------------------------------------------------------------------------ soaking


def soaked(machine: Committed, watch: Command, cycles: int) -> Growth:
    """Let a watch work for so many cycles, and measure it from outside."""
    chance, process, churn = random.Random(5), psutil.Process(watch.pid), cycle(CHURNS)
    windows: list[tuple[int, int, int]] = []
    seen: list[tuple[int, int, int]] = []
    settle(machine)
    for number in range(1, cycles + 1):
        if number % CHURN == 0:
            next(churn)(machine, chance)
            settle(machine)
        ask(machine, "apply")
        seen.append((process.num_fds(), process.num_threads(), process.memory_info().rss))
        if number % WINDOW == 0:
            descriptors, threads, memory = map(min, zip(*seen, strict=True))
            windows.append((descriptors, threads, memory))
            seen.clear()
    return grown(windows[len(windows) // 2 :])


def grown(windows: Sequence[tuple[int, int, int]]) -> Growth:
    cycles = range(0, WINDOW * len(windows), WINDOW)
    return Growth(*(linear_regression(cycles, values).slope for values in zip(*windows, strict=True)))


def edit(machine: Committed, chance: random.Random) -> None:
    """One model comes or goes, another is started anew with another flag."""
    labels = (*LABELS, "delta") if chance.random() < 0.5 else LABELS
    machine.commit(f"{machine.text(*labels)}    options: {{max_tokens: {chance.randrange(1, 1_000)}}}\n")


def comment(machine: Committed, chance: random.Random) -> None:
    """A commit that changes nothing."""
    machine.commit(f"{machine.file.read_text().partition('#')[0]}# {chance.random()}\n")


def mistake(machine: Committed, chance: random.Random) -> None:
    """A commit that is invalid, and one that mends it."""
    text = machine.file.read_text()
    machine.commit("version: 1\nmodells: {}\n")
    ask(machine, "apply")
    machine.commit(text)


def death(machine: Committed, chance: random.Random) -> None:
    """A server dies; that is forgiven, or it would be held one day."""
    label = chance.choice(LABELS)
    kill(machine.pid(label))
    settle(machine)
    ask(machine, "retry", label)


def stop(machine: Committed, chance: random.Random) -> None:
    """A person stops a server and starts it again."""
    label = chance.choice(LABELS)
    ask(machine, "stop", label)
    ask(machine, "start", label)


def by_hand(machine: Committed, chance: random.Random) -> None:
    """Somebody writes into the gateway's file, which is ours."""
    port = machine.ports[chance.choice(LABELS)]
    machine.published.write_text(machine.published.read_text().replace(f"127.0.0.1:{port}/", "127.0.0.1:9/"))


def rudeness(machine: Committed, chance: random.Random) -> None:
    """Somebody connects and goes away in the middle of a word."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(machine.state / "reconciler.sock"))
        peer.sendall(b'{"format": 1, "do": "apply"'[: chance.randrange(28)])


CHURNS: Final = (edit, death, comment, stop, by_hand, mistake, rudeness)
