"""What every artifact is needed for, and what may be moved to cold storage."""

from dataclasses import replace

import pytest

from reconciler.model.generation import Generation, ProvedServer
from reconciler.model.supply import Holding, Place
from reconciler.planning import holdings, retention
from reconciler.planning.forecast import Forecast
from tests.unit.planning.conftest import Tell

HEAD = "version: 1\nports: {team: 8100-8119, experimental: 8120-8139}\nmodels:\n"
FAST = "  fast:\n    source: {repo: acme/base}\n    port: 8100\n    convert: {bits: 4}\n"
RAW = "  raw:\n    source: {repo: acme/base}\n    port: 8101\n    convert: skip\n"
NAS = "host: {volumes: {nas: {path: /Volumes/nas, id: abcdefabcdefabcdefabcdefabcdefab}}, offload_to: nas}\n"
BASE = "artifacts: {acme/base@main: {converted: false}}\n"
MADE = "conversions: {acme/base@main: [{settings: [bits=4]}]}"
STORAGE = f"storage: {{volumes: {{nas: 500GiB}}, {MADE}}}\n"
SERVED = f"{NAS}{BASE}{STORAGE}servers: {{fast: {{}}}}\n"
AWAY = "ledger: {proved: [fast], wishes: {acme/base@main: offload}}\n"


def kinds(outcome: Forecast) -> list[tuple[str, str]]:
    return [(action.kind, action.subject) for action in outcome.actions]


def said(outcome: Forecast) -> dict[str, str]:
    return {blocked.reference: blocked.reason for blocked in outcome.end.blocked}


def offloads(outcome: Forecast) -> bool:
    return ("offload", "artifact/acme/base@main") in kinds(outcome)


@pytest.mark.req("S1-70")
def test_base_weights_are_offloaded_after_a_launch_on_what_was_converted(tell: Tell) -> None:
    outcome = tell(HEAD + FAST, f"{NAS}{BASE}storage: {{volumes: {{nas: 500GiB}}}}\n")
    assert [kind for kind, _ in kinds(outcome)] == ["convert", "launch", "offload"]
    assert "acme/base@main" in outcome.final.facts.observed.storage.cold
    assert outcome.settled


def test_an_offload_says_how_much_goes_where(tell: Tell) -> None:
    (action,) = tell(HEAD + FAST, SERVED).actions
    assert "10.0 GiB to nas (/Volumes/nas/models--acme--base)" in action.reason
    assert (action.destructive, action.bytes) == (True, 10 * 2**30)


@pytest.mark.req("S1-17")
def test_a_model_that_still_serves_from_its_base_keeps_it_and_says_so(tell: Tell) -> None:
    still = SERVED.replace("{fast: {}}", "{fast: {commit: c0ffee}}")
    outcome = tell(HEAD + FAST.replace("    convert: {bits: 4}\n", "    convert: skip\n"), still + AWAY)
    assert not offloads(outcome)
    assert "server/fast was started with it" in said(outcome)["offload-refused"]


@pytest.mark.req("S1-63")
@pytest.mark.parametrize("convert", ["skip", "auto"])
def test_what_is_served_as_it_was_downloaded_is_not_offloaded(tell: Tell, convert: str) -> None:
    plain = FAST.replace("{bits: 4}", convert)
    outcome = tell(HEAD + plain, f"{NAS}artifacts: {{acme/base@main: {{}}}}\nstorage: {{volumes: {{nas: 500GiB}}}}\n")
    assert [kind for kind, _ in kinds(outcome)] == ["launch"]
    record = outcome.final.facts.ledger.artifacts["fast"]
    assert record.og_path in ("", record.cache_path)


@pytest.mark.req("S1-64")
@pytest.mark.parametrize("running", ["{fast: {}, raw: {}}", "{fast: {}}", "{fast: {}, raw: {standing: unknown}}"])
def test_a_base_that_another_label_uses_is_not_offloaded(tell: Tell, running: str) -> None:
    observed = SERVED.replace("{fast: {}}", running)
    assert not offloads(tell(HEAD + FAST + RAW, observed))
    by_hand = tell(HEAD + FAST + RAW, observed + AWAY)
    assert not offloads(by_hand)
    assert "raw" in said(by_hand)["offload-refused"]


