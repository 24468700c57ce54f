"""A withdrawn route is remembered until its drain is over, whatever ends the run that withdrew it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.gateways.litellm import LiteLlm
from reconciler.model.observed import Absent, GatewayState

from .gateway_place import DRAIN, A, B, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def dispatching(state: GatewayState) -> tuple[set[int], float | None]:
    return set(state.may_dispatch), state.drained_at


def test_a_withdrawn_port_is_drained_by_the_clock(place: Place) -> None:
    place.publish(A, B)
    place.now = 1001.0
    place.publish(B)
    assert dispatching(place.state()) == ({8101, 8102}, 1011.0)
    place.now = 1004.0
    place.publish()
    for _ in range(2):
        assert dispatching(place.state()) == ({8101, 8102}, 1014.0)
        place.restart()
    place.now = 1011.0
    assert dispatching(place.state()) == ({8102}, 1014.0)
    place.now = 1014.0
    assert place.state() == GatewayState()


def test_what_is_over_is_forgotten_at_the_next_change(place: Place) -> None:
    place.publish(A)
    place.publish(B)
    assert json.loads(place.memory.read_text())["withdrawn"] == {"8101": 1000.0}
    place.now += DRAIN
    place.publish()
    assert json.loads(place.memory.read_text()) == {"version": 1, "withdrawn": {"8102": 1010.0}, "written": []}


def test_a_port_that_comes_back_is_drained_anew(place: Place) -> None:
    place.publish(A)
    place.publish()
    place.now = 1005.0
    place.publish(A)
    assert dispatching(place.state()) == ({8101}, None)
    place.now = 1009.0
    place.publish()
    assert dispatching(place.state()) == ({8101}, 1019.0)


class Slow(Place):
    """A place in which an hour passes while a file is replaced."""

    def clock(self) -> float:
        return 1000.0 if self.file.exists() and "8101" in self.file.read_text() else 4600.0


def test_the_drain_begins_when_the_file_has_been_replaced(tmp_path: Path) -> None:
    place = Slow(tmp_path)
    place.publish(A)
    place.publish()
    assert dispatching(place.state()) == ({8101}, 4610.0)


def test_an_old_withdrawal_says_nothing_of_a_port_that_was_written_again(place: Place) -> None:
    place.publish(A)
    place.publish()
    place.memory.write_text('{"version": 1, "written": [8101], "withdrawn": {"8101": 995.0}}')
    assert dispatching(place.state()) == ({8101}, 1010.0)


@pytest.mark.parametrize("content", [None, LiteLlm().write(()), ""])
def test_a_route_that_a_person_removed_is_drained_from_when_it_is_missed(place: Place, content: str | None) -> None:
    place.publish(A)
    place.now = 5000.0
    place.file.unlink() if content is None else place.file.write_text(content)
    assert dispatching(place.state()) == ({8101}, 5010.0)
    place.now = 5006.0
    assert dispatching(place.state()) == ({8101}, 5010.0)
    place.restart()
    assert dispatching(place.state()) == ({8101}, 5016.0)
    place.publish()
    place.restart()
    assert dispatching(place.state()) == ({8101}, 5016.0)
    place.now = 5016.0
    assert place.state() == GatewayState()
    place.file.unlink()
    assert place.look() == Absent()


def test_a_clock_that_was_set_back_ends_a_drain_all_the_same(place: Place) -> None:
    place.publish(A)
    place.publish()
    place.now = 10.0
    assert dispatching(place.state()) == ({8101}, 20.0)
    place.now = 20.0
    assert place.state() == GatewayState()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        '{"version": 1, "written": [8101]}',
        '{"version": 1, "written": ["x"], "withdrawn": {}}',
        '{"version": 1, "written": [], "withdrawn": {"8101": null}}',
        '{"version": 1, "written": [], "withdrawn": {"8101": NaN}}',
        '{"version": 2}',
    ],
)
def test_a_memory_that_cannot_be_read_is_no_empty_memory(place: Place, text: str) -> None:
    place.publish(A)
    place.memory.write_text(text)
    assert str(place.memory) in place.unknown()
    assert place.refused(B).cause == "gateway-unreadable"


# ------------------------------------------------------------------------------------------------------------ crashes

CHILD = """\
import asyncio, os, signal, sys
from pathlib import Path
from reconciler.gateways.litellm import LiteLlm
from tests.adapters.gateway_place import A, B, Place
place = Place(Path(sys.argv[1]), now=2000.0)
place.state()
left = int(sys.argv[2])
def step(event, arguments):
    global left
    writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    if writes or event in ("os.rename", "os.remove", "os.mkdir"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(step)
place.publish(B)
left = 99
"""


def killed(place: Place, step: int) -> bool:
    """Publish B in a process that is killed before its `step`-th change of the file system."""
    paths = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-c", CHILD, str(place.root), str(step)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


def test_killed_at_any_step_a_port_is_never_forgotten_too_early(tmp_path: Path) -> None:
    texts = {LiteLlm().write((A,)): (A,), LiteLlm().write((B,)): (B,)}
    seen = set()
    for step in range(30):
        (tmp_path / str(step)).mkdir()
        place = Place(tmp_path / str(step))
        place.publish(A)
        ended = not killed(place, step)
        place.now = 2005.0
        place.restart()
        state = place.state()
        assert state.routes == texts[place.file.read_text()]
        seen.add(state.routes[0].label)
        # Before the replacement A is named; after it, A's port drains, from the known time or from now.
        known = "8101" in json.loads(place.memory.read_text())["withdrawn"]
        expected = {8101, 8102} if state.routes == (B,) else {8101}
        assert state.may_dispatch >= expected
        if state.routes == (B,):
            assert state.drained_at == (2010.0 if known else 2015.0)
        place.publish(B)
        assert place.state().routes == (B,)
        assert place.state().may_dispatch == {8101, 8102}
        assert [path.name for path in place.folder.iterdir()] == [place.file.name]
        place.now += DRAIN
        assert place.state() == GatewayState(routes=(B,), may_dispatch=frozenset({8102}))
        assert known or not ended
        if ended:
            break
    else:
        raise AssertionError("it never came to an end")
    assert seen == {"a", "b"}
    assert step > 6
