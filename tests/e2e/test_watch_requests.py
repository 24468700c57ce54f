"""What people ask of a running watch through the other commands, and what stops a server when nothing else does."""

import os
import signal
from collections.abc import Iterator

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Command, Machine, alive, machine_of, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


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


@pytest.mark.req("S3-48")
@pytest.mark.fault("R18", "X02")
def test_r18_a_stop_is_carried_out_by_the_watch_and_outlives_it(machine: Machine, watch: Command) -> None:
    pids = machine.one_each("alpha", "beta")
    said = done(machine, "stop", "alpha", "--reason", "maintenance")
    assert "suspended server/alpha: maintenance" in said
    assert said.endswith("Done: settled; 1 server serving, 0 blocked.\n")
    assert machine.one_each("beta") == {"beta": pids["beta"]}
    assert machine.routed() == {"beta"}
    assert "suspended server/alpha: maintenance" in watch.out
    assert watch.end() == ExitCode.TERMINATED
    again = machine.watch()
    assert "maintenance" in machine.run("status")[1]
    done(machine, "apply", "--yes")
    assert machine.one_each("beta") == {"beta": pids["beta"]}
    said = done(machine, "start", "alpha")
    assert "resumed server/alpha" in said
    assert machine.one_each("alpha", "beta")["beta"] == pids["beta"]
    assert machine.routed() == {"alpha", "beta"}
    assert again.process.poll() is None


def test_stop_all_and_start_all(machine: Machine, watch: Command) -> None:
    done(machine, "stop", "--all")
    assert machine.servers() == {}
    assert machine.routed() == set()
    done(machine, "start", "--all")
    machine.one_each("alpha", "beta")
    assert machine.routed() == {"alpha", "beta"}
    assert watch.process.poll() is None


def test_a_stop_has_happened_when_the_command_ends(machine: Machine, watch: Command) -> None:
    for _ in range(3):
        done(machine, "stop", "alpha")
        machine.one_each("beta")
        done(machine, "start", "alpha")
        machine.one_each("alpha", "beta")
    assert watch.process.poll() is None


def test_a_held_server_is_tried_again_by_retry(machine: Machine, watch: Command) -> None:
    other = machine.pid("beta")
    machine.order("alpha", "unsupported")
    os.kill(machine.pid("alpha"), signal.SIGKILL)
    watch.says("blocked server/alpha: it failed in a way that a restart cannot mend (architecture-unsupported)")
    assert machine.routed() == {"beta"}
    assert machine.run("apply", "--yes")[0] == ExitCode.BLOCKED
    code, said = machine.run("retry", "alpha")
    assert code == ExitCode.BLOCKED, "it fails again in the same way"
    assert "retried server/alpha" in said
    assert "blocked server/alpha" in said
    machine.order("alpha", "")
    said = done(machine, "retry", "alpha")
    assert "Done: settled; 2 servers serving, 0 blocked." in said
    assert machine.one_each("alpha", "beta")["beta"] == other


def test_a_held_server_is_tried_again_by_retry_also_without_a_watch(machine: Machine) -> None:
    machine.order("alpha", "unsupported")
    assert machine.run("apply", "--yes")[0] == ExitCode.BLOCKED
    assert machine.routed() == {"beta"}
    machine.order("alpha", "")
    done(machine, "retry", "alpha")
    machine.one_each("alpha", "beta")
    assert machine.routed() == {"alpha", "beta"}


def test_an_apply_ends_when_the_watch_has_settled(machine: Machine, watch: Command) -> None:
    machine.order("alpha", "mute")
    os.kill(machine.pid("alpha"), signal.SIGKILL)
    until(lambda: machine.routed() == {"beta"}, "the watch has seen it", watch.said)
    apply = machine.start("apply", "--yes", "--timeout", "1s")
    assert apply.ends() == ExitCode.UNSETTLED, apply.said()
    assert "unsettled server/alpha" in apply.out
    apply = machine.start("apply", "--yes")
    apply.says("Memory:")
    machine.order("alpha", "")
    assert apply.ends() == ExitCode.OK, apply.said()
    assert apply.out.endswith("Done: settled; 2 servers serving, 0 blocked.\n")
    machine.one_each("alpha", "beta")


def test_an_edit_is_applied_by_whoever_is_first(machine: Machine, watch: Command) -> None:
    machine.declare("alpha", "beta", more="    options: {max_tokens: 9}\n")
    done(machine, "apply", "--yes")
    assert all("--max-tokens=9" in line for line in machine.servers().values())
    machine.one_each("alpha", "beta")
    assert watch.process.poll() is None


@pytest.mark.parametrize("spelling", ["absolute", "through a link", "with dots"])
def test_the_file_of_the_watch_has_many_spellings(machine: Machine, watch: Command, spelling: str) -> None:
    folder = machine.home.root
    (folder / "link.yaml").symlink_to("ensemble.yaml")
    file = {
        "absolute": str(folder / "ensemble.yaml"),
        "through a link": "link.yaml",
        "with dots": f"../{folder.name}/./ensemble.yaml",
    }[spelling]
    done(machine, "stop", "alpha", "-c", file)
    machine.one_each("beta")
    assert watch.process.poll() is None


@pytest.mark.fault("X02")
@pytest.mark.parametrize("command", [["apply", "--yes"], ["stop", "alpha"], ["start", "alpha"], ["retry", "beta"]])
def test_x02_another_file_is_refused_and_both_are_named(machine: Machine, watch: Command, command: list[str]) -> None:
    pids = machine.one_each("alpha", "beta")
    other = machine.home.write(machine.text("alpha"), "other.yaml")
    code, said = machine.run(*command, "-c", "other.yaml")
    assert code == ExitCode.LOCKED
    assert f"the running watch follows {machine.home.root / 'ensemble.yaml'}, not {other}" in said
    assert machine.one_each("alpha", "beta") == pids
    assert not machine.told("suspended")
    assert watch.process.poll() is None


