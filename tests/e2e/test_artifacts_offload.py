"""Base weights that are converted go to cold storage and come back, and nothing that is needed ever does."""

import fcntl
import json
import shutil
from collections.abc import Iterator

import pytest

from reconciler.adapters.cold.volume import IDENTITY
from reconciler.model.problem import ExitCode
from reconciler.programs.tiny_model import write_cached
from tests.cli.home import Home

from .supplied import BITS, WEIGHTS, Supplied, digests, flip, supplied
from .test_lifecycle import answer

pytestmark = [pytest.mark.e2e, pytest.mark.heavy, pytest.mark.timeout(240)]

BASE = "artifact/acme/base@main"
LINE = "A base with a line."


@pytest.fixture
def machine(home: Home) -> Iterator[Supplied]:
    """A hub with a base model, a volume, and a machine with nothing in its cache."""
    with supplied(home) as made:
        made.has_volume()
        made.offers("acme/base", LINE, base=True)
        yield made


def converted(machine: Supplied, **more: object) -> None:
    """Declare alpha to be served from a conversion."""
    machine.declare("alpha", alpha={"source": {"repo": "acme/base"}, "convert": BITS, **more})


@pytest.mark.req("S1-29", "S1-35", "S1-70")
def test_base_weights_are_moved_away_once_what_was_made_of_them_serves(machine: Supplied) -> None:
    converted(machine)
    planned = machine.planned("--check-sources")
    assert planned.index(("launch", "server/alpha")) < planned.index(("offload", BASE))
    (offload,) = [a for a in machine.plan("--check-sources")["actions"] if a["kind"] == "offload"]
    assert str(machine.moved("acme/base")) in offload["reason"], "the plan says where to"
    assert machine.asked()
    machine.apply()
    done = machine.done()
    assert done.index(("launch", "server/alpha")) < done.index(("offload", BASE))
    assert not machine.cached("acme/base").exists()
    there, offered = digests(machine.moved("acme/base")), machine.hub.repos["acme/base"].folder
    assert set(digests(offered).values()) - {digests(offered)["README.md"]} <= set(there.values())
    assert answer(machine.port("alpha")) == LINE
    assert machine.recorded("alpha").og_path == str(machine.cached("acme/base"))
    asked = len(machine.hub.asked)
    assert "Nothing to do." in machine.apply()
    assert len(machine.hub.asked) == asked, "it is neither asked for nor downloaded again"


def test_what_went_is_brought_back_verified_and_not_downloaded(machine: Supplied) -> None:
    """The conversion is deleted, so the base is needed again; the hub could give it, and is not asked."""
    converted(machine)
    machine.apply()
    machine.declare()
    machine.apply()
    shutil.rmtree(machine.conversions("acme/base")[0])
    del machine.hub.asked[:]
    converted(machine)
    planned = machine.planned("--check-sources")
    assert planned.index(("restore", BASE)) < planned.index(("convert", BASE)) < planned.index(("offload", BASE))
    assert "ensure" not in {kind for kind, _ in planned}
    machine.apply()
    assert answer(machine.port("alpha")) == LINE
    assert machine.asked() == []


def test_a_damaged_copy_is_not_brought_back_and_neither_is_it_touched(machine: Supplied) -> None:
    machine.quick()
    converted(machine)
    machine.apply()
    copy = machine.moved("acme/base")
    (blob,) = [path for path in (copy / "blobs").iterdir() if path.stat().st_size > 50_000 and len(path.name) == 64]
    flip(blob)
    before = digests(copy)
    said = machine.run("restore", "acme/base", "--yes")
    assert said.code not in (ExitCode.OK, ExitCode.INTERNAL), said.out + said.err
    assert not machine.cached("acme/base").exists()
    assert digests(copy) == before
    flip(blob)
    assert machine.run("restore", "acme/base", "--yes").code == ExitCode.OK
    assert machine.artifacts()["cache", "acme/base"]["verdict"] == "complete"


