"""`suspend`: stopped until a moment and with a reason; and what a request about one label leaves alone."""

import json
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Command, Machine, kill, machine_of, until

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    """Two models that are declared; nothing runs yet."""
    with machine_of(home, "alpha", "beta") as made:
        made.declare("alpha", "beta")
        yield made


@pytest.fixture
def watch(machine: Machine) -> Command:
    """A watch that has started both."""
    command = machine.watch()
    command.says("settled ensemble")
    return command


def done(machine: Machine, *args: str) -> str:
    code, said = machine.run(*args)
    assert code == ExitCode.OK, said
    return said


def suspended(machine: Machine, label: str, *args: str) -> str:
    return done(machine, "suspend", label, "--reason", "the fan is loud", *args)


def status(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.run("status", "-o", "json")[1])
    return found


def server(machine: Machine, label: str) -> dict[str, Any]:
    [found] = [entry for entry in status(machine)["servers"] if entry["label"] == label]
    return dict(found)


# ------------------------------------------------------------------------------------------------------------ the end


def test_a_suspension_ends_by_the_clock(machine: Machine, watch: Command) -> None:
    pids = machine.one_each("alpha", "beta")
    said = suspended(machine, "alpha", "--for", "4s")
    assert "suspended server/alpha: the fan is loud (for 4 s)" in said
    watch.says("resumed server/alpha: the time of its suspension is over")
    machine.served("alpha", "beta", told=watch.said)
    assert machine.one_each("alpha", "beta")["beta"] == pids["beta"]
    assert [e["kind"] for e in machine.events("alpha") if e["kind"] in ("suspended", "resumed")] == [
        "suspended",
        "resumed",
    ]
    assert status(machine)["suspensions"] == []


@pytest.mark.fault("R18")
def test_a_suspension_outlives_the_watch_that_was_killed(machine: Machine, watch: Command) -> None:
    suspended(machine, "alpha", "--for", "1h")
    watch.end(signal.SIGKILL)
    machine.watch()
    machine.one_each("beta")
    assert server(machine, "alpha")["health"] == "Suspended"
    assert "resumed server/alpha" in done(machine, "start", "alpha")
    machine.one_each("alpha", "beta")


def test_a_suspension_that_is_over_when_nobody_watches_ends_with_the_next_run(machine: Machine) -> None:
    machine.applied()
    suspended(machine, "alpha", "--for", "1s")
    machine.one_each("beta")
    until(lambda: "suspended alpha" not in machine.run("status")[1], "it is over")
    assert "resumed server/alpha: the time of its suspension is over" in machine.applied()
    machine.one_each("alpha", "beta")


def test_all_at_once(machine: Machine, watch: Command) -> None:
    done(machine, "suspend", "--all", "--for", "1h", "--reason", "moving house")
    assert machine.servers() == {}
    first = machine.run("status")[1].splitlines()[0]
    assert first.startswith("suspended alpha, beta: moving house (")
    assert "60 min left, until 2" in first
    done(machine, "start", "--all")
    machine.one_each("alpha", "beta")


# -------------------------------------------------------------------------------------------------------------- drift


def test_status_begins_with_what_people_have_stopped(machine: Machine) -> None:
    machine.applied()
    suspended(machine, "alpha", "--for", "2h")
    done(machine, "stop", "beta", "--reason", "broken")
    code, said = machine.run("status")
    one, other, *_ = said.splitlines()
    assert code == ExitCode.OK
    assert one.startswith("suspended alpha: the fan is loud (")
    assert "2.0 h left, until 2" in one
    assert other.startswith("suspended beta: broken (")
    assert other.endswith("has no end: reconciler start")
    lines = [json.loads(line) for line in machine.run("status", "-o", "ndjson")[1].splitlines()]
    assert [(line["type"], line["label"]) for line in lines] == [
        ("suspension", "alpha"),
        ("suspension", "beta"),
        ("server", "alpha"),
        ("server", "beta"),
    ]
    document = status(machine)
    assert list(document).index("suspensions") < list(document).index("servers")
    assert [(e["sync"], e["health"], e["reference"]) for e in document["servers"]] == [
        ("OutOfSync", "Suspended", "suspended")
    ] * 2


