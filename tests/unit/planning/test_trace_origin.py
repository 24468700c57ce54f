"""Which commit and which generation a server comes from, and who is meant by a number."""

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.generation import Generation, Pin
from reconciler.model.observed import Inspection, Listener, Provenance, Standing
from reconciler.planning.resolve import Resolver
from reconciler.planning.trace import meant, of_process, stranger, stranger_on, traceable
from reconciler.planning.trace_lines import Agreement, Beside
from tests.golden.story import planner

from .tracing import DEEP, FAST, FOLLOWED, IDLE, NEW, OLD, RUNS, decided, line, seen, serving, traced

MATCHES, DIFFERS, UNKNOWN = Agreement.MATCHES, Agreement.DIFFERS, Agreement.UNKNOWN


# ------------------------------------------------------------------------------------------------ commit and generation


def test_an_older_commit_that_changed_nothing_of_it_says_so(tmp_path: Path) -> None:
    facts = seen(tmp_path, RUNS)
    newer = replace(FOLLOWED, revision=NEW)
    facts = replace(
        facts,
        desired=replace(facts.desired, revision=NEW),
        ledger=replace(facts.ledger, current=2, source=newer),
    )
    found = traced(facts, beside=Beside(newest=NEW, behind=1))
    commit = ("1111111", DIFFERS, "2222222 is in force; nothing of this server has changed with it")
    assert line(found, "commit") == commit
    assert line(found, "generation") == ("1", DIFFERS, "2 is in force")
    assert line(found, "newer commits") == (
        "behind by 1",
        DIFFERS,
        "1 commit since then touches what is declared",
    )
    assert found.behind == 1
    other = serving(facts, fields={**facts.observed.servers["fast"].fields, "options.max_tokens": "7"})
    assert line(traced(other), "commit") == ("1111111", DIFFERS, "2222222 is in force")


def test_a_newest_commit_that_is_not_in_force_is_named(tmp_path: Path) -> None:
    found = traced(seen(tmp_path, RUNS), beside=Beside(newest=NEW, behind=3))
    assert line(found, "commit")[1] is MATCHES
    assert line(found, "newer commits") == (
        "behind by 3",
        DIFFERS,
        "3 commits since then touch what is declared; the newest, 2222222, is not in force",
    )


def test_what_was_gone_back_to_is_what_is_in_force(tmp_path: Path) -> None:
    facts = seen(tmp_path, RUNS)
    ledger = replace(
        facts.ledger,
        source=replace(FOLLOWED, revision=NEW),
        generations=(Generation(number=1, at=0.0, revision=OLD, content="c"),),
        pin=Pin(number=1, content="c", bad=NEW, left=("d",), at=0.0, reason="too slow"),
    )
    found = traced(replace(facts, ledger=ledger))
    assert found.revision_in_force == OLD
    assert line(found, "commit")[1] is MATCHES


def test_a_later_commit_of_the_content_in_force_is_no_difference(tmp_path: Path) -> None:
    """After a return what is in force is the newest revision of its generation, and any of them is the same content."""
    facts = seen(tmp_path, RUNS)
    first, left = "worktree:0123456789ab", "3" * 40
    known = Generation(number=1, at=0.0, revision=first, revisions=(NEW, OLD), content="c")
    pin = Pin(number=1, content="c", bad=left, left=("d",), at=0.0, reason="it crashed", automatic=True)
    ledger = replace(facts.ledger, source=replace(FOLLOWED, revision=left), generations=(known,), pin=pin)
    facts = replace(facts, ledger=ledger)
    found = traced(facts)
    assert found.revision_in_force == OLD
    assert line(found, "commit") == ("1111111", MATCHES, "")
    same = "2222222, of the same content as 1111111, which is in force"
    assert line(traced(serving(facts, revision=NEW)), "commit") == (same, MATCHES, "")
    assert line(traced(serving(facts, revision=left)), "commit")[1] is DIFFERS


def test_without_commits_nobody_can_be_behind(tmp_path: Path) -> None:
    found = traced(seen(tmp_path, RUNS), beside=Beside())
    assert line(found, "newer commits") == ("what is declared is not followed by commit", None, "")
    assert found.behind is None
    found = traced(seen(tmp_path, RUNS), beside=Beside(newest=NEW, reason="a shallow clone"))
    assert line(found, "newer commits") == ("unknown", UNKNOWN, "a shallow clone")


