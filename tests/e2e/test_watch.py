"""`watch` as a process: edits, deaths, signals and its own end, with real servers that start quickly."""

import os
import pty
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Command, Machine, alive, kill, machine_of, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SOURCE = "source/worktree"
UNREAD = (
    "import os, runpy; reads, writes = os.pipe(); os.dup2(writes, 1); os.close(writes); os.close(reads); "
    "runpy.run_module('reconciler', run_name='__main__', alter_sys=True)"
)
"""Us, with a standard output that nobody reads."""


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    """Three models; none is declared yet."""
    with machine_of(home, "alpha", "beta", "gamma") as made:
        yield made


def in_place(machine: Machine, text: str) -> None:
    machine.home.write(text)


def by_rename(machine: Machine, text: str) -> None:
    machine.rename(text)


def settled(watch: Command, times: int = 1) -> None:
    watch.says("settled ensemble", times)


def test_a_watch_serves_what_is_declared_and_says_what_happens(machine: Machine) -> None:
    machine.declare("alpha", "beta")
    watch = machine.watch()
    settled(watch)
    pids = machine.one_each("alpha", "beta")
    assert machine.routed() == {"alpha", "beta"}
    for label, pid in pids.items():
        assert f"launch server/{label}: port {machine.ports[label]}" in watch.out
        assert f"proved server/{label}: pid {pid} answers on port {machine.ports[label]}" in watch.out
    assert "publish gateway/litellm: route alpha" in watch.out
    assert "settled ensemble: 2 serving, 0 blocked" in watch.out
    assert watch.err == "watching ensemble.yaml; Ctrl-C ends the watch and no server\n"
    assert [e["kind"] for e in machine.events() if e["subject"] == "ensemble"] == ["settled"]


@pytest.mark.timeout(180)
def test_a_watch_of_the_real_server_heals_it(home: Home) -> None:
    with machine_of(home, "alpha", real=True) as machine:
        machine.declare("alpha")
        watch = machine.watch()
        settled(watch)
        first = machine.pid("alpha")
        os.kill(first, signal.SIGKILL)
        settled(watch, 2)
        assert machine.one_each("alpha")["alpha"] != first
        assert machine.routed() == {"alpha"}


@pytest.mark.req("S3-58")
@pytest.mark.parametrize("edit", [in_place, by_rename])
def test_an_edit_is_acted_on_whatever_way_the_editor_saves(
    machine: Machine, edit: Callable[[Machine, str], None]
) -> None:
    machine.declare("alpha", "beta")
    watch = machine.watch()
    settled(watch)
    before = machine.one_each("alpha", "beta")
    for labels in (("alpha", "beta", "gamma"), ("alpha", "gamma")):
        edit(machine, machine.text(*labels))
        machine.served(*labels, told=watch.said)
    assert machine.one_each("alpha", "gamma")["alpha"] == before["alpha"], "it had nothing to do with the edit"
    edit(machine, machine.text("alpha", "gamma", more="    options: {max_tokens: 7}\n"))
    until(lambda: all("--max-tokens=7" in line for line in machine.servers().values()), "retuned", watch.said)
    machine.served("alpha", "gamma", told=watch.said)
    assert len(machine.told("revision", SOURCE)) == 4


@pytest.mark.fault("X23")
def test_x23_an_edit_right_after_the_start_is_not_lost(machine: Machine) -> None:
    machine.declare()
    machine.applied()
    watch = machine.start("watch")
    until(lambda: "watching" in watch.err, "it says that it watches", watch.said)
    machine.declare("alpha")
    machine.served("alpha", told=watch.said)


def test_a_template_beside_the_file_is_followed_as_well(machine: Machine) -> None:
    folder = machine.home.root / "templates"
    folder.mkdir()
    (folder / "a.jinja").write_text("{{ messages }} one")
    machine.declare("alpha", more="    chat_template: templates/a.jinja\n")
    watch = machine.watch()
    settled(watch)
    (folder / "a.jinja").write_text("{{ messages }} two")
    until(lambda: any("messages }} two" in line for line in machine.servers().values()), "the new one", watch.said)


