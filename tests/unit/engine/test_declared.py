"""A desired state that is followed: what is taken, when, and what is said of what is not."""

import pytest

from reconciler.engine.declared import EDITING, QUIET, Fixed, Followed, Following, Reading
from reconciler.model.ledger import EMPTY
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import Mode
from tests.world.repository import Content, Repository

from .place import (
    BROKEN,
    EMPTIED,
    NAMES_A,
    NAMES_B,
    NAMES_C,
    NOW,
    TYPO,
    A,
    B,
    C,
    Place,
    committed,
    models,
    saved,
    waits,
)


def test_what_was_read_once_is_not_followed() -> None:
    assert Fixed(A).read(NOW, EMPTY) == Reading(desired=A)


# ------------------------------------------------------------------------------------------------------ a saved file


def test_the_first_revision_is_in_force_at_once() -> None:
    place = Place(Repository(), Mode.WORKTREE)
    place.source.save("worktree:1", A)
    assert models(reading := place.read(NOW)) == NAMES_A
    assert waits(reading) == (None, None)


@pytest.mark.fault("D11")
def test_d11_an_edit_is_taken_when_it_has_been_quiet() -> None:
    place = saved()
    place.source.save("worktree:2", B)
    assert models(first := place.read(NOW)) == NAMES_A
    assert first.look_again == NOW + QUIET
    assert models(second := place.read(NOW + QUIET - 0.01)) == NAMES_A
    assert second.look_again == NOW + QUIET, "an edit is not put off by looking at it"
    assert models(third := place.read(NOW + QUIET)) == NAMES_B
    assert waits(third) == (None, None)


@pytest.mark.fault("D11")
@pytest.mark.parametrize("between", [BROKEN, TYPO, A, C], ids=["gone", "invalid", "the old one", "another"])
def test_d11_an_edit_in_between_begins_the_wait_again(between: Content) -> None:
    """Seen twice and 0.25 s apart, without an edit in between: a file that is being written goes to and fro."""
    place = saved()
    place.source.save("worktree:2", B)
    place.read(NOW)
    if between is BROKEN:
        place.source.unreadable = BROKEN
    else:
        place.source.save("worktree:1" if between is A else "worktree:3", between)
    place.read(NOW + QUIET - 0.01)
    place.source.unreadable = None
    place.source.save("worktree:2", B)
    assert models(reading := place.read(NOW + QUIET + 0.01)) == NAMES_A
    assert reading.look_again == pytest.approx(NOW + 2 * QUIET + 0.01)


@pytest.mark.fault("D15")
def test_what_cannot_be_read_keeps_the_good_one_and_says_so() -> None:
    place = saved()
    place.source.unreadable = BROKEN
    assert models(first := place.read(NOW)) == NAMES_A
    assert first.problem is None, "half an edit is gone for a moment"
    assert models(second := place.read(NOW + QUIET)) == NAMES_A
    assert second.problem is not None
    assert second.problem.subject == "source/worktree"
    assert (second.problem.reference, second.problem.hint) == ("desired-file-missing", "put it back")
    assert second.problem.reason.startswith("there is no file")
    place.source.unreadable = None
    assert waits(place.read(NOW + 1)) == (None, None)


def test_an_invalid_one_is_named_by_its_first_error_and_its_place() -> None:
    place = saved()
    place.source.save("worktree:2", TYPO)
    place.read(NOW)
    problem = place.read(NOW + QUIET).problem
    assert problem is not None
    assert "7:3" in problem.reason
    assert "no such port" in problem.reason
    assert "no such name" not in problem.reason


@pytest.mark.fault("D12")
def test_d12_a_guard_pauses_and_a_person_releases_exactly_that_revision() -> None:
    place = saved()
    place.source.save("worktree:2", EMPTIED)
    assert place.read(NOW).problem is None, "not before it is quiet"
    reading = place.read(NOW + QUIET)
    assert (models(reading), waits(reading)[0]) == (NAMES_A, "emptied")
    assert reading.problem is not None
    assert "the last good state stays in force" in reading.problem.reason
    for other in ("worktree:1", "emptied", "worktree:20"):
        place.accept(other)
        assert waits(place.read(NOW + 1))[0] == "emptied"
    place.accept("worktree:2")
    assert models(reading := place.read(NOW + 1)) == ()
    assert waits(reading) == (None, None)


