"""Somebody meddles with what a watch has settled: it says what differs, once, and mends it; a wedged server too."""

import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Machine, machine_of, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    with machine_of(home, "alpha", "beta") as made:
        yield made


def without_beta(machine: Machine, text: str) -> str:
    return text[: text.index('  - model_name: "beta"')]


def astray(machine: Machine, text: str) -> str:
    return text.replace(f":{machine.ports['beta']}/", f":{machine.ports['alpha']}/")


@pytest.mark.parametrize(
    ("edited", "words"),
    [
        (without_beta, "its file is not as it was written: the route of beta is gone"),
        (astray, "its file is not as it was written: the route of beta was changed"),
        (None, " is gone"),  # its routes, or the file, once the drain of a millisecond is over
    ],
    ids=["taken away", "changed", "file removed"],
)
def test_a_route_that_somebody_meddled_with_is_named_once_and_given_back(
    machine: Machine, edited: Callable[[Machine, str], str] | None, words: str
) -> None:
    machine.declare("alpha", "beta")
    watch = machine.watch()
    pids, text = machine.served("alpha", "beta", told=watch.said), machine.published.read_text()
    watch.says("settled ensemble")
    if edited is None:
        machine.published.unlink()
    else:
        other = machine.published.with_suffix(".new")
        other.write_text(edited(machine, text))
        other.replace(machine.published)  # nobody may look at half of it
    assert machine.run("apply", "--yes")[0] == ExitCode.OK
    watch.says("settled ensemble", 2)
    (told,) = machine.told("drifted")
    assert told["subject"] == "gateway/litellm"
    assert words in told["text"]
    assert f"drifted gateway/litellm: {told['text']}" in watch.out
    assert machine.published.read_text() == text
    assert machine.one_each("alpha", "beta") == pids
    assert machine.run("apply", "--yes")[0] == ExitCode.OK
    assert len(machine.told("drifted")) == 1


def test_weights_that_somebody_removed_are_named_and_their_server_stays(machine: Machine) -> None:
    machine.declare("alpha", "beta")
    watch = machine.start("watch", HF_HUB_OFFLINE="1")
    pids = machine.served("alpha", "beta", told=watch.said)
    watch.says("settled ensemble")
    next(machine.home.hub.glob("models--demo--beta/snapshots/*/model.safetensors")).unlink()
    os.kill(watch.pid, signal.SIGHUP)
    watch.says("settled ensemble", 2)
    (told,) = machine.told("drifted")
    assert told["subject"] == "artifact/demo/beta@main"
    assert "its files have changed: partial (model.safetensors)" in told["text"]
    assert machine.one_each("alpha", "beta") == pids
    assert machine.routed() == {"alpha", "beta"}


def test_a_runtime_that_was_changed_in_the_host_file_is_named(machine: Machine) -> None:
    machine.declare("alpha")
    machine.applied()
    pid = machine.pid("alpha")
    host = machine.home.root / "host.yaml"
    host.write_text(host.read_text().replace('"-S", ', '"-S", "-s", '))
    machine.applied()
    (told,) = machine.told("drifted")
    assert told["subject"] == "server/alpha"
    assert "runtime: " in told["text"]
    assert machine.pid("alpha") != pid


@pytest.mark.heavy
@pytest.mark.timeout(400)
@pytest.mark.fault("P08")
def test_p08_a_server_that_stands_still_while_a_client_waits_is_replaced(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.e2e.watching.DEADLINE", 240.0)
    machine.declare("alpha", "beta")
    watch = machine.watch()
    pids = machine.served("alpha", "beta", told=watch.said)
    os.kill(pids["alpha"], signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", machine.ports["alpha"])) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        watch.says("[unresponsive]")
        until(lambda: "alpha" in machine.labels() and machine.pid("alpha") not in (0, pids["alpha"]), "it is replaced")
    served = machine.served("alpha", "beta", told=watch.said)
    assert served["beta"] == pids["beta"]
    (failed,) = machine.told("failed", "server/alpha")
    order = [(e["kind"], e["action"]) for e in machine.events() if e["number"] > failed["number"]]
    assert order.index(("started", "publish")) < order.index(("started", "stop")) < order.index(("started", "launch"))
    assert not machine.told("drifted")
