"""What the command line says about weights: whether they are converted, what keeps them, and what stands against it."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.host import HostFile
from reconciler.model.problem import ExitCode
from reconciler.programs.tiny_model import write_model
from tests.cli.home import HOST, Home
from tests.programs.tiny_base import write_base
from tests.programs.tiny_cache import TinyCache, model_files

FAKE = Path(__file__).resolve().parents[1] / "programs" / "fake_converter.py"


def files(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def base(tmp_path: Path) -> dict[str, bytes]:
    """Weights as transformers writes them."""
    write_base(tmp_path / "offered" / "base")
    return files(tmp_path / "offered" / "base")


@pytest.fixture
def mlx(tmp_path: Path) -> dict[str, bytes]:
    """Weights that say that they are for MLX."""
    write_model(tmp_path / "offered" / "mlx")
    return files(tmp_path / "offered" / "mlx")


def silent() -> dict[str, bytes]:
    """Weights that do not say what they are for."""
    return {name: content.replace(b'"format":"mlx"', b'"origin":"own"') for name, content in model_files().items()}


def planned(home: Home, port: int, repo: str, host: Mapping[str, object] | None = None, **model: object) -> Any:
    """`plan -o json` of one model."""
    fields = {"source": {"repo": repo}, "port": port, **model}
    home.write(json.dumps({"version": 1, "models": {"fast": fields}}))
    home.write(
        json.dumps({"version": 1, "accept_cpu": True, "memory": {"budget": "64GiB"}, **(host or {})}), "host.yaml"
    )
    result = home.run("plan", "-o", "json")
    return json.loads(result.out)


def converts(document: Any) -> bool:
    """Whether the plan has a conversion, and then a launch after it."""
    kinds = [action["kind"] for action in document["actions"]]
    assert "launch" in kinds, document["blocked"]
    if "convert" not in kinds:
        return False
    assert kinds.index("convert") < kinds.index("launch")
    return True


@pytest.mark.req("S1-65", "S1-67", "S1-77")
def test_what_is_not_for_mlx_is_converted_without_a_word(home: Home, port: int, base: dict[str, bytes]) -> None:
    """The default is `auto`, and the plan shows what comes of it."""
    TinyCache(home.hub).add("acme/base", base)
    document = planned(home, port, "acme/base")
    assert converts(document)
    assert converts(planned(home, port, "acme/base", convert="auto", preconverted="auto"))
    assert not converts(planned(home, port, "acme/base", convert="skip"))
    text = home.run("plan").out
    assert "convert" not in text
    planned(home, port, "acme/base")
    (line,) = [line for line in home.run("plan").out.splitlines() if "* convert artifact/acme/base@main" in line]
    assert "no quantisation; up to " in line


@pytest.mark.req("S1-66", "S1-77")
@pytest.mark.parametrize("repo", ["mlx-community/tiny", "acme/tiny"])
def test_what_says_that_it_is_for_mlx_is_not_converted(home: Home, port: int, mlx: dict[str, bytes], repo: str) -> None:
    TinyCache(home.hub).add(repo, mlx)
    assert not converts(planned(home, port, repo))


@pytest.mark.req("S1-66")
def test_the_files_go_before_the_name(home: Home, port: int, base: dict[str, bytes]) -> None:
    TinyCache(home.hub).add("mlx-community/base-mlx", base)
    assert converts(planned(home, port, "mlx-community/base-mlx"))


@pytest.mark.req("S1-72", "S1-76")
@pytest.mark.parametrize("said", [{"convert": "force"}, {"preconverted": "no"}, {"convert": {"bits": 8}}])
def test_it_is_converted_where_a_person_says_so(
    home: Home, port: int, mlx: dict[str, bytes], said: dict[str, Any]
) -> None:
    TinyCache(home.hub).add("mlx-community/tiny", mlx)
    assert converts(planned(home, port, "mlx-community/tiny", **said))


@pytest.mark.req("S1-73", "S1-75")
@pytest.mark.parametrize("said", [{"convert": "skip"}, {"preconverted": "yes"}])
def test_it_is_not_converted_where_a_person_says_so(
    home: Home, port: int, base: dict[str, bytes], said: dict[str, Any]
) -> None:
    TinyCache(home.hub).add("acme/base", base)
    assert not converts(planned(home, port, "acme/base", **said))


@pytest.mark.req("S1-73")
@pytest.mark.parametrize("convert", ["skip", "auto", "force"])
def test_what_no_server_loads_is_refused(home: Home, port: int, base: dict[str, bytes], convert: str) -> None:
    weights = {name: content for name, content in base.items() if not name.startswith("model")}
    TinyCache(home.hub).add("acme/gguf", {**weights, "model-q4.gguf": b"GGUF"})
    document = planned(home, port, "acme/gguf", convert=convert)
    assert [entry["reference"] for entry in document["blocked"]] == ["artifact-format"]
    assert document["exit_code"] == ExitCode.BLOCKED
    assert not {action["kind"] for action in document["actions"]} & {"convert", "launch"}


@pytest.mark.req("S1-81")
@pytest.mark.parametrize(
    ("repo", "expected"),
    [
        ("mlx-community/plain", False),
        ("MLX-Community/plain", False),
        ("mlx/plain", False),
        ("ml-explore/plain", False),
        ("mlx-communit/plain-x", True),
        ("ml-explorer/plain", True),
    ],
)
def test_the_owner_counts_whole_and_without_case_where_the_files_are_silent(
    home: Home, port: int, repo: str, expected: bool
) -> None:
    """The hint is switched off here: the owner alone is what decides."""
    TinyCache(home.hub).add(repo, silent())
    host = {"converter": {"preconverted_hints": ["nothing-like-it"]}}
    assert converts(planned(home, port, repo, host)) is expected


@pytest.mark.req("S1-82")
@pytest.mark.parametrize(
    ("repo", "expected"), [("acme/Plain-MLX-4bit", False), ("mlxfans/plain", False), ("acme/plain", True)]
)
def test_a_hint_is_any_part_of_the_name_and_weak(home: Home, port: int, repo: str, expected: bool) -> None:
    TinyCache(home.hub).add(repo, silent())
    assert converts(planned(home, port, repo)) is expected
    schema = json.loads(home.run("schema", "host.v1.json").out)
    assert "weak evidence" in json.dumps(schema)
    assert HostFile().converter.preconverted_hints == ("mlx",)


@pytest.mark.req("S1-81", "S1-82")
def test_both_lists_can_be_said_in_the_host_file_and_in_the_environment(home: Home, port: int) -> None:
    cache = TinyCache(home.hub)
    for repo in ("acme/plain", "other/house-style", "mlx-community/plain"):
        cache.add(repo, silent())
    ours = {"converter": {"preconverted_orgs": ["ACME"], "preconverted_hints": ["House"]}}
    assert not converts(planned(home, port, "acme/plain", ours))
    assert not converts(planned(home, port, "other/house-style", ours))
    assert converts(planned(home, port, "mlx-community/plain", ours))
    for repo, expected in (("acme/plain", False), ("other/house-style", False), ("mlx-community/plain", True)):
        planned(home, port, repo)
        env = home.environment(MLX_PRECONVERTED_ORGS="acme, Elsewhere", MLX_PRECONVERTED_HINTS="house")
        assert converts(json.loads(home.run("plan", "-o", "json", env=env).out)) is expected


@pytest.mark.req("S1-78")
def test_the_converter_of_the_environment_is_the_one_that_is_run(
    home: Home, port: int, base: dict[str, bytes], tmp_path: Path
) -> None:
    """Word by word, without a shell: a space or a `$` in a word stays what it is."""
    TinyCache(home.hub).add("acme/base", base)
    note = tmp_path / "a $HOME note.json"
    command = f"'{sys.executable}' -S '{FAKE}' --src {{src}} --repo {{repo}} --dest {{dest}} --note '{note}' --exit 3"
    planned(home, port, "acme/base")
    env = home.environment(MLX_CONVERT_CMD=command)
    failed = home.run("apply", "--yes", "--timeout", "3s", env=env)
    assert failed.code not in (ExitCode.OK, ExitCode.INTERNAL)
    told = json.loads(note.read_text())
    src, repo, dest = (told["argv"][told["argv"].index(flag) + 1] for flag in ("--src", "--repo", "--dest"))
    assert Path(src).parent == home.hub / "models--acme--base" / "snapshots"
    assert repo == "acme/base"
    assert dest.startswith(f"{home.hub}/converted--acme--base/")
    assert not told["dest_was_there"]
    assert not Path(dest).exists(), "what a converter that failed has written is not kept"


@pytest.mark.req("S1-80")
def test_a_placeholder_that_nobody_knows_is_refused_before_anything_runs(home: Home, port: int) -> None:
    home.write(json.dumps({"version": 1, "models": {}}))
    refused = home.run("plan", env=home.environment(MLX_CONVERT_CMD="convert {src} {dest} {foo}"))
    assert refused.code == ExitCode.ENVIRONMENT
    assert "{foo}" in refused.err
    home.write(
        json.dumps({"version": 1, "converter": {"command": ["convert", "{src}", "{dest}", "{foo}"]}}), "host.yaml"
    )
    refused = home.run("plan")
    assert refused.code == ExitCode.ENVIRONMENT
    assert "{foo}" in refused.err


def test_an_empty_cache_has_nothing_and_says_so(home: Home) -> None:
    home.write("version: 1\nmodels: {}\n")
    assert home.run("artifacts").out == "There are no weights in the model cache.\n"
    empty = json.loads(home.run("artifacts", "-o", "json").out)
    assert (empty["type"], empty["artifacts"], empty["freeable"]) == ("artifacts", [], 0)
    assert not (home.root / "state").exists(), "looking leaves no trace"


def test_weights_that_nothing_needs_are_listed_last_and_can_be_freed(
    home: Home, port: int, mlx: dict[str, bytes]
) -> None:
    cache = TinyCache(home.hub)
    cache.add("acme/used", mlx)
    cache.add("acme/unused", mlx)
    begun = cache.folder("acme/begun") / "blobs" / f"{'0' * 64}.incomplete"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(bytes(4096))
    home.write(json.dumps({"version": 1, "models": {"fast": {"source": {"repo": "acme/used"}, "port": port}}}))
    (home.root / "host.yaml").write_text(HOST)
    document = json.loads(home.run("artifacts", "-o", "json").out)
    used, *others = document["artifacts"]
    assert (used["name"], used["freeable"]) == ("acme/used", False)
    assert [root["kind"] for root in used["roots"]] == ["desired"]
    assert {entry["name"]: entry["unfinished"] for entry in others} == {"acme/unused": 0, "acme/begun": 4096}
    assert all(entry["freeable"] for entry in others)
    assert document["freeable"] == sum(entry["bytes"] for entry in others)
    text = home.run("artifacts").out
    assert "4.0 KiB of it are downloads that were cut off." in text
    assert "reconciler offload OWNER/NAME" in text


def test_nothing_is_moved_for_whoever_names_no_weights(home: Home) -> None:
    home.write("version: 1\nmodels: {}\n")
    for verb in ("offload", "restore"):
        refused = home.run(verb, "nobody", "--yes")
        assert (refused.code, "unknown-weights" in refused.err) == (ExitCode.USAGE, True)
        assert home.run(verb).code == ExitCode.USAGE
    missing = home.run("offload", "acme/nothing", "--yes")
    assert (missing.code, "not in the model cache" in missing.err) == (ExitCode.BLOCKED, True)
    assert not (home.root / "state").exists()


def test_without_a_volume_nothing_is_moved(home: Home, mlx: dict[str, bytes]) -> None:
    TinyCache(home.hub).add("acme/unused", mlx)
    home.write("version: 1\nmodels: {}\n")
    refused = home.run("offload", "acme/unused", "--yes")
    assert (refused.code, "volume-unnamed" in refused.err) == (ExitCode.BLOCKED, True)


@pytest.mark.req("S1-83")
def test_a_host_that_cannot_be_reached_gets_nothing_and_the_source_stays(home: Home, mlx: dict[str, bytes]) -> None:
    cache = TinyCache(home.hub)
    cache.add("acme/unused", mlx)
    home.write("version: 1\nmodels: {}\n")
    place = {"path": "/Volumes/cold", "id": "0" * 32, "separate": False}
    host = {"version": 1, "accept_cpu": True, "volumes": {"cold": place}, "offload_to": "cold"}
    home.write(json.dumps(host), "host.yaml")
    before = sorted(path for path in cache.folder("acme/unused").rglob("*"))
    env = home.environment(MLX_OFFLOAD_HOST="nowhere.invalid")
    refused = home.run("offload", "acme/unused", "--yes", env=env)
    assert refused.code == ExitCode.BLOCKED
    assert "nowhere.invalid" in refused.out + refused.err
    assert sorted(path for path in cache.folder("acme/unused").rglob("*")) == before