@pytest.mark.fault("D12")
def test_d12_a_revision_is_released_once() -> None:
    """A person lets a file be emptied, ten models are added, and `git checkout .` empties it again."""
    place = saved()
    place.source.save("worktree:2", EMPTIED)
    place.read(NOW)
    place.accept("worktree:2")
    assert models(place.read(NOW)) == (), "what a person has seen needs no wait"
    place.source.save("worktree:3", B)
    place.read(NOW + 1)
    assert models(place.read(NOW + 2)) == NAMES_B
    place.source.save("worktree:2", EMPTIED)
    place.read(NOW + 3)
    reading = place.read(NOW + 4)
    assert (models(reading), waits(reading)[0]) == (NAMES_B, "emptied")


def test_a_guard_is_asked_again_for_what_it_has_refused() -> None:
    """The world may have changed: what would have ended a server ends nothing once that is gone."""
    answers: list[tuple[str, str] | None] = [("shrinks", "too much"), None]
    place = committed()
    place.followed = Followed(
        Following(
            source=place.source,
            mode=place.mode,
            place="/repo/ensemble.yaml",
            parse=place.source.parse,
            guard=lambda newer, ledger: answers.pop(0),
            rules="these",
            kept=place.kept.get,
        )
    )
    place.source.commit("c2", B)
    assert models(place.read(NOW)) == NAMES_A
    assert models(place.read(NOW + 1)) == NAMES_B
    assert not answers


# ---------------------------------------------------------------------------------------------------------- commits


def test_a_commit_is_taken_at_once_and_read_once() -> None:
    place = committed()
    place.source.commit("c2", B)
    reading = place.read(NOW)
    assert (models(reading), waits(reading)) == (NAMES_B, (None, None))
    for after in range(5):
        place.read(NOW + after)
    assert place.source.reads == ["c1", "c2"]


@pytest.mark.fault("D24")
def test_d24_a_commit_that_does_not_validate_keeps_the_last_good_one_and_both_are_known() -> None:
    place = committed()
    place.source.commit("c2", TYPO)
    for after in range(3):
        reading = place.read(NOW + after)
        assert models(reading) == NAMES_A
        assert reading.problem is not None
        assert reading.problem.subject == "source/commit"
    assert place.source.reads == ["c1", "c2"], "what is wrong with a commit stays wrong"
    source = place.ledger.source
    assert source is not None
    assert (source.revision, source.refused, source.reference) == ("c1", "c2", "invalid-document")
    place.source.commit("c3", C)
    reading = place.read(NOW + 9)
    assert (models(reading), waits(reading)) == (NAMES_C, (None, None))
    assert place.ledger.source is not None
    assert (place.ledger.source.revision, place.ledger.source.refused) == ("c3", "")


def test_what_failed_for_the_moment_is_tried_again() -> None:
    place = committed()
    place.source.commit("c2", B)
    place.source.unreadable = ReconcilerError("git-hangs", "git hangs", hint="wait", code=ExitCode.ENVIRONMENT)
    assert waits(place.read(NOW)) == ("git-hangs", None)
    place.source.unreadable = None
    assert models(place.read(NOW + 2)) == NAMES_B


@pytest.mark.fault("D22")
def test_d22_rewritten_history_is_a_pause_until_a_person_releases_it() -> None:
    place = committed()
    place.source.commit("c2", B)
    place.read(NOW)
    place.source.commit("x2", C, onto="c1")
    reading = place.read(NOW + 1)
    assert (models(reading), waits(reading)[0]) == (NAMES_B, "history-rewritten")
    place.restart()
    assert waits(place.read(NOW + 2))[0] == "history-rewritten"
    place.accept("x2")
    assert models(place.read(NOW + 3)) == NAMES_C


