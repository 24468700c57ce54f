"""What is followed after somebody went back: nothing is trusted, taken or forgotten for it."""

from dataclasses import replace

import pytest

from reconciler.desired.canonical import canonical, digest, restored
from reconciler.engine.declared import QUIET, Reading
from reconciler.engine.requests import confirmed
from reconciler.engine.returning import Return
from reconciler.model.generation import Generation
from reconciler.model.problem import ReconcilerError
from reconciler.model.source import Mode
from reconciler.planning import generations

from .place import NAMES_A, NAMES_B, NAMES_C, NOW, B, C, Place, committed, content, models, saved, waits


def entered(place: Place) -> Reading:
    """One look, with its generation, as the loop does it."""
    reading = place.read(NOW)
    name = digest(canonical(reading.desired))
    born = Generation(number=0, at=NOW, revision=reading.desired.revision, content=name)
    place.ledger = generations.entered(place.ledger, born)
    return reading


def go_back(place: Place, number: int) -> None:
    """A return to a generation, as the loop does it."""
    back = generations.generation(place.ledger, number)
    assert back is not None
    text = place.kept[back.content]
    again = Return(generation=back, desired=restored(text, back.latest), content=text)
    place.ledger = again.pinned(place.ledger, NOW, "worse")


@pytest.mark.fault("S26", "D22")
@pytest.mark.parametrize("why", ["commit-untrusted", "history-rewritten"])
def test_a_return_while_a_revision_is_refused_makes_nobody_trust_what_comes_after_it(why: str) -> None:
    place = committed()
    entered(place)
    place.source.commit("c2", B)
    entered(place)
    place.source.untrusted = {"evil"} if why == "commit-untrusted" else set()
    place.source.commit("evil", C, onto=None if why == "commit-untrusted" else "c1")
    assert waits(entered(place))[0] == why
    go_back(place, 1)
    assert waits(entered(place))[0] == why, "it is still said"
    place.source.commit("child", content("d"))
    reading = entered(place)
    assert (models(reading), waits(reading)[0]) == (NAMES_A, why)


def test_two_returns_leave_both_contents() -> None:
    place = committed()
    entered(place)
    for name, what in (("c2", B), ("bad", C)):
        place.source.commit(name, what)
        entered(place)
    for number in (2, 1):
        go_back(place, number)
        entered(place)
    place.source.commit("bad, with a comment", C)
    assert models(entered(place)) == NAMES_A


def test_a_clock_that_was_set_back_does_not_put_off_an_edit() -> None:
    place = saved()
    place.source.save("worktree:2", B)
    place.read(NOW)
    place.read(NOW - 3600)
    assert models(place.read(NOW - 3600 + QUIET)) == NAMES_B


def test_what_fails_for_the_moment_while_somebody_goes_back_is_judged_again() -> None:
    place = committed()
    entered(place)
    place.source.commit("c2", B)
    entered(place)
    place.source.commit("c3", C)
    place.source.hangs = True
    assert waits(entered(place))[0] == "git-hung"
    go_back(place, 1)
    assert models(entered(place)) == NAMES_A
    place.source.hangs = False
    assert models(entered(place)) == NAMES_C


def test_a_pin_whose_content_is_lost_lets_nothing_else_in() -> None:
    place = committed()
    entered(place)
    place.source.commit("c2", B)
    entered(place)
    go_back(place, 1)
    entered(place)
    place.kept.clear()
    place.restart()
    with pytest.raises(ReconcilerError, match="generation 1, which is pinned, is not in the state directory"):
        place.read(NOW)
    place.ledger = confirmed(place.ledger, "c2")
    assert models(place.read(NOW)) == NAMES_B


def test_what_is_refused_after_the_saved_file_was_applied_can_be_accepted() -> None:
    place = committed()
    entered(place)
    assert place.ledger.source is not None
    by_hand = replace(place.ledger.source, mode=Mode.WORKTREE, revision="worktree:x")
    place.ledger = replace(place.ledger, source=by_hand)
    place.source.untrusted = {"evil"}
    place.source.commit("evil", B)
    place.restart()
    assert waits(entered(place))[0] == "commit-untrusted"
    refused = place.ledger.source
    assert refused is not None
    assert refused.refused == "evil"
    place.accept("evil")
    assert models(entered(place)) == NAMES_B


@pytest.mark.fault("S26")
def test_an_apply_of_the_saved_file_makes_nobody_trust_the_commits_since() -> None:
    place = committed()
    entered(place)
    place.source.untrusted = {"evil"}
    place.source.commit("evil", B)
    entered(place)
    place.source.commit("c3", C)
    assert place.ledger.source is not None
    by_hand = replace(place.ledger.source, mode=Mode.WORKTREE, revision="worktree:x", refused="", reference="")
    place.ledger = replace(place.ledger, source=by_hand)
    place.restart()
    reading = entered(place)
    assert (models(reading), waits(reading)[0]) == (NAMES_A, "commit-untrusted")
