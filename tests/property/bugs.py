"""Mistakes that a planner can have, each made on purpose: the properties must notice every one of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from reconciler.actions import launch, stop
from reconciler.model.change import Change, Verdict
from reconciler.model.host import HostFile
from reconciler.model.ledger import Ledger
from reconciler.model.observed import (
    Absent,
    Health,
    HostFacts,
    Listener,
    Observation,
    ObservedState,
    Present,
    Standing,
    Unknown,
)
from reconciler.model.plan import Blocked, Waiting
from reconciler.model.view import Facts, View
from reconciler.planning import arrange, backoff, diff, memory, plan, ports, resolve, routes, spec

Patch = pytest.MonkeyPatch
Bug = Callable[[Patch], None]
BUGS: Final[dict[str, tuple[Bug, str]]] = {}
"""name -> the mistake, and in which worlds it must show (`test_seeded_bugs.WORLDS`)."""


def bug(worlds: str = "calm") -> Callable[[Bug], Bug]:
    """Register a mistake under the name of its function."""

    def register(plant: Bug) -> Bug:
        BUGS[plant.__name__.replace("_", "-")] = (plant, worlds)
        return plant

    return register


def wrap(patch: Patch, room: object, name: str, around: Callable[..., Any]) -> None:
    """Put `around(original, *arguments)` in the place of a function."""
    original = getattr(room, name)
    patch.setattr(room, name, lambda *arguments: around(original, *arguments))


def seen_as(facts: Facts, before: Standing, after: Standing) -> Facts:
    """The same facts, with every standing `before` taken for `after`."""
    servers = {
        label: replace(s, standing=after) if s.standing is before else s for label, s in facts.observed.servers.items()
    }
    return replace(facts, observed=replace(facts.observed, servers=servers))


# ------------------------------------------------------------------------------------------------------------- memory


@bug("tight")
def memory_is_not_checked(patch: Patch) -> None:
    patch.setattr(memory, "budget", lambda host, facts: Present(value=2**50))


@bug("crowded")
def memory_is_not_summed_within_a_tick(patch: Patch) -> None:
    original = launch.Launch.propose

    def propose(cls: type[launch.Launch], view: View) -> Iterator[object]:
        for taken, label in enumerate(view.launchable):
            yield from original(replace(view, launchable=(label,), launch_slots=view.launch_slots - taken))

    patch.setattr(launch.Launch, "propose", classmethod(propose))


@bug("tight")
def everybody_is_admitted(patch: Patch) -> None:
    def admit(limit: int, *rest: Any) -> memory.Admission:
        contenders: Mapping[str, int] = rest[2]
        return memory.Admission(admitted=frozenset(contenders), refused={})

    patch.setattr(arrange, "admit", admit)


@bug("squeezed")
def memory_goes_to_who_asks_first(patch: Patch) -> None:
    """A promise is forgotten as soon as the old server is gone."""

    def forgetful(original: Callable[..., memory.Admission], *arguments: Any) -> memory.Admission:
        *others, ledger = arguments
        promised: Ledger = replace(ledger, reserved=frozenset(), launched=frozenset())
        return original(*others, promised)

    wrap(patch, arrange, "admit", forgetful)


@bug("unmeasured")
def an_unknown_budget_is_no_limit(patch: Patch) -> None:
    def budget(original: Callable[..., Observation[int]], host: HostFile, facts: HostFacts) -> Observation[int]:
        found = original(host, facts)
        return found if isinstance(found, Present) else Present(value=2**50)

    wrap(patch, memory, "budget", budget)


@bug("fresh")
def more_start_than_may(patch: Patch) -> None:
    wrap(patch, plan, "look", lambda original, *rest: replace(original(*rest), launch_slots=64))


# ------------------------------------------------------------------------------------------------ whose process is it


@bug()
def an_unknown_process_is_taken_for_ours(patch: Patch) -> None:
    wrap(patch, plan, "diff", lambda o, facts, targets: o(seen_as(facts, Standing.UNKNOWN, Standing.OURS), targets))


@bug()
def an_unknown_process_is_adopted(patch: Patch) -> None:
    wrap(patch, plan, "diff", lambda o, facts, targets: o(seen_as(facts, Standing.UNKNOWN, Standing.ORPHAN), targets))


@bug()
def an_orphan_is_taken_for_ours(patch: Patch) -> None:
    wrap(patch, plan, "diff", lambda o, facts, targets: o(seen_as(facts, Standing.ORPHAN, Standing.OURS), targets))


@bug()
def an_unknown_process_is_forgotten(patch: Patch) -> None:
    wrap(patch, plan, "diff", lambda o, facts, targets: o(seen_as(facts, Standing.UNKNOWN, Standing.GONE), targets))


@bug()
def strangers_are_stopped_with_prune_off(patch: Patch) -> None:
    def goes(original: Callable[..., bool], facts: Facts, change: Change) -> bool:
        policy = replace(facts.desired.state.policy, prune=True)
        state = replace(facts.desired.state, policy=policy)
        return original(replace(facts, desired=replace(facts.desired, state=state)), change)

    wrap(patch, arrange, "_goes", goes)


# -------------------------------------------------------------------------------------------------------------- ports


def _listener(patch: Patch, kind: type[Unknown] | type[Present[Any]]) -> None:
    def listener(original: Callable[..., Observation[Listener]], state: ObservedState, port: int) -> object:
        found = original(state, port)
        return Absent() if isinstance(found, kind) else found

    wrap(patch, ObservedState, "listener", listener)


@bug("fresh")
def an_unknown_port_is_free(patch: Patch) -> None:
    _listener(patch, Unknown)


@bug("fresh")
def a_foreign_port_is_free(patch: Patch) -> None:
    _listener(patch, Present)


@bug()
def a_lease_is_not_kept(patch: Patch) -> None:
    def assign(original: Callable[..., object], state: object, observed: ObservedState, ledger: Ledger) -> object:
        return original(state, replace(observed, servers={}), replace(ledger, leases={}))

    wrap(patch, ports, "assign", assign)


@bug("moved")
def a_port_moves_without_acknowledgement(patch: Patch) -> None:
    patch.setattr(resolve, "_moved", lambda *arguments: iter(()))


@bug("moved")
def a_server_is_started_beside_the_old_one(patch: Patch) -> None:
    patch.setattr(arrange, "_DOWN", (Verdict.MISSING, Verdict.CRASHED, Verdict.OUTDATED))


@bug("misrouted")
def a_port_is_used_while_others_are_sent_there(patch: Patch) -> None:
    patch.setattr(arrange, "_misled", lambda *arguments: None)


# -------------------------------------------------------------------------------------------------------- replacement


@bug()
def a_server_is_stopped_before_its_successor_can_start(patch: Patch) -> None:
    def startable(original: Callable[[Change], bool], change: Change) -> bool:
        port = change.target.port if change.target is not None else None
        return original(change) or (change.verdict is Verdict.OUTDATED and port is not None)

    wrap(patch, arrange, "_startable", startable)


@bug("unfit")
def a_successor_is_not_examined(patch: Patch) -> None:
    patch.setattr(arrange, "_is_unproved", lambda *arguments: False)


@bug("exchanged")
def others_count_on_a_successor_that_may_fail(patch: Patch) -> None:
    patch.setattr(arrange, "_sure", lambda *arguments: arguments[-2] - arguments[-1])


@bug()
def a_new_artifact_is_not_noticed(patch: Patch) -> None:
    patch.setattr(diff, "differences", lambda target, live: spec.differences(target.fields, live.fields))


@bug()
def the_spec_hash_covers_gateway_fields(patch: Patch) -> None:
    def canonical(original: Callable[..., dict[str, str]], model: Any, *rest: Any) -> dict[str, str]:
        fields = original(model, *rest)
        return {**fields, "convert": f"{fields['convert']} {model.context_length} {model.priority}"}

    wrap(patch, spec, "canonical", canonical)


@bug("fresh")
def backoff_is_ignored(patch: Patch) -> None:
    patch.setattr(backoff, "hold", lambda *arguments: None)


@bug("doomed")
def a_broken_model_is_never_given_up(patch: Patch) -> None:
    patch.setattr(backoff, "BUDGET", 10**6)


@bug("doomed")
def failures_are_forgiven_in_time(patch: Patch) -> None:
    def failed(original: Callable[..., Ledger], ledger: Ledger, label: str, *rest: Any) -> Ledger:
        before, now = ledger.attempts.get(label), rest[2]
        if before is not None and now - before.last > backoff.WINDOW:
            ledger = replace(ledger, attempts={k: a for k, a in ledger.attempts.items() if k != label})
        return original(ledger, label, *rest)

    wrap(patch, backoff, "failed", failed)


@bug("fresh")
def a_suspension_is_ignored(patch: Patch) -> None:
    patch.setattr(diff, "suspended", lambda facts, label: False)


# ----------------------------------------------------------------------------------------------------------- gateways


@bug()
def a_route_comes_before_the_proof(patch: Patch) -> None:
    def wanted(original: Callable[..., object], facts: Facts, targets: object, changes: Any, leaving: object) -> object:
        proved = {
            label: replace(c, live=replace(c.live, health=Health.SERVING)) if c.live is not None else c
            for label, c in changes.items()
        }
        return original(facts, targets, proved, leaving)

    wrap(patch, plan, "wanted", wanted)


@bug()
def a_route_is_not_withdrawn(patch: Patch) -> None:
    wrap(patch, plan, "wanted", lambda original, *rest: original(*rest[:3], frozenset()))


@bug()
def a_server_is_stopped_while_routed(patch: Patch) -> None:
    patch.setattr(stop, "_reachable", lambda view, live: None)


@bug()
def draining_is_ignored(patch: Patch) -> None:
    def reachable(original: Callable[..., Waiting | None], view: View, live: object) -> Waiting | None:
        waits = original(view, live)
        return None if waits is not None and waits.reference == "draining" else waits

    wrap(patch, stop, "_reachable", reachable)


@bug("hasty")
def a_publish_under_way_is_ignored(patch: Patch) -> None:
    def reachable(original: Callable[..., Any], view: View, live: Any) -> Any:
        return original(replace(view, facts=replace(view.facts, in_flight=())), live)

    wrap(patch, stop, "_reachable", reachable)


@bug("hasty")
def a_stop_under_way_is_ignored(patch: Patch) -> None:
    wrap(patch, plan, "arrange", lambda original, facts, *rest: original(replace(facts, in_flight=()), *rest))


@bug()
def an_unknown_gateway_is_an_empty_one(patch: Patch) -> None:
    def arranged(original: Callable[..., object], facts: Facts, *rest: Any) -> object:
        known = {k: g for k, g in facts.observed.gateways.items() if not isinstance(g, Unknown)}
        return original(replace(facts, observed=replace(facts.observed, gateways=known)), *rest)

    wrap(patch, plan, "arrange", arranged)


@bug()
def exposure_follows_health(patch: Patch) -> None:
    def exposure(original: Callable[..., Any], facts: Facts, targets: Any, changes: Mapping[str, Change]) -> object:
        up = {label for label, c in changes.items() if c.live is not None and c.live.health is Health.SERVING}
        return tuple(route for route in original(facts, targets, changes) if route.label in up)

    wrap(patch, routes, "exposure", exposure)


# -------------------------------------------------------------------------------------------------------------- words


def _silent_about(patch: Patch, reference: str) -> None:
    def blocked(original: Callable[..., Any], *arguments: Any) -> list[Blocked]:
        return [b for b in original(*arguments) if b.reference != reference]

    wrap(patch, plan, "_blocked", blocked)


@bug("fresh")
def nobody_says_that_a_port_is_taken(patch: Patch) -> None:
    _silent_about(patch, "port-occupied")


@bug("tight")
def nobody_says_that_memory_is_short(patch: Patch) -> None:
    _silent_about(patch, "memory-refused")


@bug()
def own_stops_are_counted_as_failures(patch: Patch) -> None:
    def remembered(original: Callable[..., Ledger], facts: Facts, *rest: Any) -> Ledger:
        return original(replace(facts, in_flight=()), *rest)

    wrap(patch, plan, "remember", remembered)
