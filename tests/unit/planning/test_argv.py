"""The label, the artifact and the command line: three things, of which only the last two belong together."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.desired.parse import parse
from reconciler.model.bundle import Bundle
from reconciler.model.observed import Artifact, Observation
from reconciler.planning.forecast import Forecast, forecast
from reconciler.surface.render.plan import as_text, document
from tests.golden.story import Story, planner
from tests.unit.planning.conftest import Tell

STATE = """version: 1
ports: {team: 8100-8119}
gateways: {litellm: {mode: direct}}
models:
  chat: {source: {repo: google/gemma-4-31B-it}, port: 8100}
"""
HERE = "artifacts: {google/gemma-4-31B-it@main: {}, other/Name@main: {commit: other}, other/Name@v2: {commit: two}}\n"
RUNS = HERE + (
    "servers: {chat: {fields: {source: google/gemma-4-31B-it@main}, commit: c0ffee}}\n"
    "gateways: {litellm: {routes: [chat]}}\n"
    "ledger: {proved: [chat], launched: [chat]}\n"
)


def argv(outcome: Forecast, label: str = "chat") -> tuple[str, ...]:
    order = outcome.first.targets[label].order
    assert order is not None
    return order.argv


def kinds(outcome: Forecast) -> list[str]:
    return [f"{action.kind} {action.subject}" for action in outcome.actions]


def told_with(folder: Path, overrides: dict[str, str]) -> Forecast:
    """The story of `folder` with overrides of a command."""
    story = Story(folder)
    facts = story.facts()
    bundle = Bundle(name="e.yaml", revision="r", text=(folder / "desired.yaml").read_bytes(), files={})
    desired = parse(bundle, roots={}, environ={}, overrides=overrides).desired
    artifacts = {**facts.observed.artifacts, **_others(folder)}
    return forecast(planner(), replace(facts, desired=desired, observed=replace(facts.observed, artifacts=artifacts)))


def _others(folder: Path) -> Mapping[str, Observation[Artifact]]:
    """What the machine has of sources that the file does not name."""
    other = folder / "other"
    other.mkdir(exist_ok=True)
    text = (folder / "desired.yaml").read_text()
    (other / "observed.yaml").write_text(HERE)
    (other / "desired.yaml").write_text(text.replace("google/gemma-4-31B-it", "other/Name"))
    return Story(other).facts().observed.artifacts


@pytest.mark.req("S0-01")
def test_another_label_is_another_route_to_the_same_command(tell: Tell) -> None:
    before, after = tell(STATE, HERE), tell(STATE.replace("  chat:", "  talk:"), HERE)
    assert argv(before, "chat") == argv(after, "talk")
    unwritten = RUNS.replace("[chat]}}", "[chat], written: {chat: {aliases: [old]}}}}")
    aliased = tell(STATE.replace("port: 8100", "port: 8100, aliases: [talk]"), unwritten)
    assert kinds(aliased) == ["publish gateway/litellm"]
    assert argv(aliased) == argv(before)


@pytest.mark.req("S0-01")
def test_another_source_is_another_server_behind_the_same_route(tell: Tell) -> None:
    before = tell(STATE, RUNS)
    assert kinds(before) == []
    after = tell(STATE.replace("google/gemma-4-31B-it", "other/Name"), RUNS)
    assert "launch server/chat" in kinds(after)
    assert "stop server/chat" in kinds(after)
    assert after.final.targets["chat"].served_name == before.final.targets["chat"].served_name
    assert after.final.wanted == before.final.wanted


@pytest.mark.req("S0-06", "S0-19", "S0-27")
@pytest.mark.parametrize(
    "name",
    ["NEO_OPENAI_COMPATIBLE_MODEL", "OPENAI_MODEL", "LITELLM_MODEL", "CHAT", "MODEL__CHAT", "MODEL__OTHER__SOURCE"],
)
def test_a_variable_of_an_api_client_changes_no_byte(tell: Tell, name: str) -> None:
    plain, given = tell(STATE, HERE), tell(STATE, HERE + f"environ: {{{name}: other/Name}}\n")
    assert argv(given) == argv(plain)
    assert as_text(document(given, "e.yaml"), full=True) == as_text(document(plain, "e.yaml"), full=True)


@pytest.mark.req("S0-11")
def test_the_plan_prints_the_exact_command_and_the_same_bytes_twice(tell: Tell) -> None:
    first, second = (as_text(document(tell(STATE, HERE), "e.yaml"), full=True) for _ in range(2))
    assert first == second
    for word in argv(tell(STATE, HERE)):
        assert word in first


@pytest.mark.req("S0-13", "S0-18")
@pytest.mark.parametrize("label", ["chat-with-a-name-of-its-own", "google-gemma-4-31b-it"])
def test_the_command_contains_the_source_and_not_the_label(tell: Tell, label: str) -> None:
    outcome = tell(STATE.replace("  chat:", f"  {label}:"), HERE)
    target = outcome.first.targets[label]
    assert target.reference == "google/gemma-4-31B-it@main"
    line = argv(outcome, label)
    assert "--model=/hub/c0ffee" in line
    assert not [word for word in line if label in word]


@pytest.mark.req("S0-04")
def test_a_repository_keeps_its_letter_case_to_the_end(tell: Tell) -> None:
    outcome = tell(STATE, "artifacts: {google/gemma-4-31b-it@main: {}}\ngateways: {litellm: {routes: []}}\n")
    [blocked] = outcome.end.blocked
    assert blocked.reference == "artifact-missing"
    assert "google/gemma-4-31B-it" in blocked.reason
    assert outcome.first.targets["chat"].reference == "google/gemma-4-31B-it@main"


@pytest.mark.req("S0-15", "S0-20", "S0-31")
def test_the_variable_of_a_label_changes_its_source_and_the_plan_says_so(tell: Tell) -> None:
    environ = "environ: {MODEL__CHAT__SOURCE: other/Name@v2}\n"
    outcome = tell(STATE, HERE + environ)
    assert outcome.first.targets["chat"].reference == "other/Name@v2"
    assert "--model=/hub/two" in argv(outcome)
    assert "env MODEL__CHAT__SOURCE" in as_text(document(outcome, "e.yaml"), full=True)


@pytest.mark.req("S0-15")
@pytest.mark.parametrize("environ", ["", "environ: {MODEL__CHAT__SOURCE: ''}\n"])
def test_without_the_variable_or_with_an_empty_one_the_file_counts(tell: Tell, environ: str) -> None:
    outcome = tell(STATE, HERE + environ)
    assert outcome.first.targets["chat"].reference == "google/gemma-4-31B-it@main"
    assert outcome.first.targets["chat"].provenance is None


@pytest.mark.req("S0-17")
def test_an_override_changes_the_model_argument_and_nothing_else(tell: Tell, tmp_path: Path) -> None:
    plain = argv(tell(STATE, HERE))
    changed = argv(told_with(tmp_path, {"models.chat.source.repo": "other/Name"}))
    different = [(old, new) for old, new in zip(plain, changed, strict=True) if old != new]
    assert different == [("--model=/hub/c0ffee", "--model=/hub/other")]
    assert "--port=8100" in changed
