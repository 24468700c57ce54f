"""Requirements that a forecast can prove, one test each."""

from pathlib import Path

import pytest

from reconciler.model.change import Verdict
from reconciler.model.observed import Present
from reconciler.planning.forecast import Forecast
from reconciler.planning.guards import guards
from tests.golden.story import Story, planner
from tests.unit.planning.conftest import Tell

HEAD = "version: 1\nports: {team: 8100-8119, experimental: 8120-8139}\n"
FAST = "  fast:\n    source: {repo: acme/fast}\n    port: 8100\n"
HERE = "artifacts: {acme/fast@main: {}, acme/slow@main: {}}\n"


def kinds(outcome: Forecast) -> list[tuple[str, str]]:
    return [(action.kind, action.subject) for action in outcome.actions]


def argv(outcome: Forecast, label: str = "fast") -> tuple[str, ...]:
    order = outcome.first.targets[label].order
    assert order is not None
    return order.argv


def references(outcome: Forecast) -> set[tuple[str, str]]:
    return {(blocked.subject, blocked.reference) for blocked in outcome.end.blocked}


@pytest.mark.req("S1-13")
def test_mlx_lm_gets_the_text_of_a_template_and_not_its_path(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "a.jinja").write_text("{{ messages[0] }} and so on")
    (tmp_path / "desired.yaml").write_text(f"{HEAD}models:\n{FAST}    chat_template: templates/a.jinja\n")
    (tmp_path / "observed.yaml").write_text(HERE)
    line = argv(Story(tmp_path).forecast())
    assert "--chat-template={{ messages[0] }} and so on" in line
    assert not [word for word in line if "a.jinja" in word]


@pytest.mark.req("S1-14", "S1-15")
@pytest.mark.parametrize("field", ["tool_call_parser", "reasoning_parser"])
def test_a_parser_that_the_backend_does_not_have_is_refused_with_those_it_has(tell: Tell, field: str) -> None:
    machine = f"{HERE}machine: {{runtimes: [mlx-openai-server]}}\n"
    backend = "    backend: mlx-openai-server\n"
    refused = tell(f"{HEAD}models:\n{FAST}{backend}    {field}: harmoney\n", machine)
    assert references(refused) == {("server/fast", "parser-unknown")}
    assert "harmony" in refused.end.blocked[0].hint
    accepted = argv(tell(f"{HEAD}models:\n{FAST}{backend}    {field}: harmony\n", machine))
    flag = f"--{field.replace('_', '-')}"
    assert f"{flag}=harmony" in accepted
    absent = argv(tell(f"{HEAD}models:\n{FAST}{backend}", machine))
    assert not [word for word in absent if word.startswith(flag)]


@pytest.mark.req("S1-34")
def test_a_dead_server_is_started_again_and_one_that_nobody_wants_is_forgotten(tell: Tell) -> None:
    outcome = tell(
        f"{HEAD}models:\n{FAST}",
        f"{HERE}servers: {{fast: {{standing: gone}}, old: {{port: 8107, standing: gone}}}}\n",
    )
    assert sorted(kinds(outcome)) == [("forget", "server/old"), ("launch", "server/fast")]
    assert outcome.final.targets["fast"].port == 8100
    assert set(outcome.final.facts.observed.servers) == {"fast"}


@pytest.mark.req("S1-45", "S1-106")
@pytest.mark.parametrize(
    ("declared", "acknowledged"),
    [("8101", False), ("8101\n    moved_from: 8100", True), ("8101\n    moved_from: 8109", False)],
)
def test_a_port_moves_only_with_its_acknowledgement(tell: Tell, declared: str, acknowledged: bool) -> None:
    outcome = tell(
        f"{HEAD}models:\n{FAST.replace('8100', declared)}gateways: {{litellm: {{mode: direct}}}}\n",
        f"{HERE}servers: {{fast: {{port: 8100}}}}\ngateways: {{litellm: {{routes: [fast]}}}}\n"
        "ledger: {leases: {fast: 8100}}\n",
    )
    if acknowledged:
        assert [kind for kind, _ in kinds(outcome)] == ["preflight", "publish", "stop", "launch", "publish"]
        assert outcome.final.facts.observed.servers["fast"].port == 8101
    else:
        assert kinds(outcome) == []
        assert references(outcome) == {("server/fast", "port-moved-without-acknowledgement")}


