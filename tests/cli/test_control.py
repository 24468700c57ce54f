"""The socket of a running watch: whatever arrives on it, the watch goes on; and nobody else can reach it."""

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import chdir
from typing import Any

import pytest

from reconciler.model.problem import ExitCode
from reconciler.surface.control.asking import FORMAT, NAME
from tests.cli.home import Home
from tests.e2e.watching import Command, Machine, machine_of, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SECONDS = 20.0
VALID: dict[str, Any] = {"format": FORMAT, "do": "apply", "labels": [], "reason": "", "timeout": 10}


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    with machine_of(home, "alpha") as made:
        made.declare("alpha")
        yield made


@pytest.fixture
def watch(machine: Machine) -> Command:
    command = machine.watch()
    machine.served("alpha", told=command.said)
    return command


def dialled(machine: Machine) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(SECONDS)
    with chdir(machine.state):
        peer.connect(NAME)
    return peer


def answers(machine: Machine, sent: bytes, *, end: bool = False) -> list[dict[str, Any]]:
    """What comes back for some bytes until the watch has closed the connection."""
    with dialled(machine) as peer:
        try:
            peer.sendall(sent)
            if end:
                peer.shutdown(socket.SHUT_WR)
            with peer.makefile("rb") as lines:
                return [json.loads(line) for line in lines]
        except (BrokenPipeError, ConnectionResetError):
            return []  # it did not want to hear the rest


def request(machine: Machine, **changes: Any) -> bytes:
    said = VALID | {"file": str(machine.home.root / "ensemble.yaml")} | changes
    return json.dumps(said).encode() + b"\n"


def is_undisturbed(machine: Machine, watch: Command, pids: dict[str, int]) -> None:
    """It runs, it has served nobody's wish, it takes requests, and it has not shown a traceback."""
    (ending,) = [a for a in answers(machine, request(machine)) if a["type"] == "ending"]
    assert (ending["settled"], ending["serving"], ending["exit_code"]) == (True, 1, ExitCode.OK)
    assert watch.process.poll() is None
    assert machine.one_each("alpha") == pids
    assert not machine.told("suspended")
    assert "Traceback" not in watch.err
    assert "exception" not in watch.err.lower()


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"hello\n",
        b"\xff\xfe\n",
        b"[]\n",
        b'"stop"\n',
        b"null\n",
        b"{}\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"[" * 500_000 + b"\n",
    ],
    ids=lambda sent: repr(sent[:12]),
)
def test_a_line_that_is_no_request_is_refused(machine: Machine, watch: Command, sent: bytes) -> None:
    pids = machine.one_each("alpha")
    said = answers(machine, sent)
    assert [(a["type"], a["reference"], a["exit_code"]) for a in said] == [("error", "no-request", ExitCode.USAGE)]
    is_undisturbed(machine, watch, pids)


@pytest.mark.parametrize(
    "wrong",
    [
        {"do": "explode"},
        {"do": None},
        {"do": "stop", "labels": 5},
        {"do": "stop", "labels": "alpha"},
        {"do": "stop", "labels": [None]},
        {"timeout": "soon"},
        {"timeout": None},
        {"timeout": float("nan")},
        {"timeout": -1},
        {"number": float("inf")},
        {"do": "suspend", "until": 10**400},
        {"file": None},
    ],
    ids=lambda wrong: ", ".join(f"{name} {str(value)[:8]}" for name, value in wrong.items()),
)
def test_a_request_with_wrong_values_is_refused(machine: Machine, watch: Command, wrong: dict[str, Any]) -> None:
    pids = machine.one_each("alpha")
    said = answers(machine, request(machine, **wrong))
    assert [a["type"] for a in said] == ["error"]
    is_undisturbed(machine, watch, pids)


def test_a_request_of_another_version_is_refused(machine: Machine, watch: Command) -> None:
    pids = machine.one_each("alpha")
    for other in (FORMAT + 1, str(FORMAT), None):
        (said,) = answers(machine, request(machine, format=other, do="stop", labels=["alpha"]))
        assert (said["type"], said["reference"]) == ("error", "other-version")
    is_undisturbed(machine, watch, pids)


