"""What is told of a run: every difference once, in the order in which it was seen, and never what was told before."""

from collections.abc import Iterable
from dataclasses import replace
from math import inf

import pytest

from reconciler.engine import journal
from reconciler.engine.jobs import Outcome
from reconciler.engine.loop import Change, Engine
from reconciler.engine.requests import Asked, Request
from reconciler.model.desired import Desired, DesiredState, Gateways, LiteLlmSpec, ModelSpec, Source
from reconciler.model.event import Event, EventKind
from reconciler.model.host import HostFile
from reconciler.model.ledger import EMPTY, Attempt, Suspension
from reconciler.model.names import ENSEMBLE, server_subject, source_subject
from reconciler.model.observed import Artifact, Present
from reconciler.planning.plan import Decision
from tests.world.drive import PATIENCE, Edited, Scenario, eyes, facts, planner
from tests.world.script import Does, Fault, Script
from tests.world.script import Event as Happens
from tests.world.truth import Gateway, Truth
from tests.world.virtual_time import run
from tests.world.world import World

FAST, DEEP = server_subject("fast"), server_subject("deep")
Said = tuple[EventKind, str, str]
"""Kind, subject, and the action or else the reference."""


CALM = Script()


def scenario(labels: Iterable[str] = ("fast",), script: Script = CALM) -> Scenario:
    """Models that are complete, behind a LiteLLM that has no route yet."""
    names = sorted(labels)
    models = {label: ModelSpec(source=Source(repo=f"org/{label}"), port=8100 + at) for at, label in enumerate(names)}
    state = DesiredState(version=1, models=models, gateways=Gateways(litellm=LiteLlmSpec(mode="direct")))
    desired = Desired(state=state, revision="worktree:0", templates={}, provenance={})
    artifacts = {
        f"org/{name}@main": Present(value=Artifact(identity=name, path=f"/hub/{name}", converted=True))
        for name in names
    }
    truth = Truth(artifacts=dict(artifacts), gateways={"litellm": Gateway(routes=())})
    return Scenario(desired=desired, host_file=HostFile(), truth=truth, script=script)


def settle(given: Scenario, world: World, *changes: Change) -> Decision:
    """One run of the program, with what a person says at its beginning."""
    engine = Engine(eyes(world.host(), given.host_file), planner(), Edited(given.wanted(world)))
    for change in changes:
        engine.request(change)
    return run(engine.settle(world.now + PATIENCE), world.time).decision


def said(events: Iterable[Event]) -> list[Said]:
    return [(event.kind, str(event.subject), event.action or event.reference) for event in events]


def of(events: Iterable[Event], *kinds: EventKind) -> list[Event]:
    return [event for event in events if event.kind in kinds]


def told(given: Scenario, *changes: Change) -> tuple[World, list[Event]]:
    """What a second run tells, in which a person says something."""
    world = given.world()
    settle(given, world)
    before = len(world.history)
    settle(given, world, *changes)
    return world, world.history[before:]


# ---------------------------------------------------------------------------------------------------------- whole runs


def test_a_first_start_from_nothing_to_served() -> None:
    given = scenario()
    world = given.world()
    settle(given, world)
    assert said(world.history) == [
        (EventKind.REVISION, "source/worktree", "revision"),
        (EventKind.STARTED, FAST, "launch"),
        (EventKind.DONE, FAST, "launch"),
        (EventKind.WAITING, FAST, "starting"),
        (EventKind.PROVED, FAST, "proved"),
        (EventKind.STARTED, "gateway/litellm", "publish"),
        (EventKind.DONE, "gateway/litellm", "publish"),
        (EventKind.SETTLED, ENSEMBLE, "settled"),
    ]
    texts = [event.text for event in world.history]
    assert texts[0] == "worktree:0, 1 model"
    assert texts[1].startswith("port 8100, ")
    assert texts[4] == "pid 9001 answers on port 8100"
    assert texts[5] == "route fast"
    assert texts[-1] == "1 serving, 0 blocked"
    assert [event.number for event in world.history] == list(range(1, 9))
    assert [event.at for event in world.history] == sorted(event.at for event in world.history)
    assert {event.revision for event in world.history} == {"worktree:0"}


def test_a_second_run_that_finds_nothing_to_do_tells_nothing() -> None:
    assert told(scenario())[1] == []


