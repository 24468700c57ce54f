"""Everything that one decision knows about one subject stands side by side."""

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.ledger import Attempt, ServiceProof
from reconciler.model.names import Subject, artifact_subject, gateway_subject, server_subject, source_subject
from reconciler.model.observed import Present, Unknown
from reconciler.model.plan import Blocked
from reconciler.planning.explain import Explanation, Side, explain, subjects
from reconciler.planning.plan import Decision
from reconciler.planning.status import HealthStatus, Sync
from tests.golden.story import NOW, Story, planner

HEAD = "version: 1\nports: {team: 8100-8119}\ngateways: {litellm: {mode: direct}}\nmodels:\n"
FAST = "  fast:\n    source: {repo: acme/fast}\n    port: 8100\n    aliases: [quick]\n"
DEEP = "  deep:\n    source: {repo: acme/deep}\n    port: 8101\n"
HERE = "artifacts: {acme/fast@main: {commit: aaaaaaaaaaaaaaaa}, acme/deep@main: {}}\n"
RUNS = "servers: {fast: }\ngateways: {litellm: {routes: [fast]}}\n"


def decided(folder: Path, observed: str, models: str = FAST) -> Decision:
    (folder / "desired.yaml").write_text(HEAD + models)
    (folder / "observed.yaml").write_text(HERE + observed)
    return planner().decide(Story(folder).facts())


def sides(explanation: Explanation) -> dict[str, tuple[str, str]]:
    return {side.name: (side.desired, side.observed) for side in explanation.sides}


def server(folder: Path, observed: str, label: str = "fast", models: str = FAST) -> Explanation:
    return explain(decided(folder, observed, models), server_subject(label))


def test_a_server_that_is_as_declared_has_equal_sides_and_nothing_to_do(tmp_path: Path) -> None:
    found = server(tmp_path, RUNS)
    seen = sides(found)
    assert seen["port"] == ("8100", "8100")
    assert seen["backend"] == ("mlx-lm", "mlx-lm")
    assert seen["weights"] == ("acme/fast@main", "aaaaaaaaaaaa, complete")
    assert seen["listener"] == ("", "8100 is held by pid 12100")
    assert seen["memory"][0] == seen["memory"][1] != ""
    fields = [side for side in found.sides if side.name not in ("weights", "listener", "memory")]
    assert all(side.desired == side.observed for side in fields)
    assert "" not in {side.desired for side in fields}
    assert (found.next, found.waiting, found.blocked) == ((), (), ())
    assert found.live is not None
    assert found.live.pid == 12100
    assert found.status is not None
    assert (found.status.label, found.status.sync, found.status.health) == ("fast", Sync.SYNCED, HealthStatus.HEALTHY)


def test_a_server_that_differs_shows_where(tmp_path: Path) -> None:
    other = RUNS.replace(
        "fast: }", "fast: {port: 8109, commit: bbbbbbbbbbbbbbbb, fields: {decode_concurrency: '7', temp: '1'}}}"
    )
    moved = FAST.replace("port: 8100", "port: 8100\n    moved_from: 8109")
    found = server(tmp_path, other, models=moved)
    seen = sides(found)
    assert seen["port"] == ("8100", "8109")
    assert {name: pair for name, pair in seen.items() if "7" in pair[1] and "concurrency" in name}
    assert seen["temp"] == ("", "1"), "what only the running one has is shown as well"
    assert seen["weights"][1] == "aaaaaaaaaaaa, complete", "the weights that are there, not those that are served"
    assert seen["listener"] == ("", "8100 is free")
    assert found.next == ("preflight: what is to replace it is tried out first",)
    assert found.waiting == ()
    assert found.status is not None
    assert found.status.sync is Sync.OUT_OF_SYNC


def test_a_server_that_is_missing_has_one_side_and_a_next_step(tmp_path: Path) -> None:
    found = server(tmp_path, "gateways: {litellm: {routes: []}}\n")
    seen = sides(found)
    assert seen["port"] == ("8100", "")
    assert seen["memory"][1] == ""
    assert found.next == ("launch: it is declared and does not run",)
    assert found.live is None