@pytest.mark.req("S1-71")
def test_while_the_volume_is_not_there_nothing_is_moved_and_nothing_is_written_in_its_place(machine: Supplied) -> None:
    away = machine.volume.rename(machine.home.root / "away")
    machine.volume.mkdir()
    machine.quick()
    converted(machine)
    machine.apply(ExitCode.BLOCKED)
    assert machine.routed() == {"alpha"}
    assert machine.blocked() == {BASE: "volume-unmounted"}
    assert machine.artifacts()["cache", "acme/base"]["verdict"] == "complete"
    assert list(machine.volume.iterdir()) == []
    refused = machine.run("offload", "alpha", "--yes")
    assert (refused.code, "volume-unmounted" in refused.err) == (ExitCode.BLOCKED, True)
    assert list(machine.volume.iterdir()) == []
    machine.volume.rmdir()
    away.rename(machine.volume)
    machine.apply()
    assert not machine.cached("acme/base").exists()


@pytest.mark.fault("O08")
def test_o08_another_disk_at_the_same_place_gets_nothing(machine: Supplied) -> None:
    (machine.volume / IDENTITY).write_text("0" * 32 + "\n")
    machine.quick()
    converted(machine)
    said = machine.apply(ExitCode.BLOCKED)
    assert "another volume is mounted" in said
    assert machine.on_volume() == [IDENTITY]
    assert machine.artifacts()["cache", "acme/base"]["verdict"] == "complete"


@pytest.mark.req("S1-48")
def test_what_is_only_in_cold_storage_is_not_here(machine: Supplied) -> None:
    """It has no route and is not launched; it is brought back where the volume is, and named where it is not."""
    converted(machine)
    machine.apply()
    machine.declare("beta", beta={"source": {"repo": "acme/base"}, "convert": "skip"})
    planned = machine.planned()
    assert planned.index(("restore", BASE)) < planned.index(("launch", "server/beta"))
    away = machine.volume.rename(machine.home.root / "away")
    said = machine.apply(ExitCode.BLOCKED)
    assert "volume-unmounted" in said
    assert str(machine.moved("acme/base")) in said
    assert machine.routed() == set()
    assert machine.running() == []
    away.rename(machine.volume)
    asked = len(machine.hub.asked)
    machine.apply()
    assert answer(machine.port("beta")) == LINE
    assert len(machine.hub.asked) == asked


@pytest.mark.req("S1-17", "S1-64")
@pytest.mark.fault("O03")
def test_o03_what_another_label_serves_is_not_moved_and_the_reason_is_said(machine: Supplied) -> None:
    machine.declare(
        "alpha",
        "beta",
        alpha={"source": {"repo": "acme/base"}, "convert": BITS},
        beta={"source": {"repo": "acme/base"}, "convert": "skip"},
    )
    assert "offload" not in {kind for kind, _ in machine.planned("--check-sources")}
    machine.apply()
    before = digests(machine.cached("acme/base"))
    for named in ("acme/base", "alpha", "beta", "acme/base@main"):
        refused = machine.run("offload", named, "--yes")
        assert refused.code == ExitCode.BLOCKED
        assert "offload-refused" in refused.err
        assert "server/beta was started with it" in refused.err
    assert digests(machine.cached("acme/base")) == before
    assert machine.on_volume() == [IDENTITY]
    assert (answer(machine.port("alpha")), answer(machine.port("beta"))) == (LINE, LINE)
    reasons = machine.artifacts()["cache", "acme/base"]["roots"]
    assert {"serving", "desired"} <= {root["kind"] for root in reasons}