@pytest.mark.req("S1-106")
def test_promotion_from_an_automatic_port_is_an_explicit_move(tell: Tell) -> None:
    trial = "ledger: {leases: {fast: 8120}}\nservers: {fast: {port: 8120}}\n"
    assert kinds(tell(f"{HEAD}models:\n{FAST}", HERE + trial)) == []
    promoted = tell(f"{HEAD}models:\n{FAST}    moved_from: 8120\n", HERE + trial)
    assert [kind for kind, _ in kinds(promoted)] == ["preflight", "stop", "launch"]


@pytest.mark.req("S1-104")
@pytest.mark.parametrize(
    ("listeners", "port"),
    [({}, 8120), ({8120: {}}, 8121), ({p: {} for p in range(8120, 8140)}, None)],
)
def test_an_automatic_port_is_the_lowest_that_is_free(
    tell: Tell, listeners: dict[int, dict[str, str]], port: int | None
) -> None:
    outcome = tell(f"{HEAD}models:\n{FAST.replace('8100', 'auto')}", f"{HERE}listeners: {listeners}\n")
    assert outcome.first.targets["fast"].port == port
    refused = ("server/fast", "port-range-exhausted") in references(outcome)
    assert refused == (port is None)


@pytest.mark.req("S1-105")
def test_an_automatic_port_is_kept(tell: Tell) -> None:
    outcome = tell(f"{HEAD}models:\n{FAST.replace('8100', 'auto')}", f"{HERE}ledger: {{leases: {{fast: 8127}}}}\n")
    assert outcome.final.facts.ledger.leases == {"fast": 8127}
    assert outcome.final.facts.observed.servers["fast"].port == 8127


@pytest.mark.req("S3-05")
def test_automatic_ports_skip_declared_leased_and_listening_ones(tell: Tell) -> None:
    models = "".join(f"  {name}:\n    source: {{repo: acme/fast}}\n    port: auto\n" for name in ("a", "b", "c"))
    explicit = "  d:\n    source: {repo: acme/fast}\n    port: 8121\n"
    outcome = tell(
        f"{HEAD}models:\n{models}{explicit}", f"{HERE}listeners: {{8122: {{}}}}\nledger: {{leases: {{c: 8124}}}}\n"
    )
    assert {label: target.port for label, target in outcome.first.targets.items()} == {
        "a": 8120,
        "b": 8123,
        "c": 8124,
        "d": 8121,
    }


@pytest.mark.req("S4-38")
@pytest.mark.parametrize(
    ("machine", "launched"),
    [
        ("machine: {platform: linux}", False),
        ("machine: {platform: linux}\nhost: {accept_cpu: true}", True),
        ("machine: {platform: darwin}", True),
    ],
)
def test_a_metal_backend_starts_on_linux_only_when_the_host_accepts_the_cpu(
    tell: Tell, machine: str, launched: bool
) -> None:
    outcome = tell(f"{HEAD}models:\n{FAST}", f"{HERE}{machine}\n")
    assert (kinds(outcome) == [("launch", "server/fast")]) == launched
    assert (("server/fast", "metal-required") in references(outcome)) != launched


@pytest.mark.req("S0-07")
def test_every_backend_says_which_kinds_of_source_it_accepts() -> None:
    assert {name: backend.accepts for name, backend in planner().backends.items()} == {
        "mlx-lm": ("repo", "path"),
        "mlx-openai-server": ("repo", "path"),
    }


@pytest.mark.req("S0-05")
def test_a_draft_model_must_be_there_and_is_in_the_command_line(tell: Tell) -> None:
    desired = f"{HEAD}models:\n{FAST}    draft: {{repo: acme/slow}}\n"
    assert references(tell(desired, "artifacts: {acme/fast@main: {}}\n")) == {("server/fast", "artifact-missing")}
    both = "artifacts: {acme/fast@main: {}, acme/slow@main: {commit: d12af7}}\n"
    assert "--draft-model=/hub/d12af7" in argv(tell(desired, both))