@pytest.mark.parametrize(("then", "now", "said"), [(0, 1, "none was known when it was launched"), (1, 0, "which one")])
def test_a_generation_that_nobody_knows(tmp_path: Path, then: int, now: int, said: str) -> None:
    facts = serving(seen(tmp_path, RUNS), generation=then)
    _, agreement, reason = line(traced(replace(facts, ledger=replace(facts.ledger, current=now))), "generation")
    assert agreement is UNKNOWN
    assert reason.startswith(said)


# -------------------------------------------------------------------------------------------------- what somebody means


def test_a_label_an_alias_a_port_and_a_pid_mean_the_same(tmp_path: Path) -> None:
    decision = decided(seen(tmp_path, RUNS, FAST + DEEP))
    for said in ("fast", "server/fast", "quick", "8100", "12100"):
        assert meant(decision, said) == "fast", said
    assert meant(decision, "8101") == "deep", "it is declared and does not run"
    assert of_process(decision, 12100) == "fast"
    for said in ("", "slow", "server/", "77", "0", "99999999999999999999", "²", "-1"):
        assert meant(decision, said) is None, said
    assert set(traceable(decision)) == {"fast", "deep", "quick", "8100", "8101"}


def test_a_port_means_the_server_that_has_it_before_the_one_that_is_to_get_it(tmp_path: Path) -> None:
    moved = "servers: {deep: {port: 8100}}\ngateways: {litellm: {routes: []}}\n"
    decision = decided(seen(tmp_path, moved, FAST + DEEP))
    assert meant(decision, "8100") == "deep"


def test_a_record_that_names_no_port_is_meant_by_no_number(tmp_path: Path) -> None:
    decision = decided(serving(seen(tmp_path, RUNS), port=0, standing=Standing.UNKNOWN))
    assert meant(decision, "0") is None
    assert meant(decision, "nonsense") is None
    assert "0" not in traceable(decision)


def test_a_pid_of_a_process_that_is_gone_means_nobody(tmp_path: Path) -> None:
    assert meant(decided(serving(seen(tmp_path, RUNS), standing=Standing.GONE)), "12100") is None


def test_a_stranger_is_named_and_said_not_to_be_ours(tmp_path: Path) -> None:
    decision = decided(seen(tmp_path, RUNS))
    found = stranger_on(decision, Listener(port=9000, pid=77, command="nc -l"))
    assert found.answer == "port 9000 is held by pid 77 (nc -l), which is not ours"
    assert (found.subject, found.lines) == ("port/9000", ())
    routed = stranger_on(decision, Listener(port=8100))
    assert [(entry.name, entry.found) for entry in routed.lines] == [
        ("gateway/litellm", "fast -> 127.0.0.1:8100 as default_model, also quick")
    ]
    assert stranger(Inspection(pid=77, command="nc -l")).answer == "pid 77 (nc -l) is not of a server of ours"
    copied = stranger(Inspection(pid=77, carried=Provenance(label="fast")))
    assert copied.answer.endswith("its environment names server/fast, which proves nothing")


# --------------------------------------------------------------------------------------------------- what a launch gets


def test_an_order_carries_the_revision_and_the_generation_in_force_and_its_spec_does_not(tmp_path: Path) -> None:
    facts = seen(tmp_path, IDLE)
    resolver = Resolver(planner().backends)
    first = resolver.resolve(facts)["fast"]
    assert resolver.resolve(facts)["fast"] is first, "nothing has changed"
    assert first.order is not None
    assert (first.order.revision, first.order.generation) == (OLD, 1)
    newer = replace(facts, desired=replace(facts.desired, revision=NEW))
    second = resolver.resolve(newer)["fast"]
    assert second.order is not None
    assert (second.order.revision, second.order.generation) == (NEW, 1)
    third = resolver.resolve(replace(newer, ledger=replace(newer.ledger, current=2)))["fast"]
    assert third.order is not None
    assert (third.order.revision, third.order.generation) == (NEW, 2)
    assert first.spec_hash == second.spec_hash == third.spec_hash == first.order.spec_hash


def test_a_commit_that_does_not_change_a_server_leaves_it_alone(tmp_path: Path) -> None:
    facts = seen(tmp_path, RUNS)
    newer = replace(facts, desired=replace(facts.desired, revision=NEW), ledger=replace(facts.ledger, current=2))
    assert decided(newer).plan.actions == ()
