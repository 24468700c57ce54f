"""Several commands at once: what one of them has said is not undone by another that read before it."""

import pytest

from reconciler.adapters.state_dir import StateDir
from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Machine, machine_of

pytestmark = pytest.mark.e2e

LABELS = ("alpha", "beta", "gamma", "delta")


def at_once(machine: Machine, labels: set[str]) -> set[str]:
    """Say of every label that it is to stop, all at the same time; those that were not refused."""
    started = {label: machine.start("stop", label, "--reason", f"{label} rests") for label in labels}
    codes = {label: command.process.wait(60) for label, command in started.items()}
    assert set(codes.values()) <= {ExitCode.OK, ExitCode.LOCKED}, [command.said() for command in started.values()]
    return {label for label, code in codes.items() if code == ExitCode.OK}


def suspended(machine: Machine) -> dict[str, str]:
    return {label: one.reason for label, one in StateDir(machine.state).ledger().suspensions.items()}


@pytest.mark.fault("X08")
@pytest.mark.parametrize("watched", [False, True])
def test_x08_nothing_that_a_person_was_told_is_done_is_lost(home: Home, watched: bool) -> None:
    with machine_of(home, *LABELS) as machine:
        machine.declare(*LABELS)
        if watched:
            machine.watch().says("settled ensemble")
        left = set(LABELS)
        while left:
            done = at_once(machine, left)
            assert done, "one of them has the lock"
            left -= done
        assert suspended(machine) == {label: f"{label} rests" for label in LABELS}
