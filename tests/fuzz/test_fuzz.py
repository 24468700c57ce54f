"""Mutated documents are accepted or refused, in words that a terminal can show; `make fuzz` reads twenty times more."""

import pytest

from tests.fuzz.run import KINDS, document, main, run


@pytest.mark.fault("S31", "S32")
@pytest.mark.parametrize("part", range(5))
def test_every_document_is_accepted_or_refused(part: int) -> None:
    outcome = run(1_000, part * 1_000)
    assert not outcome.failures, "\n".join(outcome.failures[:5])
    assert outcome.counts["accepted"] > 10
    assert outcome.counts["refused"] > 100


def test_the_documents_reach_most_checks() -> None:
    assert len(run(2_000).references) >= 30


def test_every_base_is_accepted_as_it_stands() -> None:
    for read, base in KINDS:
        assert read(base) == ()


def test_a_seed_names_one_document() -> None:
    assert [document(seed)[1] for seed in range(20)] == [document(seed)[1] for seed in range(20)]


def test_the_program_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["50", "7"]) == 0
    assert "50 documents from seed 7" in capsys.readouterr().out