def test_set_is_refused_while_a_watch_runs(machine: Machine, watch: Command) -> None:
    code, said = machine.run("apply", "--yes", "--set", "models.alpha.source.repo=demo/beta")
    assert code == ExitCode.USAGE
    assert "--set" in said
    assert watch.process.poll() is None


@pytest.mark.parametrize(
    ("number", "codes"),
    [(signal.SIGINT, {ExitCode.INTERRUPTED}), (signal.SIGTERM, {ExitCode.TERMINATED, -signal.SIGTERM})],
)
def test_whoever_asks_can_go_away_and_the_watch_goes_on(
    machine: Machine, watch: Command, number: int, codes: set[int]
) -> None:
    machine.order("alpha", "mute")
    os.kill(machine.pid("alpha"), signal.SIGKILL)
    until(lambda: machine.routed() == {"beta"}, "the watch has seen it", watch.said)
    client = machine.start("stop", "beta")
    client.says("suspended server/beta")
    assert client.end(number) in codes
    assert "nothing was changed" not in client.said(), "it was handed over and is carried out"
    assert "Traceback" not in client.said()
    machine.order("alpha", "")
    until(lambda: machine.routed() == {"alpha"}, "the watch goes on", watch.said)
    until(lambda: machine.labels() == ["alpha"], "what was asked for is done", watch.said)
    machine.one_each("alpha")
    assert watch.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_watch_that_ends_says_so_to_who_waits(machine: Machine, watch: Command, number: int) -> None:
    machine.order("alpha", "mute")
    os.kill(machine.pid("alpha"), signal.SIGKILL)
    until(lambda: machine.routed() == {"beta"}, "the watch has seen it", watch.said)
    client = machine.start("stop", "beta")
    client.says("suspended server/beta")
    watch.end(number)
    assert client.ends() == ExitCode.UNSETTLED
    assert "reconciler status" in client.err
    assert "Traceback" not in client.err
    machine.order("alpha", "")
    done(machine, "apply", "--yes")
    assert list(machine.servers()) == [machine.pid("alpha")]
    done(machine, "start", "beta")
    machine.one_each("alpha", "beta")


def test_a_stop_that_was_cut_off_is_no_failure_of_the_server(machine: Machine, watch: Command) -> None:
    client = machine.start("stop", "beta")
    until(lambda: not alive(machine.pid("beta")), "it has ended, and its record is still there", watch.said)
    watch.end(signal.SIGKILL)
    assert client.ends() == ExitCode.UNSETTLED
    done(machine, "apply", "--yes")
    done(machine, "start", "beta")
    machine.one_each("alpha", "beta")
    assert not machine.told("failed"), "a person has ended it"


def test_a_server_can_be_stopped_while_the_file_is_invalid(machine: Machine, watch: Command) -> None:
    machine.home.write("version: 1\nmodells: {}\n")
    watch.says("blocked source/worktree")
    code, said = machine.run("stop", "alpha")
    assert "alpha" not in machine.labels(), said
    assert code in (ExitCode.OK, ExitCode.BLOCKED, ExitCode.INVALID)
    assert watch.process.poll() is None


def test_a_reason_may_be_any_text_that_a_shell_can_pass(machine: Machine, watch: Command) -> None:
    """Python hands over a byte that is no UTF-8, such as that of a Latin-1 terminal, as half of a surrogate pair."""
    code, said = machine.run("stop", "alpha", "--reason", "caf\udce9 \x1b[31m")
    assert code == ExitCode.OK, said
    assert "\x1b" not in said
    machine.one_each("beta")
    assert watch.process.poll() is None


def test_a_reason_may_be_any_text_also_without_a_watch(machine: Machine) -> None:
    machine.applied()
    code, said = machine.run("stop", "alpha", "--reason", "caf\udce9 \x1b[31m")
    assert code == ExitCode.OK, said
    machine.one_each("beta")


# --------------------------------------------------------------------------------------------------------- stop --force


def damage(machine: Machine, how: str) -> None:
    """Make LiteLLM's file one that the reader refuses."""
    if how == "a folder":
        machine.published.unlink()
        machine.published.mkdir()
    else:
        machine.published.write_text("model_list:\n- model_name: mine\n  litellm_params: {model: openai/mine}\n")


@pytest.mark.parametrize("watched", [False, True], ids=["alone", "watched"])
@pytest.mark.parametrize("how", ["a folder", "somebody else's"])
def test_only_force_stops_a_server_whose_route_cannot_be_withdrawn(machine: Machine, how: str, watched: bool) -> None:
    machine.applied()
    pids = machine.one_each("alpha", "beta")
    damage(machine, how)
    watch = machine.watch() if watched else None
    code, said = machine.run("stop", "alpha")
    assert code == ExitCode.BLOCKED, said
    assert "server/alpha" in said
    assert "--force" in said, "who reads it is told the way out"
    assert machine.one_each("alpha", "beta") == pids
    code, said = machine.run("stop", "--force", "alpha")
    assert machine.one_each("beta") == {"beta": pids["beta"]}, said
    assert code in (ExitCode.OK, ExitCode.BLOCKED)
    if how == "a folder":
        machine.published.rmdir()
    else:
        assert "model_name: mine" in machine.published.read_text(), "it is not ours to change"
        machine.published.unlink()
    assert watch is None or watch.process.poll() is None
    done(machine, "start", "alpha")
    assert machine.one_each("alpha", "beta")["beta"] == pids["beta"]
    assert machine.routed() == {"alpha", "beta"}
