"""What brings weights nearer, one row for every way in which they can be."""

import pytest

from reconciler.model.supply import CheckOrder, ConvertOrder, FetchOrder, MoveOrder, VerifyOrder
from reconciler.planning.forecast import Forecast
from tests.unit.planning.conftest import Tell

HEAD = "version: 1\nports: {team: 8100-8119, experimental: 8120-8139}\n"
FAST = "  fast:\n    source: {repo: acme/fast}\n    port: 8100\n"
ONE = f"{HEAD}models:\n{FAST}"
ONLINE = "machine: {offline: false}\n"
SHARDS = "shards: 4, missing: [model-00002-of-00004.safetensors]"
NAS = "host: {volumes: {nas: {path: /Volumes/nas, id: abcdefabcdefabcdefabcdefabcdefab}}, offload_to: nas}\n"
COLD = "{acme/fast@main: {volume: nas, converted: true}}"


def kinds(outcome: Forecast) -> list[tuple[str, str]]:
    return [(action.kind, action.subject) for action in outcome.actions]


def verbs(outcome: Forecast) -> list[str]:
    return [action.kind for action in outcome.actions]


def said(outcome: Forecast) -> dict[str, str]:
    return {blocked.reference: f"{blocked.reason} | {blocked.hint}" for blocked in outcome.end.blocked}


@pytest.mark.parametrize(
    ("observed", "reference", "words"),
    [
        ("", "artifact-missing", "hf download acme/fast --revision main"),
        (f"artifacts: {{acme/fast@main: {{{SHARDS}}}}}\n", "artifact-partial", "1 file is missing"),
        ("artifacts: {acme/fast@main: {missing: ['a.json (short)', b]}}\n", "artifact-partial", "--force-download"),
        ("artifacts: {acme/fast@main: {corrupt: [a.safetensors]}}\n", "artifact-corrupt", "corrupt (a.safetensors)"),
        ("artifacts: {acme/fast@main: {unknown: denied}}\n", "observation-unknown", "denied"),
    ],
)
def test_offline_what_is_not_whole_is_said_and_nothing_is_asked(
    tell: Tell, observed: str, reference: str, words: str
) -> None:
    outcome = tell(ONE, observed)
    assert kinds(outcome) == []
    assert words in said(outcome)[reference]


def test_weights_that_were_never_compared_are_read_before_they_are_launched(tell: Tell) -> None:
    outcome = tell(ONE, "artifacts: {acme/fast@main: {unverified: true}}\n")
    assert kinds(outcome) == [("ensure", "artifact/acme/fast@main"), ("launch", "server/fast")]
    (order,) = outcome.first.supplies.values()
    assert isinstance(order, VerifyOrder)
    assert order.bytes == 10 * 2**30


def test_what_is_not_here_is_asked_about_and_no_forecast_knows_the_answer(tell: Tell) -> None:
    outcome = tell(ONE, ONLINE)
    assert kinds(outcome) == [("ensure", "artifact/acme/fast@main")]
    assert isinstance(next(iter(outcome.first.supplies.values())), CheckOrder)
    assert not outcome.settled


def test_a_part_is_asked_about_at_its_own_commit(tell: Tell) -> None:
    outcome = tell(ONE, f"{ONLINE}artifacts: {{acme/fast@main: {{commit: abc, {SHARDS}}}}}\n")
    (order,) = outcome.first.supplies.values()
    assert isinstance(order, CheckOrder)
    assert order.revision == "abc"


def test_what_the_hub_has_is_downloaded_at_the_commit_that_it_named(tell: Tell) -> None:
    outcome = tell(ONE, f"{ONLINE}ledger: {{sources: {{acme/fast@main: {{commit: abc}}}}}}\n")
    assert kinds(outcome) == [("ensure", "artifact/acme/fast@main"), ("launch", "server/fast")]
    (order,) = outcome.first.supplies.values()
    assert isinstance(order, FetchOrder)
    assert (order.commit, order.why, order.bytes) == ("abc", "download", 10 * 2**30 + 1024)


@pytest.mark.parametrize(
    ("damage", "afresh", "bytes_"),
    [
        ("corrupt: [model.safetensors]", ("model.safetensors",), 10 * 2**30),
        ("missing: [config.json]", (), 1024),
        ("missing: [config.json (short)]", ("config.json",), 1024),
        ("missing: [somewhere.json]", (), 10 * 2**30 + 1024),
    ],
)
def test_a_repair_brings_only_what_is_bad(tell: Tell, damage: str, afresh: tuple[str, ...], bytes_: int) -> None:
    known = "ledger: {sources: {acme/fast@main: {}}}\n"
    outcome = tell(ONE, f"{ONLINE}{known}artifacts: {{acme/fast@main: {{{damage}}}}}\n")
    (order,) = outcome.first.supplies.values()
    assert isinstance(order, FetchOrder)
    assert (order.afresh, order.bytes) == (afresh, bytes_)
    assert verbs(outcome) == ["ensure", "launch"]


