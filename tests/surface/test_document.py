"""The status document: what it says of a machine, and that it says it as its schema promises."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from reconciler.desired.schema import SCHEMAS
from reconciler.model.base import plain
from reconciler.model.status_document import StatusDocument
from reconciler.planning.forecast import forecast
from reconciler.surface.page.document import Seen, document
from tests.golden.story import NOW, Story, planner
from tests.surface import studio
from tests.surface.served import ask, serving

STORIES: Final = sorted(path.parent for path in (Path(__file__).parents[1] / "golden").glob("*/desired.yaml"))
SCHEMA: Final = Draft202012Validator(SCHEMAS["status.v1.json"]())


def made(seen: Any, **more: Any) -> StatusDocument:
    """The document of these facts, with its plan."""
    tick = studio.tick(seen)
    foreseen = forecast(planner(), tick.decision.view.facts)
    return document(
        Seen(
            decision=tick.decision,
            file=studio.FILE,
            host="studio",
            events=studio.happened(),
            forecast=foreseen,
            in_flight=tick.in_flight,
            steady=tick.steady,
            **more,
        )
    )


@pytest.mark.parametrize("folder", STORIES, ids=lambda folder: folder.name)
def test_every_story_has_a_document_that_keeps_its_schema(folder: Path) -> None:
    data = json.loads(json.dumps(plain(made(Story(folder).facts()))))
    SCHEMA.validate(data)
    assert list(data)[:2] == ["format_version", "type"]
    assert {entry["subject"] for entry in data["blocked"]}.isdisjoint(f"server/{s['label']}" for s in data["servers"])


STUDIO: Final = made(studio.facts())
SERVERS: Final = {server.label: server for server in STUDIO.servers}


def test_the_header_says_the_worst_and_counts_the_rest() -> None:
    assert (STUDIO.health, STUDIO.sync, STUDIO.settled) == ("Degraded", "OutOfSync", False)
    assert dict(STUDIO.counts) == {"Degraded": 1, "Missing": 1, "Suspended": 1, "Healthy": 3}
    assert STUDIO.source.revision == studio.COMMIT
    assert STUDIO.source.uncommitted == ("ensemble.yaml",)
    assert not STUDIO.source.paused
    (suspension,) = STUDIO.suspensions
    assert (suspension.label, suspension.until) == ("mistral-small-24b", NOW + 5_280)
    assert STUDIO.result is not None
    assert STUDIO.result.kind == "failed"
    assert (STUDIO.generation, STUDIO.pin) == (14, None)


def test_a_suspension_that_is_over_is_none() -> None:
    seen = studio.facts()
    later = replace(seen, now=NOW + 5_280, observed=replace(seen.observed, at=NOW + 5_280))
    assert made(later).suspensions == ()


def test_a_source_that_is_paused_says_both_revisions_and_why() -> None:
    found = made(studio.paused(studio.facts())).source
    assert (found.paused, found.revision, found.refused) == (True, studio.COMMIT, studio.NEWER)
    assert found.reference == "invalid-document"
    assert "did you mean 'port'" in found.reason
    assert found.hint


def test_a_pin_says_what_was_left() -> None:
    found = made(studio.pinned(studio.facts()))
    assert found.pin is not None
    assert (found.pin.number, found.pin.bad, found.pin.automatic) == (13, studio.COMMIT, True)
    assert found.generation == 13


def test_a_server_is_said_from_its_names_to_its_process() -> None:
    coder = SERVERS["qwen3-coder-30b"]
    assert coder.aliases == ("coder",)
    assert coder.source == "mlx-community/Qwen3-Coder-30B-A3B-Instruct-8bit@main"
    assert coder.artifact == "91c2e7d4405bfa863e1f70d9a5cb2846f8e03a7b"
    assert (coder.backend, coder.runtime, coder.port, coder.pid) == ("mlx-lm", "python", 8101, 48217)
    assert (coder.since, coder.proved_at) == (NOW - 273_580, NOW - 240)
    assert (coder.revision, coder.generation) == (studio.OLD, 13)
    assert (coder.differs, coder.failures) == ((), 0)


def test_what_differs_is_said_on_both_sides() -> None:
    small = SERVERS["qwen3-4b"]
    assert (small.sync, small.health, small.verdict) == ("OutOfSync", "Healthy", "outdated")
    assert [entry.field for entry in small.differs] == ["artifact", "source"]
    assert small.differs[1].declared == "mlx-community/Qwen3-4B-Instruct-2507-8bit@main"
    assert small.differs[1].running == "mlx-community/Qwen3-4B-Instruct-2507-4bit@main"


def test_who_waits_says_what_was_found_as_well() -> None:
    gemma = SERVERS["gemma-3-27b"]
    assert gemma.reference == "waiting-for-withdrawal"
    assert gemma.found == "three questions in a row were not answered, and it does not work meanwhile"


def test_memory_adds_up_and_has_the_peak_of_the_plan() -> None:
    found = STUDIO.memory
    assert found.budget is not None
    assert found.headroom is not None
    assert found.reserved == sum(entry.bytes for entry in found.reservations)
    assert found.budget == found.reserved + found.headroom
    assert found.peak is not None
    assert found.reserved < found.peak <= found.budget
    assert [entry.bytes for entry in found.reservations] == sorted((e.bytes for e in found.reservations), reverse=True)


def test_the_plan_is_the_text_of_plan_and_names_what_moves() -> None:
    pending = STUDIO.plan
    assert pending is not None
    assert pending.text.startswith(f"Plan for {studio.FILE} at {studio.COMMIT}\n")
    assert pending.command == f"reconciler apply -c {studio.FILE}"
    assert f"{pending.actions} actions: " in pending.text
    assert pending.destructive == ("stop server/gemma-3-27b", "stop server/qwen3-4b")
    (move,) = pending.moves
    assert (move.kind, move.bytes) == ("ensure", 37 * 2**30 + 1024)
    assert pending.disk.download > 0


def test_a_gateway_says_file_wish_and_who_is_there() -> None:
    (litellm,) = STUDIO.gateways
    routes = {route.label: route for route in litellm.routes}
    assert not litellm.matches
    assert routes["qwen3-coder-30b"].matches
    gemma = routes["gemma-3-27b"]
    assert (gemma.has, gemma.wanted) == ("127.0.0.1:8102 as default_model", "")
    assert gemma.answers == "gemma-3-27b, alive and unable to generate"


@pytest.mark.parametrize(
    ("story", "matches", "problem", "answers"),
    [
        ("no-op", True, False, {"fast, serving"}),
        ("unknown-gateway", False, True, set()),
        ("gateway-not-on-this-machine", False, True, {"fast, serving"}),
        ("first-start", False, False, set()),
        ("memory-unknown", False, False, set()),
    ],
)
def test_gateways_of_other_machines(story: str, matches: bool, problem: bool, answers: set[str]) -> None:
    found = made(Story(studio.STORY.parent / story).facts())
    (litellm,) = found.gateways
    assert (litellm.matches, bool(litellm.problem)) == (matches, problem)
    assert answers <= {route.answers for route in litellm.routes}


def test_generations_say_what_is_missing_and_how_to_return() -> None:
    first, second, third, _ = STUDIO.generations
    assert (first.number, first.current, first.command) == (14, True, "")
    assert first.missing == ("qwen3-4b", "llama-3.3-70b")
    assert (second.proved_at is not None, second.command) == (True, "reconciler rollback 13")
    assert third.failed.startswith("qwen3-4b was held")
    assert [proof.label for proof in second.proofs] == sorted(proof.label for proof in second.proofs)


def test_events_are_the_last_ones_the_newest_first() -> None:
    many = tuple(replace(studio.happened()[0], number=number) for number in range(80))
    tick = studio.tick(studio.facts())
    found = document(Seen(decision=tick.decision, file="f", host="h", events=many)).events
    assert [event.number for event in found] == list(range(79, 29, -1))


def test_what_was_not_asked_for_is_not_made() -> None:
    tick = studio.tick(studio.facts())
    found = document(Seen(decision=tick.decision, file="f", host="h"))
    assert (found.plan, found.memory.peak, found.jobs, found.events) == (None, None, (), ())
    SCHEMA.validate(json.loads(json.dumps(plain(found))))


def test_a_look_that_failed_is_said_beside_the_last_one() -> None:
    async def main() -> None:
        async with serving(studio.tick(studio.facts())) as served:
            served.page.failed(OSError("the disk is gone"))
            found = (await ask(served.port, "/status.json")).data
            assert (found["trouble"], found["health"]) == ("the disk is gone", "Degraded")
            served.page.told(studio.tick(studio.facts(NOW + 1)))
            assert (await ask(served.port, "/status.json")).data["trouble"] == ""

    asyncio.run(main())