@pytest.mark.parametrize("port", ["8100", "auto"])
def test_a_suspended_label_stays_down_and_is_no_failure(tell: Tell, port: str) -> None:
    outcome = tell(
        f"{HEAD}models:\n{FAST.replace('8100', port)}", f"{HERE}ledger: {{suspensions: {{fast: maintenance}}}}\n"
    )
    assert kinds(outcome) == []
    assert outcome.end.blocked == ()
    assert outcome.final.changes[0].verdict is Verdict.SUSPENDED


DIRECT = "gateways: {litellm: {mode: direct}}\n"
FRONT = "gateways: {front: {port: 1234}, litellm: {}}\n"
SWAPPED = "fields: {source: acme/old@main}, commit: a51dec"


@pytest.mark.req("S1-02", "S0-24")
def test_a_swap_of_the_artifact_behind_a_label_leaves_litellm_alone(tell: Tell) -> None:
    outcome = tell(
        f"{HEAD}{FRONT}models:\n{FAST}",
        f"artifacts: {{acme/fast@main: {{commit: beef02}}}}\nservers: {{fast: {{{SWAPPED}}}}}\n"
        "gateways: {front: {routes: [fast]}, litellm: {listed: [fast]}}\nledger: {proved: [fast], launched: [fast]}\n",
    )
    assert ("launch", "server/fast") in kinds(outcome)
    assert "gateway/litellm" not in {subject for _, subject in kinds(outcome)}
    for step in outcome.steps:
        assert step.facts.observed.gateways["litellm"] == outcome.first.facts.observed.gateways["litellm"]


@pytest.mark.req("S1-46")
def test_an_alias_never_reaches_the_wrong_model_while_two_servers_swap_ports(tell: Tell) -> None:
    slow = "  slow:\n    source: {repo: acme/slow}\n    port: 8100\n    moved_from: 8101\n"
    fast = FAST.replace("8100", "8101\n    moved_from: 8100\n    aliases: [quick]")
    outcome = tell(
        f"{HEAD}{DIRECT}models:\n{fast}{slow}",
        f"{HERE}servers: {{fast: {{port: 8100}}, slow: {{port: 8101}}}}\n"
        "gateways: {litellm: {routes: [fast, slow]}}\nledger: {leases: {fast: 8100, slow: 8101}}\n",
    )
    for step in outcome.steps:
        observed = step.facts.observed
        owner = observed.holders()
        litellm = observed.gateways["litellm"]
        assert isinstance(litellm, Present)
        for route in litellm.value.routes:
            assert route.upstream is not None
            assert owner[route.upstream.port] == route.label
    (route,) = [r for r in outcome.final.wanted["litellm"] if r.label == "fast"]
    assert route.aliases == ("quick",)
    assert route.upstream is not None
    assert route.upstream.port == 8101


@pytest.mark.req("S0-30")
@pytest.mark.parametrize("repo", ["acme/fast", "acme/slow"])
@pytest.mark.parametrize("label", ["fast", "z", "mlx-community", "acme"])
def test_label_and_artifact_are_independent(tell: Tell, label: str, repo: str) -> None:
    model = f"  {label}:\n    source: {{repo: {repo}}}\n    port: 8100\n"
    here = (
        "artifacts: {acme/fast@main: {commit: aaaaaa}, acme/slow@main: {commit: bbbbbb}}\ngateways: {litellm: null}\n"
    )
    outcome = tell(f"{HEAD}{DIRECT}models:\n{model}", here)
    same_artifact = tell(f"{HEAD}{DIRECT}models:\n{model.replace(label, 'other', 1)}", here)
    assert argv(outcome, label) == argv(same_artifact, "other"), "the command line does not know the label"
    other_artifact = tell(f"{HEAD}{DIRECT}models:\n{model.replace(repo, 'acme/slow')}", here)
    assert outcome.final.wanted == other_artifact.final.wanted, "the gateway does not know the artifact"


@pytest.mark.fault("D12")
def test_d12_an_emptied_file_is_something_that_a_person_decides(tell: Tell) -> None:
    outcome = tell("version: 1\nmodels: {}\n", "servers: {fast: {port: 8100}}\n")
    assert [reference for reference, _ in guards(outcome)] == ["emptied"]


