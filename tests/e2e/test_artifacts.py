"""Weights from a hub to a server that answers: real downloads, real conversion, real mlx_lm.server."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode
from reconciler.programs.tiny_model import write_cached, write_model
from tests.cli.home import Home
from tests.programs.fake_hub import Kind, Trouble
from tests.programs.tiny_base import change_config
from tests.programs.tiny_cache import TinyCache

from .ensemble import alive, until
from .supplied import BITS, WEIGHTS, Supplied, digests, flip, supplied
from .test_lifecycle import answer

pytestmark = [pytest.mark.e2e, pytest.mark.heavy, pytest.mark.timeout(240)]


@pytest.fixture
def machine(home: Home) -> Iterator[Supplied]:
    """A hub, and a machine with nothing in its cache."""
    with supplied(home) as made:
        yield made


@pytest.mark.req("S0-05", "S1-29", "S1-30", "S1-68", "S1-69")
def test_a_declared_base_and_its_draft_are_brought_verified_converted_and_served(machine: Supplied) -> None:
    """The whole way, and what is known at its end: the commit, where it came from, and what clients are told."""
    commit = machine.offers("acme/base", "One line, said twice.", base=True)
    machine.offers("acme/small", "One line, said twice.", seed=1)
    machine.declare(
        "alpha",
        alpha={
            "source": {"repo": "acme/base"},
            "draft": {"repo": "acme/small"},
            "convert": BITS,
            "context_length": "auto",
        },
    )
    machine.apply()
    order = machine.done()
    brought = max(order.index(("ensure", f"artifact/acme/{name}@main")) for name in ("base", "small"))
    assert brought < order.index(("launch", "server/alpha")), "also the draft is here before the launch"
    assert order.index(("convert", "artifact/acme/base@main")) < order.index(("launch", "server/alpha"))
    assert answer(machine.port("alpha")) == "One line, said twice."
    (converted,) = machine.conversions("acme/base")
    (draft,) = (machine.cached("acme/small") / "snapshots").iterdir()
    assert f"--model={converted}" in machine.argv("alpha")
    assert f"--draft-model={draft}" in machine.argv("alpha")
    assert json.loads((converted / "config.json").read_bytes())["quantization"]["bits"] == 4

    record = machine.recorded("alpha")
    assert (record.reference, record.commit) == ("acme/base@main", commit)
    assert record.og_path == str(machine.cached("acme/base"))
    assert record.source_path == f"{machine.cached('acme/base')}/snapshots/{commit}"
    assert record.cache_path == str(converted)
    assert record.format == "mlx"
    assert 0 < record.bytes < machine.blob("acme/base").stat().st_size
    window = json.loads((converted / "config.json").read_bytes())["max_position_embeddings"]
    assert f"max_input_tokens: {window}\n" in machine.published.read_text(), "what the configuration says, told on"

    pid, asked = machine.pid("alpha"), len(machine.hub.asked)
    assert "Nothing to do." in machine.apply()
    assert (machine.pid("alpha"), len(machine.hub.asked)) == (pid, asked)


@pytest.mark.req("S1-28")
def test_a_download_that_is_cut_off_goes_on_where_it_was_and_a_second_apply_does_nothing(machine: Supplied) -> None:
    machine.offers("acme/tiny")
    machine.declare("alpha", alpha={"source": {"repo": "acme/tiny"}})
    machine.fails(Trouble.RESET, "acme/tiny")
    machine.apply()
    assert [asked.status for asked in machine.hub.gets(WEIGHTS)] == [200, 206], "the rest alone was asked for"
    assert answer(machine.port("alpha")) == "I am acme/tiny."
    before, asked = digests(machine.cached("acme/tiny")), len(machine.hub.asked)
    assert "Nothing to do." in machine.apply()
    assert len(machine.hub.asked) == asked
    assert digests(machine.cached("acme/tiny")) == before


def test_how_far_a_download_is_can_be_seen_in_the_output_in_the_status_and_in_the_events(machine: Supplied) -> None:
    machine.offers("acme/tiny")
    machine.declare("alpha", alpha={"source": {"repo": "acme/tiny"}})
    gate = machine.gate("acme/tiny")
    with machine.applying() as applying:
        until(lambda: "downloading" in machine.said(), "the output says how far it is", applying)
        assert gate.reached.is_set()
        document = json.loads(machine.run("status", "-o", "json").out)
        (progress,) = document["progress"]
        assert (progress["subject"], progress["action"]) == ("artifact/acme/tiny@main", "ensure")
        assert progress["text"].startswith("downloading 6"), progress
        (server,) = document["servers"]
        assert (server["sync"], server["health"]) == ("OutOfSync", "Missing")
        table = machine.run("status").out
        assert f"artifact/acme/tiny@main: {progress['text']}" in table
        (event,) = [e for e in machine.events() if e["kind"] == "progress"]
        assert event["text"] == progress["text"]
        assert " % of " in event["text"]
        assert machine.routed() == set()
        gate.gate.set()
        assert applying.wait(60) == ExitCode.OK, machine.said()
    assert json.loads(machine.run("status", "-o", "json").out)["progress"] == []
    assert machine.routed() == {"alpha"}


@pytest.mark.fault("H05")
def test_h05_a_flipped_byte_is_never_launched_and_only_that_file_is_fetched_again(machine: Supplied) -> None:
    machine.offers("acme/tiny")
    machine.declare("alpha", alpha={"source": {"repo": "acme/tiny"}})
    machine.apply()
    machine.declare()
    machine.apply()
    flip(machine.blob("acme/tiny"))
    del machine.hub.asked[:]
    machine.declare("alpha", alpha={"source": {"repo": "acme/tiny"}})
    gate = machine.gate("acme/tiny")
    with machine.applying() as applying:
        until(gate.reached.is_set, "it is fetched again", applying)
        assert machine.running() == []
        assert machine.launches("alpha") == 1, "the one of the first apply"
        gate.gate.set()
        assert applying.wait(60) == ExitCode.OK, machine.said()
    assert answer(machine.port("alpha")) == "I am acme/tiny."
    fetched = {path.rpartition("/")[2] for path in machine.asked() if "/resolve/" in path}
    assert fetched == {"config.json", WEIGHTS}, "the configuration is part of the question whether it can be had"
    assert len([asked for asked in machine.hub.gets("config.json")]) == 1


def test_a_server_serves_on_while_its_weights_are_corrupt_and_are_repaired(machine: Supplied) -> None:
    machine.offers("acme/tiny")
    machine.declare("alpha", alpha={"source": {"repo": "acme/tiny"}})
    machine.apply()
    pid = machine.pid("alpha")
    blob = machine.blob("acme/tiny")
    damaged = bytearray(blob.read_bytes())
    damaged[-1] ^= 1
    blob.with_name("beside").write_bytes(damaged)
    blob.with_name("beside").replace(blob)
    assert "artifact-corrupt" in machine.apply(ExitCode.BLOCKED, HF_HUB_OFFLINE="1")
    assert machine.pid("alpha") == pid
    assert machine.routed() == {"alpha"}
    gate = machine.gate("acme/tiny")
    with machine.applying() as applying:
        until(gate.reached.is_set, "it is fetched again", applying)
        assert answer(machine.port("alpha")) == "I am acme/tiny."
        assert machine.routed() == {"alpha"}
        gate.gate.set()
        assert applying.wait(60) == ExitCode.OK, machine.said()
    assert machine.pid("alpha") == pid
    assert answer(machine.port("alpha")) == "I am acme/tiny."
    assert "Nothing to do." in machine.apply()


@pytest.mark.fault("H12")
def test_h12_a_server_outlives_its_weights_and_is_not_restarted_before_they_are_back(machine: Supplied) -> None:
    machine.offers("acme/tiny")
    machine.declare("alpha", alpha={"source": {"repo": "acme/tiny"}})
    machine.apply()
    pid = machine.pid("alpha")
    shutil.rmtree(machine.cached("acme/tiny"))
    machine.apply(ExitCode.BLOCKED, HF_HUB_OFFLINE="1")
    assert machine.pid("alpha") == pid
    assert answer(machine.port("alpha")) == "I am acme/tiny."
    os.kill(pid, 9)
    until(lambda: not alive(pid), "it has ended")
    machine.apply(ExitCode.BLOCKED, HF_HUB_OFFLINE="1")
    assert machine.running() == [], "it is not started into a failure"
    assert machine.launches("alpha") == 1
    machine.apply()
    assert answer(machine.port("alpha")) == "I am acme/tiny."


@pytest.mark.req("S2-45", "S2-51", "S2-76", "S4-42")
@pytest.mark.parametrize("policy", ["auto", "always"])
def test_what_is_complete_here_is_applied_without_one_request(machine: Supplied, policy: str) -> None:
    """Every way out of this machine leads to a listener that keeps what it is asked."""
    write_cached(machine.home.hub, "demo/alpha", "Here already.")
    machine.declare("alpha")
    document = json.loads((machine.home.root / "ensemble.yaml").read_text())
    machine.home.write(json.dumps(document | {"policy": {"offline": policy}}))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        machine.env[name] = machine.hub.endpoint
    machine.apply(ExitCode.OK)
    machine.run("plan", "--check-sources")
    assert answer(machine.port("alpha")) == "Here already."
    assert machine.asked() == []


@pytest.mark.req("S2-45", "S2-51")
def test_with_the_policy_offline_what_is_missing_is_said_and_nobody_is_asked(machine: Supplied) -> None:
    machine.offers("acme/tiny")
    write_cached(machine.home.hub, "demo/beta", "Here already.")
    machine.declare("alpha", "beta", alpha={"source": {"repo": "acme/tiny"}})
    document = json.loads((machine.home.root / "ensemble.yaml").read_text())
    machine.home.write(json.dumps(document | {"policy": {"offline": "always"}}))
    assert "artifact-missing" in machine.apply(ExitCode.BLOCKED)
    assert machine.blocked("--check-sources") == {"server/alpha": "artifact-missing"}
    assert machine.routed() == {"beta"}
    assert machine.asked() == []


@pytest.mark.req("S2-52")
def test_a_model_in_the_folder_of_lm_studio_is_served_from_there_and_not_downloaded(machine: Supplied) -> None:
    machine.offers("acme/tiny")
    studio = machine.home.root / "studio"
    shutil.copytree(machine.hub.repos["acme/tiny"].folder, studio / "acme" / "tiny")
    before = digests(studio)
    machine.host = {"model_folders": [str(studio)]}
    machine.declare("alpha", alpha={"source": {"repo": "acme/tiny"}})
    assert "ensure" not in {kind for kind, _ in machine.planned("--check-sources")}
    machine.apply()
    assert f"--model={studio}/acme/tiny" in machine.argv("alpha")
    assert answer(machine.port("alpha")) == "I am acme/tiny."
    assert digests(studio) == before
    assert machine.asked() == []


@pytest.mark.req("S1-09")
def test_of_two_snapshots_the_one_that_the_branch_names_is_served_though_it_is_older(machine: Supplied) -> None:
    write_cached(machine.home.hub, "demo/alpha", "The older one.")
    old = (machine.cached("demo/alpha") / "refs" / "main").read_text()
    write_cached(machine.home.hub, "demo/alpha", "The newer one.")
    new = (machine.cached("demo/alpha") / "refs" / "main").read_text()
    assert old != new
    TinyCache(machine.home.hub).point("demo/alpha", "main", old)
    os.utime(machine.cached("demo/alpha") / "snapshots" / old, (1, 1))
    machine.declare("alpha")
    said = machine.run("plan", "--full").out
    assert f"--model={machine.cached('demo/alpha')}/snapshots/{old}" in said
    machine.apply()
    assert answer(machine.port("alpha")) == "The older one."


@pytest.mark.req("S1-10", "S1-16")
def test_where_weights_first_were_is_kept_when_they_are_converted_later(machine: Supplied) -> None:
    machine.offers("mlx-community/tiny", "Converted later.")
    models = {"source": {"repo": "mlx-community/tiny"}}
    machine.declare("alpha", alpha=models)
    machine.apply()
    first = machine.recorded("alpha")
    assert first.source_path == first.cache_path
    assert first.og_path == "", "it was not converted"
    machine.declare("alpha", alpha={**models, "convert": BITS})
    machine.apply()
    later = machine.recorded("alpha")
    assert later.source_path == first.source_path
    assert later.cache_path != first.cache_path
    assert later.cache_path == str(machine.conversions("mlx-community/tiny")[0])
    assert later.og_path == str(machine.cached("mlx-community/tiny"))
    assert answer(machine.port("alpha")) == "Converted later."


@pytest.mark.req("S0-26")
def test_a_bare_name_is_never_asked_for(machine: Supplied) -> None:
    machine.offers("acme/tiny")
    machine.declare("alpha", "beta", alpha={"source": {"repo": "acme/tiny"}}, beta={"source": {"repo": "gemma-4-31b"}})
    for command in (("plan", "--check-sources"), ("apply", "--yes")):
        said = machine.run(*command)
        assert said.code == ExitCode.INVALID
        assert "gemma-4-31b" in said.err
    assert machine.asked() == []
    assert machine.running() == []


def test_a_gated_repository_is_downloaded_once_somebody_has_been_let_in(machine: Supplied) -> None:
    """And what the hub has refused is believed only until the next time that somebody asks for it."""
    machine.offers("acme/tiny", kind=Kind.GATED)
    machine.declare("alpha", alpha={"source": {"repo": "acme/tiny"}})
    said = machine.apply(ExitCode.BLOCKED)
    assert "source-gated" in said
    machine.apply(ExitCode.OK, HF_TOKEN="hf_good")
    assert answer(machine.port("alpha")) == "I am acme/tiny."
    assert {asked.token for asked in machine.hub.asked} == {"", "hf_good"}


def test_two_repositories_at_a_time_where_the_host_file_says_so(machine: Supplied, tmp_path: Path) -> None:
    machine.host = {"downloads": {"repos": 2}}
    machine.offers("acme/one")
    machine.offers("acme/two")
    machine.declare("one", "two", one={"source": {"repo": "acme/one"}}, two={"source": {"repo": "acme/two"}})
    gates = [machine.gate("acme/one"), machine.gate("acme/two")]
    with machine.applying() as applying:
        for gate in gates:
            until(gate.reached.is_set, "both are downloaded at a time", applying)
        for gate in gates:
            gate.gate.set()
        assert applying.wait(60) == ExitCode.OK, machine.said()
    assert machine.routed() == {"one", "two"}


@pytest.mark.req("S1-51")
def test_what_is_said_goes_before_what_is_inferred_and_another_configuration_is_drift(machine: Supplied) -> None:
    machine.quick()
    folder = machine.home.root / "own"
    write_model(folder)
    machine.host = {"roots": {"m": str(machine.home.root)}}
    source = {"source": {"path": "${root.m}/own"}}
    machine.declare("alpha", alpha={**source, "context_length": "auto"})
    machine.apply()
    assert "max_input_tokens: 4096\n" in machine.published.read_text()
    change_config(folder, max_position_embeddings=2048)
    assert machine.run("plan", "--detailed-exitcode").code == ExitCode.CHANGES
    assert ("publish", "gateway/litellm") in machine.planned()
    machine.apply()
    assert "max_input_tokens: 2048\n" in machine.published.read_text()
    machine.declare("alpha", alpha={**source, "context_length": 1024})
    machine.apply()
    assert "max_input_tokens: 1024\n" in machine.published.read_text()
    change_config(folder, max_position_embeddings=3072)
    machine.apply()
    assert "max_input_tokens: 1024\n" in machine.published.read_text()
