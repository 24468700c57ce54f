"""What has happened and what happens: `events`, `status --watch` and the live display of `apply`."""

import json
import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import OURS, Command, Machine, machine_of, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SECONDS = 20.0
ESCAPE = "\x1b"
LAST = "Done: settled; 2 servers serving, 0 blocked."
SEQUENCE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")
BOLD = re.compile(r"\x1b\[[01]m")
"""Which is no colour."""


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    """Two models that are declared; nothing runs yet."""
    with machine_of(home, "alpha", "beta") as made:
        made.declare("alpha", "beta")
        yield made


# ------------------------------------------------------------------------------------------------------------ events


def test_nothing_has_happened_on_a_new_machine(machine: Machine) -> None:
    assert machine.run("events") == (ExitCode.OK, "")
    assert machine.run("events", "-o", "ndjson") == (ExitCode.OK, "")
    code, said = machine.run("events", "-o", "json")
    assert (code, json.loads(said)["events"]) == (ExitCode.OK, [])
    assert not machine.state.exists(), "looking leaves nothing"


def test_events_tell_the_story_in_its_order(machine: Machine) -> None:
    machine.applied()
    told = [(e["kind"], e["subject"], e["action"]) for e in machine.events()]
    assert told[0] == ("revision", "source/worktree", "")
    assert told[-1] == ("settled", "ensemble", "")
    for label in ("alpha", "beta"):
        story = [(kind, action) for kind, subject, action in told if subject == f"server/{label}" and kind != "waiting"]
        assert story == [("started", "launch"), ("done", "launch"), ("proved", "")]
    first = told.index(("proved", "server/alpha", ""))
    assert ("started", "gateway/litellm", "publish") in told[first:], "only what is proved is published"
    moments = [e["at"] for e in machine.events()]
    assert moments == sorted(moments)
    assert [e["number"] for e in machine.events()] == list(range(1, len(told) + 1))


@pytest.mark.parametrize("subject", ["alpha", "server/alpha"])
def test_events_of_one_subject(machine: Machine, subject: str) -> None:
    machine.applied()
    assert {e["subject"] for e in machine.events(subject)} == {"server/alpha"}
    assert {e["subject"] for e in machine.events("litellm")} == {"gateway/litellm"}
    assert {e["subject"] for e in machine.events("source/worktree")} == {"source/worktree"}
    code, said = machine.run("events", subject)
    assert code == ExitCode.OK
    assert said
    assert all("server/alpha" in line for line in said.splitlines())


def test_events_as_lines_as_json_and_the_last_few(machine: Machine) -> None:
    machine.applied()
    events = machine.events()
    code, said = machine.run("events", "-n", "3")
    assert code == ExitCode.OK
    assert len(said.splitlines()) == 3
    assert "settled ensemble: 2 serving, 0 blocked" in said.splitlines()[-1]
    code, said = machine.run("events", "-o", "json", "-n", "3")
    document = json.loads(said)
    assert (document["type"], document["format_version"]) == ("events", "1.0")
    assert document["events"] == events[-3:]
    assert machine.run("events", "-n", "0") == (ExitCode.OK, "")
    assert machine.run("events", "-n", "-1")[0] == ExitCode.USAGE


def test_a_failure_is_found_again_among_the_events(machine: Machine) -> None:
    machine.order("alpha", "unsupported")
    machine.run("apply", "--yes")
    code, said = machine.run("events", "alpha")
    assert code == ExitCode.OK
    assert "failed server/alpha" in said
    assert "[architecture-unsupported]" in said
    assert "blocked server/alpha" in said


@pytest.mark.parametrize("output", ["table", "ndjson", "json"])
def test_followed_events_come_as_they_happen(machine: Machine, output: str) -> None:
    followed = machine.start("events", "-f", "-o", output, "alpha")
    machine.applied()
    followed.says("launch")
    followed.says("answers on port")
    machine.run("stop", "alpha", "--reason", "a rest")
    followed.says("a rest")
    if output != "table":
        until(lambda: "resumed" in followed.out or machine.run("start", "alpha")[0] == 0, "it is started again")
        followed.says("resumed")
        assert {e["subject"] for e in followed.events()} == {"server/alpha"}
        assert [e["number"] for e in followed.events()] == sorted({e["number"] for e in followed.events()})
    assert followed.end(signal.SIGINT) == ExitCode.INTERRUPTED
    assert "Traceback" not in followed.err


def test_followed_events_begin_with_the_last_ones(machine: Machine) -> None:
    machine.applied()
    before = machine.events()
    followed = machine.start("events", "-f", "-n", "2", "-o", "ndjson")
    followed.says("settled")
    assert followed.events() == before[-2:]
    machine.run("stop", "alpha")
    followed.says("suspended")
    until(lambda: followed.events()[-1]["kind"] == "settled", "the end is told", followed.said)
    assert followed.events() == machine.events()[-len(followed.events()) :]


# --------------------------------------------------------------------------------------------------- status --watch


