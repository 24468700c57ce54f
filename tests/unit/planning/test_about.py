"""A request about one label acts on that label, its weights and the gateways, and takes the rest as it is."""

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.ledger import Suspension
from reconciler.model.names import Subject
from reconciler.model.routes import Route
from reconciler.model.view import Facts
from reconciler.planning.forecast import forecast
from reconciler.planning.status import HealthStatus, ServerStatus, Sync, status
from reconciler.surface.cli.labels import concerned
from tests.golden.story import NOW, Story, planner

HEAD = "version: 1\nports: {team: 8100-8119}\ngateways: {litellm: {mode: direct}}\nmodels:\n"
FAST = "  fast:\n    source: {repo: acme/fast}\n    port: 8100\n"
DEEP = "  deep:\n    source: {repo: acme/deep}\n    port: 8101\n"
ARTIFACTS = """artifacts:
  acme/fast@main: {commit: fa57}
  acme/deep@main: {commit: deed}
  acme/other@main: {commit: 07e5, weights: 1GiB}
"""
BOTH = "servers: {fast: {port: 8100}, deep: {port: 8101}}\ngateways: {litellm: {routes: [fast, deep]}}\n"
ALONE = "servers: {deep: {port: 8101}}\ngateways: {litellm: {routes: [deep]}}\n"
STOPPED = {"fast": Suspension(since=NOW - 60, reason="the fan is loud", until=NOW + 60)}


def facts(folder: Path, observed: str, desired: str = HEAD + FAST + DEEP, *, stopped: bool = True) -> Facts:
    (folder / "desired.yaml").write_text(desired)
    (folder / "observed.yaml").write_text(observed)
    seen = Story(folder).facts()
    return replace(seen, ledger=replace(seen.ledger, suspensions=STOPPED if stopped else {}))


def done(given: Facts, label: str) -> list[str]:
    """What is done for one label, to its end."""
    outcome = forecast(planner().about(concerned(given.desired, [label])), given)
    assert outcome.settled
    return [f"{action.kind} {action.subject}" for action in outcome.actions]


def routed(given: Facts, label: str) -> set[str]:
    """Which labels have a route when it has been done."""
    outcome = forecast(planner().about(concerned(given.desired, [label])), given)
    routes: tuple[Route, ...] = outcome.final.wanted["litellm"]
    return {route.label for route in routes}


@pytest.mark.parametrize(
    "deep",
    [DEEP.replace("acme/deep", "acme/other"), DEEP.replace("8101", "8102\n    moved_from: 8101"), ""],
    ids=["other weights", "another port", "gone"],
)
def test_what_waits_for_another_label_is_not_done(tmp_path: Path, deep: str) -> None:
    given = facts(tmp_path, ARTIFACTS + BOTH, HEAD + FAST + deep)
    assert done(given, "fast") == ["publish gateway/litellm", "stop server/fast"]
    if deep:
        assert routed(given, "fast") == {"deep"}, "who stays keeps its route"


def test_a_start_waits_for_nobody_who_stays(tmp_path: Path) -> None:
    """Once `deep` is replaced by something smaller there is room for `fast`; but that is not what was asked for."""
    large = ARTIFACTS.replace("{commit: deed}", "{commit: deed, weights: 20GiB}")
    desired = HEAD + FAST + DEEP
    given = facts(tmp_path, large + ALONE + "host: {memory: {budget: 30GiB}}\n", desired, stopped=False)
    said = (tmp_path / "observed.yaml").read_text()
    smaller = facts(tmp_path, said, desired.replace("deep}", "other}"), stopped=False)
    given = replace(smaller, observed=replace(smaller.observed, servers=given.observed.servers))
    everything = forecast(planner(), given)
    assert "launch server/fast" in [f"{action.kind} {action.subject}" for action in everything.actions]
    outcome = forecast(planner().about(concerned(given.desired, ["fast"])), given)
    assert (outcome.actions, [entry.reference for entry in outcome.end.blocked]) == ((), ["memory-refused"])


def test_a_start_brings_its_own_weights_and_no_others(tmp_path: Path) -> None:
    missing = "servers: {}\ngateways: {litellm: {routes: []}}\n"
    unread = ARTIFACTS.replace("{commit", "{unverified: true, commit")
    given = facts(tmp_path, unread + missing, stopped=False)
    assert done(given, "fast") == ["ensure artifact/acme/fast@main", "launch server/fast", "publish gateway/litellm"]


def test_promises_to_others_are_kept(tmp_path: Path) -> None:
    given = facts(tmp_path, ARTIFACTS + BOTH)
    given = replace(given, ledger=replace(given.ledger, reserved=frozenset({"deep", "fast"})))
    decision = planner().about([Subject("server/fast"), Subject("gateway/litellm")]).decide(given)
    assert decision.ledger.reserved == {"deep"}


# ----------------------------------------------------------------------------------------------- suspended, and drift


def fast(given: Facts) -> ServerStatus:
    decision = planner().decide(given)
    return next(entry for entry in status(decision.view, decision.plan) if entry.label == "fast")


@pytest.mark.parametrize(
    ("observed", "reference", "more"),
    [
        (ARTIFACTS + ALONE, "suspended", ""),
        (ARTIFACTS + BOTH, "waiting-for-withdrawal", "; it still runs: litellm still has its route"),
        (
            ARTIFACTS + BOTH.replace("[fast, deep]", "[deep], draining: [8100]"),
            "draining",
            "; it still runs: litellm may still be answering a request through it",
        ),
        (
            ARTIFACTS + ALONE + "listeners: {8100: {pid: 77, command: nc}}\n",
            "port-occupied",
            "; port 8100 is held by pid 77 (nc), which is not ours",
        ),
        (
            ARTIFACTS.replace("  acme/fast@main: {commit: fa57}\n", "") + ALONE + "environ: {HF_HUB_OFFLINE: '1'}\n",
            None,
            None,
        ),
    ],
    ids=["as it should be", "routed", "draining", "a stranger", "no weights"],
)
def test_a_suspended_label_says_what_else_differs(
    tmp_path: Path, observed: str, reference: str | None, more: str | None
) -> None:
    entry = fast(facts(tmp_path, observed))
    assert (entry.sync, entry.health) == (Sync.OUT_OF_SYNC, HealthStatus.SUSPENDED)
    assert entry.reason.startswith("the fan is loud")
    if more is None:
        assert entry.reference != "suspended"
        assert entry.reason != "the fan is loud"
    else:
        assert (entry.reference, entry.reason) == (reference, f"the fan is loud{more}")


def test_an_on_demand_label_that_is_suspended_is_as_declared(tmp_path: Path) -> None:
    desired = HEAD.replace("{litellm: {mode: direct}}", "{front: {port: 1234}}") + FAST + "    activation: on-demand\n"
    entry = fast(facts(tmp_path, ARTIFACTS, desired))
    assert (entry.sync, entry.health, entry.reason) == (Sync.SYNCED, HealthStatus.SUSPENDED, "the fan is loud")