def test_a_swap_of_a_server_with_a_route() -> None:
    given = scenario()
    world = given.world()
    settle(given, world)
    before = len(world.history)
    models = {label: replace(spec, options={"temp": 0.5}) for label, spec in given.desired.state.models.items()}
    state = replace(given.desired.state, models=models)
    settle(replace(given, desired=replace(given.desired, state=state, revision="worktree:1")), world)
    told = [(event.kind, event.action) for event in world.history[before:] if event.kind is not EventKind.WAITING]
    started, done = EventKind.STARTED, EventKind.DONE
    assert told == [
        *((EventKind.REVISION, ""), (started, "preflight"), (done, "preflight")),
        *((started, "publish"), (done, "publish"), (started, "stop"), (done, "stop")),
        *((started, "launch"), (done, "launch"), (EventKind.PROVED, ""), (started, "publish"), (done, "publish")),
        (EventKind.SETTLED, ""),
    ]
    texts = [event.text for event in world.history[before:] if event.kind is started]
    assert texts[0] == "what is to replace it is tried out first"
    assert texts[1] == "withdraw fast"
    assert "options.temp: none -> 0.5 (restart)" in texts[2]
    assert texts[4] == "route fast"


def test_another_revision_that_changes_nothing_is_told_and_nothing_else() -> None:
    given = scenario()
    world = given.world()
    settle(given, world)
    before = len(world.history)
    later = replace(given, desired=replace(given.desired, revision="worktree:1"))
    settle(later, world)
    settle(later, world)
    assert said(world.history[before:]) == [(EventKind.REVISION, "source/worktree", "revision")]


def test_the_same_tick_again_tells_nothing_new() -> None:
    given = scenario(("fast", "deep"))
    decision = planner().decide(facts(given))
    first = journal.events(journal.recalled(()), EMPTY, decision, ())
    assert {event.kind for event in first} >= {EventKind.REVISION, EventKind.STARTED}
    again = journal.events(journal.told(decision), decision.ledger, decision, ())
    assert {event.kind for event in again} == {EventKind.STARTED}, "what is started is started each time"


# ------------------------------------------------------------------------------------------------------------ failures


def test_a_death_is_told_once_with_its_cause() -> None:
    given = scenario(script=Script(events=(Happens(after=60.0, does=Does.DIE, label="fast"),)))
    world = given.world()
    settle(given, world)
    world.time.now += 60
    before = len(world.history)
    settle(given, world)
    new = said(world.history[before:])
    assert new[0] == (EventKind.FAILED, FAST, "crashed")
    assert new.count(new[0]) == 1
    assert new.index((EventKind.STARTED, "gateway/litellm", "publish")) < new.index((EventKind.PROVED, FAST, "proved"))
    assert new[-1] == (EventKind.SETTLED, ENSEMBLE, "settled")


def test_a_server_that_is_kept_although_something_else_is_declared_serves() -> None:
    """One that stays on its old port, because a port does not change by itself, was not counted as serving."""
    given = scenario(("deep", "fast"))
    world = given.world()
    models = dict(given.desired.state.models)
    first = replace(given.desired, state=replace(given.desired.state, models={"fast": models["fast"]}))
    settle(replace(given, desired=first), world)
    models["fast"] = replace(models["fast"], port=8300)
    moved = replace(given.desired, state=replace(given.desired.state, models=models), revision="worktree:1")
    settle(replace(given, desired=moved), world)
    assert [event.subject for event in of(world.history, EventKind.BLOCKED)] == [FAST]
    assert world.history[-1].text == "2 serving, 1 blocked"


@pytest.mark.parametrize("dies", [0.5, inf], ids=["crashes", "never answers"])
def test_a_model_that_cannot_serve_is_told_until_it_is_given_up(dies: float) -> None:
    given = scenario(script=Script(duds={"fast": dies}, jitters=(0.5,)))
    world = given.world()
    settle(given, world)
    failed = of(world.history, EventKind.FAILED)
    assert {event.reference for event in failed} == {"crashed" if dies == 0.5 else "not-proved-in-time"}
    assert len(failed) == world.ledger.attempts["fast"].count == 5
    assert all(event.text for event in failed)
    assert said(of(world.history, EventKind.BLOCKED)) == [(EventKind.BLOCKED, FAST, "crash-loop")]
    assert of(world.history, EventKind.PROVED) == []
    assert world.history[-1].text == "0 serving, 1 blocked"
    before = len(world.history)
    settle(given, world)
    assert world.history[before:] == []