def test_what_the_hub_refuses_is_said_in_its_words(tell: Tell) -> None:
    outcome = tell(ONE, f"{ONLINE}ledger: {{sources: {{acme/fast@main: {{problem: source-gated, hint: ask}}}}}}\n")
    assert kinds(outcome) == []
    assert "the hub says no | ask" in said(outcome)["source-gated"]


def test_what_passes_is_waited_for_and_asked_again_when_it_is_due(tell: Tell) -> None:
    later = "{problem: hub-unreachable, retry_in: 30}"
    outcome = tell(ONE, f"{ONLINE}ledger: {{sources: {{acme/fast@main: {later}}}}}\n")
    assert outcome.steps[0].plan.waiting[0].reference == "hub-unreachable"
    assert outcome.steps[0].plan.look_again == outcome.first.facts.now + 30
    assert kinds(outcome) == [("ensure", "artifact/acme/fast@main")]


def test_a_policy_of_offline_asks_nobody(tell: Tell) -> None:
    outcome = tell(f"{ONE}policy: {{offline: always}}\n", ONLINE)
    assert kinds(outcome) == []
    assert set(said(outcome)) == {"artifact-missing"}


def test_nothing_is_downloaded_that_does_not_fit_on_the_disk(tell: Tell) -> None:
    known = "ledger: {sources: {acme/fast@main: {}}}\n"
    outcome = tell(ONE, f"{ONLINE}{known}storage: {{free: 11GiB}}\n")
    assert kinds(outcome) == []
    assert "10.0 GiB" in said(outcome)["disk-full"]
    assert verbs(tell(ONE, f"{ONLINE}{known}storage: {{free: 13GiB}}\n")) == ["ensure", "launch"]


def test_nothing_is_downloaded_that_could_not_be_served(tell: Tell) -> None:
    known = "ledger: {sources: {acme/fast@main: {weights: 200GiB}}}\n"
    outcome = tell(ONE, f"{ONLINE}{known}")
    assert kinds(outcome) == []
    assert "was not downloaded" in said(outcome)["memory-refused"]


def test_two_downloads_that_fit_only_one_after_the_other_share_the_disk(tell: Tell) -> None:
    slow = "  slow:\n    source: {repo: acme/slow}\n    port: 8101\n"
    known = "ledger: {sources: {acme/fast@main: {}, acme/slow@main: {}}}\n"
    outcome = tell(f"{ONE}{slow}", f"{ONLINE}{known}host: {{downloads: {{repos: 2}}}}\nstorage: {{free: 14GiB}}\n")
    assert [action.claims.disk for action in outcome.steps[0].plan.actions] == [10 * 2**30 + 1024]
    assert "disk-full" in said(outcome)


def test_the_model_of_higher_priority_is_downloaded_first(tell: Tell) -> None:
    slow = "  slow:\n    source: {repo: acme/slow}\n    port: 8101\n"
    known = "ledger: {sources: {acme/fast@main: {}, acme/slow@main: {}}}\n"
    first = tell(f"{ONE}    priority: 5\n{slow}", f"{ONLINE}{known}")
    assert kinds(first)[0] == ("ensure", "artifact/acme/fast@main")
    second = tell(f"{ONE}{slow}    priority: 5\n", f"{ONLINE}{known}")
    assert kinds(second)[0] == ("ensure", "artifact/acme/slow@main")


@pytest.mark.req("S1-48")
def test_what_is_only_in_cold_storage_is_brought_back_and_not_exposed_before(tell: Tell) -> None:
    observed = f"{NAS}{ONLINE}storage: {{volumes: {{nas: 500GiB}}, cold: {COLD}}}\ngateways: {{litellm: {{}}}}\n"
    gateways = "gateways: {front: {port: 8090}, litellm: {}}\n"
    outcome = tell(f"{ONE}{gateways}", f"{observed}ledger: {{proved: [fast]}}\n")
    assert kinds(outcome)[0] == ("restore", "artifact/acme/fast@main")
    (order,) = outcome.first.supplies.values()
    assert isinstance(order, MoveOrder)
    assert order.back
    assert outcome.first.wanted["litellm"] == ()
    assert "launch" not in [action.kind for action in outcome.steps[0].plan.actions]


@pytest.mark.parametrize("volumes", ["{}", "{nas: null}"])
def test_without_its_volume_nothing_is_downloaded_in_its_place(tell: Tell, volumes: str) -> None:
    known = "ledger: {sources: {acme/fast@main: {}}}\n"
    outcome = tell(ONE, f"{NAS}{ONLINE}{known}storage: {{volumes: {volumes}, cold: {COLD}}}\n")
    assert kinds(outcome) == []
    assert "nothing was downloaded in its place" in said(outcome)["volume-unmounted"]


