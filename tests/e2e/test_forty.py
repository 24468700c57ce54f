"""None and forty: the two ends of what one machine is asked to serve."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Machine, machine_of, until

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(180)]

LABELS = tuple(f"model-{number:02}" for number in range(40))


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    """Forty models, all of which may start at once."""
    with machine_of(home, *LABELS, more="max_launches: 40\n") as made:
        yield made


def healthy(machine: Machine) -> list[str]:
    code, said = machine.run("status", "-o", "json")
    assert code == ExitCode.OK, said
    return [s["label"] for s in json.loads(said)["servers"] if (s["sync"], s["health"]) == ("Synced", "Healthy")]


def test_nothing_is_declared_and_nothing_is_done(home: Home) -> None:
    home.write("version: 1\nmodels: {}\n")
    for _ in range(2):
        result = home.run("apply", "--yes")
        assert (result.code, result.err) == (ExitCode.OK, "")
        assert "Nothing to do." in result.out
    assert not list((home.root / "state").glob("*.db")), "there is nothing to remember"
    assert home.run("status").out.endswith("Nothing is declared, and nothing of ours runs.\n")
    assert json.loads(home.run("status", "-o", "json").out)["servers"] == []
    assert home.run("stop", "--all").code == ExitCode.OK


def test_forty_servers_are_served_healed_and_stopped(machine: Machine) -> None:
    machine.declare(*LABELS)
    said = machine.applied()
    assert said.endswith("Done: settled; 40 servers serving, 0 blocked.\n")
    pids = machine.one_each(*LABELS)
    assert len(set(pids.values())) == 40
    assert machine.routed() == set(LABELS)
    assert healthy(machine) == list(LABELS)
    stamp = machine.stamp()
    assert "Nothing to do." in machine.applied()
    assert machine.stamp() == stamp

    killed = LABELS[3::13]
    assert len(killed) == 3
    for label in killed:
        os.kill(pids[label], signal.SIGKILL)
    until(lambda: len(machine.servers()) == 37, "three have ended")
    launched = [line.split(": ")[0] for line in machine.applied().splitlines() if line.startswith("launch ")]
    assert sorted(launched) == [f"launch server/{label}" for label in killed]
    after = machine.one_each(*LABELS)
    assert {label for label in LABELS if after[label] != pids[label]} == set(killed)
    assert healthy(machine) == list(LABELS)
    assert machine.routed() == set(LABELS)

    machine.declare()
    assert "Done: settled; 0 servers serving" in machine.applied()
    assert machine.servers() == {}
    assert machine.labels() == []
    assert machine.routed() == set()


def test_a_watch_of_forty_heals_three(machine: Machine) -> None:
    machine.declare(*LABELS)
    watch = machine.watch()
    watch.says("settled ensemble: 40 serving, 0 blocked")
    pids = machine.one_each(*LABELS)
    killed, said = LABELS[5::13], len(watch.out)
    for label in killed:
        os.kill(pids[label], signal.SIGKILL)
    until(lambda: all(f"launch server/{label}: port" in watch.out[said:] for label in killed), "relaunched", watch.said)
    until(lambda: watch.out.rstrip().endswith("settled ensemble: 40 serving, 0 blocked"), "it settles", watch.said)
    after = machine.one_each(*LABELS)
    assert {label for label in LABELS if after[label] != pids[label]} == set(killed)
    assert machine.routed() == set(LABELS)
