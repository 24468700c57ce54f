"""Mistakes in bringing, converting and moving weights, each made on purpose: the properties must notice every one."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from reconciler.actions import convert, offload, restore
from reconciler.model.observed import Absent, Present, Unknown, Volume
from reconciler.model.plan import Effect
from reconciler.model.view import Facts, View
from reconciler.planning import arrange, orders, plan, recipes, resolve, retention, supply

from .bugs import Bug, Patch, wrap

BUGS: Final[dict[str, tuple[Bug, str]]] = {}
"""name -> the mistake, and in which worlds it must show (`test_seeded_supply_bugs.WORLDS`)."""


def bug(worlds: str = "plain") -> Callable[[Bug], Bug]:
    """Register a mistake under the name of its function."""

    def register(plant: Bug) -> Bug:
        BUGS[plant.__name__.replace("_", "-")] = (plant, worlds)
        return plant

    return register


def seeing(room: Any, name: str, change: Callable[[Facts], Facts]) -> Bug:
    """The mistake of a function `name(wanted, facts)` or `name(facts, ...)` that sees other facts."""

    def plant(patch: Patch) -> None:
        original = getattr(room, name)

        def seen(*arguments: Any) -> Any:
            return original(*(change(a) if isinstance(a, Facts) else a for a in arguments))

        patch.setattr(room, name, seen)

    return plant


def stored(facts: Facts, **changed: Any) -> Facts:
    """The same facts with another storage."""
    return replace(facts, observed=replace(facts.observed, storage=replace(facts.observed.storage, **changed)))


# ---------------------------------------------------------------------------------------------------------- soundness


@bug()
def what_was_not_compared_is_served(patch: Patch) -> None:
    def served(original: Any, wanted: Any, facts: Facts) -> supply.Supply:
        found: supply.Supply = original(wanted, facts)
        here = isinstance(found.artifact, Present) and found.artifact.value.complete
        return supply.Supply(artifact=found.artifact) if here else found

    wrap(patch, resolve, "supply", served)


@bug()
def what_is_damaged_is_served(patch: Patch) -> None:
    def served(original: Any, wanted: Any, facts: Facts) -> supply.Supply:
        found: supply.Supply = original(wanted, facts)
        here = isinstance(found.artifact, Present) and not found.artifact.value.complete
        return supply.Supply(artifact=found.artifact) if here else found

    wrap(patch, resolve, "supply", served)


@bug()
def a_draft_is_not_looked_at(patch: Patch) -> None:
    def served(original: Any, wanted: Any, facts: Facts) -> supply.Supply:
        found: supply.Supply = original(wanted, facts)
        return supply.Supply(artifact=found.artifact) if wanted.is_draft else found

    wrap(patch, resolve, "supply", served)


@bug("damaged")
def a_server_ends_for_its_weights(patch: Patch) -> None:
    def goes(original: Any, facts: Facts, change: Any) -> bool:
        lacking = change.target is not None and change.target.order is None and change.live is not None
        return bool(original(facts, change)) or (lacking and change.live.standing == "ours")

    wrap(patch, arrange, "_goes", goes)


@bug()
def what_could_not_be_seen_is_downloaded(patch: Patch) -> None:
    def absent(facts: Facts) -> Facts:
        seen = {r: Absent() if isinstance(f, Unknown) else f for r, f in facts.observed.artifacts.items()}
        return replace(facts, observed=replace(facts.observed, artifacts=seen))

    seeing(resolve, "supply", absent)(patch)


# ----------------------------------------------------------------------------------------------------------- bringing


@bug("any")
def the_hub_is_asked_offline(patch: Patch) -> None:
    def online(facts: Facts) -> Facts:
        return replace(facts, observed=replace(facts.observed, host=replace(facts.observed.host, offline=False)))

    seeing(resolve, "supply", online)(patch)


@bug()
def cold_storage_is_forgotten(patch: Patch) -> None:
    seeing(resolve, "supply", lambda facts: stored(facts, cold={}))(patch)


@bug()
def the_disk_is_endless(patch: Patch) -> None:
    endless = Present(value=2**60)
    seeing(resolve, "supply", lambda facts: stored(facts, free=endless))(patch)
    patch.setattr(orders, "room", lambda facts: None)


@bug()
def the_disk_is_not_summed(patch: Patch) -> None:
    patch.setattr(orders, "_disk", lambda order: 0)


@bug("retuned")
def a_download_goes_on_that_nobody_wants(patch: Patch) -> None:
    patch.setattr(plan, "_obsolete", lambda *arguments: ())


@bug("any")
def a_refusal_of_the_hub_is_kept_quiet(patch: Patch) -> None:
    def served(original: Any, wanted: Any, facts: Facts) -> supply.Supply:
        found: supply.Supply = original(wanted, facts)
        return (
            replace(found, problem=None) if found.problem is not None and "source" in found.problem.reference else found
        )

    wrap(patch, resolve, "supply", served)


@bug()
def an_answer_of_the_hub_is_not_believed(patch: Patch) -> None:
    patch.setattr(supply, "outlived", lambda check, now: True)


@bug("shaken")
def a_silent_hub_is_silent_for_ever(patch: Patch) -> None:
    patch.setattr(supply, "outlived", lambda check, now: False)


@bug("any")
def one_that_fails_keeps_others_from_coming(patch: Patch) -> None:
    patch.setattr(orders, "_hold", lambda *arguments: None)


# --------------------------------------------------------------------------------------------------------- conversion


@bug()
def what_was_converted_is_converted_again(patch: Patch) -> None:
    patch.setattr(recipes, "made_by", lambda *arguments: None)


@bug()
def a_conversion_of_other_weights_is_served(patch: Patch) -> None:
    def made_by(original: Any, made: Any, settings: Any, host: Any, commit: Any) -> Any:
        return original(made, settings, host, None)

    wrap(patch, recipes, "made_by", made_by)


@bug("crowded")
def conversions_take_no_memory(patch: Patch) -> None:
    original = convert.Convert.propose

    def propose(cls: type[convert.Convert], view: View) -> Iterator[object]:
        yield from original(replace(view, headroom=2**60))

    patch.setattr(convert.Convert, "propose", classmethod(propose))


@bug("crowded")
def launches_go_first(patch: Patch) -> None:
    patch.setattr(orders, "conversion_first", lambda *arguments: 0)


@bug("crowded")
def two_are_converted_at_a_time(patch: Patch) -> None:
    original = convert.Convert.propose

    def propose(cls: type[convert.Convert], view: View) -> Iterator[object]:
        for subject, order in view.supplies.items():
            jobs = tuple(job for job in view.facts.in_flight if job.kind != "convert")
            yield from original(replace(view, supplies={subject: order}, facts=replace(view.facts, in_flight=jobs)))

    patch.setattr(convert.Convert, "propose", classmethod(propose))


@bug()
def a_conversion_is_foreseen_to_leave_nothing(patch: Patch) -> None:
    patch.setattr(convert.Convert, "simulate", lambda self, observed: Effect())


# ------------------------------------------------------------------------------------------------------------- moving


@bug()
def whatever_is_needed_is_moved_away(patch: Patch) -> None:
    patch.setattr(retention, "roots", lambda *arguments: iter(()))


def _without(kind: str) -> Bug:
    def plant(patch: Patch) -> None:
        wrap(patch, retention, "roots", lambda o, *arguments: (r for r in o(*arguments) if r.kind != kind))

    return plant


@bug("wishes")
def what_serves_is_moved_away(patch: Patch) -> None:
    _without("serving")(patch)


@bug("wishes")
def what_is_declared_is_moved_away(patch: Patch) -> None:
    _without("desired")(patch)


@bug("wishes")
def what_was_proved_lately_is_moved_away(patch: Patch) -> None:
    _without("generation")(patch)


@bug("wishes")
def a_volume_that_is_not_there_is_written_to(patch: Patch) -> None:
    mounted = {"backroom": Present(value=Volume(path="/mnt/backroom", free=2**60))}
    seeing(retention, "moves", lambda facts: stored(facts, volumes=mounted))(patch)


@bug("wishes")
def what_a_person_asks_for_is_not_done(patch: Patch) -> None:
    seeing(retention, "moves", lambda facts: replace(facts, ledger=replace(facts.ledger, wishes={})))(patch)


@bug("moving")
def a_base_is_served_while_it_is_being_moved(patch: Patch) -> None:
    seeing(resolve, "supply", lambda facts: replace(facts, in_flight=()))(patch)


@bug()
def a_move_is_foreseen_to_free_nothing(patch: Patch) -> None:
    original = offload.Offload.simulate
    patch.setattr(offload.Offload, "simulate", lambda self, observed: replace(original(self, observed), artifacts={}))


@bug()
def what_comes_back_is_foreseen_to_be_cold_still(patch: Patch) -> None:
    original = restore.Restore.simulate
    patch.setattr(restore.Restore, "simulate", lambda self, observed: replace(original(self, observed), artifacts={}))
