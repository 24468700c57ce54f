"""What a person can ask of a loop is a change of what is remembered, and of nothing else."""

from dataclasses import replace

import pytest

from reconciler.engine.requests import Asked, Request
from reconciler.model.ledger import EMPTY, Attempt, Ledger, ServiceProof, Suspension, Wish
from reconciler.model.supply import SourceCheck

NOW = 1_000_000.0
FAILED = Attempt(spec_hash="a", cause="crashed", count=5, first=1.0, last=2.0, retry_at=3.0)
STOPPED = Suspension(since=1.0, reason="lunch")
FULL = Ledger(
    attempts={"fast": FAILED, "deep": FAILED, "publish:gateway/litellm": FAILED},
    suspensions={"deep": STOPPED, "vl": STOPPED},
    proved=frozenset({"fast"}),
    proofs={"fast": ServiceProof(instance="1:2:3:a", at=2.0)},
    launched=frozenset({"fast", "deep"}),
    leases={"fast": 8120},
    reserved=frozenset({"deep"}),
)


@pytest.mark.parametrize("ledger", [EMPTY, FULL])
def test_apply_tries_failed_actions_at_once_and_starts_no_held_server(ledger: Ledger) -> None:
    after = Request(do=Asked.APPLY, labels=("fast",), revision="worktree:1").change(ledger, NOW)
    servers = {key: attempt for key, attempt in ledger.attempts.items() if ":" not in key}
    assert after == replace(ledger, attempts=servers)


def test_stop_suspends_the_labels_it_names() -> None:
    after = Request(do=Asked.STOP, labels=("fast", "old"), reason="too slow").change(FULL, NOW)
    new = Suspension(since=NOW, reason="too slow", until=None, force=False)
    assert after == replace(FULL, suspensions={"deep": STOPPED, "vl": STOPPED, "fast": new, "old": new})


def test_stop_again_is_the_later_word() -> None:
    after = Request(do=Asked.STOP, labels=("deep",), reason="now", force=True).change(FULL, NOW)
    assert after.suspensions["deep"] == Suspension(since=NOW, reason="now", force=True)
    assert after.suspensions["vl"] == STOPPED


def test_a_suspension_has_an_end_and_a_stop_has_none() -> None:
    until = Request(do=Asked.SUSPEND, labels=("fast",), reason="noise", until=NOW + 60, by="ana").change(FULL, NOW)
    assert until.suspensions["fast"] == Suspension(since=NOW, reason="noise", until=NOW + 60, by="ana")
    longer = Request(do=Asked.SUSPEND, labels=("fast",), reason="more", until=NOW + 90).change(until, NOW + 30)
    assert longer.suspensions["fast"] == Suspension(since=NOW + 30, reason="more", until=NOW + 90)
    stopped = Request(do=Asked.STOP, labels=("fast",), reason="broken", until=NOW + 9).change(longer, NOW + 40)
    assert stopped.suspensions["fast"] == Suspension(since=NOW + 40, reason="broken", until=None)
    assert Request(do=Asked.START, labels=("fast",)).change(longer, NOW + 50) == FULL


def test_start_ends_suspensions_and_forgets_no_failure() -> None:
    after = Request(do=Asked.START, labels=("deep", "never-heard-of")).change(FULL, NOW)
    assert after == replace(FULL, suspensions={"vl": STOPPED})


def test_retry_forgives_failures_knows_which_were_counted_and_ends_no_suspension() -> None:
    after = Request(do=Asked.RETRY, labels=("deep", "never-heard-of")).change(FULL, NOW)
    clean = replace(FAILED, count=0, retry_at=0.0, permanent=False)
    assert after == replace(FULL, attempts={**FULL.attempts, "deep": clean})


def test_retry_forgets_failed_actions_on_the_server_too() -> None:
    before = replace(FULL, attempts={"stop:server/deep": FAILED, "stop:server/fast": FAILED})
    after = Request(do=Asked.RETRY, labels=("deep",)).change(before, NOW)
    assert after.attempts == {"stop:server/fast": FAILED}


@pytest.mark.parametrize(("do", "wish"), [(Asked.OFFLOAD, Wish.OFFLOAD), (Asked.RESTORE, Wish.KEEP)])
def test_a_wish_about_weights_is_the_later_word_and_forgets_failed_moves_of_them(do: Asked, wish: Wish) -> None:
    moves = {f"{kind}:artifact/org/one@main": FAILED for kind in ("offload", "restore", "ensure")}
    others = {"offload:artifact/org/two@main": FAILED, "fast": FAILED}
    before = replace(FULL, attempts=moves | others, wishes={"org/one@main": Wish.OFFLOAD, "org/two@main": Wish.KEEP})
    after = Request(do=do, labels=("org/one@main",)).change(before, NOW)
    assert after == replace(before, attempts=others, wishes={"org/one@main": wish, "org/two@main": Wish.KEEP})


def test_apply_knows_what_the_hub_has_said_to_the_person_who_asks() -> None:
    old, new = SourceCheck(at=1.0, problem="source-gated"), SourceCheck(at=NOW, commit="c1")
    before = replace(FULL, sources={"org/one@main": old, "org/two@main": old})
    after = Request(do=Asked.APPLY, sources={"org/one@main": new, "org/three@main": new}).change(before, NOW)
    assert after.sources == {"org/one@main": new, "org/three@main": new}, "what was refused is asked about again"


@pytest.mark.parametrize("do", list(Asked))
def test_no_labels_change_nothing_and_no_request_changes_what_it_is_given(do: Asked) -> None:
    before = replace(FULL, attempts=dict(FULL.attempts), suspensions=dict(FULL.suspensions))
    if do is not Asked.APPLY:
        assert Request(do=do).change(before, NOW) == FULL
    Request(do=do, labels=("fast", "deep", "vl")).change(before, NOW)
    assert before == FULL


def test_every_request_is_one_of_these_words() -> None:
    words = ["accept", "apply", "offload", "restore", "retry", "rollback", "start", "stop", "suspend"]
    assert sorted(map(str, Asked)) == words
