"""A desired state that is followed: what is taken, when, and what is said of what is not."""

from dataclasses import replace

import pytest

from reconciler.engine.declared import QUIET, Fixed, Followed
from reconciler.model.desired import Desired, DesiredState, ModelSpec, Source
from reconciler.model.problem import ExitCode, InvalidDocument, Problem, ReconcilerError

NOW = 1_000.0
BROKEN = ReconcilerError("desired-file-missing", "there is no file", hint="put it back", code=ExitCode.INVALID)


def revision(name: str, models: int = 1) -> Desired:
    specs = {f"m{n}": ModelSpec(source=Source(repo=f"org/m{n}"), port=8100 + n) for n in range(models)}
    return Desired(
        state=DesiredState(version=1, models=specs), revision=f"worktree:{name}", templates={}, provenance={}
    )


A, B, C = revision("a"), revision("b"), revision("c")
EMPTIED = revision("emptied", 0)


class File:
    """What lies in the folder."""

    def __init__(self, content: Desired | ReconcilerError) -> None:
        self.content = content

    def read(self) -> Desired:
        if isinstance(self.content, ReconcilerError):
            raise self.content
        return self.content


def guard(newer: Desired) -> tuple[str, str] | None:
    """As the real one: nothing may be emptied without a person."""
    return None if newer.state.models else ("emptied", "nothing is declared any more")


def followed(first: Desired = A) -> tuple[File, Followed]:
    file = File(first)
    return file, Followed(first, file.read, guard)


def reference(declared: Followed) -> str | None:
    return None if declared.problem is None else declared.problem.reference


def waits(declared: Followed) -> tuple[str | None, float | None]:
    return reference(declared), declared.look_again


def test_what_was_read_once_is_not_followed() -> None:
    declared = Fixed(A)
    declared.accept(B.revision)
    assert declared.read(NOW) is A
    assert (declared.problem, declared.look_again) == (None, None)


def test_the_first_revision_is_in_force_at_once() -> None:
    _, declared = followed()
    assert declared.read(NOW) == A
    assert (declared.problem, declared.look_again) == (None, None)


@pytest.mark.fault("D11")
def test_d11_an_edit_is_taken_when_it_has_been_quiet() -> None:
    file, declared = followed()
    file.content = B
    assert declared.read(NOW) == A
    assert declared.look_again == NOW + QUIET
    assert declared.read(NOW + QUIET - 0.01) == A
    assert declared.look_again == NOW + QUIET, "an edit is not put off by looking at it"
    assert declared.read(NOW + QUIET) == B
    assert waits(declared) == (None, None)


@pytest.mark.fault("D11")
def test_d11_another_edit_begins_the_wait_again() -> None:
    file, declared = followed()
    file.content = B
    declared.read(NOW)
    file.content = C
    assert declared.read(NOW + 0.2) == A
    assert declared.look_again == NOW + 0.2 + QUIET
    assert declared.read(NOW + QUIET) == A
    assert declared.read(NOW + 0.2 + QUIET) == C


@pytest.mark.fault("D11")
@pytest.mark.parametrize("between", [BROKEN, A, C], ids=["invalid", "the old one", "another"])
def test_d11_an_edit_in_between_begins_the_wait_again(between: Desired | ReconcilerError) -> None:
    """Seen twice and 0.25 s apart, without an edit in between: a file that is being written goes to and fro."""
    file, declared = followed()
    file.content = B
    declared.read(NOW)
    file.content = between
    declared.read(NOW + QUIET - 0.01)
    file.content = B
    assert declared.read(NOW + QUIET + 0.01) == A
    assert declared.look_again == pytest.approx(NOW + 2 * QUIET + 0.01)


@pytest.mark.fault("D15")
def test_what_cannot_be_read_keeps_the_good_one_and_says_so() -> None:
    file, declared = followed()
    file.content = BROKEN
    assert declared.read(NOW) == A
    assert declared.problem is None, "half an edit is invalid for a moment"
    assert declared.read(NOW + QUIET) == A
    assert declared.problem is not None
    assert declared.problem.subject == "source/worktree"
    assert (declared.problem.reference, declared.problem.hint) == ("desired-file-missing", "put it back")
    assert declared.problem.reason.startswith("there is no file")
    file.content = A
    assert declared.read(NOW + 1) == A
    assert declared.problem is None


