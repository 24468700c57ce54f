"""`apply` killed with -9 between any two of its steps: the next one comes to the same end, and no server is doubled."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from reconciler.adapters.records import Lock, Run
from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Machine, alive, kill, machine_of, until

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.fault("X17")]

DRIVER: Final = Path(__file__).resolve().parents[1] / "programs" / "killed_apply.py"
LAUNCH: Final = ("before-record", "after-record", "after-spawn", "after-complete")
STOP: Final = ("before-term", "after-term", "before-forget")
RETUNED: Final = "    options: {max_tokens: 7}\n"
MOST: Final = 30
"""No story here writes that often."""


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    """Two models; one is served, and stays so through everything."""
    with machine_of(home, "alpha", "beta") as made:
        made.declare("beta")
        made.applied()
        yield made


def serve_both(machine: Machine) -> None:
    machine.declare("alpha", "beta")
    machine.applied()


def launch(machine: Machine) -> None:
    machine.declare("alpha", "beta")


def relaunch(machine: Machine) -> None:
    serve_both(machine)
    kill(machine.pid("alpha"))


def stop(machine: Machine) -> None:
    serve_both(machine)
    machine.declare("beta")


def forget(machine: Machine) -> None:
    serve_both(machine)
    kill(machine.pid("alpha"))
    machine.declare("beta")


def retune(machine: Machine) -> None:
    serve_both(machine)
    machine.declare("alpha", "beta", more=RETUNED)


def suspend(machine: Machine) -> None:
    serve_both(machine)


Story = Callable[[Machine], None]
STORIES: Final[list[tuple[Story, tuple[str, ...]]]] = [
    (launch, LAUNCH),
    (relaunch, LAUNCH),
    (stop, STOP),
    (forget, ("before-forget",)),
    (retune, STOP),
]


def run_killed(machine: Machine, point: str, time: int = 1, *args: str) -> bool:
    """An apply that is killed at a point; False: it never came there, and has done all there was to do."""
    argv = [sys.executable, str(DRIVER), point, str(time), *(args or ("apply", "--yes"))]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        argv,
        cwd=machine.home.root,
        env=machine.environment(PYTHONPATH=str(root)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (-signal.SIGKILL, ExitCode.OK), done.stdout + done.stderr
    return done.returncode != ExitCode.OK


def converges(machine: Machine, *labels: str) -> dict[str, int]:
    """A plain apply brings the machine to what is declared, and nothing is left of the one that was killed."""
    assert machine.lock_is_free()
    machine.applied()
    pids = machine.one_each(*labels)
    assert machine.routed() == set(labels)
    for label in machine.ports:
        held = Run(str(machine.state), label).lock()
        assert held is (Lock.HELD if label in labels else Lock.FREE)
    assert "Nothing to do." in machine.applied()
    assert machine.one_each(*labels) == pids
    assert not list(machine.state.rglob("*.tmp"))
    assert not list(machine.home.root.glob(".*.tmp"))
    return pids


@pytest.mark.req("S1-27")
@pytest.mark.parametrize(
    ("story", "point"), [pytest.param(s, p, id=f"{s.__name__} {p}") for s, points in STORIES for p in points]
)
def test_an_apply_killed_at_a_point_is_made_up_for_by_the_next(machine: Machine, story: Story, point: str) -> None:
    beta = machine.pid("beta")
    story(machine)
    labels = ("beta",) if story in (stop, forget) else ("alpha", "beta")
    assert run_killed(machine, point)
    started = set(machine.servers())
    pids = converges(machine, *labels)
    if story is not retune:
        assert pids["beta"] == beta
    if story in (launch, relaunch):
        assert started <= set(pids.values()), "who was started before the kill is taken up"
    if story is retune:
        assert all("--max-tokens=7" in line for line in machine.servers().values())
    assert len(machine.published.read_text().split("127.0.0.1:")) - 1 == len(labels)


@pytest.mark.parametrize("point", STOP)
def test_a_stop_killed_at_a_point_is_made_up_for_by_the_next_apply(machine: Machine, point: str) -> None:
    suspend(machine)
    assert run_killed(machine, point, 1, "stop", "alpha")
    assert machine.lock_is_free()
    machine.applied()
    assert list(machine.servers()) == [machine.pid("beta")]
    assert machine.routed() == {"beta"}
    assert machine.run("start", "alpha")[0] == ExitCode.OK
    converges(machine, "alpha", "beta")
    assert not machine.told("failed"), "a person has ended it"


@pytest.mark.parametrize("point", ["before-save", "after-save", "before-publish", "after-publish"])
def test_an_apply_killed_at_any_write_is_made_up_for_by_the_next(machine: Machine, point: str) -> None:
    """As SQLite is tested: at the first write, at the second, until a run survives."""
    machine.declare("alpha", "beta")
    machine.applied()
    beta, routes = machine.pid("beta"), machine.published.read_bytes()
    for time in range(1, MOST):
        tokens = f"--max-tokens={time}"
        machine.home.write(f"{machine.text('beta', 'alpha')}    options: {{max_tokens: {time}}}\n")
        survived = not run_killed(machine, point, time)
        assert machine.lock_is_free()
        machine.applied()
        pids = machine.one_each("alpha", "beta")
        assert pids["beta"] == beta
        assert f"{tokens} " in machine.servers()[pids["alpha"]]
        assert machine.published.read_bytes() == routes
        if survived:
            assert time > 2, "it was killed at more than one"
            return
    raise AssertionError("no run survived")


def test_an_apply_killed_while_it_waits_leaves_a_server_that_the_next_one_proves(machine: Machine) -> None:
    machine.order("alpha", "mute")
    machine.declare("alpha", "beta")
    command = machine.start("apply", "--yes")
    command.says("wait server/alpha: started")
    command.end(signal.SIGKILL)
    pid = machine.pid("alpha")
    assert alive(pid)
    machine.order("alpha", "")
    assert converges(machine, "alpha", "beta")["alpha"] == pid


def test_a_server_that_dies_with_its_launcher_is_started_once(machine: Machine) -> None:
    machine.declare("alpha", "beta")
    assert run_killed(machine, "after-spawn")
    until(lambda: len(machine.servers()) == 2, "it runs")
    (orphan,) = set(machine.servers()) - {machine.pid("beta")}
    kill(orphan)
    assert converges(machine, "alpha", "beta")["alpha"] != orphan
