"""`stop`, and `stop --force`: what a person may end although a gateway may still send it requests."""

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.ledger import Attempt, Suspension
from reconciler.model.plan import InFlight
from reconciler.model.view import Facts
from reconciler.planning.plan import Decision
from tests.golden.story import NOW, Story, planner

HEAD = "version: 1\nports: {team: 8100-8119}\ngateways: {litellm: {mode: direct}}\n"
MODELS = "models:\n" + "".join(
    f"  {label}:\n    source: {{repo: acme/{label}}}\n    port: {port}\n"
    for label, port in (("fast", 8100), ("deep", 8101), ("vl", 8102))
)
ARTIFACTS = "artifacts: {acme/fast@main: {}, acme/deep@main: {}, acme/vl@main: {}}\n"
SERVERS = "servers: {fast: {port: 8100}, deep: {port: 8101}, vl: {port: 8102}}\n"
UNKNOWN = "gateways: {litellm: {unknown: permission denied}}\n"
ROUTED = "gateways: {litellm: {routes: [fast, deep, vl]}}\n"
DRAINING = "gateways: {litellm: {routes: [deep, vl], draining: [8100]}}\n"
CLEAR = "gateways: {litellm: {routes: [deep, vl]}}\n"


def facts(
    folder: Path, gateways: str, force: bool | None, desired: str = HEAD + MODELS, servers: str = SERVERS
) -> Facts:
    """What is known when a person has stopped `fast`, with force or without; None: nobody has."""
    (folder / "desired.yaml").write_text(desired)
    (folder / "observed.yaml").write_text(ARTIFACTS + servers + gateways)
    seen = Story(folder).facts()
    said = {} if force is None else {"fast": Suspension(since=NOW - 1, reason="lunch", force=force)}
    return replace(seen, ledger=replace(seen.ledger, suspensions=said))


def actions(decision: Decision) -> list[str]:
    return [f"{action.kind} {action.subject}" for action in decision.plan.actions]


def said(decision: Decision) -> set[tuple[str, str]]:
    """Subject and reference of everything that waits or is blocked."""
    waiting = {(entry.subject, entry.reference) for entry in decision.plan.waiting}
    return {*waiting, *((entry.subject, entry.reference) for entry in decision.plan.blocked)}


@pytest.mark.parametrize(
    ("gateways", "force", "done", "why"),
    [
        (UNKNOWN, False, [], "gateway-unknown"),
        (UNKNOWN, True, ["stop server/fast"], None),
        (ROUTED, False, ["publish gateway/litellm"], "waiting-for-withdrawal"),
        (ROUTED, True, ["publish gateway/litellm", "stop server/fast"], None),
        (DRAINING, False, [], "draining"),
        (DRAINING, True, ["stop server/fast"], None),
        (CLEAR, False, ["stop server/fast"], None),
        (CLEAR, True, ["stop server/fast"], None),
    ],
)
def test_only_force_ends_what_a_gateway_may_still_use(
    tmp_path: Path, gateways: str, force: bool, done: list[str], why: str | None
) -> None:
    decision = planner().decide(facts(tmp_path, gateways, force))
    assert actions(decision) == done
    assert {reference for subject, reference in said(decision) if subject == "server/fast"} == ({why} - {None})


def test_the_block_says_how_to_force_it(tmp_path: Path) -> None:
    decision = planner().decide(facts(tmp_path, UNKNOWN, False))
    [blocked] = [blocked for blocked in decision.plan.blocked if blocked.reference == "gateway-unknown"]
    assert blocked.subject == "server/fast"
    assert "it was kept" in blocked.reason
    assert "reconciler stop fast --force" in blocked.hint


@pytest.mark.parametrize("gateways", [UNKNOWN, ROUTED, "gateways: {litellm: {draining: [8100, 8101, 8102]}}\n"])
def test_nothing_else_is_stopped_for_it(tmp_path: Path, gateways: str) -> None:
    """`deep` is wedged and `vl` is not declared any more: both are to go, and neither is forced."""
    desired = (HEAD + MODELS).partition("  vl:")[0]
    servers = SERVERS.replace("port: 8101", "port: 8101, health: zombie")
    decision = planner().decide(facts(tmp_path, gateways, True, desired, servers))
    assert [action for action in actions(decision) if action.startswith("stop")] == ["stop server/fast"]
    assert {"server/deep", "server/vl"} <= {subject for subject, _ in said(decision)}