def test_a_dead_server_shows_nothing_as_observed(tmp_path: Path) -> None:
    found = server(tmp_path, "servers: {fast: {standing: gone}}\n")
    assert {observed for name, (_, observed) in sides(found).items() if name not in ("weights", "listener")} == {""}
    assert found.live is not None


def test_a_server_that_is_not_declared_has_the_other_side_alone(tmp_path: Path) -> None:
    found = server(tmp_path, "servers: {old: {port: 8107, fields: {temp: '1'}}}\n", "old")
    assert sides(found) == {"temp": ("", "1"), "port": ("", "8107")}
    assert found.next == ("stop: it is no longer declared",)


@pytest.mark.parametrize(
    ("artifact", "shown"),
    [
        ("", "not there"),
        ("{missing: [a, b, c, d], commit: cccccccccccccccc}", "cccccccccccc, incomplete: a, b, c"),
        ("{unknown: permission denied}", "unknown: permission denied"),
    ],
)
def test_weights_that_are_not_there_say_why(tmp_path: Path, artifact: str, shown: str) -> None:
    models = FAST.replace("acme/fast", "acme/other")
    here = f"artifacts: {{acme/other@main: {artifact}}}\n" if artifact else ""
    (tmp_path / "desired.yaml").write_text(HEAD + models)
    (tmp_path / "observed.yaml").write_text(here + "gateways: {litellm: {routes: []}}\n")
    found = explain(planner().decide(Story(tmp_path).facts()), server_subject("fast"))
    assert sides(found)["weights"] == ("acme/other@main", shown)
    assert found.blocked
    assert sides(found)["memory"] == ("", "") or shown.startswith("cccc")


@pytest.mark.parametrize(
    ("listener", "shown"),
    [
        ("{pid: 7, command: postgres}", "8100 is held by pid 7 (postgres)"),
        ("{}", "8100 is held by a process that this user cannot see"),
        ("{unknown: permission denied}", "8100 is unknown: permission denied"),
    ],
)
def test_a_taken_port_says_by_whom(tmp_path: Path, listener: str, shown: str) -> None:
    found = server(tmp_path, f"listeners: {{8100: {listener}}}\n")
    assert sides(found)["listener"] == ("", shown)
    assert {blocked.reference for blocked in found.blocked} <= {"port-occupied", "observation-unknown"}
    assert found.blocked


@pytest.mark.parametrize(("changed", "differs"), [("", False), ("spec_hash", True), ("artifact", True)])
def test_a_failure_of_another_declaration_is_not_taken_for_one_of_this(
    tmp_path: Path, changed: str, differs: bool
) -> None:
    decision = decided(tmp_path, RUNS)
    facts, target = decision.view.facts, decision.view.targets["fast"]
    assert isinstance(target.artifact, Present)
    spec_hash = "another" if changed == "spec_hash" else target.spec_hash
    artifact = "another" if changed == "artifact" else target.artifact.value.identity
    failed = Attempt(
        spec_hash=spec_hash, artifact=artifact, cause="load-failed", count=1, first=NOW, last=NOW, retry_at=NOW
    )
    facts = replace(facts, ledger=replace(facts.ledger, attempts={"fast": failed}))
    found = explain(replace(decision, view=replace(decision.view, facts=facts)), server_subject("fast"))
    assert (found.attempt, found.attempt_differs) == (failed, differs)


