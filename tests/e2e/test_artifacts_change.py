"""Other bits, a damaged conversion, another commit: what is served changes only when what follows it is proved."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home

from .ensemble import until
from .supplied import BITS, WEIGHTS, Supplied, digests, flip, supplied
from .test_lifecycle import answer

pytestmark = [pytest.mark.e2e, pytest.mark.heavy, pytest.mark.timeout(240)]

BASE = "artifact/acme/base@main"
LINE = "The same line in every precision."
EIGHT = {"bits": 8, "group_size": 32}


@pytest.fixture
def machine(home: Home) -> Iterator[Supplied]:
    """A hub with a base model, and a machine with nothing in its cache."""
    with supplied(home) as made:
        made.offers("acme/base", LINE, base=True)
        yield made


def declared(machine: Supplied, **convert: object) -> None:
    """Labels that are served from conversions of the base."""
    more = {label: {"source": {"repo": "acme/base"}, "convert": how} for label, how in convert.items()}
    machine.declare(*convert, **more)


def bits(machine: Supplied, label: str) -> int:
    """What the server of a label was started with."""
    (model,) = [word.removeprefix("--model=") for word in machine.argv(label) if word.startswith("--model=")]
    found: int = json.loads((Path(model) / "config.json").read_bytes())["quantization"]["bits"]
    return found


def test_other_bits_bring_the_base_back_and_the_old_server_serves_until_they_are_there(machine: Supplied) -> None:
    machine.has_volume()
    declared(machine, alpha=BITS)
    machine.apply()
    old = machine.pid("alpha")
    assert bits(machine, "alpha") == 4
    asked = len(machine.hub.asked)
    declared(machine, alpha=EIGHT)
    kinds = [kind for kind, _ in machine.planned()]
    verbs = [kind for kind in kinds if kind != "publish"]
    assert verbs == ["restore", "convert", "preflight", "stop", "launch", "offload"]
    with machine.applying() as applying:
        until(
            lambda: any(p.name.startswith(".") for p in machine.conversions("acme/base")), "it is converted", applying
        )
        assert machine.pid("alpha") == old
        assert answer(machine.port("alpha")) == LINE
        assert machine.routed() == {"alpha"}
        assert applying.wait(90) == ExitCode.OK, machine.said()
    assert bits(machine, "alpha") == 8
    assert answer(machine.port("alpha")) == LINE
    assert not machine.cached("acme/base").exists()
    assert len(machine.hub.asked) == asked
    kept = [entry for (place, _), entry in machine.artifacts().items() if place == "converted"]
    assert sorted(len(entry["roots"]) for entry in kept) == [1, 3], "the old one is kept for a return"
    declared(machine, alpha=BITS)
    machine.apply()
    assert bits(machine, "alpha") == 4
    assert machine.done().count(("convert", BASE)) == 2, "a return converts nothing"


def test_two_conversions_of_one_base_are_made_one_after_the_other(machine: Supplied) -> None:
    declared(machine, alpha=BITS, beta=EIGHT)
    machine.apply()
    assert (bits(machine, "alpha"), bits(machine, "beta")) == (4, 8)
    assert (answer(machine.port("alpha")), answer(machine.port("beta"))) == (LINE, LINE)
    assert machine.done().count(("convert", BASE)) == 2
    assert len(machine.hub.gets(WEIGHTS)) == 1


@pytest.mark.fault("C02")
@pytest.mark.parametrize("away", [False, True], ids=["its base is here", "its base is in cold storage"])
def test_c02_a_damaged_conversion_is_not_launched_and_is_made_again(machine: Supplied, away: bool) -> None:
    if away:
        machine.has_volume()
    declared(machine, alpha=BITS)
    machine.apply()
    machine.declare()
    machine.apply()
    (made,) = machine.conversions("acme/base")
    before = digests(made)
    flip(made / WEIGHTS)
    asked = len(machine.hub.asked)
    declared(machine, alpha=BITS)
    machine.apply()
    (again,) = machine.conversions("acme/base")
    assert digests(again)[WEIGHTS] == before[WEIGHTS]
    assert answer(machine.port("alpha")) == LINE
    assert machine.launches("alpha") == 2, "never with what was damaged"
    assert len(machine.hub.asked) == asked


def test_a_conversion_that_is_deleted_under_its_server_is_made_again_and_the_server_stays(machine: Supplied) -> None:
    declared(machine, alpha=BITS)
    machine.apply()
    pid = machine.pid("alpha")
    (made,) = machine.conversions("acme/base")
    shutil.rmtree(made)
    machine.apply()
    assert machine.conversions("acme/base") == [made]
    assert (machine.pid("alpha"), machine.routed()) == (pid, {"alpha"})
    assert answer(machine.port("alpha")) == LINE


def test_weights_without_a_port_are_brought_and_verified_and_nothing_is_started(machine: Supplied) -> None:
    machine.offers("acme/kept")
    machine.declare("alpha", alpha={"source": {"repo": "acme/kept"}, "port": "none"})
    machine.apply()
    assert machine.artifacts()["cache", "acme/kept"]["verdict"] == "complete"
    assert machine.running() == []
    assert "Nothing to do." in machine.apply()


def test_a_branch_that_moves_on_the_hub_moves_nothing_here_until_its_commit_is_declared(machine: Supplied) -> None:
    declared(machine, alpha=BITS)
    machine.apply()
    first, old = machine.hub.repos["acme/base"].folder, machine.pid("alpha")
    commit = machine.offers("acme/base", "Another line.", base=True, seed=1)
    machine.hub.repos["acme/base"] = machine.hub.repos["acme/base"]._replace(history=(first,))
    assert "Nothing to do." in machine.apply()
    assert (machine.pid("alpha"), machine.recorded("alpha").commit == commit) == (old, False)
    machine.declare("alpha", alpha={"source": {"repo": "acme/base", "revision": commit}, "convert": BITS})
    machine.apply()
    assert machine.pid("alpha") != old
    assert machine.recorded("alpha").commit == commit
    assert answer(machine.port("alpha")) == "Another line."
    assert len(machine.conversions("acme/base")) == 2


def test_a_server_serves_on_while_its_conversion_is_corrupt_and_is_made_again(machine: Supplied) -> None:
    """Also while it cannot be made again, because the base is on a volume that is away."""
    machine.has_volume()
    declared(machine, alpha=BITS)
    machine.apply()
    pid, (made,) = machine.pid("alpha"), machine.conversions("acme/base")
    damaged = bytearray((made / WEIGHTS).read_bytes())
    damaged[-1] ^= 1
    (made / "beside").write_bytes(damaged)
    (made / "beside").replace(made / WEIGHTS)
    away = machine.volume.rename(machine.home.root / "away")
    assert "volume-unmounted" in machine.apply(ExitCode.BLOCKED)
    assert (machine.pid("alpha"), machine.routed()) == (pid, {"alpha"})
    assert machine.artifacts()["converted", "acme/base (bits=4, group_size=32)"]["verdict"] == f"corrupt ({WEIGHTS})"
    away.rename(machine.volume)
    machine.apply()
    assert (machine.pid("alpha"), machine.routed()) == (pid, {"alpha"})
    assert answer(machine.port("alpha")) == LINE
    assert machine.artifacts()["converted", "acme/base (bits=4, group_size=32)"]["verdict"] == "complete"
    assert not machine.cached("acme/base").exists()
