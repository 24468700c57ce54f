"""Who does not watch is told what needs a person and what has got worse, once each time."""

from collections.abc import Iterable

import pytest

from reconciler.model.event import Event, EventKind
from reconciler.model.names import Subject
from reconciler.planning.notices import Occasion, notices

FAST = "server/fast"


def event(kind: EventKind, subject: str = FAST, reference: str = "", action: str = "") -> Event:
    return Event(at=1.0, kind=kind, subject=Subject(subject), text="why", reference=reference, action=action)


PROVED = event(EventKind.PROVED)
DIED = event(EventKind.FAILED, reference="killed")


def told(events: Iterable[Event], serving: Iterable[str] = ()) -> list[str]:
    found, _ = notices(frozenset(serving), events)
    return [f"{notice.on.value} {notice.event.subject}" for notice in found]


@pytest.mark.parametrize(
    ("subject", "reference", "on"),
    [
        (FAST, "crash-loop", Occasion.HELD),
        (FAST, "held-permanent", Occasion.HELD),
        (FAST, "artifact-missing", Occasion.BLOCKED),
        ("gateway/litellm", "observation-unknown", Occasion.BLOCKED),
        ("source/commit", "invalid-document", Occasion.PAUSED),
        ("source/worktree", "shrinks", Occasion.PAUSED),
    ],
)
def test_what_only_a_person_can_settle_is_told(subject: str, reference: str, on: Occasion) -> None:
    assert told([event(EventKind.BLOCKED, subject, reference)]) == [f"{on.value} {subject}"]


def test_a_return_is_told_when_it_is_proved() -> None:
    events = [event(EventKind.ROLLING_BACK, "ensemble"), event(EventKind.ROLLED_BACK, "ensemble")]
    assert told(events) == ["rolled_back ensemble"]


@pytest.mark.parametrize(
    "kind", [kind for kind in EventKind if kind not in (EventKind.BLOCKED, EventKind.FAILED, EventKind.ROLLED_BACK)]
)
def test_nothing_else_is_told(kind: EventKind) -> None:
    assert told([event(kind), event(kind, "source/commit"), event(kind, "ensemble")], ["fast"]) == []


@pytest.mark.parametrize(
    ("serving", "events", "times"),
    [
        (["fast"], [DIED], 1),
        ([], [DIED], 0),
        ([], [PROVED, DIED], 1),
        ([], [PROVED, DIED, DIED], 1),
        ([], [PROVED, DIED, PROVED, DIED], 2),
        (["fast"], [event(EventKind.DONE, action="stop"), DIED], 0),
        (["fast"], [event(EventKind.DONE, action="launch"), DIED], 0),
        (["fast"], [event(EventKind.FAILED, action="stop", reference="timed-out")], 0),
        (["fast"], [event(EventKind.FAILED, action="stop"), DIED], 1),
        (["other"], [DIED], 0),
        (["fast"], [event(EventKind.FAILED, "artifact/a/b@main")], 0),
    ],
)
def test_only_what_served_can_get_worse_and_that_once(serving: list[str], events: list[Event], times: int) -> None:
    assert told(events, serving) == [f"degraded {FAST}"] * times


def test_what_serves_is_carried_from_one_tick_to_the_next() -> None:
    _, serving = notices(frozenset(), [PROVED])
    assert serving == {"fast"}
    found, serving = notices(serving, [DIED])
    assert (len(found), serving) == (1, frozenset())
    assert notices(serving, [DIED])[0] == ()