def test_what_is_remembered_is_shown(tmp_path: Path) -> None:
    decision = decided(
        tmp_path,
        RUNS + "ledger: {attempts: {fast: {count: 2}, deep: {count: 4}}, suspensions: {deep: lunch}}\n",
        FAST + DEEP,
    )
    live = decision.view.facts.observed.servers["fast"]
    ledger = decision.view.facts.ledger
    for instance, shown in ((live.instance, True), (f"{live.instance}0", False)):
        proofs = {"fast": ServiceProof(instance=instance, at=NOW - 5)}
        facts = replace(decision.view.facts, ledger=replace(ledger, proofs=proofs))
        found = explain(replace(decision, view=replace(decision.view, facts=facts)), server_subject("fast"))
        assert (found.proof is not None) == shown, "a proof speaks for one process"
    assert found.attempt is not None
    assert (found.attempt.count, found.suspension) == (2, None)
    deep = explain(decision, server_subject("deep"))
    assert deep.attempt is not None
    assert deep.attempt.count == 4
    assert deep.suspension is not None
    assert deep.suspension.reason == "lunch"
    assert deep.proof is None


# ------------------------------------------------------------------------------------------------------------ gateways

GATEWAY = gateway_subject("litellm")


def test_the_routes_of_a_gateway_stand_side_by_side(tmp_path: Path) -> None:
    routes = "servers: {fast: , deep: {health: starting}, old: {port: 8107}}\n"
    decision = decided(tmp_path, routes + "gateways: {litellm: {routes: [deep, old]}}\n", FAST + DEEP)
    found = explain(decision, GATEWAY)
    assert sides(found) == {
        "fast": ("127.0.0.1:8100 as default_model, also quick", ""),
        "deep": ("", "127.0.0.1:8101 as default_model"),
        "old": ("", "127.0.0.1:8107 as default_model"),
    }
    assert found.next == ("publish: withdraw deep, old; route fast",)
    assert (found.status, found.live, found.attempt) == (None, None, None)


def test_a_gateway_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    decision = decided(tmp_path, "servers: {fast: }\ngateways: {litellm: {unknown: permission denied}}\n")
    found = explain(decision, GATEWAY)
    assert found.sides[0] == Side(name="file", desired="", observed="unknown: permission denied")
    assert sides(found)["fast"][1] == ""
    assert [blocked.reference for blocked in found.blocked] == ["observation-unknown"]
    assert isinstance(decision.view.facts.observed.gateways["litellm"], Unknown)


def test_a_label_that_is_listed_without_a_server_leads_nowhere(tmp_path: Path) -> None:
    asleep = FAST.replace("8100", "8100\n    activation: on-demand")
    front = HEAD.replace("{litellm: {mode: direct}}", "{front: {port: 1234}, litellm: {}}")
    (tmp_path / "desired.yaml").write_text(front + asleep)
    listed = "gateways: {litellm: {listed: [fast]}, front: {listed: [fast]}}\n"
    (tmp_path / "observed.yaml").write_text(HERE + listed + "ledger: {proved: [fast]}\n")
    decision = planner().decide(Story(tmp_path).facts())
    for kind in ("litellm", "front"):
        found = explain(decision, gateway_subject(kind))
        assert sides(found) == {"fast": ("nowhere, also quick", "nowhere, also quick")}
        assert isinstance(decision.view.facts.observed.gateways[kind], Present)


# ------------------------------------------------------------------------------------------------------------ subjects


def test_everything_of_which_something_is_known_can_be_explained(tmp_path: Path) -> None:
    decision = decided(tmp_path, RUNS, FAST + DEEP)
    paused = Blocked(subject=source_subject("worktree"), reference="emptied", reason="nothing is left", hint="apply")
    facts = replace(decision.view.facts, source=paused)
    decision = planner().decide(facts)
    known = subjects(decision)
    weights = {subject for subject in known if subject.startswith("artifact/")}
    assert set(known) - weights == {"server/fast", "server/deep", "gateway/litellm", "source/worktree"}
    assert weights == {artifact_subject(target.reference) for target in decision.view.targets.values()}
    assert len(known) == len(set(known))
    assert known.index(Subject("server/fast")) < known.index(GATEWAY) < known.index(source_subject("worktree"))
    for subject in known:
        assert explain(decision, subject).subject == subject
    source = explain(decision, source_subject("worktree"))
    assert (source.sides, source.next, source.blocked) == ((), (), (paused,))