@pytest.mark.fault("D01")
def test_d01_an_invalid_edit_keeps_the_good_state_and_is_said_once(machine: Machine) -> None:
    machine.declare("alpha")
    watch = machine.watch("-o", "ndjson")
    pids = machine.served("alpha", told=watch.said)
    machine.home.write("version: 1\nmodells: {}\n")
    watch.says('"blocked"')
    machine.home.write("version: 1\nmodells: {}\n# the same mistake, saved again\n")
    os.kill(pids["alpha"], signal.SIGKILL)
    until(lambda: machine.pid("alpha") != pids["alpha"], "what was good before is healed meanwhile", watch.said)
    watch.says('"settled"', 2)
    (blocked,) = machine.told("blocked")
    assert (blocked["subject"], blocked["reference"]) == (SOURCE, "invalid-document")
    assert "ensemble.yaml:2:1" in blocked["text"]
    assert "last good state stays in force" in blocked["text"]
    machine.declare("alpha", "beta")
    machine.served("alpha", "beta", told=watch.said)
    (cleared,) = machine.told("cleared")
    assert (cleared["subject"], cleared["reference"]) == (SOURCE, "invalid-document")


@pytest.mark.req("S1-33")
@pytest.mark.fault("D15")
def test_d15_a_file_that_is_gone_for_a_while_stops_nothing(machine: Machine) -> None:
    machine.declare("alpha")
    watch = machine.watch()
    pids = machine.served("alpha", told=watch.said)
    (machine.home.root / "ensemble.yaml").unlink()
    watch.says("blocked source/worktree: there is no ensemble.yaml")
    assert machine.one_each("alpha") == pids
    machine.declare("alpha", "beta")
    assert machine.served("alpha", "beta", told=watch.said)["alpha"] == pids["alpha"]


@pytest.mark.fault("D11")
def test_d11_a_file_that_is_being_written_stops_nothing(machine: Machine) -> None:
    machine.declare("alpha", "beta", "gamma")
    watch = machine.watch()
    settled(watch)
    pids = machine.one_each("alpha", "beta", "gamma")
    text = machine.text("alpha", "beta", "gamma").encode()
    # Cut behind any line, the text is valid or not, with fewer models or not.
    for number in range(60):
        with (machine.home.root / "ensemble.yaml").open("wb", buffering=0) as file:
            for line in (text + b"# %d\n" % number).splitlines(keepends=True):
                file.write(line)
                os.fsync(file.fileno())
    until(lambda: len(machine.told("revision")) == 2, "the last one is taken", watch.said)
    assert machine.one_each("alpha", "beta", "gamma") == pids
    assert not [e for e in machine.told("started") if e["action"] == "stop"]


@pytest.mark.req("S1-33")
@pytest.mark.fault("D12")
def test_d12_an_emptied_file_is_paused_until_a_person_applies_it(machine: Machine) -> None:
    machine.declare("alpha", "beta")
    watch = machine.watch()
    settled(watch)
    pids = machine.one_each("alpha", "beta")
    machine.declare()
    watch.says("blocked source/worktree: nothing is declared any more")
    os.kill(pids["alpha"], signal.SIGKILL)
    settled(watch, 2)
    assert machine.one_each("alpha", "beta")["beta"] == pids["beta"], "what is in force is healed, nothing is stopped"
    code, said = machine.run("apply", "--yes")
    assert code == ExitCode.OK, said
    for line in ("publish gateway/litellm: withdraw alpha, beta", "stop server/alpha", "stop server/beta"):
        assert f"\n{line}" in said, "it follows what the watch does"
    assert said.endswith("Done: settled; 0 servers serving, 0 blocked.\n")
    assert machine.servers() == {}
    assert machine.routed() == set()
    assert machine.told("cleared", SOURCE)


@pytest.mark.fault("D12")
@pytest.mark.parametrize("released_by", ["the start", "an apply"])
def test_d12_an_emptied_file_is_paused_also_when_the_same_was_meant_before(machine: Machine, released_by: str) -> None:
    if released_by == "the start":
        machine.declare()
        watch = machine.watch()
        settled(watch)
    else:
        machine.declare("alpha")
        watch = machine.watch()
        machine.served("alpha", told=watch.said)
        machine.declare()
        watch.says("blocked source/worktree: nothing is declared any more")
        assert machine.run("apply", "--yes")[0] == ExitCode.OK
    machine.declare("alpha", "beta")
    watch.process.send_signal(signal.SIGHUP)
    machine.served("alpha", "beta", told=watch.said)
    pids = machine.one_each("alpha", "beta")

    def pauses() -> int:
        return watch.out.count("blocked source/worktree: nothing is declared any more")

    before = pauses()
    machine.declare()
    until(lambda: pauses() > before or machine.routed() != {"alpha", "beta"}, "it has made up its mind", watch.said)
    assert pauses() > before
    assert machine.one_each("alpha", "beta") == pids


