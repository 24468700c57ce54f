"""What a verb says that it will change is what is seen to have changed after it was done."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given

from reconciler.actions.base import Verb
from reconciler.model.observed import Conversion, GatewayState, Observation, Present, ServerProcess
from tests.property.befalling import stormy
from tests.property.profile import worlds
from tests.property.strategies import scenarios
from tests.property.weights import supplied
from tests.world.drive import Scenario, examined, facts, planner
from tests.world.script import Script
from tests.world.virtual_time import run
from tests.world.world import World


def decided(process: ServerProcess | None) -> object:
    """What an action decides about a server; who it is and what it does is up to the machine."""
    return process and (
        process.label,
        process.port,
        process.standing,
        process.spec_hash,
        dict(process.fields),
        process.artifact,
        process.served_name,
        process.host,
        process.memory,
        process.revision,
        process.generation,
    )


def reached(state: Observation[GatewayState] | None) -> object:
    """What an action decides about a gateway."""
    assert isinstance(state, Present)
    return state.value.routes, state.value.may_dispatch


def perform(action: Verb, world: World) -> None:
    """Do one thing, and nothing else."""

    async def alone() -> None:
        async with asyncio.timeout(action.deadline):
            await action.perform(world.host())

    run(alone(), world.time)
    world.verify()


@worlds(150)
@given(scenarios())
def test_every_first_action_does_what_its_simulation_says(scenario: Scenario) -> None:
    # A gateway that drains for long: what it may still do is looked at before it is over.
    for gateway in scenario.truth.gateways.values():
        gateway.drain = 1e6
    scenario = replace(scenario, script=Script(durations=(0.0,), starts=(1e6,)))
    seen = facts(scenario, desired=scenario.desired)
    decider = planner()
    first = list(decider.chosen(decider.decide(seen)))
    first += [action for action in decider.chosen(decider.decide(examined(seen, decider))) if action not in first]
    for action in first:
        world = scenario.world()
        effect = action.simulate(seen.observed)
        perform(action, world)
        if effect.preflights:
            assert {f"{label} {key}" for label, key in effect.preflights.items()} == world.passed
        after = facts(scenario, world, scenario.desired).observed
        for label, process in effect.servers.items():
            assert decided(after.servers.get(label)) == decided(process), action.subject
        for kind, state in effect.gateways.items():
            assert reached(after.gateways.get(kind)) == reached(Present(value=state)), action.subject
        untouched = after.servers.keys() - effect.servers.keys()
        assert {label: after.servers[label] for label in untouched} == {
            label: process for label, process in seen.observed.servers.items() if label not in effect.servers
        }


WEIGHTS = ("ensure", "convert", "offload", "restore")


@worlds(150)
@given(supplied(plain=True))
def test_every_first_action_on_weights_does_what_its_simulation_says(scenario: Scenario) -> None:
    # What a hub will say is not known before it is asked, and is no part of what is observed.
    scenario = replace(scenario, script=Script(durations=(0.0,), starts=(1e6,)))
    seen = facts(scenario, desired=scenario.desired)
    decider = planner()
    for action in decider.chosen(decider.decide(seen)):
        if action.kind not in WEIGHTS:
            continue
        world = scenario.world()
        effect = action.simulate(seen.observed)
        perform(action, world)
        after = facts(scenario, world, scenario.desired).observed
        assert {**seen.observed.artifacts, **effect.artifacts} == after.artifacts, action.subject
        made = {reference: list(found) for reference, found in seen.observed.storage.conversions.items()}
        for reference, conversion in effect.conversions.items():
            others = [c for c in made.get(reference, []) if c.recipe.key != conversion.recipe.key]
            made[reference] = [*others, conversion]
        for reference, conversions in made.items():
            assert sorted_by_key(after.storage.conversions.get(reference, ())) == sorted_by_key(conversions)
        expected = {**seen.observed.storage.cold, **effect.cold}
        assert {r: copy for r, copy in expected.items() if copy is not None} == after.storage.cold, action.subject
        assert after.servers == seen.observed.servers, "no server is touched by it"


def sorted_by_key(conversions: Iterable[Conversion]) -> list[Conversion]:
    """In an order of their own: which one comes first is up to the machine."""
    return sorted(conversions, key=lambda conversion: conversion.recipe.key)


@worlds(60)
@given(stormy())
def test_looking_changes_nothing(scenario: Scenario) -> None:
    world = scenario.world()
    first = facts(scenario, world)
    assert facts(scenario, world) == first
    assert (world.writes, world.requests) == (0, [])