@pytest.mark.req("S1-63")
@pytest.mark.parametrize("through", ["the folder itself", "a link to it"])
def test_what_is_served_by_its_path_is_not_moved_either(machine: Supplied, through: str) -> None:
    """What is served is the base itself, however the server was told where it is."""
    write_cached(machine.home.hub, "demo/base", LINE)
    (snapshot,) = (machine.cached("demo/base") / "snapshots").iterdir()
    named = machine.home.root / "linked" if through == "a link to it" else snapshot
    if named != snapshot:
        named.symlink_to(snapshot)
    machine.host |= {"roots": {"models": str(machine.home.root)}}
    inside = named.relative_to(machine.home.root)
    machine.declare("alpha", alpha={"source": {"path": f"${{root.models}}/{inside}"}})
    machine.apply()
    assert answer(machine.port("alpha")) == LINE
    refused = machine.run("offload", "demo/base", "--yes")
    assert (refused.code, "offload-refused" in refused.err) == (ExitCode.BLOCKED, True), refused.out + refused.err
    assert machine.cached("demo/base").is_dir()


def test_what_a_return_to_a_proved_ensemble_needs_is_not_moved(machine: Supplied) -> None:
    machine.offers("acme/small", LINE, seed=1)
    machine.declare(
        "alpha", alpha={"source": {"repo": "acme/base"}, "convert": "skip", "draft": {"repo": "acme/small"}}
    )
    machine.apply()
    machine.declare()
    machine.apply()
    assert machine.running() == []
    for repo in ("acme/base", "acme/small"):
        (root,) = machine.artifacts()["cache", repo]["roots"]
        assert root["kind"] == "generation"
        refused = machine.run("offload", repo, "--yes")
        assert (refused.code, "offload-refused" in refused.err) == (ExitCode.BLOCKED, True)
        assert root["reason"] in refused.err
        assert machine.cached(repo).is_dir()


@pytest.mark.req("S1-74")
def test_weights_that_are_said_to_stay_stay(machine: Supplied) -> None:
    machine.quick()
    converted(machine, offload="never")
    assert "offload" not in {kind for kind, _ in machine.planned("--check-sources")}
    machine.apply()
    assert machine.cached("acme/base").is_dir()
    assert machine.on_volume() == [IDENTITY]


def test_weights_are_moved_and_brought_back_by_hand_and_stay_where_they_were_wanted(machine: Supplied) -> None:
    machine.quick()
    converted(machine)
    machine.apply()
    copy = digests(machine.moved("acme/base"))
    back = machine.run("restore", "alpha", "--yes")
    assert back.code == ExitCode.OK
    assert f"from cold ({machine.moved('acme/base')})" in back.out
    assert machine.artifacts()["cache", "acme/base"]["verdict"] == "complete"
    assert digests(machine.moved("acme/base")) == copy, "the copy is kept"
    assert "Nothing to do." in machine.apply(), "it stays, although its conversion serves"
    away = machine.run("offload", "acme/base", "--yes")
    assert away.code == ExitCode.OK
    assert not machine.cached("acme/base").exists()
    assert digests(machine.moved("acme/base")) == copy
    again = machine.run("offload", "acme/base", "--yes")
    assert (again.code, "already" in again.out) == (ExitCode.OK, True)


@pytest.mark.fault("O11")
def test_o11_what_is_damaged_is_not_moved(machine: Supplied) -> None:
    write_cached(machine.home.hub, "demo/base", LINE)
    flip(machine.blob("demo/base"))
    machine.declare()
    refused = machine.run("offload", "demo/base", "--yes")
    assert refused.code not in (ExitCode.OK, ExitCode.INTERNAL), refused.out + refused.err
    assert machine.blob("demo/base").is_file()
    assert not machine.moved("demo/base").exists()


def test_without_a_word_nothing_moves(machine: Supplied) -> None:
    """The question shows bytes and paths; who cannot be asked has not said yes."""
    write_cached(machine.home.hub, "demo/base", LINE)
    machine.declare()
    asked = machine.run("offload", "demo/base")
    assert (asked.code, "not-confirmed" in asked.err) == (ExitCode.BLOCKED, True)
    assert str(machine.moved("demo/base")) in asked.out
    assert " KiB to cold" in asked.out
    assert machine.cached("demo/base").is_dir()
    assert machine.on_volume() == [IDENTITY]