def test_half_a_line_and_a_line_without_end_disturb_nobody(machine: Machine, watch: Command) -> None:
    pids = machine.one_each("alpha")
    half = request(machine, do="stop", labels=["alpha"])[:40]
    assert [a["reference"] for a in answers(machine, half, end=True)] == ["no-request"]
    assert answers(machine, b'{"reason": "' + b"x" * 2**21) == []
    assert answers(machine, b'{"reason": "' + b"x" * 2**21 + b'"}\n') == []
    is_undisturbed(machine, watch, pids)


def test_who_says_nothing_is_hung_up_on_and_keeps_nobody_waiting(machine: Machine, watch: Command) -> None:
    pids = machine.one_each("alpha")
    silent = [dialled(machine) for _ in range(40)]
    is_undisturbed(machine, watch, pids)
    for peer in silent:
        assert peer.recv(1) == b"", "the watch has closed it"
        peer.close()
    is_undisturbed(machine, watch, pids)


def test_who_does_not_listen_keeps_nobody_waiting(machine: Machine, watch: Command) -> None:
    pids = machine.one_each("alpha")
    deaf = [dialled(machine) for _ in range(10)]
    for peer in deaf:
        peer.sendall(request(machine))
    for peer in deaf[:5]:
        peer.close()
    is_undisturbed(machine, watch, pids)
    for peer in deaf:
        peer.close()


def test_a_stranger_s_label_is_remembered_for_nobody(machine: Machine, watch: Command) -> None:
    pids = machine.one_each("alpha")
    answers(machine, request(machine, do="stop", labels=["../../alpha", "nobody"]))
    assert machine.one_each("alpha") == pids
    code, said = machine.run("status", "-o", "json")
    assert code == ExitCode.OK
    assert [server["label"] for server in json.loads(said)["servers"]] == ["alpha"]
    assert watch.process.poll() is None


@pytest.mark.fault("X24")
def test_x24_only_the_owner_reaches_the_socket(machine: Machine) -> None:
    before = os.umask(0)
    try:
        machine.watch()
    finally:
        os.umask(before)
    assert stat.S_IMODE((machine.state / NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(machine.state.stat().st_mode) == 0o700


@pytest.mark.fault("X24")
@pytest.mark.parametrize("left", ["a file", "a socket", "a link"])
def test_x24_what_is_in_the_way_of_the_socket_is_replaced(machine: Machine, left: str) -> None:
    machine.applied()
    place = machine.state / NAME
    victim = machine.home.root / "victim"
    victim.write_text("mine")
    if left == "a file":
        place.write_text("")
    elif left == "a link":
        place.symlink_to(victim)
    else:
        with socket.socket(socket.AF_UNIX) as dead, chdir(machine.state):
            dead.bind(NAME)
    assert machine.run("status")[0] == ExitCode.OK
    assert "Nothing to do." in machine.applied(), "nobody answers there, so it works alone"
    watch = machine.watch()
    assert place.is_socket()
    assert victim.read_text() == "mine"
    assert watch.end() == ExitCode.TERMINATED
    until(lambda: not place.exists(), "the watch has removed it")


def test_another_host_file_is_not_spoken_of(machine: Machine, watch: Command) -> None:
    """A plan made under other rules is not what the watch would do."""
    pids = machine.one_each("alpha")
    host = machine.home.root / "host.yaml"
    host.write_text(host.read_text() + "start_timeout: 9m\n")
    code, said = machine.run("stop", "alpha")
    assert code == ExitCode.LOCKED
    assert "[other-rules]" in said
    watch.says("drifted ensemble: the host file has changed")
    code, said = machine.run("status")
    assert code == ExitCode.OK
    assert said.startswith("the running watch was started with another host file"), "what it shows is by another one"
    is_undisturbed(machine, watch, pids)


def test_a_revision_that_is_not_there_any_more_is_not_applied(machine: Machine, watch: Command) -> None:
    pids = machine.one_each("alpha")
    said = answers(machine, request(machine, do="apply", revision="worktree:0123456789ab"))
    assert [(a["reference"], a["exit_code"]) for a in said if a["type"] == "error"] == [
        ("revision-moved", ExitCode.STALE)
    ]
    is_undisturbed(machine, watch, pids)


def test_a_watch_that_ends_under_who_follows_it_shows_no_traceback(machine: Machine, watch: Command) -> None:
    with dialled(machine) as peer:
        peer.sendall(request(machine, do="apply", timeout=60))
        watch.process.terminate()
        assert watch.ends() == ExitCode.TERMINATED
        assert "Traceback" not in watch.err
        assert "Exception" not in watch.err
