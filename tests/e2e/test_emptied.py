"""A commit that declares nothing any more stops nothing, however often it is met, until a person releases it."""

import signal
from collections.abc import Iterator

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.committed import Committed, committed
from tests.e2e.watching import Command, kill, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.req("S1-33"), pytest.mark.fault("D12")]


@pytest.fixture
def machine(home: Home) -> Iterator[Committed]:
    """Two models in a repository, of which both are served."""
    with committed(home, "alpha", "beta") as made:
        made.declare("alpha", "beta")
        yield made


def stands(machine: Committed, watch: Command) -> None:
    """Wait until it is said that everything would end."""
    until(lambda: machine.told("blocked", "source/commit"), "it is said", watch.said)
    assert {event["reference"] for event in machine.told("blocked", "source/commit")} == {"emptied"}


def test_an_emptied_commit_survives_restarts_and_deaths_and_is_released_by_a_person(machine: Committed) -> None:
    watch = machine.watch()
    machine.in_force(machine.head, watch)
    pids = machine.one_each("alpha", "beta")
    machine.commit(machine.text(), "nothing any more")
    stands(machine, watch)
    watch.end(signal.SIGKILL)
    kill(pids["beta"])
    watch = machine.watch()
    # What is in force is healed also by a watch that has begun with the empty one.
    until(lambda: machine.pid("beta") not in (0, pids["beta"]), "beta is started again", watch.said)
    assert machine.served("alpha", "beta", told=watch.said)["alpha"] == pids["alpha"], "nothing was stopped"
    code, said = machine.run("apply", "--yes")
    assert code == ExitCode.OK, said
    assert machine.servers() == {}
    assert machine.routed() == set()
