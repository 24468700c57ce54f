"""A state directory whose database is damaged, under servers that run: they stay, and what was lost is said."""

from collections.abc import Iterator

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Machine, machine_of, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
NOISE = b"no database at all, " * 200


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    """Two models that are declared and serve."""
    with machine_of(home, "alpha", "beta") as made:
        made.declare("alpha", "beta")
        made.applied()
        yield made


def test_who_only_looks_says_what_mends_it(machine: Machine) -> None:
    (machine.state / "state.db").write_bytes(NOISE)
    for command in ("plan", "status", "events"):
        code, said = machine.run(command)
        assert (code, "is damaged" in said) == (ExitCode.ENVIRONMENT, True)
        assert "reconciler apply" in said
    assert machine.run("apply", "--dry-run")[0] == ExitCode.ENVIRONMENT
    assert (machine.state / "state.db").read_bytes() == NOISE


@pytest.mark.fault("X19")
def test_x19_apply_goes_on_from_the_run_records(machine: Machine) -> None:
    before = machine.servers()
    machine.run("stop", "beta", "--reason", "lunch")
    (machine.state / "state.db").write_bytes(NOISE)
    code, said = machine.run("apply", "--yes")
    assert code == ExitCode.OK, said
    assert "lost: suspensions" in said
    assert "state.db.damaged-1" in said
    assert (machine.state / "state.db.damaged-1").read_bytes() == NOISE
    assert machine.served("alpha", "beta"), "nobody knows any more that beta was to stay stopped, and that was said"
    after = machine.servers()
    assert before.keys() & after.keys() == {machine.pid("alpha")}, "who ran goes on"
    lost = [event for event in machine.events() if event["reference"] == "state-damaged"]
    assert [event["text"] in said for event in lost] == [True]
    assert machine.run("apply", "--yes")[0] == ExitCode.OK


def test_a_watch_goes_on_from_them_too_and_mends_what_is_damaged_under_it(machine: Machine) -> None:
    before = machine.servers()
    (machine.state / "state.db").write_bytes(NOISE)
    watch = machine.watch()
    assert "lost: suspensions" in watch.err
    watch.says("settled ensemble")
    # In the milliseconds between a save and the rest after it the log may be played into what is put there.
    until(lambda: not (machine.state / "state.db-wal").stat().st_size, "the watch is at rest")
    (machine.state / "state.db").write_bytes(NOISE)
    code, said = machine.run("stop", "beta", "--reason", "lunch")
    assert code == ExitCode.OK, said
    assert (machine.state / "state.db.damaged-2").read_bytes() == NOISE
    watch.says("failed ensemble: the state was damaged")
    for path in machine.state.glob("state.db*"):
        path.unlink()
    code, said = machine.run("start", "beta")
    assert code == ExitCode.OK, said
    watch.says("was removed while it was in use, and is written again; nothing was lost")
    assert [event["subject"] for event in machine.told("suspended")] == ["server/beta"]
    assert watch.end() == ExitCode.TERMINATED
    assert set(machine.servers()) & set(before) == {machine.pid("alpha")}