def test_a_watched_status_is_printed_again_when_it_changes(machine: Machine) -> None:
    status = machine.start("status", "--watch", "-o", "ndjson")
    status.says('"Missing"', 2)
    machine.applied()
    status.says('"Healthy"', 2)
    seen = status.events()
    assert [s["label"] for s in seen] == ["alpha", "beta"] * (len(seen) // 2)
    os.kill(machine.pid("alpha"), signal.SIGKILL)
    status.says('"Degraded"')
    machine.home.write("version: 1\nmodells: {}\n")
    until(lambda: "[invalid-document]" in status.err, "an edit that is invalid is told", status.said)
    machine.declare("beta")
    until(lambda: [s["label"] for s in status.events()[-2:]] == ["beta", "alpha"], "it goes on", status.said)
    assert status.end(signal.SIGINT) == ExitCode.INTERRUPTED
    assert "Traceback" not in status.err


def test_a_watched_status_says_an_error_once(machine: Machine) -> None:
    machine.home.write("version: 1\nmodells: {}\n")
    status = machine.start("status", "--watch")
    until(lambda: status.err, "it is told", status.said)
    process = psutil.Process(status.pid)
    looked = process.io_counters().read_count
    until(lambda: process.io_counters().read_count > looked + 8, "it has looked again and again", status.said)
    machine.declare("alpha")
    status.says("alpha")
    assert status.err.count("[invalid-document]") == 1


# ------------------------------------------------------------------------------------------------- the live display


def on_a_terminal(machine: Machine, *args: str, **environment: str) -> tuple[int, str]:
    """What a person sees who runs a command in a terminal of 100 columns."""
    ours, its = pty.openpty()
    os.set_blocking(ours, False)
    size = {"COLUMNS": "100", "LINES": "40"}
    command = machine.start(*args, terminal=its, program=OURS, **size, **environment)
    os.close(its)
    said, end = b"", time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            select.select([ours], [], [], 0.1)
            try:
                part = os.read(ours, 65_536)
            except BlockingIOError:
                continue
            except OSError:
                break  # the other side is closed
            if not part:
                break
            said += part
            if b"wait server/alpha: started" in said:
                machine.order("alpha", "")  # it has been seen to be under way
        return command.ends(), said.decode()
    finally:
        os.close(ours)


def is_plain(text: str) -> bool:
    return not [char for char in text if not char.isprintable() and char not in "\r\n"]


@pytest.mark.req("S1-18")
def test_on_a_terminal_apply_shows_what_is_under_way(machine: Machine) -> None:
    machine.order("alpha", "mute")
    code, said = on_a_terminal(machine, "apply", "--yes", TERM="xterm-256color")
    assert code == ExitCode.OK, said
    assert f"{ESCAPE}[" in said
    assert "⠋" in said, "a spinner turns beside what is under way"
    assert "0:00:0" in said, "and the time that it takes"
    assert SEQUENCE.sub("", said).splitlines()[-1].strip() == LAST
    assert f"launch server/alpha: port {machine.ports['alpha']}, it is declared and does not run" in said
    assert said.rpartition(f"{ESCAPE}[?25")[2].startswith("h"), "the cursor is shown again"
    machine.one_each("alpha", "beta")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1", "TERM": "xterm-256color"}, {"TERM": "dumb"}], ids=str)
def test_who_wants_none_of_that_gets_plain_lines(machine: Machine, environment: dict[str, str]) -> None:
    machine.order("alpha", "mute")
    code, said = on_a_terminal(machine, "apply", "--yes", **environment)
    assert code == ExitCode.OK, said
    assert is_plain(said), [line for line in said.splitlines() if not is_plain(line)]
    assert said.splitlines()[-1] == LAST


@pytest.mark.parametrize("args", [["status"], ["plan"], ["events"], ["explain", "alpha"]])
def test_no_command_has_colour_where_none_is_wanted(machine: Machine, args: list[str]) -> None:
    machine.applied()
    for flags, environment in (([], {"NO_COLOR": "1"}), (["--no-color"], {}), ([], {"TERM": "dumb"})):
        code, said = on_a_terminal(machine, *flags, *args, **{"TERM": "xterm-256color", **environment})
        assert code == ExitCode.OK
        assert is_plain(BOLD.sub("", said)), said


def test_a_pipe_gets_plain_lines(machine: Machine) -> None:
    said = machine.applied()
    assert is_plain(said)
    assert said.splitlines()[-1] == LAST


def test_ctrl_c_in_a_terminal_leaves_it_usable(machine: Machine) -> None:
    machine.order("alpha", "mute")
    ours, its = pty.openpty()
    command = machine.start("apply", "--yes", terminal=its, TERM="xterm-256color")
    os.close(its)
    said = b""
    while "⠋".encode() not in said:
        assert select.select([ours], [], [], SECONDS)[0], said
        said += os.read(ours, 65_536)
    os.write(ours, b"\x03")  # what the key sends
    while select.select([ours], [], [], SECONDS)[0]:
        try:
            said += os.read(ours, 65_536)
        except OSError:
            break
    os.close(ours)
    assert command.ends() == ExitCode.INTERRUPTED
    assert b"interrupted: servers stay as they are" in said
    assert said.rpartition(b"\x1b[?25")[2].startswith(b"h")
    assert b"Traceback" not in said
    machine.order("alpha", "")
    machine.applied()


# --------------------------------------------------------------------------------------------------- nothing to do


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """inode and time of everything below a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize("watched", [False, True], ids=["alone", "watched"])
def test_an_apply_with_nothing_to_do_writes_nothing(machine: Machine, watched: bool) -> None:
    machine.applied()
    watch: Command | None = machine.watch() if watched else None
    before, published = stamps(machine.state), machine.stamp()
    for _ in range(2):
        assert "Nothing to do." in machine.applied()
    after = stamps(machine.state)
    assert {name for name in before | after if before.get(name) != after.get(name)} == set()
    assert machine.stamp() == published
    assert watch is None or watch.process.poll() is None
