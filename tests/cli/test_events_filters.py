"""Which events are shown; following them outlives watches, a history that was cut, and one that begins anew."""

import json
import signal
from pathlib import Path

import pytest

from reconciler.adapters.state_dir import StateDir
from reconciler.adapters.state_layout import KEPT_EVENTS
from reconciler.model.event import Event, EventKind
from reconciler.model.ledger import EMPTY
from reconciler.model.names import Subject
from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Command, Machine, machine_of, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

NOW = 2_000_000_000.0
"""Seconds since the epoch, later than any test runs: what is since then is told to have just happened."""


def event(number: int, kind: EventKind = EventKind.DONE, label: str = "alpha", at: float = NOW) -> Event:
    return Event(at=at, kind=kind, subject=Subject(f"server/{label}"), text=f"number {number}")


@pytest.fixture
def state(home: Home) -> StateDir:
    """A history of two servers, half of it old."""
    made = StateDir(home.root / "state")
    kinds = (EventKind.PROVED, EventKind.FAILED, EventKind.BLOCKED)
    for at, first in ((1_000.0, 0), (NOW, 30)):
        story = [event(first + n, kinds[n % 3], ("alpha", "beta")[n % 2], at) for n in range(30)]
        made.save(EMPTY, story)
    return made


def shown(home: Home, *args: str) -> list[int]:
    result = home.run("events", "-o", "ndjson", *args)
    assert result.code == ExitCode.OK, result.err
    return [int(json.loads(line)["text"].split()[1]) for line in result.out.splitlines()]


def test_which_events_are_shown(home: Home, state: StateDir) -> None:
    assert shown(home) == list(range(20, 60))
    assert shown(home, "--since", "1h") == list(range(30, 60))
    assert shown(home, "--since", "1h", "-n", "2") == [58, 59]
    assert shown(home, "--kind", "failed") == list(range(1, 60, 3))
    both = sorted([*range(1, 60, 3), *range(2, 60, 3)])
    assert shown(home, "--kind", "failed", "--kind", "blocked", "-n", "1000") == both
    assert shown(home, "--kind", "failed", "--since", "1h", "beta") == [n for n in range(31, 60, 3) if n % 2]


def test_a_subject_of_which_nothing_is_known_is_said(home: Home, state: StateDir) -> None:
    """A misspelled label looked like one to which nothing has happened."""
    nobody = home.run("events", "alhpa")
    assert (nobody.code, nobody.out) == (ExitCode.OK, "")
    assert nobody.err == "nothing that is kept here is about alhpa\n"
    assert home.run("events", "alpha", "--kind", "rolled-back").err == ""


def test_followed_events_are_filtered_too_and_none_comes_twice(home: Home, state: StateDir) -> None:
    follow = follower(home, "--kind", "failed", "-n", "1")
    follow.says("number 58")
    state.save(EMPTY, [event(60), event(61, EventKind.FAILED), event(62)])
    follow.says("number 61")
    state.save(EMPTY, [event(63, EventKind.FAILED)])
    follow.says("number 63")
    assert [e["text"] for e in follow.events()] == ["number 58", "number 61", "number 63"]
    assert follow.end(signal.SIGINT) == ExitCode.INTERRUPTED


def follower(home: Home, *args: str) -> Command:
    return Command(["events", "-f", "-o", "ndjson", *args], home, home.environment(), 0)


def test_following_outlives_a_history_that_was_cut_and_one_that_begins_anew(home: Home, state: StateDir) -> None:
    follow = follower(home, "-n", "1")
    follow.says("number 59")
    follow.process.send_signal(signal.SIGSTOP)
    for _ in range(2):
        state.save(EMPTY, [event(n) for n in range(100, 100 + KEPT_EVENTS)])
    follow.process.send_signal(signal.SIGCONT)
    follow.says('"number": 20060')
    assert "10000 events came and went meanwhile: the last 10,000 are kept" in follow.err
    numbers = [e["number"] for e in follow.events()]
    assert numbers == [60, *range(10_061, 20_061)]

    folder = home.root / "state"
    for path in folder.glob("state.db*"):
        path.rename(Path(home.root / path.name))
    StateDir(folder).save(EMPTY, [event(1), event(2)])
    until(lambda: [e["number"] for e in follow.events()[-2:]] == [1, 2], "it goes on", lambda: follow.err)
    assert follow.end(signal.SIGINT) == ExitCode.INTERRUPTED


def test_following_outlives_the_watch(home: Home) -> None:
    with machine_of(home, "alpha") as machine:
        machine.declare("alpha")
        follow = machine.start("events", "-f", "-o", "ndjson")
        told_by(machine, follow, "settled", 1)
        told_by(machine, follow, "suspended", 1, "stop", "alpha")
        told_by(machine, follow, "resumed", 1, "start", "alpha")
        history = machine.events()
        until(lambda: follow.events() == history, "all of it is told, once", follow.said)


def told_by(machine: Machine, follow: Command, kind: str, times: int, *request: str) -> None:
    """A watch that is killed once it has told something of this kind."""
    watch = machine.watch()
    if request:
        assert machine.run(*request)[0] == ExitCode.OK
    follow.says(f'"kind": "{kind}"', times)
    watch.end(signal.SIGKILL)