@pytest.mark.fault("D13")
@pytest.mark.parametrize(("running", "guarded"), [(2, False), (3, True), (4, True)])
def test_d13_more_than_half_of_what_runs_ends_by_one_revision(tell: Tell, running: int, guarded: bool) -> None:
    others = ", ".join(f"s{n}: {{port: {8101 + n}}}" for n in range(running - 1))
    outcome = tell(f"{HEAD}models:\n{FAST}", f"{HERE}servers: {{fast: {{}}, {others}}}\n")
    assert len(outcome.final.facts.observed.servers) == 1
    assert ([reference for reference, _ in guards(outcome)] == ["shrinks"]) == guarded


def test_servers_that_are_replaced_trip_no_guard(tell: Tell) -> None:
    outcome = tell(f"{HEAD}models:\n{FAST}", f"{HERE}servers: {{fast: {{{SWAPPED}}}}}\n")
    assert [kind for kind, _ in kinds(outcome)] == ["preflight", "stop", "launch"]
    assert guards(outcome) == ()


def test_review_a1_an_option_that_is_added_or_removed_restarts_the_server(tell: Tell) -> None:
    options = f"{HEAD}models:\n{FAST}    options: {{temp: 0.5}}\n"
    plain = f"{HEAD}models:\n{FAST}"
    without, with_ = "servers: {fast: {}}\n", "servers: {fast: {fields: {options.temp: '0.5'}}}\n"
    assert [kind for kind, _ in kinds(tell(options, HERE + "servers: {fast: {fields: {options.temp: ''}}}\n"))] == [
        "preflight",
        "stop",
        "launch",
    ]
    assert [kind for kind, _ in kinds(tell(plain, HERE + with_))] == ["preflight", "stop", "launch"]
    assert kinds(tell(options, HERE + with_)) == []
    assert kinds(tell(plain, HERE + without)) == []


def test_review_a2_a_server_that_nobody_has_asked_is_not_late(tell: Tell) -> None:
    old = "servers: {fast: {health: starting, age: 86400, asked_since: null}}\n"
    outcome = tell(f"{HEAD}models:\n{FAST}", HERE + old)
    assert kinds(outcome) == []
    assert [w.reference for w in outcome.steps[0].plan.waiting] == ["starting"]


def test_review_a3_the_memory_of_a_draft_model_counts(tell: Tell) -> None:
    outcome = tell(
        f"{HEAD}models:\n{FAST}    draft: {{repo: acme/slow}}\n",
        "machine: {memory: 32GiB}\nartifacts: {acme/fast@main: {}, acme/slow@main: {weights: 60GiB}}\n",
    )
    assert references(outcome) == {("server/fast", "memory-refused")}


def test_review_a8_a_slow_server_is_not_stopped_for_nothing(tell: Tell) -> None:
    late = "servers: {fast: {health: starting, age: 86400}}\n"
    assert kinds(tell(f"{HEAD}models:\n{FAST}", late)) == []
    assert [kind for kind, _ in kinds(tell(f"{HEAD}models:\n{FAST}", HERE + late))] == ["stop", "launch"]


def test_review_a9_another_spelling_of_what_is_served_restarts_nothing(tell: Tell) -> None:
    served = "servers: {fast: {fields: {source: acme/fast@main}, commit: c0ffee}}\n"
    pinned = FAST.replace("acme/fast}", "acme/fast, revision: c0ffee}")
    assert kinds(tell(f"{HEAD}models:\n{pinned}", "artifacts: {acme/fast@c0ffee: {}}\n" + served)) == []
    assert kinds(tell(f"{HEAD}models:\n{FAST}    convert: skip\n", HERE + served)) == []


def test_review_a10_another_draft_model_restarts_the_server(tell: Tell) -> None:
    desired = f"{HEAD}models:\n{FAST}    draft: {{repo: acme/slow}}\n"
    served = "servers: {fast: {fields: {draft: acme/slow@main 0ld}}}\n"
    assert [kind for kind, _ in kinds(tell(desired, HERE + served))] == ["preflight", "stop", "launch"]
