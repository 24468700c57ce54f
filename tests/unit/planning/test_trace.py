"""Every fact about a server is held against what is declared, and each kind of difference is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.observed import (
    Absent,
    GatewayState,
    Inspection,
    Observation,
    Provenance,
    Standing,
    Unknown,
)
from reconciler.planning.trace_lines import Agreement, Beside

from .tracing import DEEP, FAST, IDLE, NEW, OLD, RUNS, carried, line, lines, seen, serving, traced

MATCHES, DIFFERS, UNKNOWN = Agreement.MATCHES, Agreement.DIFFERS, Agreement.UNKNOWN


# --------------------------------------------------------------------------------------------------------- it matches


def test_a_server_as_declared_matches_in_every_line(tmp_path: Path) -> None:
    facts = seen(tmp_path, RUNS)
    found = traced(facts)
    assert found.answer == "Synced, Healthy. serving as declared [in-sync]"
    assert (found.subject, found.pid, found.port) == ("server/fast", 12100, 8100)
    assert (found.standing, found.started) == (Standing.OURS, 8100)
    assert (found.revision, found.generation, found.behind) == (OLD, 1, 0)
    assert (found.revision_in_force, found.generation_in_force, found.declared) == (OLD, 1, OLD)
    assert {agreement for _, agreement, _ in lines(found).values()} == {MATCHES}
    spec = facts.observed.servers["fast"].spec_hash
    assert {name: said for name, (said, _, _) in lines(found).items()} == {
        "process": "pid 12100, ours by its lock, its record and its start",
        "listener": "port 8100 is held by pid 12100",
        "environment": f"label fast, commit 1111111, generation 1, spec {spec}",
        "spec": spec,
        "artifact": "acme/fast@main, aaaaaaaaaaaa",
        "weights": "/hub/aaaaaaaaaaaaaaaa, complete",
        "template": "that of the weights",
        "gateway/litellm": "127.0.0.1:8100 as default_model, also quick",
        "commit": "1111111",
        "generation": "1",
        "newer commits": "behind by 0",
    }


def test_a_worker_of_it_may_hold_its_port(tmp_path: Path) -> None:
    facts = seen(tmp_path, f"{RUNS}listeners: {{8100: {{pid: 77}}}}\n")
    live = facts.observed.servers["fast"]
    own = Inspection(pid=12100, session=12100, carried=carried(live))
    worker = Inspection(pid=77, session=12100)
    assert line(traced(facts, beside=Beside(process=own, listener=worker)), "listener")[1] is MATCHES
    assert line(traced(facts, beside=Beside(process=own)), "listener")[1:] == (DIFFERS, "that is not ours")


def test_a_template_is_named_with_its_digest_and_its_place(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "a.jinja").write_text("{{ messages }}")
    models = f"{FAST}    chat_template: templates/a.jinja\n"
    facts = seen(tmp_path, RUNS, models)
    digest = facts.observed.servers["fast"].fields["chat_template"][:12]
    assert line(traced(facts), "template") == (f"templates/a.jinja, {digest}", MATCHES, "")
    (tmp_path / "templates" / "a.jinja").write_text("{{ messages }} changed")
    after = replace(seen(tmp_path, RUNS, models), observed=facts.observed)
    name, agreement, difference = line(traced(after), "template")
    assert (name, agreement) == (digest, DIFFERS)
    assert difference.startswith("declared is templates/a.jinja, ")
    assert digest not in difference


# --------------------------------------------------------------------------------------------------------- it differs


@pytest.mark.parametrize(
    ("observed", "name", "agreement", "difference"),
    [
        ("listeners: {8100: {pid: 77, command: nc}}", "listener", DIFFERS, "that is not ours"),
        ("listeners: {8100: {command: nc}}", "listener", UNKNOWN, "whether that is this server cannot be seen"),
        ("listeners: {8100: {unknown: lsof is gone}}", "listener", UNKNOWN, "lsof is gone"),
        ("listeners: {8100: }", "listener", DIFFERS, "its process does not listen"),
    ],
)
def test_a_listener(tmp_path: Path, observed: str, name: str, agreement: Agreement, difference: str) -> None:
    found = traced(seen(tmp_path, f"{RUNS}{observed}\n"))
    assert line(found, name)[1:] == (agreement, difference)


def test_the_port_of_one_server_may_be_held_by_another(tmp_path: Path) -> None:
    runs = "servers: {fast: , deep: }\ngateways: {litellm: {routes: [fast, deep]}}\nlisteners: {8100: {pid: 12101}}\n"
    found = traced(seen(tmp_path, runs, FAST + DEEP))
    assert line(found, "listener")[1:] == (DIFFERS, "that is server/deep")


@pytest.mark.parametrize(
    ("changes", "agreement", "difference"),
    [
        ({"generation": "2"}, DIFFERS, "its record says label fast, commit 1111111, generation 1, spec "),
        ({"revision": NEW}, DIFFERS, "its record says "),
        ({"spec_hash": "f" * 12}, DIFFERS, "its record says "),
        ({"label": "deep"}, DIFFERS, "its record says "),
        ({"label": "", "revision": "", "generation": "", "spec_hash": ""}, DIFFERS, "its record says "),
    ],
)
def test_a_process_that_contradicts_its_record_is_said_to(
    tmp_path: Path, changes: dict[str, str], agreement: Agreement, difference: str
) -> None:
    facts = seen(tmp_path, RUNS)
    own = Inspection(pid=12100, session=12100, carried=carried(facts.observed.servers["fast"], **changes))
    _, said, reason = line(traced(facts, beside=Beside(process=own)), "environment")
    assert said is agreement
    assert reason.startswith(difference)


def test_an_environment_that_cannot_be_read_is_told_by_the_record(tmp_path: Path) -> None:
    facts = seen(tmp_path, RUNS)
    for process in (None, Inspection(pid=12100, session=12100)):
        found, agreement, reason = line(traced(facts, beside=Beside(process=process)), "environment")
        assert found.startswith("label fast, commit 1111111, generation 1, spec ")
        assert found.endswith(", by its record")
        assert (agreement, reason) == (UNKNOWN, "its environment cannot be read")


def test_a_server_of_an_earlier_version_says_nothing_of_where_it_comes_from(tmp_path: Path) -> None:
    facts = serving(seen(tmp_path, RUNS), revision="", generation=0)
    own = Inspection(pid=12100, session=12100, carried=Provenance())
    found = traced(facts, beside=Beside(process=own, newest=OLD, reason="it was not launched from a commit"))
    assert set(found.names(UNKNOWN)) == {"environment", "commit", "generation", "newer commits"}
    assert found.names(DIFFERS) == ()


def test_a_field_that_differs_is_named_on_both_sides(tmp_path: Path) -> None:
    other = RUNS.replace("fast: }", "fast: {fields: {options.max_tokens: '7'}}}")
    found = traced(seen(tmp_path, other))
    assert line(found, "spec")[1:] == (DIFFERS, "options.max_tokens is 7, declared none")
    same = ("process", "listener", "environment", "artifact", "weights", "template", "commit", "generation")
    assert set(same) <= set(found.names(MATCHES))


@pytest.mark.parametrize(
    ("artifact", "artifact_line", "weights_line"),
    [
        ("{commit: bbbbbbbbbbbbbbbb}", (DIFFERS, "declared is acme/fast@main, bbbbbbbbbbbb"), (MATCHES, "")),
        ("{unknown: permission denied}", (UNKNOWN, "permission denied"), (UNKNOWN, "permission denied")),
        (
            "",
            (DIFFERS, "of what is declared nothing is on this machine"),
            (DIFFERS, "it is not on this machine"),
        ),
        (
            "{commit: aaaaaaaaaaaaaaaa, missing: [config.json]}",
            (MATCHES, ""),
            (DIFFERS, "partial (config.json)"),
        ),
        ("{commit: aaaaaaaaaaaaaaaa, unverified: 5}", (MATCHES, ""), (UNKNOWN, "not verified")),
    ],
)
def test_weights_that_are_not_those_that_it_has_loaded(
    tmp_path: Path, artifact: str, artifact_line: tuple[Agreement, str], weights_line: tuple[Agreement, str]
) -> None:
    before = seen(tmp_path, RUNS)
    after = seen(tmp_path, RUNS + f"artifacts: {{acme/fast@main: {artifact}}}\n")
    facts = replace(after, observed=replace(after.observed, servers=before.observed.servers))
    found = traced(facts)
    assert line(found, "artifact")[1:] == artifact_line
    assert line(found, "weights")[1:] == weights_line


@pytest.mark.parametrize(
    ("state", "found", "agreement", "difference"),
    [
        (Absent(), "no route", DIFFERS, "it should be 127.0.0.1:8100 as default_model, also quick"),
        (Unknown(reason="it is a folder"), "unknown", UNKNOWN, "it is a folder"),
    ],
)
def test_a_gateway_whose_row_is_not_the_one_that_it_should_be(
    tmp_path: Path, state: Observation[GatewayState], found: str, agreement: Agreement, difference: str
) -> None:
    facts = seen(tmp_path, RUNS)
    facts = replace(facts, observed=replace(facts.observed, gateways={"litellm": state}))
    assert line(traced(facts), "gateway/litellm") == (found, agreement, difference)


def test_a_gateway_that_this_machine_does_not_have(tmp_path: Path) -> None:
    facts = seen(tmp_path, RUNS)
    found = traced(replace(facts, observed=replace(facts.observed, gateways={})))
    assert line(found, "gateway/litellm")[1:] == (UNKNOWN, "the host file does not say where its files are")


def test_a_row_that_leads_to_the_right_place_with_other_limits_differs(tmp_path: Path) -> None:
    written = RUNS.replace("[fast]", "[fast], written: {fast: {context_length: 5}}")
    found, agreement, difference = line(traced(seen(tmp_path, written)), "gateway/litellm")
    assert (found, agreement) == ("127.0.0.1:8100 as default_model, also quick", DIFFERS)
    assert difference == "its limits or parameters are others"


# -------------------------------------------------------------------------------------- declared or running, not both


def test_what_is_declared_and_does_not_run_is_an_answer(tmp_path: Path) -> None:
    found = traced(seen(tmp_path, IDLE))
    assert found.answer.startswith("OutOfSync, Missing. ")
    assert line(found, "process") == ("no process", DIFFERS, "it is declared and does not run")
    assert line(found, "listener") == ("port 8100 is free", MATCHES, "")
    assert line(found, "gateway/litellm") == ("no route", MATCHES, "")
    assert line(found, "in force") == ("1111111 (generation 1)", None, "")
    assert not {"environment", "spec", "artifact", "commit", "newer commits"} & lines(found).keys()
    assert (found.revision, found.since, found.command) == ("", 0.0, ())


def test_what_a_person_has_stopped_matches_without_a_process(tmp_path: Path) -> None:
    found = traced(seen(tmp_path, f"{IDLE}ledger: {{suspensions: {{fast: too hot}}}}\n"))
    assert line(found, "process") == ("no process: too hot", MATCHES, "")
    still = traced(seen(tmp_path, f"{RUNS}ledger: {{suspensions: {{fast: too hot}}}}\n"))
    assert line(still, "process")[1:] == (DIFFERS, "too hot")


def test_what_runs_and_is_no_longer_declared_is_an_answer(tmp_path: Path) -> None:
    facts = seen(tmp_path, "servers: {old: {port: 8105}}\ngateways: {litellm: {routes: [old]}}\n")
    found = traced(facts, "old")
    assert line(found, "process")[1:] == (DIFFERS, "it is no longer declared")
    assert line(found, "listener")[1] is MATCHES
    assert line(found, "gateway/litellm")[1:] == (DIFFERS, "it should be no route")
    assert line(found, "spec")[1:] == (None, "")
    assert line(found, "artifact")[1:] == (None, "")
    assert "weights" not in lines(found)


@pytest.mark.parametrize(
    ("standing", "agreement"), [(Standing.UNKNOWN, UNKNOWN), (Standing.ORPHAN, DIFFERS), (Standing.GONE, DIFFERS)]
)
def test_a_process_that_is_not_proved(tmp_path: Path, standing: Standing, agreement: Agreement) -> None:
    facts = serving(seen(tmp_path, RUNS), standing=standing, detail="it was not to be seen")
    found, said, _ = line(traced(facts), "process")
    assert said is agreement
    assert "ours" not in found
    assert ("12100" in found) is (standing is not Standing.GONE)


def test_without_records_nothing_is_said_of_the_process(tmp_path: Path) -> None:
    facts = seen(tmp_path, f"{IDLE}listeners: {{8100: {{pid: 77}}}}\n")
    facts = replace(facts, observed=replace(facts.observed, servers={}, blind="permission denied"))
    found = traced(facts)
    assert line(found, "process")[:2] == ("unknown", UNKNOWN)
    assert line(found, "listener")[1] is UNKNOWN
