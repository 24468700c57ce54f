"""Ports are looked at on real sockets, by netlink where there is one and by connecting everywhere."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from reconciler.adapters.listeners import LocalListeners
from reconciler.adapters.port_owners import Owner, parse_lsof, shown
from reconciler.model.observed import Absent, Listener, Present, Unknown
from tests.adapters.conftest import Listen
from tests.ports import free_port

LINUX = sys.platform == "linux"
WAYS = [pytest.param(True, id="connecting")] + ([pytest.param(False, id="netlink")] if LINUX else [])


def looked(port: int, by_connecting: bool) -> Present[Listener]:
    answer = LocalListeners(by_connecting=by_connecting).look([port])[port]
    assert isinstance(answer, Present), answer
    return answer


@pytest.mark.parametrize("by_connecting", WAYS)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_listener_is_present(listen: Listen, host: str, by_connecting: bool) -> None:
    port = listen(host)
    assert looked(port, by_connecting).value.port == port


@pytest.mark.fault("P05")
@pytest.mark.parametrize("by_connecting", WAYS)
def test_p05_a_listener_on_ipv6_alone_takes_the_port(listen: Listen, by_connecting: bool) -> None:
    port = listen("::1", port=free_port())  # one that the kernel chose may be somebody's at the other address
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert looked(port, by_connecting).value.pid in {os.getpid(), None}


@pytest.mark.parametrize("by_connecting", WAYS)
def test_a_free_port_is_absent(free_ports: Callable[[int], list[int]], by_connecting: bool) -> None:
    ports = free_ports(130)
    answers = LocalListeners(by_connecting=by_connecting).look(ports)
    assert answers == dict.fromkeys(sorted(ports), Absent())


@pytest.mark.parametrize("by_connecting", WAYS)
def test_taken_and_free_ports_are_told_apart(
    listen: Listen, free_ports: Callable[[int], list[int]], by_connecting: bool
) -> None:
    free = free_ports(30)
    taken = [listen() for _ in range(30)]
    answers = LocalListeners(by_connecting=by_connecting).look([*free, *taken])
    assert {port for port, answer in answers.items() if isinstance(answer, Present)} == set(taken)
    assert {port for port, answer in answers.items() if isinstance(answer, Absent)} == set(free) - set(taken)


def test_no_ports_no_answers() -> None:
    assert LocalListeners().look([]) == {}


def test_the_ports_0_and_65536_break_nothing() -> None:
    for by_connecting in (True, False):
        answers = LocalListeners(by_connecting=by_connecting).look([0, 65_536])
        assert set(answers) == {0, 65_536}
        assert not any(isinstance(answer, Present) for answer in answers.values())


@pytest.fixture
def stranger() -> Iterator[tuple[int, int]]:
    """Another process that listens: its pid and port."""
    program = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1]); input()"
    arguments = [sys.executable, "-u", "-c", program, "\x1b[31mred\n"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        yield child.pid, int(child.stdout.readline())
        child.kill()


@pytest.mark.skipif(not LINUX, reason="/proc is Linux")
@pytest.mark.fault("S17")
def test_s17_the_owner_is_named_by_its_program_and_never_by_its_options(stranger: tuple[int, int]) -> None:
    pid, port = stranger
    found = looked(port, by_connecting=False).value
    assert found.pid == pid
    assert found.command is not None
    assert found.command == sys.executable, "what stands behind -u and -c may be anything, a secret too"


@pytest.mark.skipif(not LINUX, reason="/proc is Linux")
def test_pids_that_are_known_are_looked_at_first(stranger: tuple[int, int]) -> None:
    pid, port = stranger
    answer = LocalListeners(known=lambda: [pid]).look([port])[port]
    assert isinstance(answer, Present)
    assert answer.value.pid == pid


@pytest.mark.skipif(not LINUX, reason="netlink is Linux")
@pytest.mark.fault("P06")
def test_p06_a_listener_on_another_local_address_is_seen(listen: Listen) -> None:
    port = listen("127.0.0.2")
    assert looked(port, by_connecting=False).value.pid == os.getpid()


@pytest.mark.skipif(not LINUX, reason="netlink is Linux")
@pytest.mark.fault("P10")
def test_p10_two_processes_on_one_port_are_nobodys_in_particular(listen: Listen) -> None:
    port = listen(shared=True)
    program = (
        "import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1);"
        "s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); print(); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as twin:
        assert twin.stdout is not None
        twin.stdout.readline()
        found = looked(port, by_connecting=False).value
        twin.kill()
    assert found.pid is None
    assert f"pid {twin.pid}" in str(found.command)
    assert f"pid {os.getpid()}" in str(found.command)


@pytest.mark.skipif(not LINUX, reason="other systems refuse or queue")
@pytest.mark.fault("P08")
def test_p08_a_full_backlog_is_unknown_by_connecting_and_present_by_netlink(listen: Listen) -> None:
    port = listen(backlog=0)
    with socket.socket() as first, socket.socket() as second:
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        answer = LocalListeners(by_connecting=True, deadline=0.05).look([port])[port]
        assert isinstance(answer, Unknown), answer
        assert str(port) in answer.reason
        assert looked(port, by_connecting=False).value.port == port


@pytest.mark.fault("P13")
@pytest.mark.skipif(not LINUX or os.geteuid() != 0, reason="needs root, to become nobody")
def test_p13_an_owner_that_is_hidden_is_unknown_and_the_port_taken(stranger: tuple[int, int]) -> None:
    os.seteuid(65_534)
    try:
        found = looked(stranger[1], by_connecting=False).value
    finally:
        os.seteuid(0)
    assert (found.pid, found.command) == (None, None)


def test_no_descriptor_is_left_open(listen: Listen, free_ports: Callable[[int], list[int]]) -> None:
    ports = [listen(), *free_ports(60)]
    before = len(os.listdir("/dev/fd"))
    for by_connecting in (True, False):
        LocalListeners(by_connecting=by_connecting).look(ports)
    assert len(os.listdir("/dev/fd")) == before


def test_lsof_names_one_process_for_a_socket_that_was_inherited() -> None:
    text = "p10\ncpython3\nd0xa\nn127.0.0.1:8100\np11\ncpython3\nd0xa\nn127.0.0.1:8100\n"
    assert parse_lsof(text) == {8100: [Owner(10, "python3")]}


def test_lsof_names_both_processes_of_two_sockets() -> None:
    text = "p10\ncone\nd0xa\nn*:8100\nd0xb\nn[::1]:8101\np11\nctwo\nd0xc\nn127.0.0.1:8100\n"
    assert parse_lsof(text) == {8100: [Owner(10, "one"), Owner(11, "two")], 8101: [Owner(10, "one")]}


@pytest.mark.parametrize("text", ["", "garbage", "pX\nn1:2\n", "n127.0.0.1:8100\n", "p1\nn*:*\n"])
def test_what_lsof_should_not_say_names_nobody(text: str) -> None:
    assert parse_lsof(text) == {}


def test_a_command_is_cut_and_escaped() -> None:
    assert shown("a\nb\x1b[0m\u202ec") == "a\\nb\\x1b[0m\\u202ec"
    assert len(shown("x" * 1000)) == 200