@pytest.mark.fault("D19")
def test_d19_a_rebase_under_way_pauses_and_its_end_releases() -> None:
    place = committed()
    place.source.commit("c2", B)
    place.source.paused = "rebase-in-progress", "a rebase is under way"
    reading = place.read(NOW)
    assert (models(reading), waits(reading)[0]) == (NAMES_A, "rebase-in-progress")
    place.accept("c2")
    assert models(place.read(NOW + 1)) == NAMES_A, "a person ends a rebase by ending it"
    place.source.paused = None
    assert models(place.read(NOW + 2)) == NAMES_B


@pytest.mark.fault("S26")
def test_s26_every_commit_since_the_last_one_must_be_trusted() -> None:
    place = committed()
    place.source.untrusted = {"c2"}
    place.source.commit("c2", B)
    place.source.commit("c3", C)
    reading = place.read(NOW)
    assert (models(reading), waits(reading)[0]) == (NAMES_A, "commit-untrusted")
    assert "c2" not in place.source.reads, "what nobody trusts is not even read"


def test_a_restart_goes_on_with_the_last_good_one_although_the_newest_is_bad() -> None:
    place = committed()
    place.source.commit("c2", TYPO)
    place.read(NOW)
    place.restart()
    reading = place.read(NOW + 1)
    assert models(reading) == NAMES_A
    assert reading.desired.revision == "c1"
    del place.source.contents["c1"]  # collected: nobody can read that commit any more
    place.restart()
    assert models(place.read(NOW + 2)) == NAMES_A


def test_edits_that_nobody_has_committed_are_known_and_ignored() -> None:
    place = committed()
    place.source.uncommitted = ("ensemble.yaml",)
    first = place.read(NOW)
    assert (models(first), first.glance_at) == (NAMES_A, NOW + EDITING)
    assert first.record is not None
    assert first.record.uncommitted == (), "somebody may be about to commit it"
    reading = place.read(NOW + EDITING)
    assert (models(reading), reading.glance_at) == (NAMES_A, None)
    assert reading.record is not None
    assert reading.record.uncommitted == ("ensemble.yaml",)


@pytest.mark.parametrize("first", [TYPO, EMPTIED], ids=["invalid", "guarded"])
def test_with_nothing_good_before_a_bad_one_is_an_error(first: Content) -> None:
    place = Place(Repository(ref="refs/heads/main"), Mode.COMMIT)
    place.source.commit("c1", first)
    with pytest.raises(ReconcilerError):
        place.read(NOW)


# ----------------------------------------------------------------------------------------------------------- pinned


def test_what_was_gone_back_to_stays_until_something_newer_and_other_comes() -> None:
    place = committed()
    place.source.commit("c2", B)
    place.read(NOW)
    place.pin(A, "c1", "c2", B)
    for restart in (False, True):
        if restart:
            place.restart()
        reading = place.read(NOW + 1)
        assert (models(reading), waits(reading)) == (NAMES_A, (None, None))
        assert reading.desired.revision == "c1"
    place.source.commit("c3", B)
    assert models(place.read(NOW + 2)) == NAMES_A, "a newer commit of the same content is the same mistake"
    assert place.ledger.pin is not None
    assert place.ledger.pin.bad == "c3"
    place.source.commit("c4", TYPO)
    assert models(place.read(NOW + 3)) == NAMES_A
    place.source.commit("c5", C)
    assert models(place.read(NOW + 4)) == NAMES_C
    assert place.ledger.pin is None


def test_a_person_can_want_what_was_left_all_the_same() -> None:
    place = committed()
    place.source.commit("c2", B)
    place.read(NOW)
    place.pin(A, "c1", "c2", B)
    place.read(NOW + 1)
    place.accept("c2")
    assert models(place.read(NOW + 2)) == NAMES_B
    assert place.ledger.pin is None
