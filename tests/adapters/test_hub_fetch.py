"""What a download leaves in the cache: all of it, or a part that is known as one and is gone on with."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.supply import FetchOrder, RemoteFile
from tests.programs.fake_hub import Hub, Kind, Repo, Trouble, commit, serving

from .hub_parts import REPO, TOKEN, WEIGHTS, Place, loaded, refused, written

LIBRARY = """
import sys
from huggingface_hub import snapshot_download
patterns = ["*.json", "*.safetensors"]
print(snapshot_download(sys.argv[1], revision=sys.argv[3], cache_dir=sys.argv[2], allow_patterns=patterns))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The repository."""
    return written(tmp_path / "model")


@pytest.fixture
def hub(model: Path) -> Iterator[Hub]:
    """A hub that has it."""
    with serving({REPO: Repo(model)}, TOKEN) as made:
        yield made


@pytest.fixture
def place(hub: Hub, tmp_path: Path) -> Place:
    """An empty cache."""
    return Place(hub, tmp_path)


def library(place: Place, cache: Path, revision: str) -> subprocess.CompletedProcess[str]:
    """What huggingface_hub itself does."""
    argv = [sys.executable, "-c", LIBRARY, REPO, str(cache), revision]
    env = place.environ | {"HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)


# ------------------------------------------------------------------------------------------------------ all is well


def test_the_cache_is_left_as_the_library_would_leave_it(place: Place, hub: Hub, tmp_path: Path) -> None:
    hub.cdn = True
    order = place.fetch()
    assert library(place, tmp_path / "other", "main").returncode == 0
    mine, theirs = place.shape(), Place(hub, tmp_path / "x")
    theirs.cache = tmp_path / "other"
    assert mine == {name: text for name, text in theirs.shape().items() if not name.startswith("trees/")}
    assert place.content(order.commit) == loaded(hub.repos[REPO].folder)
    assert place.ref() == order.commit


def test_a_file_in_a_folder_is_linked_from_there(place: Place, hub: Hub, model: Path) -> None:
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tool.jinja").write_text("{{ tools }}")
    order = place.fetch()
    assert place.content(order.commit)["additional_chat_templates/tool.jinja"] == b"{{ tools }}"


def test_progress_begins_at_nothing_and_ends_with_all_of_it(place: Place, model: Path) -> None:
    order = place.fetch()
    total = sum(len(content) for content in loaded(model).values())
    assert {known for _, known in place.reported} == {total} == {order.bytes}
    assert place.reported[0][0] == 0
    assert place.reported[-1][0] == total
    assert place.reported == sorted(place.reported)


def test_what_is_complete_costs_no_request_and_no_program(place: Place, hub: Hub) -> None:
    order = place.fetch()
    asked = len(hub.asked)
    place.fetch(order)
    assert len(hub.asked) == asked


def test_a_blob_that_is_there_is_linked_and_not_brought_again(place: Place, hub: Hub) -> None:
    order = place.fetch()
    link = place.snapshot(order.commit) / WEIGHTS
    link.unlink()
    before = len(hub.gets(WEIGHTS))
    place.fetch(order)
    assert link.is_symlink()
    assert len(hub.gets(WEIGHTS)) == before


@pytest.mark.fault("S27")
def test_neither_code_nor_pickles_are_asked_for(place: Place, hub: Hub, model: Path) -> None:
    for name in ("pytorch_model.bin", "modeling.py", "model.gguf", "training_args.pt", "README.md"):
        (model / name).write_bytes(b"no")
    order = place.fetch()
    assert set(place.content(order.commit)) == set(loaded(model))
    assert not [asked for asked in hub.asked if asked.path.endswith((".bin", ".py", ".gguf", ".pt", ".md"))]


@pytest.mark.fault("S27")
@pytest.mark.parametrize("name", ["../../../refs/main", "/etc/x.json", "run.py", "weights.bin", "a/../../x.json"])
def test_an_order_for_anything_else_is_refused_before_a_request(place: Place, hub: Hub, name: str) -> None:
    order = place.order()
    asked = len(hub.asked)
    more = (*order.files, RemoteFile(name=name, size=1))
    error = refused(place, FetchOrder(**{field: getattr(order, field) for field in _fields(order)} | {"files": more}))
    assert error.cause in {"source-unsafe-names", "source-wrong-format"}
    assert error.permanent
    assert len(hub.asked) == asked
    assert not place.cache.exists()


def _fields(order: FetchOrder) -> list[str]:
    return [name for name in order.__dataclass_fields__ if name != "why"]


@pytest.mark.parametrize("xet", [False, True])
def test_a_delivery_network_gets_no_token(hub: Hub, xet: bool, tmp_path: Path) -> None:
    hub.repos[REPO] = hub.repos[REPO]._replace(kind=Kind.GATED)
    hub.cdn, hub.xet = True, xet
    place = Place(hub, tmp_path, {"HF_TOKEN": TOKEN})
    place.fetch()
    far = [asked for asked in hub.asked if asked.path.startswith("/cdn")]
    assert far
    assert {(asked.token, asked.host.split(":")[0]) for asked in far} == {("", "localhost")}
    assert {asked.token for asked in hub.asked if asked not in far} == {TOKEN}


# -------------------------------------------------------------------------------------------------- which content


@pytest.mark.fault("H21")
def test_the_commit_that_was_checked_is_brought_though_the_branch_has_moved(
    place: Place, hub: Hub, model: Path, tmp_path: Path
) -> None:
    order = place.order()
    hub.push(REPO, written(tmp_path / "newer", seed=2))
    place.fetch(order)
    assert place.content(order.commit) == loaded(model)
    assert place.ref() == order.commit == commit(model) != commit(tmp_path / "newer")


@pytest.mark.fault("S28")
def test_other_content_under_the_same_commit_is_refused(place: Place, hub: Hub, tmp_path: Path) -> None:
    order = place.order()
    hub.repos[REPO] = Repo(written(tmp_path / "other", seed=2), sha=order.commit)
    error = refused(place, order)
    assert (error.cause, error.permanent) == ("source-changed", True)
    assert WEIGHTS in error.message
    assert WEIGHTS not in place.content(order.commit)
    assert hub.gets(WEIGHTS) == []


def test_a_revision_keeps_its_old_commit_until_the_new_one_is_whole(place: Place, hub: Hub, tmp_path: Path) -> None:
    old = place.fetch()
    hub.push(REPO, written(tmp_path / "newer", seed=2))
    order = place.order()
    hub.fail(Trouble.STATUS, status=404, headers={"X-Error-Code": "RepoNotFound"}, times=-1)
    assert refused(place, order).cause == "source-not-found"
    assert place.ref() == old.commit
    hub.faults.clear()
    place.fetch(order)
    assert place.ref() == order.commit
    assert place.content(old.commit) == loaded(hub.repos[REPO].history[0])


def test_a_part_of_a_new_repository_is_seen_as_a_part_of_its_commit(place: Place, hub: Hub) -> None:
    order = place.order()
    hub.fail(Trouble.STATUS, status=404, headers={"X-Error-Code": "RepoNotFound"}, times=-1)
    refused(place, order)
    assert place.ref() == order.commit
    here = place.content(order.commit)
    assert set(here) == {"config.json", "tokenizer.json", "tokenizer_config.json"}, "weights come last"


# ------------------------------------------------------------------------------------------ what time may mend


@pytest.mark.fault("H18")
@pytest.mark.parametrize("trouble", [Trouble.RESET, Trouble.TRUNCATED])
def test_a_connection_that_is_cut_is_gone_on_with_where_it_was(place: Place, hub: Hub, trouble: Trouble) -> None:
    hub.fail(trouble, times=3, after=50_000)
    order = place.fetch()
    assert place.content(order.commit) == loaded(hub.repos[REPO].folder)
    statuses = [asked.status for asked in hub.gets(WEIGHTS)]
    assert statuses[0] == 200
    assert len(statuses) == 4
    assert 206 in statuses, "what had arrived was not asked for again"
    assert place.begun() == []


@pytest.mark.fault("H19")
def test_a_byte_that_is_flipped_on_the_way_is_found_and_brought_again(place: Place, hub: Hub) -> None:
    hub.fail(Trouble.FLIPPED, after=1_000)
    order = place.fetch()
    assert place.content(order.commit) == loaded(hub.repos[REPO].folder)
    assert [asked.status for asked in hub.gets(WEIGHTS)] == [200, 200]


@pytest.mark.fault("H19")
def test_content_that_stays_wrong_is_never_taken_for_the_file_though_the_library_takes_it(
    place: Place, hub: Hub, tmp_path: Path
) -> None:
    order = place.order()
    hub.fail(Trouble.FLIPPED, after=1_000, times=-1)
    error = refused(place, order)
    assert (error.cause, error.permanent) == ("download-corrupt", False)
    assert WEIGHTS in error.message
    assert WEIGHTS not in place.content(order.commit)
    assert place.begun() == []
    believed = library(place, tmp_path / "other", "main")
    assert believed.returncode == 0, "otherwise the comparison here would not be needed"
    (there,) = (tmp_path / "other").rglob(f"snapshots/*/{WEIGHTS}")
    assert there.read_bytes() != (hub.repos[REPO].folder / WEIGHTS).read_bytes()


def test_a_small_file_that_arrives_wrong_is_found_too(place: Place, hub: Hub) -> None:
    order = place.order()
    hub.fail(Trouble.FLIPPED, on="tokenizer.json", after=3)
    place.fetch(order)
    assert place.content(order.commit) == loaded(hub.repos[REPO].folder)


def test_a_body_that_is_longer_than_the_file_is_refused_and_brought_again(place: Place, hub: Hub) -> None:
    hub.fail(Trouble.LONGER)
    order = place.fetch()
    assert place.content(order.commit) == loaded(hub.repos[REPO].folder)


def test_a_hub_without_ranges_sends_all_of_it_again(place: Place, hub: Hub) -> None:
    hub.fail(Trouble.RESET, after=50_000)
    hub.fail(Trouble.NO_RANGES)
    order = place.fetch()
    assert place.content(order.commit) == loaded(hub.repos[REPO].folder)
    assert [asked.status for asked in hub.gets(WEIGHTS)] == [200, 200]


@pytest.mark.fault("H16")
@pytest.mark.parametrize(("status", "method"), [(429, "GET"), (429, "HEAD"), (500, "GET"), (503, "HEAD")])
def test_a_hub_that_is_busy_for_a_while_is_asked_again(place: Place, hub: Hub, status: int, method: str) -> None:
    order = place.order()
    hub.fail(Trouble.STATUS, status=status, method=method, headers={"Retry-After": "0"}, times=3)
    place.fetch(order)
    assert place.content(order.commit) == loaded(hub.repos[REPO].folder)
    assert [asked.status for asked in hub.asked if asked.path.endswith(WEIGHTS)].count(status) == 3


def test_an_address_of_the_delivery_network_that_has_run_out_is_asked_for_again(place: Place, hub: Hub) -> None:
    hub.cdn = True
    fault = hub.fail(Trouble.STATUS, status=403, on="/cdn/")
    order = place.fetch()
    assert fault.reached.is_set()
    assert place.content(order.commit) == loaded(hub.repos[REPO].folder)


@pytest.mark.fault("H16")
def test_a_hub_that_stays_down_is_asked_a_bounded_number_of_times(place: Place, hub: Hub) -> None:
    order = place.order()
    hub.fail(Trouble.STATUS, status=503, times=-1)
    error = refused(place, order)
    assert (error.cause, error.permanent) == ("hub-unavailable", False)
    assert "503" in error.message
    assert len(hub.gets(WEIGHTS)) == 5


@pytest.mark.fault("H16")
def test_whoever_is_told_to_come_back_much_later_does_not_wait(place: Place, hub: Hub) -> None:
    order = place.order()
    hub.fail(Trouble.STATUS, status=429, headers={"Retry-After": "3600"}, times=-1)
    error = refused(place, order)
    assert (error.cause, error.permanent) == ("source-rate-limited", False)
    assert "3600 s" in error.message
    assert len(hub.gets(WEIGHTS)) == 1


@pytest.mark.fault("H17")
def test_without_a_network_the_cache_stays_as_it_is(place: Place, tmp_path: Path) -> None:
    order = place.order()
    away = Place(None, tmp_path)
    error = refused(away, order)
    assert (error.cause, error.permanent) == ("hub-unreachable", False)
    assert away.content(order.commit) == {}
    assert away.ref() is None


def test_where_asking_is_forbidden_only_what_is_here_can_be_had(place: Place, hub: Hub, tmp_path: Path) -> None:
    order = place.order()
    offline = Place(hub, tmp_path, {"HF_HUB_OFFLINE": "1"})
    asked = len(hub.asked)
    assert refused(offline, order).cause == "hub-offline"
    assert len(hub.asked) == asked
    place.fetch(order)
    offline.fetch(order)


# ------------------------------------------------------------------------------------------- what a person must do


@pytest.mark.fault("H14")
def test_a_repository_that_has_been_gated_meanwhile_is_not_tried_again(hub: Hub, tmp_path: Path) -> None:
    token = "hf_" + "another" * 5
    hub.others.add(token)
    place = Place(hub, tmp_path, {"HF_TOKEN": token})
    order = place.order()
    hub.repos[REPO] = hub.repos[REPO]._replace(kind=Kind.GATED)
    asked = len(hub.asked)
    error = refused(place, order)
    assert (error.cause, error.permanent) == ("source-gated", True)
    assert token not in error.message
    assert len(hub.asked) - asked <= 4, "once per file of the first group at most"


def test_a_cache_that_cannot_be_written_is_named(place: Place) -> None:
    order = place.order()
    place.folder.parent.mkdir(parents=True)
    place.folder.write_text("no folder")
    error = refused(place, order)
    assert (error.cause, error.permanent) == ("cache-not-writable", True)
    assert place.folder.name in error.message
