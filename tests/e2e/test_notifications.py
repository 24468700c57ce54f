"""Who is named in the host file is told by a running watch: by a program and by a web server, once for each turn."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Command, Machine, kill, machine_of, until
from tests.ports import free_ports

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(120)]

SECRET = "T0/B0/s3cr3t"


class Receiver(ThreadingHTTPServer):
    """A chat that takes messages."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Message)
        self.told: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/services/{SECRET}"


class Message(BaseHTTPRequestHandler):
    """One message."""

    server: Receiver

    def do_POST(self) -> None:
        assert self.headers["Content-Type"].startswith("application/json")
        assert self.path == f"/services/{SECRET}"
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Not to the terminal."""


@contextmanager
def listening() -> Iterator[Receiver]:
    """A chat that listens until the end of the block."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()


def watching(machine: Machine) -> Command:
    machine.declare("alpha", "beta")
    watch = machine.watch()
    watch.says("settled ensemble")
    return watch


def test_receivers_are_told_what_they_want_once(home: Home) -> None:
    program = home.root / "tell"
    program.write_text(f"#!/bin/sh\ncat >> {home.root}/told; echo >> {home.root}/told; env > {home.root}/env\n")
    program.chmod(0o755)
    with listening() as chat:
        wishes = f"name: studio\nnotify:\n- webhook: {chat.address}\n- {{command: [{program}], on: [held, paused]}}\n"
        with machine_of(home, "alpha", "beta", more=wishes) as machine:
            watch = watching(machine)
            assert chat.told == [], "nothing has gone wrong"
            machine.order("alpha", "unsupported")
            kill(machine.pid("alpha"))
            watch.says("blocked server/alpha")
            until(lambda: len(chat.told) >= 2, "both are told", watch.said)
            machine.home.write("version: 1\nmodells: {}\n")
            until(lambda: len(chat.told) >= 3, "the source is told", watch.said)
            told = [(entry["on"], entry["subject"], entry["reference"]) for entry in chat.told]
            assert told == [
                ("degraded", "server/alpha", "killed"),
                ("held", "server/alpha", "held-permanent"),
                ("paused", "source/worktree", "invalid-document"),
            ]
            until(lambda: said_to(home) == told[1:], "the program is told", watch.said)
            held = chat.told[1]
            assert held["text"].startswith("studio: held server/alpha: it failed in a way that a restart cannot mend")
            assert (held["type"], held["format_version"], held["host"]) == ("notification", "1.0", "studio")
            assert (held["generation"], held["revision"]) == (1, machine.told("blocked")[0]["revision"])
            assert isinstance(held["at"], float)
            assert "RECONCILER_STATE" not in (home.root / "env").read_text()
            machine.run("apply", "--yes")
            assert watch.end() == ExitCode.TERMINATED
            again = machine.watch()
            machine.run("retry", "beta")
            again.end()
            assert [entry["on"] for entry in chat.told] == ["degraded", "held", "paused"], "nothing is told twice"
            assert SECRET not in watch.said()


def said_to(home: Home) -> list[tuple[str, str, str]]:
    told = home.root / "told"
    lines = told.read_text().splitlines() if told.is_file() else []
    return [(entry["on"], entry["subject"], entry["reference"]) for entry in map(json.loads, filter(None, lines))]


def dies(machine: Machine, watch: Command) -> None:
    """A server dies, is started again and proved; before that its next death would be no turn for the worse."""
    dead, proved = machine.pid("alpha"), watch.out.count("proved server/alpha")
    kill(dead)
    until(lambda: machine.pid("alpha") not in (0, dead), "it is started again", watch.said)
    watch.says("proved server/alpha", proved + 1)
    machine.served("alpha", "beta", told=watch.said)


def test_a_receiver_that_is_not_there_is_said_once_and_holds_up_nothing(home: Home) -> None:
    [nowhere] = free_ports(1)
    wishes = (
        f"notify:\n- webhook: http://127.0.0.1:{nowhere}/services/{SECRET}\n- command: [{home.root}/nothing]\n"
        f"- {{command: [sleep, '{nowhere}.5'], timeout: 10m}}\n"
    )
    with machine_of(home, "alpha", "beta", more=wishes) as machine:
        watch = watching(machine)
        for _ in range(2):
            dies(machine, watch)
        until(lambda: "notify[0] (127.0.0.1) was not told" in watch.err, "it is said", watch.said)
        assert watch.end() == ExitCode.TERMINATED
        assert watch.err.count("notify[0] (127.0.0.1) was not told") == 1
        assert watch.err.count(f"notify[1] ({home.root}/nothing) was not told: there is no program") == 1
        assert "notify[2] (sleep): 2 notifications (degraded server/alpha" in watch.err
        assert not [p.pid for p in psutil.process_iter(["cmdline"]) if f"{nowhere}.5" in (p.info["cmdline"] or ())]
        assert "Traceback" not in watch.err
        assert SECRET not in watch.said()