@pytest.mark.req("S1-64")
def test_a_base_of_which_another_label_names_a_folder_is_not_offloaded(tell: Tell) -> None:
    inside = "/cache/models--acme--base/snapshots/c0ffee"
    folder = "  raw:\n    source: {path: '${env.INSIDE}'}\n    port: 8101\n    convert: skip\n"
    base = f"artifacts: {{acme/base@main: {{converted: false}}, {inside}: {{}}}}\n"
    observed = f"{SERVED.replace(BASE, base)}environ: {{INSIDE: {inside}}}\n"
    assert not offloads(tell(HEAD + FAST + folder, observed))


def test_a_server_that_nobody_declares_any_more_keeps_its_base_while_it_runs(tell: Tell) -> None:
    old = "old: {port: 8109, commit: c0ffee, fields: {source: acme/base@main}}"
    observed = SERVED.replace("{fast: {}}", f"{{fast: {{}}, {old}}}")
    outcome = tell(HEAD.replace("models:\n", "policy: {prune: false}\nmodels:\n") + FAST, observed + AWAY)
    assert "server/old was started with it" in said(outcome)["offload-refused"]


def test_a_draft_is_not_offloaded(tell: Tell) -> None:
    other = "  other:\n    source: {repo: acme/other}\n    port: 8101\n    draft: {repo: acme/base}\n"
    both = BASE.replace("}}", "}, acme/other@main: {}}")
    outcome = tell(HEAD + FAST + other, SERVED.replace(BASE, both) + AWAY)
    assert not offloads(outcome)
    # Before the launch nothing but the declaration needs it, afterwards the server does as well.
    assert "it is the draft model of other" in outcome.steps[0].plan.blocked[0].reason
    assert "server/other was started with it" in said(outcome)["offload-refused"]


@pytest.mark.req("S1-71")
@pytest.mark.parametrize(
    ("volumes", "reference"),
    [("nas: null", "volume-unmounted"), ("other: 1GiB", "volume-unmounted"), ("nas: 5GiB", "volume-full")],
)
def test_without_a_volume_that_has_room_nothing_is_moved_and_it_is_said(
    tell: Tell, volumes: str, reference: str
) -> None:
    outcome = tell(HEAD + FAST, SERVED.replace("nas: 500GiB", volumes))
    assert kinds(outcome) == []
    assert "stays here" in said(outcome)[reference]
    assert outcome.final.facts.observed.artifacts == outcome.first.facts.observed.artifacts


@pytest.mark.req("S1-74")
def test_offload_never_moves_nothing(tell: Tell) -> None:
    assert kinds(tell(HEAD + FAST + "    offload: never\n", SERVED)) == []
    assert offloads(tell(HEAD + FAST, SERVED))


def test_nothing_goes_without_being_told_to_a_volume(tell: Tell) -> None:
    assert kinds(tell(HEAD + FAST, SERVED.replace(", offload_to: nas", ""))) == []


@pytest.mark.parametrize("health", ["starting", "zombie"])
def test_nothing_goes_before_the_conversion_is_proved_in_service(tell: Tell, health: str) -> None:
    outcome = tell(HEAD + FAST, SERVED.replace("{fast: {}}", f"{{fast: {{health: {health}}}}}"))
    assert "offload" not in [action.kind for action in outcome.steps[0].plan.actions]


def test_nothing_goes_while_nobody_can_see_what_runs(tell: Tell) -> None:
    outcome = tell(HEAD + FAST, f"{NAS}{BASE}{STORAGE}blind: denied\n{AWAY}")
    assert not offloads(outcome)
    assert "what runs could not be seen" in said(outcome)["offload-refused"]


@pytest.mark.parametrize(
    ("artifact", "words"),
    [
        ("{missing: [a], converted: false}", "only complete weights are moved"),
        ("{unknown: denied}", "denied"),
    ],
)
def test_only_what_is_known_to_be_whole_is_moved(tell: Tell, artifact: str, words: str) -> None:
    observed = f"{NAS}artifacts: {{acme/base@main: {artifact}}}\n{STORAGE}"
    outcome = tell(HEAD + FAST, observed + AWAY)
    assert not offloads(outcome)
    assert words in " ".join(said(outcome).values())


