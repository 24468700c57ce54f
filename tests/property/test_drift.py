"""What changes without anybody here having changed it is told, once, with what differs; nothing else is told so."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.event import Event as Happened
from reconciler.model.event import EventKind
from reconciler.model.names import artifact_subject, gateway_subject, server_subject
from tests.world.drive import Run, Scenario, apply
from tests.world.script import Does, Event
from tests.world.virtual_time import VirtualTime
from tests.world.world import World

from .befalling import doomed, edited, faulty, moved, unfit
from .profile import worlds
from .strategies import scenarios
from .test_gateways import DIRECT, LABELS, artifact, served


def drifts(run: Run, before: Run | None = None) -> list[Happened]:
    """What was told of drift since an earlier run."""
    known = len(before.world.history) if before is not None else 0
    return [event for event in run.world.history[known:] if event.kind is EventKind.DRIFTED]


def onward(scenario: Scenario, before: Run, *events: Event, **artifacts: str) -> Run:
    """Go on in the same world, with its memory, after something has changed or while it does."""
    script = replace(scenario.script, events=events)
    world = World(before.world.truth, scenario.host_file, script, VirtualTime(before.world.now))
    world.history = list(before.world.history)
    world.truth.artifacts |= {f"org/{label}@main": artifact(identity) for label, identity in artifacts.items()}
    after = apply(scenario, world)
    assert after.ending.settled
    return after


@worlds(200)
@given(st.one_of(scenarios(), *(scenarios(least=1).flatmap(way) for way in (doomed, faulty, edited, moved, unfit))))
def test_nothing_is_told_to_have_drifted_where_nobody_meddled(scenario: Scenario) -> None:
    run = apply(scenario)
    assert not drifts(run)
    again = apply(replace(scenario, desired=run.decisions[-1].view.facts.desired, edits=()), run.world)
    assert not drifts(again)


def meddled(does: Does, label: str = "beta") -> tuple[Event, str, str]:
    """Something that somebody does to a label, the subject of what is told of it, and a word of it."""
    match does:
        case Does.EDIT:
            return Event(after=1.0, does=does, gateway="litellm"), gateway_subject("litellm"), "alpha is gone"
        case Does.REMOVE:
            return Event(after=1.0, does=does, gateway="litellm"), gateway_subject("litellm"), "its file is gone"
        case _:
            reference = f"org/{label}@main"
            return Event(after=1.0, does=does, reference=reference), artifact_subject(reference), "files have changed"


@pytest.mark.parametrize("does", [Does.EDIT, Does.REMOVE, Does.ROT, Does.LOSE])
@pytest.mark.parametrize("moment", [1.0, 90.0])
def test_a_drift_is_told_exactly_once(does: Does, moment: float) -> None:
    scenario, before = served(DIRECT, *LABELS)
    event, subject, word = meddled(does)
    since = len(before.world.history)
    pids = {label: record.server for label, record in before.world.truth.records.items()}
    # A look at rest comes between: what has drifted is noticed by the next one, and then never told again.
    run = onward(scenario, before, replace(event, after=moment))
    told = drifts(run, before)
    assert [(e.subject, word in e.text) for e in told] == [(subject, True)], [e.text for e in run.world.history[since:]]
    assert {label: record.server for label, record in run.world.truth.records.items()} == pids
    again = onward(scenario, run)
    assert not drifts(again, run)


@worlds(60)
@given(st.lists(st.sampled_from([Does.EDIT, Does.REMOVE, Does.ROT, Does.LOSE]), min_size=1, max_size=4))
def test_drifts_that_come_one_after_the_other_are_each_told_once(what: list[Does]) -> None:
    scenario, run = served(DIRECT, *LABELS)
    for does in what:
        event, subject, _ = meddled(does)
        blocked = {b.subject for b in run.plan.blocked}
        before, run = run, onward(scenario, run, event)
        expected = (
            [] if subject in blocked or (server_subject("beta") in blocked and "artifact" in subject) else [subject]
        )
        assert [e.subject for e in drifts(run, before)] == expected


def test_other_weights_behind_the_same_declaration_are_drift_of_the_server() -> None:
    scenario, before = served(DIRECT, *LABELS)
    run = onward(scenario, before, alpha="alpha#2")
    (told,) = drifts(run, before)
    assert told.subject == server_subject("alpha")
    assert "artifact: alpha#1 -> alpha#2" in told.text


@pytest.mark.parametrize("does", [Does.DIE, Does.WEDGE])
def test_a_server_that_fails_has_not_drifted_and_neither_has_its_route(does: Does) -> None:
    scenario, before = served(DIRECT, *LABELS)
    run = onward(scenario, before, Event(after=1.0, does=does, label="beta"))
    assert not drifts(run, before)
    assert any(e.kind is EventKind.FAILED for e in run.world.history)


def test_a_declaration_that_has_changed_is_no_drift() -> None:
    scenario, before = served(DIRECT, *LABELS)
    models = dict(scenario.desired.state.models)
    models["beta"] = replace(models["beta"], aliases=(), priority=3, options={"decode_concurrency": 7})
    desired = replace(scenario.desired, state=replace(scenario.desired.state, models=models), revision="worktree:1")
    run = onward(replace(scenario, desired=desired), before)
    assert not drifts(run, before)
    assert any(request.kind == "stop" for request in run.world.requests)