def test_what_differs_is_said_of_a_suspended_server_too(machine: Machine) -> None:
    machine.applied()
    suspended(machine, "alpha", "--for", "2h")
    with socket.create_server(("127.0.0.1", machine.ports["alpha"])):
        found = server(machine, "alpha")
        assert (found["sync"], found["health"], found["reference"]) == ("OutOfSync", "Suspended", "port-occupied")
        assert found["reason"].startswith("the fan is loud; port ")
    assert server(machine, "alpha")["reference"] == "suspended"
    [weights] = (machine.home.hub / "models--demo--alpha" / "snapshots").glob("*/model.safetensors")
    weights.unlink()
    found = server(machine, "alpha")
    assert found["reason"].startswith("the fan is loud; ")
    assert (found["health"], found["sync"]) == ("Suspended", "OutOfSync")
    assert found["reference"] not in ("suspended", "in-sync")


# ------------------------------------------------------------------------------------------------- only what was said


def edited(machine: Machine) -> str:
    """Somebody is at work on beta and has saved it."""
    beta = machine.text("beta", more="    options: {max_tokens: 9}\n").partition("models:\n")[2]
    return machine.text("alpha") + beta


def test_a_stop_of_one_label_applies_no_edit_of_another(machine: Machine) -> None:
    machine.applied()
    beta = machine.one_each("alpha", "beta")["beta"]
    suspend = ("suspend", "alpha", "--for", "1h", "--reason", "x")
    for edit, verb in (
        (edited(machine), ("stop", "alpha")),
        (machine.text("alpha"), suspend),
        ("version: 1\nmodells: {}\n", ("stop", "alpha")),
    ):
        machine.home.write(edit)
        done(machine, *verb)
        assert machine.one_each("beta") == {"beta": beta}
        assert machine.routed() == {"beta"}
        done(machine, "start", "alpha")
        assert machine.one_each("alpha", "beta")["beta"] == beta
        assert machine.routed() == {"alpha", "beta"}
    machine.declare("alpha", "beta")
    assert "Nothing to do." in machine.applied(), "and nothing of it is left"


def test_a_retry_of_one_label_starts_nothing_else(machine: Machine) -> None:
    machine.applied()
    for label in ("alpha", "beta"):
        machine.order(label, "unsupported")
    for pid in machine.one_each("alpha", "beta").values():
        kill(pid)
    machine.run("apply", "--yes")
    for label in ("alpha", "beta"):
        machine.order(label, "")
    done(machine, "retry", "alpha")
    assert machine.routed() == {"alpha"}
    assert list(machine.servers()) == [machine.pid("alpha")]


def test_who_mends_a_model_and_says_retry_is_told_that_it_is_not_applied(machine: Machine) -> None:
    machine.applied()
    machine.home.write(edited(machine))
    done(machine, "stop", "beta")
    said = done(machine, "start", "beta")
    assert "beta is started as it is in force; the file says something else now: reconciler apply" in said
    assert "--max-tokens=9" not in machine.servers()[machine.pid("beta")]


@pytest.mark.parametrize("watched", [False, True], ids=["alone", "watched"])
def test_a_label_that_nobody_knows_is_refused_also_while_the_file_is_invalid(machine: Machine, watched: bool) -> None:
    machine.applied()
    watch = machine.watch() if watched else None
    pids = machine.one_each("alpha", "beta")
    machine.home.write("version: 1\nmodells: {}\n")
    for verb, *more in (["stop"], ["start"], ["retry"], ["suspend", "--for", "1h", "--reason", "x"]):
        code, said = machine.run(verb, "alpa", *more)
        assert code == ExitCode.USAGE, said
        assert "'alpa' is not declared in what is in force" in said
        assert "Did you mean alpha?" in said
    assert machine.one_each("alpha", "beta") == pids
    assert not machine.told("suspended")
    assert watch is None or watch.process.poll() is None


def test_a_label_of_an_edit_is_not_in_force_yet(machine: Machine) -> None:
    machine.declare("alpha")
    machine.applied()
    machine.declare("alpha", "beta")
    code, said = machine.run("stop", "beta")
    assert code == ExitCode.USAGE
    assert "The file has it, say first: reconciler apply." in said


def test_another_file_than_the_one_in_force_is_refused(machine: Machine) -> None:
    machine.applied()
    machine.home.write(machine.text("alpha"), "other.yaml")
    pids = machine.one_each("alpha", "beta")
    code, said = machine.run("stop", "alpha", "-c", "other.yaml")
    assert code == ExitCode.LOCKED
    assert f"comes from {machine.home.root / 'ensemble.yaml'}" in said
    assert machine.one_each("alpha", "beta") == pids
    done(machine, "stop", "alpha", "-c", "./ensemble.yaml")
    machine.one_each("beta")