def test_an_invalid_one_is_named_by_its_first_error_and_its_place() -> None:
    file, declared = followed()
    problems = (
        Problem(reference="odd", message="it is odd", where="", line=2, column=1, severity="warning"),
        Problem(reference="bad-port", message="no such port", where="", line=7, column=3),
        Problem(reference="bad-name", message="no such name", where="", line=9, column=3),
    )
    file.content = InvalidDocument("ensemble.yaml", problems, kept="nothing was changed")
    declared.read(NOW)
    declared.read(NOW + QUIET)
    assert declared.problem is not None
    assert "7:3" in declared.problem.reason
    assert "no such port" in declared.problem.reason
    assert "no such name" not in declared.problem.reason


@pytest.mark.fault("D12")
def test_d12_a_guard_pauses_and_a_person_releases_exactly_that_revision() -> None:
    file, declared = followed()
    file.content = EMPTIED
    declared.read(NOW)
    assert declared.problem is None, "not before it is quiet"
    assert declared.read(NOW + QUIET) == A
    assert reference(declared) == "emptied"
    assert "the last good state stays in force" in (declared.problem.reason if declared.problem else "")
    for other in ("", B.revision, "emptied", f"{EMPTIED.revision}0"):
        declared.accept(other)
        assert declared.read(NOW + 1) == A
        assert reference(declared) == "emptied"
    declared.accept(EMPTIED.revision)
    assert declared.read(NOW + 1) == EMPTIED
    assert (declared.problem, declared.look_again) == (None, None)


@pytest.mark.fault("D12")
def test_d12_the_release_of_one_revision_is_none_of_the_next() -> None:
    file, declared = followed(B)
    declared.accept(A.revision)
    file.content = A
    assert declared.read(NOW) == A, "what a person has seen needs no wait"
    file.content = EMPTIED
    declared.read(NOW + 1)
    assert declared.read(NOW + 1 + QUIET) == A
    assert reference(declared) == "emptied"


@pytest.mark.fault("D11")
def test_d11_going_back_to_the_first_revision_is_an_edit_like_any_other() -> None:
    file, declared = followed()
    file.content = B
    declared.read(NOW)
    assert declared.read(NOW + 1) == B
    file.content = A
    assert declared.read(NOW + 2) == B
    assert declared.look_again == NOW + 2 + QUIET
    assert declared.read(NOW + 3) == A


@pytest.mark.fault("D12")
@pytest.mark.parametrize("first", [EMPTIED, B], ids=["in force at the start", "released before"])
def test_d12_a_revision_is_released_once(first: Desired) -> None:
    """A watch begins with an empty file, ten models are added, and `git checkout .` empties it again."""
    file, declared = followed(first)
    if first is B:
        declared.accept(EMPTIED.revision)
        file.content = EMPTIED
        assert declared.read(NOW) == EMPTIED
    file.content = A
    declared.read(NOW + 1)
    assert declared.read(NOW + 2) == A
    file.content = EMPTIED
    declared.read(NOW + 3)
    assert declared.read(NOW + 4) == A
    assert reference(declared) == "emptied"


def test_going_back_to_the_good_one_clears_the_pause() -> None:
    file, declared = followed()
    file.content = EMPTIED
    declared.read(NOW)
    declared.read(NOW + QUIET)
    file.content = A
    assert declared.read(NOW + 1) == A
    assert declared.problem is None


def test_a_guard_is_asked_again_for_what_it_has_refused() -> None:
    """The world may have changed: what would have ended a server ends nothing once that is gone."""
    file, asked, answer = File(A), list[str](), [("shrinks", "too much"), None]

    def changing(newer: Desired) -> tuple[str, str] | None:
        asked.append(newer.revision)
        return answer.pop(0)

    declared = Followed(A, file.read, changing)
    file.content = B
    declared.read(NOW)
    assert declared.read(NOW + 1) == A
    assert declared.read(NOW + 2) == B
    assert asked == [B.revision] * 2


def test_the_same_revision_is_not_taken_for_an_edit() -> None:
    file, declared = followed()
    file.content = replace(A)
    assert declared.read(NOW) is A
    assert declared.look_again is None