def test_every_artifact_has_its_size_its_verdict_its_reasons_and_what_could_be_freed(machine: Supplied) -> None:
    machine.quick()
    converted(machine)
    machine.apply()
    write_cached(machine.home.hub, "demo/unused", LINE)
    write_cached(machine.home.hub, "demo/broken", LINE)
    machine.blob("demo/broken").write_bytes(b"")
    found = machine.artifacts()
    unused, broken = found["cache", "demo/unused"], found["cache", "demo/broken"]
    assert (unused["freeable"], unused["roots"], unused["verdict"]) == (True, [], "not verified")
    files = [path for path in machine.cached("demo/unused").rglob("*") if path.is_file() and not path.is_symlink()]
    assert unused["bytes"] == sum(path.stat().st_size for path in files)
    assert broken["verdict"].startswith(f"partial ({WEIGHTS}")
    assert broken["freeable"]
    cold = found["cold", "acme/base"]
    assert (cold["verdict"], cold["freeable"], cold["path"]) == ("moved away", False, str(machine.moved("acme/base")))
    (made,) = [entry for (place, _), entry in found.items() if place == "converted"]
    assert {root["kind"] for root in made["roots"]} == {"serving", "desired", "generation"}
    assert (made["verdict"], made["freeable"]) == ("complete", False)
    document = json.loads(machine.run("artifacts", "-o", "json").out)
    assert document["freeable"] == unused["bytes"] + broken["bytes"]
    table = machine.run("artifacts").out
    assert "Could be freed" in table
    lines = [json.loads(line) for line in machine.run("artifacts", "-o", "ndjson").out.splitlines()]
    assert [line["name"] for line in lines] == [entry["name"] for entry in document["artifacts"]]


@pytest.mark.fault("O17")
def test_o17_what_another_run_moves_is_left_to_it(machine: Supplied) -> None:
    """One with a state directory of its own, so that only what lies beside the weights holds the two apart."""
    write_cached(machine.home.hub, "demo/base", LINE)
    machine.declare()
    before = digests(machine.cached("demo/base"))
    locks = machine.home.hub / ".locks"
    locks.mkdir(exist_ok=True)
    with (locks / "models--demo--base.reconciler").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = machine.run("offload", "demo/base", "--yes")
        assert refused.code not in (ExitCode.OK, ExitCode.INTERNAL)
        assert "move-busy" in refused.out + refused.err
        assert digests(machine.cached("demo/base")) == before
        assert machine.on_volume() == [IDENTITY]
    assert machine.run("offload", "demo/base", "--yes").code == ExitCode.OK
    assert not machine.cached("demo/base").exists()


@pytest.mark.fault("O16")
def test_o16_the_plan_says_what_copies_take_that_exist_at_a_time_and_is_refused_where_they_do_not_fit(
    machine: Supplied,
) -> None:
    machine.quick()
    converted(machine)
    disk = machine.plan("--check-sources")["disk"]
    offered = sum(path.stat().st_size for path in machine.hub.repos["acme/base"].folder.iterdir())
    assert 0 < disk["download"] <= offered
    assert 0 < disk["convert"] < disk["download"], "the base and what is made of it are here at a time"
    assert disk["offload"] == disk["download"]
    assert "KiB to download, " in machine.run("plan", "--check-sources").out
    machine.apply()
    machine.declare("beta", beta={"source": {"repo": "acme/base"}, "convert": "skip"})
    assert machine.plan()["disk"]["restore"] == machine.artifacts()["cold", "acme/base"]["bytes"]
    machine.host["downloads"] = {"reserve": "900TiB"}
    machine.declare("beta", beta={"source": {"repo": "acme/base"}, "convert": "skip"})
    assert "disk-full" in machine.apply(ExitCode.BLOCKED)
    assert not machine.cached("acme/base").exists()
    del machine.host["downloads"]
