"""`plan --check-sources`: every way in which weights cannot be had has a reference of its own, for scripts."""

import json
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from reconciler.model.problem import ExitCode
from reconciler.programs.tiny_model import write_model
from tests.cli.home import Home, Result
from tests.programs.fake_hub import Hub, Kind, Repo, Trouble, serving

pytestmark = pytest.mark.timeout(120)

WAITS = {"limited": "source-rate-limited", "down": "hub-unavailable", "page": "hub-unavailable"}
REFUSED = {
    "gated": "source-gated",
    "gated-files": "source-gated",
    "disabled": "source-disabled",
    "forbidden": "source-forbidden",
    "plain-401": "source-not-found",
    "unknown": "source-not-found",
    "no-revision": "source-revision-missing",
    "gguf": "source-wrong-format",
    "no-weights": "source-wrong-format",
    "no-path": "path-missing",
    "no-model": "path-not-model",
}


@pytest.fixture
def hub(home: Home) -> Iterator[Hub]:
    """A hub with a repository in every state."""
    good, gguf, none = (home.root / "offered" / name for name in ("good", "gguf", "none"))
    write_model(good, "Good.")
    gguf.mkdir()
    (gguf / "model-q4.gguf").write_bytes(b"GGUF")
    (gguf / "config.json").write_text("{}")
    shutil.copytree(good, none)
    for weights in none.glob("model.safetensors*"):
        weights.unlink()
    repos = {
        "acme/good": Repo(good),
        "acme/gated": Repo(good, Kind.GATED),
        "acme/gated-files": Repo(good, Kind.GATED_FILES),
        "acme/disabled": Repo(good, Kind.DISABLED),
        "acme/down": Repo(good, Kind.DOWN),
        "acme/page": Repo(good, Kind.PAGE),
        "acme/forbidden": Repo(good, Kind.BARE_403),
        "acme/plain-401": Repo(good, Kind.BARE_401),
        "acme/limited": Repo(good),
        "acme/gguf": Repo(gguf),
        "acme/no-weights": Repo(none),
    }
    with serving(repos) as served:
        served.fail(Trouble.STATUS, status=429, on="acme/limited", times=-1, headers={"Retry-After": "7"})
        yield served


def declare(home: Home, sources: Mapping[str, Mapping[str, str]], **more: object) -> None:
    """One model for each source."""
    models = {label: {"source": source, "port": 8100 + n} for n, (label, source) in enumerate(sources.items())}
    home.write(json.dumps({"version": 1, "models": models, **more}, indent=1))


def repos(*names: str) -> dict[str, dict[str, str]]:
    """label -> the repository of the same name."""
    return {name: {"repo": f"acme/{name}"} for name in names}


def every_source(home: Home) -> dict[str, dict[str, str]]:
    """A source of every kind that a document may name."""
    host = {"version": 1, "accept_cpu": True, "memory": {"budget": "64GiB"}, "roots": {"m": str(home.root)}}
    home.write(json.dumps(host), "host.yaml").chmod(0o600)
    (home.root / "empty").mkdir()
    named = [name for name in (*WAITS, *REFUSED) if not name.startswith("no-") or name == "no-weights"]
    return repos("good", *named) | {
        "no-revision": {"repo": "acme/good", "revision": "v9"},
        "no-path": {"path": "${root.m}/nothing"},
        "no-model": {"path": "${root.m}/empty"},
    }


def asked(home: Home, endpoint: str, *args: str, **env: str) -> Result:
    """`plan --check-sources` at a hub."""
    return home.run("plan", "--check-sources", *args, env=home.environment(HF_ENDPOINT=endpoint, **env))


def planned(home: Home, endpoint: str, **env: str) -> dict[str, Any]:
    """Its answer for a script."""
    result = asked(home, endpoint, "-o", "json", **env)
    document: dict[str, Any] = json.loads(result.out)
    return document


def references(document: Mapping[str, Any], why: str) -> dict[str, str]:
    """label -> why it is blocked, or waits."""
    return {entry["subject"].removeprefix("server/"): entry["reference"] for entry in document[why]}