@pytest.mark.fault("D13")
def test_d13_a_revision_that_ends_more_than_half_is_paused_and_can_be_mended(machine: Machine) -> None:
    machine.declare("alpha", "beta", "gamma")
    watch = machine.watch()
    settled(watch)
    pids = machine.one_each("alpha", "beta", "gamma")
    machine.declare("alpha")
    watch.says("blocked source/worktree: 2 of 3 running servers would end by one revision: beta, gamma")
    assert machine.one_each("alpha", "beta", "gamma") == pids
    machine.declare("alpha", "beta")
    machine.served("alpha", "beta", told=watch.said)
    assert machine.one_each("alpha", "beta") == {label: pids[label] for label in ("alpha", "beta")}


@pytest.mark.req("S0-12")
@pytest.mark.fault("R01", "R17")
def test_r01_a_killed_server_is_withdrawn_and_relaunched_on_its_port(machine: Machine) -> None:
    machine.declare("alpha", "beta")
    watch = machine.watch()
    settled(watch)
    pids, argv = machine.one_each("alpha", "beta"), machine.servers()[machine.pid("alpha")]
    machine.order("alpha", "mute")
    os.kill(pids["alpha"], signal.SIGKILL)
    until(lambda: machine.routed() == {"beta"}, "its route is withdrawn while it does not answer", watch.said)
    machine.order("alpha", "")
    settled(watch, 2)
    after = machine.one_each("alpha", "beta")
    assert after["beta"] == pids["beta"]
    assert after["alpha"] != pids["alpha"]
    assert machine.servers()[after["alpha"]] == argv
    assert machine.routed() == {"alpha", "beta"}
    (failed,) = machine.told("failed")
    assert (failed["subject"], failed["reference"]) == ("server/alpha", "killed")
    assert f"its process {pids['alpha']} is gone: ended by signal 9" in failed["text"]


@pytest.mark.fault("X15")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGINT, ExitCode.INTERRUPTED)]
)
def test_x15_a_signal_ends_the_watch_and_no_server(machine: Machine, number: int, code: ExitCode) -> None:
    machine.declare("alpha", "beta")
    watch = machine.watch()
    settled(watch)
    pids = machine.one_each("alpha", "beta")
    os.killpg(watch.pid, number)  # what a terminal and launchd do
    assert watch.ends() == code
    assert machine.one_each("alpha", "beta") == pids
    assert machine.routed() == {"alpha", "beta"}
    assert machine.lock_is_free()
    assert not (machine.state / "reconciler.sock").exists()
    assert "Traceback" not in watch.err


@pytest.mark.fault("X15", "R16")
def test_x15_a_signal_in_the_middle_of_a_start_leaves_one_server(machine: Machine) -> None:
    machine.declare("alpha")
    machine.order("alpha", "mute")
    watch = machine.watch()
    watch.says("wait server/alpha: started")
    assert watch.end(signal.SIGTERM) == ExitCode.TERMINATED
    pids = machine.one_each("alpha")
    machine.order("alpha", "")
    machine.watch()
    assert machine.served("alpha") == pids


@pytest.mark.fault("X16")
def test_x16_a_hangup_ends_neither_the_watch_nor_a_server(machine: Machine) -> None:
    machine.declare("alpha")
    watch = machine.watch()
    settled(watch)
    pids = machine.one_each("alpha")
    for _ in range(3):
        os.killpg(watch.pid, signal.SIGHUP)
    machine.declare("alpha", "beta")
    assert machine.served("alpha", "beta", told=watch.said)["alpha"] == pids["alpha"]
    assert watch.process.poll() is None