def test_nothing_is_brought_back_that_does_not_fit_on_the_disk(tell: Tell) -> None:
    outcome = tell(ONE, f"{NAS}storage: {{volumes: {{nas: 500GiB}}, cold: {COLD}, free: 5GiB}}\n")
    assert kinds(outcome) == []
    assert "bringing it back" in said(outcome)["disk-full"]


def test_a_conversion_counts_its_memory_and_its_disk(tell: Tell) -> None:
    base = "artifacts: {acme/fast@main: {converted: false}}\n"
    outcome = tell(f"{ONE}    convert: {{bits: 4}}\n", base)
    assert verbs(outcome) == ["convert", "launch"]
    (order,) = outcome.first.supplies.values()
    assert isinstance(order, ConvertOrder)
    assert order.memory > 10 * 2**30
    assert outcome.actions[0].claims.memory == order.memory
    assert outcome.actions[0].claims.disk == order.disk < 4 * 2**30
    refused = tell(f"{ONE}    convert: {{bits: 4}}\n", f"{base}storage: {{free: 4GiB}}\n")
    assert "converting it" in said(refused)["disk-full"]
    small = tell(f"{ONE}    convert: {{bits: 4}}\n", f"{base}host: {{memory: {{budget: 9GiB}}}}\n")
    assert "nothing was stopped for it" in said(small)["conversion-memory"]


def test_the_same_recipe_again_is_nothing_to_do(tell: Tell) -> None:
    base = "artifacts: {acme/fast@main: {converted: false}}\n"
    made = "storage: {conversions: {acme/fast@main: [{settings: [bits=4]}]}}\n"
    assert verbs(tell(f"{ONE}    convert: {{bits: 4}}\n", base + made)) == ["launch"]
    assert verbs(tell(f"{ONE}    convert: {{bits: 8}}\n", base + made)) == ["convert", "launch"]
    other = made.replace("settings", "of: older, settings")
    assert verbs(tell(f"{ONE}    convert: {{bits: 4}}\n", base + other)) == ["convert", "launch"]


@pytest.mark.parametrize(("damage", "first"), [("unverified: true", "ensure"), ("missing: [a]", "convert")])
def test_a_result_that_is_not_sound_is_verified_or_made_again(tell: Tell, damage: str, first: str) -> None:
    base = "artifacts: {acme/fast@main: {converted: false}}\n"
    made = f"storage: {{conversions: {{acme/fast@main: [{{settings: [bits=4], {damage}}}]}}}}\n"
    assert verbs(tell(f"{ONE}    convert: {{bits: 4}}\n", base + made)) == [first, "launch"]


def test_what_was_converted_serves_where_the_base_is_gone(tell: Tell) -> None:
    made = "storage: {conversions: {acme/fast@main: [{settings: [bits=4]}]}}\n"
    assert verbs(tell(f"{ONE}    convert: {{bits: 4}}\n", made)) == ["launch"]


def test_a_draft_is_brought_like_a_model_and_never_converted(tell: Tell) -> None:
    known = "ledger: {sources: {acme/tiny@main: {weights: 1GiB, converted: false}}}\n"
    outcome = tell(f"{ONE}    draft: {{repo: acme/tiny}}\n", f"{ONLINE}{known}artifacts: {{acme/fast@main: {{}}}}\n")
    assert kinds(outcome) == [("ensure", "artifact/acme/tiny@main"), ("launch", "server/fast")]
    missing = tell(f"{ONE}    draft: {{repo: acme/tiny}}\n", "artifacts: {acme/fast@main: {}}\n")
    assert said(missing)["artifact-missing"].startswith("the draft model acme/tiny@main")


def test_a_folder_is_never_downloaded(tell: Tell) -> None:
    folder = f"{HEAD}models:\n  fast:\n    source: {{path: '${{env.WEIGHTS}}/fast'}}\n    port: 8100\n"
    environ = f"{ONLINE}environ: {{WEIGHTS: /weights}}\n"
    assert "put it there" in said(tell(folder, environ))["path-missing"]
    broken = said(tell(folder, f"{environ}artifacts: {{/weights/fast: {{corrupt: [a]}}}}\n"))
    assert "--force-download" not in broken["artifact-corrupt"]
    assert verbs(tell(folder, f"{environ}artifacts: {{/weights/fast: {{}}}}\n")) == ["launch"]


@pytest.mark.parametrize("damage", ["corrupt: [a]", SHARDS, "unverified: true", "unknown: denied"])
def test_a_server_that_runs_is_kept_whatever_becomes_of_its_weights(tell: Tell, damage: str) -> None:
    outcome = tell(ONE, f"artifacts: {{acme/fast@main: {{{damage}}}}}\nservers: {{fast: {{}}}}\n")
    assert not {"stop", "launch"} & set(verbs(outcome))
    assert outcome.final.leaving == frozenset()
