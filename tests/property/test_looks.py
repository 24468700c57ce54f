"""A look at what may have changed shows what a look at everything would, where nothing else has changed."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.observed import Absent, Artifact, ColdCopy, Listener, Observation, ObservedState
from reconciler.observing.observer import FRESH, Observer
from tests.unit.engine.test_journal import scenario as simple
from tests.world.drive import Run, Scenario, apply, eyes
from tests.world.supply import Artifacts
from tests.world.world import World

from . import checks
from .profile import worlds
from .strategies import scenarios

CHANGES = ("its server ends", "its record goes", "its port is taken", "its weights go", "a gateway loses its routes")


def change(world: World, run: Run, what: str, label: str) -> bool:
    """Let something happen to one label; whether a hint or a job that ended would say so of it."""
    truth, target = world.truth, run.ending.decision.view.targets.get(label)
    record = truth.records.get(label)
    match what:
        case "its server ends" if record is not None and record.server is not None:
            record.server.dies_at = world.now
            return bool(record.doubt)  # whose it is could not be told before, and cannot now
        case "its record goes" if record is not None:
            del truth.records[label]
        case "its port is taken" if target is not None and target.port is not None:
            truth.foreign.setdefault(target.port, Listener(port=target.port, pid=4711, command="postgres"))
            return True
        case "its weights go" if target is not None:
            truth.artifacts[target.reference] = Absent()
            return True
        case "a gateway loses its routes":
            for gateway in truth.gateways.values():
                gateway.routes = ()
        case _:
            pass
    return False


def looks(scenario: Scenario, run: Run, looking: Observer) -> tuple[ObservedState, ObservedState]:
    """What one that has seen everything sees now, and what one sees that has seen nothing."""
    desired, world = run.ending.decision.view.facts.desired, run.world
    return (
        looking.look(desired, world.ledger).observed,
        eyes(world.host(), scenario.host_file).look(desired, world.ledger).observed,
    )


@worlds(60)
@given(scenarios(), st.data())
def test_it_is_what_a_look_at_everything_shows(scenario: Scenario, data: st.DataObject) -> None:
    run = checks.settles(scenario)
    looking = eyes(run.world.host(), scenario.host_file)
    looks(scenario, run, looking)
    labels = sorted(run.ending.decision.view.targets.keys() | run.world.truth.records.keys())
    for _ in range(data.draw(st.integers(0, 3)) if labels else 0):
        label = data.draw(st.sampled_from(labels))
        if change(run.world, run, data.draw(st.sampled_from(CHANGES)), label):
            looking.heed([label])
    narrow, whole = looks(scenario, run, looking)
    assert narrow == whole


def seen() -> tuple[Scenario, Run, Observer]:
    """Two servers at rest, which were looked at just now."""
    given_ = simple(("deep", "fast"))
    run = apply(given_)
    looking = eyes(run.world.host(), given_.host_file)
    looks(given_, run, looking)
    return given_, run, looking


def test_what_has_not_changed_is_not_looked_at_again() -> None:
    """So that the property above is about something."""
    given_, run, looking = seen()
    change(run.world, run, "its port is taken", "fast")
    run.world.truth.records.clear()
    narrow, whole = looks(given_, run, looking)
    assert not looking.whole
    assert narrow == whole, "whose server is gone, his port is looked at"
    change(run.world, run, "its weights go", "fast")
    narrow, whole = looks(given_, run, looking)
    assert not looking.whole
    assert narrow != whole, "nobody has said so"
    assert replace(narrow, artifacts=whole.artifacts) == whole


def test_it_holds_for_a_second() -> None:
    for passed, whole in ((0.0, False), (FRESH / 2, False), (FRESH, True), (-60.0, True)):
        given_, run, looking = seen()
        run.world.time.now += passed
        looks(given_, run, looking)
        assert looking.whole is whole, passed


def test_it_does_not_hold_for_another_desired_state_or_once_it_is_said() -> None:
    given_, run, looking = seen()
    desired = run.ending.decision.view.facts.desired
    looking.look(replace(desired), run.world.ledger)
    assert looking.whole
    looking.look(desired, run.world.ledger)
    assert looking.whole
    looking.look(desired, run.world.ledger)
    assert not looking.whole
    looking.forget()
    looking.heed(["fast"])
    looks(given_, run, looking)
    assert looking.whole


def test_weights_that_have_gone_are_looked_for_in_cold_storage_too() -> None:
    """They would be downloaded, where they lie on the next disk."""
    given_, run, looking = seen()
    whole = Artifact(identity="fast", path="/cold/fast")
    run.world.truth.store.cold["org/fast@main"] = ColdCopy(volume="nas", path="/cold/fast", bytes=1, artifact=whole)
    change(run.world, run, "its weights go", "fast")
    looking.heed(["fast"])
    narrow, everything = looks(given_, run, looking)
    assert list(everything.storage.cold) == ["org/fast@main"]
    assert narrow == everything


class Flaky(Artifacts):
    """Weights that cannot be looked at for once."""

    fails = False

    def look(self, references: Iterable[str]) -> Mapping[str, Observation[Artifact]]:
        if self.fails:
            raise OSError(24, "too many open files")
        return super().look(references)


def test_a_look_that_failed_makes_nothing_of_before_fresh() -> None:
    given_, run, _ = seen()
    weights, desired = Flaky(run.world), run.ending.decision.view.facts.desired
    looking = eyes(replace(run.world.host(), artifacts=weights), given_.host_file)
    looks(given_, run, looking)
    run.world.time.now += 3_600
    change(run.world, run, "its weights go", "fast")
    weights.fails = True
    with pytest.raises(OSError, match="too many open files"):
        looking.look(desired, run.world.ledger)
    weights.fails = False
    narrow, whole = looks(given_, run, looking)
    assert narrow == whole


def test_a_look_that_sees_no_records_is_made_at_everything() -> None:
    given_, run, looking = seen()
    run.world.truth.blind = "the folder cannot be read"
    narrow, whole = looks(given_, run, looking)
    assert narrow == whole
    assert narrow.blind == "the folder cannot be read"
    run.world.truth.blind = ""
    narrow, whole = looks(given_, run, looking)
    assert looking.whole
    assert narrow == whole