@pytest.mark.parametrize("fault", [Fault.FAIL, Fault.HALF, Fault.LOST, Fault.HANG])
def test_a_request_that_fails_is_told_once_as_an_outcome(fault: Fault) -> None:
    given = scenario(script=Script(faults=(fault,)))
    world = given.world()
    settle(given, world)
    [failed] = of(world.history, EventKind.FAILED)
    assert (failed.subject, failed.action) == (FAST, "launch")
    assert failed.reference == {"HANG": "timed-out", "FAIL": "refused", "HALF": "interrupted"}.get(
        fault.name, "answer-lost"
    )
    assert world.history[-1].kind is EventKind.SETTLED


def test_a_proof_of_another_process_is_told_again_and_that_of_the_same_one_is_not() -> None:
    script = Script(events=(Happens(after=60.0, does=Does.DIE, label="fast"),))
    given = scenario(("fast", "deep"), script)
    world = given.world()
    settle(given, world)
    world.time.now += 60
    settle(given, world)
    proved = [event.subject for event in of(world.history, EventKind.PROVED)]
    assert sorted(proved) == [DEEP, FAST, FAST]


# ----------------------------------------------------------------------------------------------------------- a person


def test_a_stop_and_a_start_are_told_before_what_comes_of_them() -> None:
    given = scenario()
    world = given.world()
    settle(given, world)
    before = len(world.history)
    settle(given, world, Request(do=Asked.STOP, labels=("fast",), reason="lunch").change)
    stopped = world.history[before:]
    assert said(stopped)[0] == (EventKind.SUSPENDED, FAST, "suspended")
    assert stopped[0].text == "lunch"
    assert [kind for kind, *_ in said(stopped)][-1] is EventKind.SETTLED
    actions = [event.action for event in of(stopped, EventKind.STARTED)]
    assert actions == ["publish", "stop"]
    before = len(world.history)
    settle(given, world, Request(do=Asked.START, labels=("fast",)).change)
    started = said(world.history[before:])
    assert started[0] == (EventKind.RESUMED, FAST, "resumed")
    assert (EventKind.PROVED, FAST, "proved") in started


def test_a_retry_is_told_and_clears_the_block() -> None:
    given = scenario(script=Script(duds={"fast": 0.5}))
    world = given.world()
    settle(given, world)
    before = len(world.history)
    healthy = World(world.truth, given.host_file, Script(), world.time)
    healthy.history = world.history
    settle(given, healthy, Request(do=Asked.RETRY, labels=("fast",)).change)
    new = said(healthy.history[before:])
    assert new[0] == (EventKind.RETRIED, FAST, "retried")
    assert (EventKind.CLEARED, FAST, "crash-loop") in new
    assert new[-1] == (EventKind.SETTLED, ENSEMBLE, "settled")


def test_what_a_person_says_twice_and_what_changes_nothing_is_not_told() -> None:
    _, new = told(scenario(), Request(do=Asked.APPLY).change, Request(do=Asked.START, labels=("fast",)).change)
    assert new == []


@pytest.mark.parametrize("label", ["fast", "deep"])
def test_the_run_after_a_request_that_moved_nothing_tells_nothing(label: str) -> None:
    """`deep` does not run: to stop it moves nothing, and the next apply has nothing to say."""
    given = scenario(("fast", "deep"))
    state = given.desired.state
    models = {**state.models, "deep": replace(state.models["deep"], activation="on-demand")}
    given = replace(given, desired=replace(given.desired, state=replace(state, models=models)))
    world, new = told(given, Request(do=Asked.STOP, labels=(label,), reason="lunch").change)
    assert said(new)[0][0] is EventKind.SUSPENDED
    before = len(world.history)
    settle(given, world)
    assert said(world.history[before:]) == []


def test_what_people_said_is_told_in_one_order() -> None:
    labels = [f"m{number}" for number in range(9)]
    suspended = replace(EMPTY, suspensions={label: Suspension(since=1.0, reason="") for label in labels})
    failed = Attempt(spec_hash="a", cause="crashed", count=1, first=1.0, last=1.0, retry_at=1.0)
    tried = replace(EMPTY, attempts=dict.fromkeys([*labels, "publish:gateway/litellm"], failed))
    for before in (suspended, tried):
        subjects = [subject for _, subject, *_ in journal.changed(before, EMPTY)]
        assert subjects == [server_subject(label) for label in labels]