@pytest.mark.fault("R09", "X03", "X24")
def test_r09_a_watch_that_was_killed_takes_up_what_it_left(machine: Machine) -> None:
    machine.declare("alpha", "beta")
    settled(machine.watch())
    pids, stamp = machine.one_each("alpha", "beta"), machine.stamp()
    socket = machine.state / "reconciler.sock"
    for _ in range(4):
        watch = machine.watch()
        assert watch.end(signal.SIGKILL) == -signal.SIGKILL
        assert socket.is_socket(), "nobody has removed it"
        assert machine.run("status")[0] == ExitCode.OK
    watch = machine.watch()
    assert machine.run("apply", "--yes")[0] == ExitCode.OK
    assert machine.one_each("alpha", "beta") == pids
    assert machine.stamp() == stamp
    assert [e["action"] for e in machine.told("started")].count("launch") == 2
    assert machine.is_watched()


@pytest.mark.fault("X03")
def test_x03_an_apply_after_a_watch_was_killed_needs_no_force(machine: Machine) -> None:
    machine.declare("alpha")
    watch = machine.watch()
    pids = machine.served("alpha", told=watch.said)
    watch.end(signal.SIGKILL)
    machine.declare("alpha", "beta")
    assert "Done: settled; 2 servers serving" in machine.applied()
    assert machine.one_each("alpha", "beta")["alpha"] == pids["alpha"]


@pytest.mark.fault("X01")
def test_x01_a_second_watch_is_told_who_watches(machine: Machine) -> None:
    machine.declare("alpha")
    watch = machine.watch()
    machine.served("alpha", told=watch.said)
    code, said = machine.run("watch")
    assert code == ExitCode.LOCKED
    assert f"pid {watch.pid} (watch)" in said
    assert machine.is_watched()


@pytest.mark.fault("D12")
def test_d12_a_watch_begins_with_the_last_good_state_and_not_with_what_it_would_not_take(machine: Machine) -> None:
    machine.declare("alpha")
    machine.applied()
    pids = machine.one_each("alpha")
    machine.declare()
    watch = machine.watch()
    watch.says("blocked source/worktree: nothing is declared any more")
    assert machine.one_each("alpha") == pids
    kill(pids["alpha"])
    until(lambda: machine.pid("alpha") not in (0, pids["alpha"]), "what was good last is healed", watch.said)


def test_a_watch_works_in_a_state_directory_with_a_long_path(home: Home) -> None:
    """A unix socket's own path may have 108 bytes, on macOS 104."""
    deep = home.root / ("d" * 60) / ("e" * 60)
    with machine_of(home, "alpha", state=deep) as machine:
        assert len(str(machine.state / "reconciler.sock")) > 108
        machine.declare("alpha")
        watch = machine.watch()
        machine.served("alpha", told=watch.said)
        code, said = machine.run("stop", "alpha")
        assert code == ExitCode.OK, said
        assert machine.servers() == {}
        assert watch.end() == ExitCode.TERMINATED
        assert not list(Path(deep).glob("*.sock"))


def test_a_watch_whose_words_nobody_reads_any_more_tells_everybody_else(machine: Machine) -> None:
    """After `watch | head` whoever asked for something heard nothing, and ended as not settled."""
    machine.declare("alpha")
    watch = machine.start("watch", program=("-c", UNREAD))
    machine.served("alpha", told=watch.said)
    code, said = machine.run("stop", "alpha")
    assert code == ExitCode.OK, said
    assert "stop server/alpha" in said
    assert machine.servers() == {}
    assert watch.end() == ExitCode.TERMINATED


@pytest.mark.fault("X16")
def test_x16_a_terminal_that_is_closed_ends_neither_the_watch_nor_a_server(machine: Machine) -> None:
    machine.declare("alpha")
    ours, its = pty.openpty()
    watch = machine.start("watch", terminal=its)
    os.close(its)
    pids = machine.served("alpha", told=watch.said)
    os.close(ours)  # the kernel sends SIGHUP, and whatever is written to the terminal from now on fails
    machine.declare("alpha", "beta")
    until(lambda: watch.process.poll() is not None or machine.routed() == {"alpha", "beta"}, "the edit is acted on")
    assert watch.process.poll() is None
    assert machine.one_each("alpha", "beta")["alpha"] == pids["alpha"]
    kill(machine.pid("beta"))
    until(lambda: alive(machine.pid("beta")), "it is still watched")
    assert watch.process.poll() is None