def test_an_unknown_process_is_not_stopped_by_force(tmp_path: Path) -> None:
    doubtful = SERVERS.replace("port: 8100", "port: 8100, standing: unknown, detail: its token contradicts")
    assert actions(planner().decide(facts(tmp_path, UNKNOWN, True, servers=doubtful))) == []


def test_a_forced_stop_is_not_done_twice(tmp_path: Path) -> None:
    seen = facts(tmp_path, UNKNOWN, True)
    first = planner().decide(seen)
    jobs = tuple(
        InFlight(subject=action.subject, kind=action.kind, claim=action.claims, since=NOW)
        for action in first.plan.actions
    )
    again = planner().decide(replace(seen, in_flight=jobs))
    assert actions(again) == []
    assert said(again) >= {("server/fast", "in-progress")}


def test_force_ends_with_the_suspension(tmp_path: Path) -> None:
    seen = facts(tmp_path, UNKNOWN, True)
    over = {"fast": replace(seen.ledger.suspensions["fast"], until=NOW)}
    assert actions(planner().decide(replace(seen, ledger=replace(seen.ledger, suspensions=over)))) == []
    assert actions(planner().decide(facts(tmp_path, UNKNOWN, None))) == []


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("prune", [False, True])
def test_a_suspended_label_that_is_not_declared_is_stopped(tmp_path: Path, prune: bool, force: bool) -> None:
    policy = f"policy: {{prune: {str(prune).lower()}}}\n"
    desired = HEAD + policy + MODELS.replace("  fast:", "  other:").replace("port: 8100", "port: 8109")
    desired = desired.replace("acme/fast", "acme/gone")
    nobody = planner().decide(facts(tmp_path, CLEAR, None, desired))
    assert ("stop server/fast" in actions(nobody)) == prune
    decision = planner().decide(facts(tmp_path, CLEAR, force, desired))
    assert [action for action in actions(decision) if action.startswith("stop")] == ["stop server/fast"]
    assert decision.ledger.suspensions.keys() == {"fast"}, "it is remembered as long as there is something to stop"


HEIR = (HEAD + MODELS).replace("  fast:", "  heir:").replace("acme/fast", "acme/deep")


def test_a_newcomer_takes_no_port_while_a_gateway_may_send_others_requests_there(tmp_path: Path) -> None:
    """`fast` was ended by force on a port that a file which cannot be read may still name; `heir` is declared on it."""
    servers = "servers: {deep: {port: 8101}, vl: {port: 8102}}\n"
    decision = planner().decide(facts(tmp_path, UNKNOWN, None, HEIR, servers))
    assert actions(decision) == []
    assert ("server/heir", "gateway-unknown") in said(decision)
    assert "launch server/heir" in actions(planner().decide(facts(tmp_path, CLEAR, None, HEIR, servers)))


def test_whoever_had_the_port_before_may_start_on_it_again(tmp_path: Path) -> None:
    servers = "servers: {deep: {port: 8101}, vl: {port: 8102}}\n"
    seen = facts(tmp_path, UNKNOWN, None, servers=servers)
    seen = replace(seen, ledger=replace(seen.ledger, leases={**seen.ledger.leases, "fast": 8100}))
    assert actions(planner().decide(seen)) == ["launch server/fast"]


def test_another_gateway_that_is_blocked_keeps_no_withdrawal(tmp_path: Path) -> None:
    """A front door is declared, which this version does not run; LiteLLM's file is written all the same."""
    both = HEAD.replace("{litellm: {mode: direct}}", "{front: {port: 1234}, litellm: {mode: direct}}")
    decision = planner().decide(facts(tmp_path, ROUTED, False, both + MODELS))
    assert ("gateway/front", "gateway-unavailable") in said(decision)
    assert "publish gateway/litellm" in actions(decision)
    assert ("server/fast", "waiting-for-withdrawal") in said(decision)


def test_a_withdrawal_that_only_a_person_makes_possible_is_said_to_be_one(tmp_path: Path) -> None:
    seen = facts(tmp_path, ROUTED, False)
    failure = Attempt(
        spec_hash="publish", cause="gateway-unwritable", count=1, first=NOW, last=NOW, retry_at=NOW + 9, permanent=True
    )
    seen = replace(seen, ledger=replace(seen.ledger, attempts={"publish:gateway/litellm": failure}))
    decision = planner().decide(seen)
    assert actions(decision) == []
    assert {("gateway/litellm", "gateway-unwritable"), ("server/fast", "withdrawal-blocked")} <= said(decision)