def test_what_a_person_wants_back_comes_back_and_stays(tell: Tell) -> None:
    cold = f"storage: {{volumes: {{nas: 500GiB}}, {MADE}, cold: {{acme/base@main: {{volume: nas}}}}}}\n"
    keep = "ledger: {proved: [fast], wishes: {acme/base@main: keep}}\n"
    outcome = tell(HEAD + FAST, f"{NAS}{cold}servers: {{fast: {{}}}}\n{keep}")
    assert kinds(outcome) == [("restore", "artifact/acme/base@main")]
    full = cold.replace("volumes:", "free: 5GiB, volumes:")
    assert "disk-full" in said(tell(HEAD + FAST, f"{NAS}{full}servers: {{fast: {{}}}}\n{keep}"))
    pulled = cold.replace("nas: 500GiB", "nas: null")
    assert "volume-unmounted" in said(tell(HEAD + FAST, f"{NAS}{pulled}servers: {{fast: {{}}}}\n{keep}"))


@pytest.mark.parametrize("name", ["converted", "mlx-community"])
def test_what_went_away_is_not_brought_back_for_its_name(tell: Tell, name: str) -> None:
    """Once the files are gone, the name of the repository must not speak against what they have said."""
    repo = f"{name}/base"
    texts = [HEAD + FAST, f"{NAS}{BASE}storage: {{volumes: {{nas: 500GiB}}}}\n"]
    desired, observed = (text.replace("acme/base", repo).replace("    convert: {bits: 4}\n", "") for text in texts)
    outcome = tell(desired, observed)
    assert [kind for kind, _ in kinds(outcome)] == ["convert", "launch", "offload"]
    assert outcome.settled


def proved(number: int, entry: str, draft: str = "", at: float | None = 1.0) -> Generation:
    """A generation with one server, which loaded this."""
    reference, _, identity = entry.partition(" ")
    server = ProvedServer(reference=reference, artifact=identity, draft=draft, spec_hash="a" * 12, port=8100, at=1.0)
    return Generation(number=number, at=1.0, revision="r", content="", servers={"fast": server}, proved_at=at)


def needs(outcome: Forecast, *generations: Generation, current: int = 0) -> list[str]:
    """Why the repository acme/base is kept, as far as a return goes."""
    facts = outcome.first.facts
    facts = replace(facts, ledger=replace(facts.ledger, generations=generations, current=current))
    found = retention.roots(facts, outcome.first.targets, "acme/base")
    return [root.reason for root in found if root.kind == "generation"]


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        ("acme/base@main c0ffee", True),
        ("acme/base@main recipe:123", False),
        ("acme/base@dev c0ffee", True),
        ("acme/base2@main c0ffee", False),
        ("/cache/models--acme--base/snapshots/c0ffee c0ffee", True),
    ],
)
def test_a_proved_generation_keeps_what_it_was_served_from(tell: Tell, entry: str, kept: bool) -> None:
    said = needs(tell(HEAD + FAST, SERVED), proved(4, entry))
    assert said == (["a return to generation 4 needs it"] if kept else [])


def test_its_draft_is_kept_too(tell: Tell) -> None:
    other = proved(4, "acme/other@main 1", draft="acme/base@main c0ffee")
    assert needs(tell(HEAD + FAST, SERVED), other) == ["a return to generation 4 needs it"]


def test_one_that_was_never_proved_keeps_nothing_once_it_is_left(tell: Tell) -> None:
    outcome, left = tell(HEAD + FAST, SERVED), proved(4, "acme/base@main c0ffee", at=None)
    assert needs(outcome, left) == []
    assert needs(outcome, left, current=4) == ["a return to generation 4 needs it"]


def test_the_last_three_that_were_proved_keep_theirs(tell: Tell) -> None:
    generations = [proved(number, "acme/base@main c0ffee") for number in (9, 8, 7, 6)]
    generations.insert(1, proved(10, "acme/base@main c0ffee", at=None))
    said = needs(tell(HEAD + FAST, SERVED), *generations)
    assert said == [f"a return to generation {number} needs it" for number in (9, 8, 7)]


def test_what_a_return_needs_is_said_of_a_conversion_too(tell: Tell) -> None:
    outcome = tell(HEAD + FAST, SERVED)
    made = outcome.first.facts.observed.storage.conversions["acme/base@main"][0].artifact
    facts = outcome.first.facts
    old = replace(facts.ledger, generations=(proved(4, f"acme/base@main {made.identity}"),))
    holding = Holding(place=Place.CONVERTED, name="x", path=made.path, bytes=1, references=(), identity=made.identity)
    (kept,) = holdings.kept(replace(facts, ledger=old), {}, (holding,), {})
    assert [root.reason for root in kept.roots if root.kind == "generation"] == ["a return to generation 4 needs it"]