@pytest.mark.req("S0-32")
def test_every_class_has_its_own_reference_and_all_models_are_answered_in_one_run(home: Home, hub: Hub) -> None:
    declare(home, every_source(home))
    document = planned(home, hub.endpoint)
    assert references(document, "blocked") == REFUSED
    assert references(document, "waiting") == WAITS
    assert document["exit_code"] == ExitCode.BLOCKED
    assert ("ensure", "artifact/acme/good@main") in {(a["kind"], a["subject"]) for a in document["actions"]}
    assert len(hub.gets("revision/main?blobs=true")) == len(hub.repos) + 1, "each one is asked about once"

    declare(home, repos("good"))
    assert references(planned(home, hub.endpoint, HF_TOKEN="hf_old"), "blocked") == {"good": "source-bad-token"}
    assert references(planned(home, "http://127.0.0.1:9"), "waiting") == {"good": "hub-unreachable"}
    before = len(hub.asked)
    offline = references(planned(home, hub.endpoint, HF_HUB_OFFLINE="1"), "blocked")
    assert offline == {"good": "artifact-missing"}
    assert len(hub.asked) == before

    known = {**REFUSED, **WAITS, "token": "source-bad-token", "network": "hub-unreachable", **offline}
    classes = {*known.values(), *refused_by_text(home, hub).values()}
    assert len(classes) == 16


def refused_by_text(home: Home, hub: Hub) -> dict[str, str]:
    """label -> the reference of what nobody has to be asked about."""
    wrong = {"bare": {"repo": "gemma-4-31b"}, "syntax": {"repo": "a/b/c"}, "denied": {"repo": "acme/gemma-2-27b-it"}}
    declare(home, {**wrong, **repos("good")}, policy={"deny_sources": ["*gemma-2*"]})
    before = len(hub.asked)
    document = planned(home, hub.endpoint)
    assert (document["type"], document["exit_code"]) == ("error", ExitCode.INVALID)
    assert len(hub.asked) == before
    return {problem["where"].split(".")[1]: problem["reference"] for problem in document["problems"]}


@pytest.mark.req("S0-16", "S0-21", "S0-26")
def test_what_a_document_rules_out_is_said_at_once_and_nobody_is_asked(home: Home, hub: Hub) -> None:
    """A bare label, what is no reference, and a stale model that the policy denies: all three in one run."""
    assert refused_by_text(home, hub) == {
        "bare": "bare-repository-name",
        "syntax": "bad-value",
        "denied": "source-denied",
    }
    declare(home, {"old": {"repo": "mlx-community/gemma-2-27b-it-4bit"}}, policy={"deny_sources": ["*gemma-2*"]})
    for command in (("validate",), ("plan", "--check-sources"), ("apply", "--yes")):
        refused = home.run(*command, env=home.environment(HF_ENDPOINT=hub.endpoint))
        assert refused.code == ExitCode.INVALID
        assert "mlx-community/gemma-2-27b-it-4bit" in refused.err
        assert "denied by policy.deny_sources" in refused.err
    assert hub.asked == []


@pytest.mark.req("S0-32")
def test_the_text_for_people_says_of_each_what_it_is_and_what_to_do(home: Home, hub: Hub) -> None:
    declare(home, every_source(home))
    result = asked(home, hub.endpoint)
    assert result.code == ExitCode.BLOCKED
    for label, reference in REFUSED.items():
        (line,) = [line for line in result.out.splitlines() if line.startswith(f"  ! server/{label}: ")]
        assert line.endswith(f"[{reference}]")
    for label, reference in WAITS.items():
        assert any(
            line.startswith(f"  ! server/{label}: ") and line.endswith(f"[{reference}]")
            for line in result.out.splitlines()
        )
    assert f"accept the licence and terms at {hub.endpoint}/acme/gated" in result.out
    assert "Traceback" not in result.out + result.err


def test_a_plan_without_the_question_asks_nobody_and_says_what_it_does_not_know(home: Home, hub: Hub) -> None:
    declare(home, repos("good", "gated"))
    result = home.run("plan", env=home.environment(HF_ENDPOINT=hub.endpoint))
    assert result.code == ExitCode.OK
    assert "ask the hub about acme/good at main" in result.out
    assert hub.asked == []
    assert not (home.root / "state").exists()


def test_asking_changes_nothing_on_this_machine(home: Home, hub: Hub) -> None:
    declare(home, every_source(home))
    before = {path for path in home.root.rglob("*") if "__pycache__" not in path.parts}
    asked(home, hub.endpoint)
    assert {path for path in home.root.rglob("*") if "__pycache__" not in path.parts} == before
