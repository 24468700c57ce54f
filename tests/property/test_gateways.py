"""Labels, artifacts and ports are three things: what clients see changes only where a person changed it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.desired import Desired, DesiredState, FrontSpec, Gateways, LiteLlmSpec, ModelSpec, Source
from reconciler.model.host import HostFile
from reconciler.model.names import Subject, gateway_subject, server_subject
from reconciler.model.observed import Artifact, Observation, Present
from reconciler.model.routes import Route
from tests.world.drive import Run, Scenario, apply, steps_by_subject
from tests.world.script import Does, Event, Script
from tests.world.truth import Truth, bindings

from . import checks
from .befalling import stormy
from .profile import worlds

THROUGH_FRONT = Gateways(front=FrontSpec(port=1234), litellm=LiteLlmSpec())
DIRECT = Gateways(litellm=LiteLlmSpec(mode="direct"))
LABELS = ("alpha", "beta")
names = st.from_regex(r"zz-[a-z0-9]{3,12}", fullmatch=True)
repos = st.from_regex(r"[A-Z][a-z]{2,8}/[A-Z][A-Za-z0-9-]{2,12}", fullmatch=True)
seconds = st.lists(st.sampled_from([0.125, 1.0, 7.0]), min_size=1, max_size=5).map(tuple)


def artifact(identity: str) -> Observation[Artifact]:
    """A small complete one."""
    return Present(value=Artifact(identity=identity, path=f"/hub/{identity}", weight_bytes=2**30, converted=True))


def served(gateways: Gateways, *labels: str, durations: tuple[float, ...] = (0.25,)) -> tuple[Scenario, Run]:
    """Labels on 8100, 8101, ... with their aliases, brought up from nothing."""
    models = {
        label: ModelSpec(source=Source(repo=f"org/{label}"), port=8100 + i, aliases=(f"{label}-alias",))
        for i, label in enumerate(labels)
    }
    state = DesiredState(version=1, ports={"team": "8100-8119"}, models=models, gateways=gateways)
    truth = Truth(artifacts={f"org/{label}@main": artifact(f"{label}#1") for label in labels})
    kinds = [kind for kind, spec in (("front", gateways.front), ("litellm", gateways.litellm)) if spec is not None]
    truth.gateways = {kind: checks.empty_gateway() for kind in kinds}
    scenario = Scenario(
        desired=Desired(state=state, revision="worktree:0", templates={}, provenance={}),
        host_file=HostFile(),
        truth=truth,
        script=Script(durations=durations),
    )
    run = apply(scenario)
    assert run.ending.settled
    return replace(scenario, truth=run.world.truth), run


def from_here(scenario: Scenario, run: Run, *events: Event, **artifacts: str) -> Run:
    """Go on in the same world, after something has changed."""
    world = replace(scenario, script=replace(scenario.script, events=events), truth=run.world.truth).world()
    world.time.now = run.world.now
    world.truth.artifacts |= {f"org/{label}@main": artifact(identity) for label, identity in artifacts.items()}
    after = apply(scenario, world)
    assert after.ending.settled
    return after


def done(run: Run) -> dict[Subject, tuple[str, ...]]:
    """Kinds of requests by subject."""
    return dict(steps_by_subject([(request.kind, request.subject) for request in run.world.requests]))


@pytest.mark.req("S1-02", "S0-24")
@worlds(30)
@given(seconds)
def test_a_swap_of_the_artifact_leaves_litellm_alone(durations: tuple[float, ...]) -> None:
    scenario, before = served(THROUGH_FRONT, *LABELS, durations=durations)
    files = before.world.truth.gateways["litellm"].routes
    swapped = from_here(scenario, before, alpha="alpha#2")
    assert done(swapped)[server_subject("alpha")] == ("preflight", "stop", "launch")
    assert gateway_subject("litellm") not in done(swapped)
    assert swapped.world.truth.gateways["litellm"].routes == files


@worlds(30)
@given(seconds, st.sampled_from([Does.DIE, Does.WEDGE]))
def test_a_crash_leaves_litellm_alone(durations: tuple[float, ...], does: Does) -> None:
    scenario, before = served(THROUGH_FRONT, *LABELS, durations=durations)
    crashed = from_here(scenario, before, Event(after=1.0, does=does, label="beta"))
    assert done(crashed)[server_subject("beta")][-1] == "launch"
    assert gateway_subject("litellm") not in done(crashed)


@worlds(150)
@given(stormy())
def test_what_is_listed_is_never_taken_off_and_put_back(scenario: Scenario) -> None:
    gateways = replace(scenario.desired.state.gateways, **{f: getattr(THROUGH_FRONT, f) for f in ("front", "litellm")})
    state = replace(scenario.desired.state, gateways=gateways)
    scenario = replace(scenario, desired=replace(scenario.desired, state=state), edits=())
    checks.exposure_is_stable(scenario, checks.settles(scenario))


@pytest.mark.req("S0-30", "S0-13", "S0-18")
@worlds(60)
@given(names, names, repos, repos)
def test_label_and_artifact_are_independent(label: str, other: str, repo: str, another: str) -> None:
    def first(label: str, repo: str) -> tuple[tuple[str, ...], tuple[Route, ...]]:
        models = {label: ModelSpec(source=Source(repo=repo), port=8100)}
        state = DesiredState(version=1, ports={"team": "8100-8119"}, models=models, gateways=DIRECT)
        truth = Truth(artifacts={f"{repo}@main": artifact(repo)}, gateways={"litellm": checks.empty_gateway()})
        desired = Desired(state=state, revision="worktree:0", templates={}, provenance={})
        run = apply(Scenario(desired=desired, host_file=HostFile(), truth=truth))
        order = run.ending.decision.view.targets[label].order
        assert order is not None
        return order.argv, run.world.truth.gateways["litellm"].routes or ()

    argv, routes = first(label, repo)
    assert first(other, repo)[0] == argv, "the command depends on the label"
    assert first(label, another)[1] == routes, "the gateway's file depends on the artifact"
    assert not any(label in argument for argument in argv)
    assert any(repo in argument for argument in argv)


@pytest.mark.req("S1-46")
@pytest.mark.parametrize("gateways", [DIRECT, THROUGH_FRONT], ids=["direct", "front"])
@worlds(40)
@given(durations=seconds)
def test_two_servers_swap_their_ports(gateways: Gateways, durations: tuple[float, ...]) -> None:
    scenario, before = served(gateways, *LABELS, durations=durations)
    models = scenario.desired.state.models
    swapped = {
        "alpha": replace(models["alpha"], port=8101, moved_from=8100),
        "beta": replace(models["beta"], port=8100, moved_from=8101),
    }
    desired = replace(scenario.desired, state=replace(scenario.desired.state, models=swapped))
    # The world refuses a start on a port to which a gateway may still send requests for the other label.
    run = from_here(replace(scenario, desired=desired), before)
    kind = "litellm" if gateways is DIRECT else "front"
    for written, routes in run.world.written:
        for route in routes if written == kind else ():
            assert route.aliases == (f"{route.label}-alias",)
    final = run.world.truth.gateways[kind].routes or ()
    assert {b.label: b.port for b in bindings(final)} == {"alpha": 8101, "beta": 8100}
    writes = [{b.label: b.port for b in bindings(r)} for k, r in run.world.written if k == kind]
    assert all(ports.get("alpha") != 8100 and ports.get("beta") != 8101 for ports in writes)


@pytest.mark.req("S1-45")
@worlds(40)
@given(st.booleans(), seconds)
def test_a_port_moves_only_where_it_is_acknowledged(acknowledged: bool, durations: tuple[float, ...]) -> None:
    scenario, before = served(DIRECT, "alpha", durations=durations)
    spec = replace(scenario.desired.state.models["alpha"], port=8105, moved_from=8100 if acknowledged else None)
    desired = replace(scenario.desired, state=replace(scenario.desired.state, models={"alpha": spec}))
    run = from_here(replace(scenario, desired=desired), before)
    ports = {b.port for b in bindings(run.world.truth.gateways["litellm"].routes or ())}
    if acknowledged:
        kinds = [request.kind for request in run.world.requests]
        assert kinds == ["preflight", "publish", "stop", "launch", "publish"]
        assert ports == {8105}
    else:
        assert run.world.requests == []
        assert [b.reference for b in run.plan.blocked] == ["port-moved-without-acknowledgement"]
        assert ports == {8100}