def test_a_suspension_that_ends_by_itself_is_told() -> None:
    given = scenario()
    pause = Suspension(since=given.world().now, reason="for a minute", until=given.world().now + 60)
    world, new = told(given, lambda ledger, now: replace(ledger, suspensions={"fast": replace(pause, until=now + 60)}))
    before = len(world.history)
    world.time.now += 61
    settle(given, world)
    kinds = [event.kind for event in [*new, *world.history[before:]] if event.subject == FAST]
    assert kinds[0] is EventKind.SUSPENDED
    assert kinds.index(EventKind.RESUMED) < kinds.index(EventKind.PROVED)


# ------------------------------------------------------------------------------------------------ blocked and cleared


def test_what_is_blocked_is_told_once_and_when_it_is_cleared() -> None:
    events = (Happens(after=0.0, does=Does.OCCUPY, port=8100), Happens(after=600.0, does=Does.VACATE, port=8100))
    given = scenario(script=Script(events=events))
    world = given.world()
    settle(given, world)
    [blocked] = of(world.history, EventKind.BLOCKED)
    assert (blocked.subject, blocked.reference) == (FAST, "port-occupied")
    assert "port 8100 is held by pid 4711 (postgres)" in blocked.text
    assert "free port 8100" in blocked.text
    before = len(world.history)
    settle(given, world)
    assert world.history[before:] == []
    world.time.now += 600
    settle(given, world)
    new = said(world.history[before:])
    assert new[0] == (EventKind.CLEARED, FAST, "port-occupied")
    assert new[-1] == (EventKind.SETTLED, ENSEMBLE, "settled")


def test_new_figures_in_a_reason_are_nothing_new() -> None:
    given = scenario(("fast",), Script(events=(Happens(after=0.0, does=Does.OCCUPY, port=8100),)))
    decisions = []
    for pid in (4711, 4712):
        world = given.world()
        world.catch_up()
        world.truth.foreign[8100] = replace(world.truth.foreign[8100], pid=pid)
        decisions.append(planner().decide(facts(given, world)))
    first, second = decisions
    assert first.plan.blocked != second.plan.blocked
    assert journal.events(journal.told(first), first.ledger, second, ()) == ()


# ------------------------------------------------------------------------------------------------------- remembering


def test_what_was_told_is_recalled() -> None:
    taken = Happens(after=0.0, does=Does.OCCUPY, port=8100)
    for script in (CALM, Script(duds={"fast": 0.5}), Script(events=(taken,))):
        given = scenario(("fast", "deep"), script)
        world = given.world()
        decision = settle(given, world)
        assert journal.recalled(world.history) == journal.told(decision)


def event(kind: EventKind, reference: str = "", revision: str = "r") -> Event:
    return Event(at=1.0, kind=kind, subject=FAST, text="", reference=reference, revision=revision)


def test_a_history_that_was_cut_off_is_recalled_as_far_as_it_goes() -> None:
    assert journal.recalled(()) == journal.Told(revision="", waiting=frozenset(), blocked=frozenset(), settled=True)
    history = [event(EventKind.CLEARED, "gone"), event(EventKind.BLOCKED, "there"), event(EventKind.STARTED)]
    recalled = journal.recalled(history)
    assert (recalled.revision, recalled.settled) == ("r", False)
    assert recalled.blocked == {(FAST, "there", "")}
    assert journal.recalled([*history, event(EventKind.SETTLED)]).settled
    assert journal.recalled([*history, event(EventKind.SETTLED), event(EventKind.BLOCKED, "b")]).settled


def test_what_people_said_has_no_revision_and_leaves_the_one_that_is_known() -> None:
    history = [event(EventKind.REVISION, revision="one"), event(EventKind.SUSPENDED, revision="")]
    assert journal.recalled(history).revision == "one"


def test_an_outcome_is_told_before_what_is_started_for_it() -> None:
    decision = planner().decide(facts(scenario(("fast", "deep"))))
    [first, *_] = planner().chosen(decision)
    events = journal.events(journal.told(decision), decision.ledger, decision, [Outcome(action=first)])
    assert [e.kind for e in events][:2] == [EventKind.DONE, EventKind.STARTED]
    assert source_subject("worktree") not in {e.subject for e in events}
