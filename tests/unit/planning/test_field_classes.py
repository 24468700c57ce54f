"""Every field of a model has a class, and the class is true: what a change of it costs is what it says."""

from dataclasses import fields, replace
from typing import Any

import pytest

from reconciler import plugins
from reconciler.model.base import FieldClass
from reconciler.model.desired import Desired, DesiredState, ModelSpec, Policy, Quantization, Source
from reconciler.model.host import HostFile
from reconciler.model.ledger import EMPTY
from reconciler.model.observed import (
    Absent,
    Artifact,
    GatewayState,
    Health,
    HostFacts,
    ObservedState,
    Present,
    ServerProcess,
    Standing,
)
from reconciler.model.routes import Route
from reconciler.model.view import Facts
from reconciler.planning.plan import Planner
from reconciler.planning.routes import bindings
from reconciler.planning.spec import spec_hash

MODEL = ModelSpec(source=Source(repo="acme/one"), port=8100, backend="mlx-openai-server")
OTHER: dict[str, Any] = {
    "source": Source(repo="acme/two"),
    "port": 8101,
    "moved_from": 8101,
    "backend": "mlx-lm",
    "chat_template": "templates/a.jinja",
    "tool_call_parser": "hermes",
    "reasoning_parser": "hermes",
    "options": {"queue_size": 7},
    "draft": Source(repo="acme/draft"),
    "context_length": 4096,
    "max_output_tokens": 512,
    "request_params": {"temperature": 0.5},
    "aliases": ("quick",),
    "requires": ("offline",),
    "priority": 5,
    "activation": "on-demand",
    "group": "team",
    "idle_ttl": "5m",
    "convert": Quantization(bits=4),
    "preconverted": "no",
    "offload": "never",
}
RESTARTS = {FieldClass.RESTART, FieldClass.REPLACE}


def facts(model: ModelSpec) -> Facts:
    """A machine on which `model` serves as declared by MODEL."""
    artifact = Present(value=Artifact(identity="c0ffee", path="/hub/c0ffee", weight_bytes=2**30, converted=True))
    runtime = Present(value=("serve",))
    desired = Desired(
        state=DesiredState(version=1, models={"fast": model}, policy=Policy()),
        revision="worktree:0",
        templates={"templates/a.jinja": "{{ messages }}"},
        provenance={},
    )
    observed = ObservedState(
        at=100.0,
        servers={},
        listeners={8100: Absent(), 8101: Absent()},
        artifacts={f"acme/{name}@main": artifact for name in ("one", "two", "draft")},
        gateways={"litellm": Present(value=GatewayState())},
        host=HostFacts(
            platform="darwin",
            memory_total=Present(value=2**37),
            runtimes={"mlx-lm": runtime, "mlx-openai-server": runtime},
        ),
    )
    return Facts(desired=desired, observed=observed, ledger=EMPTY, host=HostFile(), now=100.0)


def seen(model: ModelSpec) -> tuple[dict[str, str], tuple[Route, ...]]:
    """The canonical fields of a model, and what a gateway is told about it while it serves."""
    planner = Planner(plugins.installed_backends(), plugins.installed_verbs())
    target = planner.decide(facts(model)).view.targets["fast"]
    live = ServerProcess(
        label="fast",
        port=8100,
        standing=Standing.OURS,
        health=Health.SERVING,
        fields=target.fields,
        artifact="c0ffee",
        served_name="fast",
    )
    given = facts(model)
    served = replace(given, observed=replace(given.observed, servers={"fast": live}))
    view = planner.decide(served).view
    changes = {change.label: change for change in view.changes}
    return dict(target.fields), bindings(served, view.targets, changes, frozenset(), "litellm")


def test_every_field_of_a_model_is_in_the_table() -> None:
    assert OTHER.keys() == {f.name for f in fields(ModelSpec)}


@pytest.mark.parametrize("name", sorted(OTHER))
def test_the_class_of_a_field_is_true(name: str) -> None:
    declared = next(f.metadata["class"] for f in fields(ModelSpec) if f.name == name)
    before, routes_before = seen(MODEL)
    after, routes_after = seen(replace(MODEL, **{name: OTHER[name]}))
    assert (spec_hash(before) != spec_hash(after)) == (declared in RESTARTS), "the spec hash covers restart and replace"
    if declared is FieldClass.GATEWAY:
        assert routes_before != routes_after, "a gateway field reaches the gateway"
    if declared is FieldClass.HOT:
        assert routes_before == routes_after, "a hot field reaches neither"


@pytest.mark.parametrize(
    "spelled",
    [
        {"options": {"decode_concurrency": 2, "max_bytes": 1_073_741_824}},
        {"source": Source(repo="acme/one", revision="main")},
        {"convert": "auto"},
        {"offload": "auto", "priority": 0, "activation": "always", "request_params": {}},
    ],
)
def test_a_default_that_is_spelled_out_changes_nothing(spelled: dict[str, Any]) -> None:
    assert seen(replace(MODEL, **spelled)) == seen(MODEL)
