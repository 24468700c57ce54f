"""Every verdict on the files of a model: missing, short, contradicting themselves."""

import os

import pytest

from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.model.observed import Present
from tests.adapters.looking import REFERENCE, REPO, artifact
from tests.programs.tiny_cache import TinyCache, model_files, truncate

SHARD = "model-00002-of-00003.safetensors"


@pytest.mark.fault("H02")
def test_h02_a_link_to_nothing_is_missing(cache: TinyCache) -> None:
    commit = cache.add(REPO, model_files(shards=3))
    cache.blob(REPO, commit, SHARD).unlink()
    assert artifact(cache).missing == (f"{SHARD} (its link leads nowhere)",)


@pytest.mark.fault("H03")
def test_h03_a_shard_of_the_index_is_missing(cache: TinyCache) -> None:
    files = model_files(shards=3)
    del files[SHARD]
    cache.add(REPO, files)
    found = artifact(cache)
    assert found.missing == (SHARD,)
    assert found.shards == 3


@pytest.mark.fault("H03")
def test_h03_a_shard_is_missing_and_so_is_the_index(cache: TinyCache) -> None:
    files = model_files(shards=3)
    del files[SHARD], files["model.safetensors.index.json"]
    cache.add(REPO, files)
    assert artifact(cache).missing == (SHARD,)


@pytest.mark.fault("H04")
@pytest.mark.parametrize("by", [1, 64, 128])
@pytest.mark.parametrize("shards", [1, 3])
def test_h04_a_weight_file_that_was_cut_is_missing(cache: TinyCache, by: int, shards: int) -> None:
    """64 bytes are one whole tensor: the cut is then where a tensor ends."""
    commit = cache.add(REPO, model_files(shards=shards, length=64))
    name = SHARD if shards == 3 else "model.safetensors"
    whole = cache.blob(REPO, commit, name).stat().st_size
    truncate(cache.blob(REPO, commit, name), by)
    assert artifact(cache).missing == (f"{name} ({whole - by} of {whole} bytes)",)


@pytest.mark.fault("H04")
def test_h04_a_weight_file_that_was_cut_in_its_header(cache: TinyCache) -> None:
    commit = cache.add(REPO, model_files())
    for size in (40, 5, 0):
        os.truncate(cache.blob(REPO, commit, "model.safetensors"), size)
        assert "cut off within its header" in artifact(cache).missing[0]


@pytest.mark.fault("H04")
def test_h04_a_tokenizer_that_was_cut_contradicts_the_listing(cache: TinyCache) -> None:
    commit = cache.add(REPO, model_files(), listed=True)
    truncate(cache.blob(REPO, commit, "tokenizer.json"), 3)
    assert artifact(cache).missing == ("tokenizer.json (15 of 18 bytes)",)


def test_the_listing_says_what_is_missing_and_what_need_not_be_there(cache: TinyCache) -> None:
    files = model_files()
    commit = cache.add(REPO, files)
    sizes = {name: len(content) for name, content in files.items()}
    cache.list(REPO, commit, sizes | {"chat_template.jinja": 3, "LICENSE": 9, "a.gguf": 1, "x/config.json": 1})
    assert artifact(cache).missing == ("chat_template.jinja",)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 2, "files": {"config.json": {}}}', "{}"])
def test_a_listing_that_cannot_be_read_is_ignored(cache: TinyCache, text: str) -> None:
    commit = cache.add(REPO, model_files(), listed=True)
    (cache.folder(REPO) / "trees" / f"{commit}.json").write_text(text)
    assert artifact(cache).complete


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [
        ({"config.json"}, ("config.json",)),
        ({"model.safetensors"}, ("model*.safetensors",)),
        ({"tokenizer.json"}, ()),
        ({"tokenizer.json", "tokenizer_config.json"}, ("tokenizer.json",)),
        ({"README.md"}, ()),
    ],
)
def test_what_a_server_needs(cache: TinyCache, left_out: set[str], missing: tuple[str, ...]) -> None:
    cache.add(REPO, {name: text for name, text in model_files().items() if name not in left_out})
    assert artifact(cache).missing == missing


@pytest.mark.parametrize("other", ["model.gguf", "pytorch_model.bin", "consolidated.safetensors"])
def test_weights_of_another_kind_are_no_weights(cache: TinyCache, other: str) -> None:
    files = model_files()
    files[other] = files.pop("model.safetensors")
    cache.add(REPO, files)
    assert artifact(cache).missing == ("model*.safetensors",)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("config.json", b"", "no JSON object"),
        ("config.json", b"[]", "no JSON object"),
        ("config.json", b'{"a": ' * 5000, "no JSON object"),
        ("config.json", b"\xff\xfe", "no JSON object"),
        ("model.safetensors", b"\xff" * 64, "cut off within its header, or no safetensors file"),
        ("model.safetensors", (2).to_bytes(8, "little") + b"{}", "its header names no tensor"),
        ("model.safetensors", (4).to_bytes(8, "little") + b"nope", "its header is no JSON object"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "b.safet', "no index of weights"),
        ("model.safetensors.index.json", b'{"weight_map": {}}', "names no weight file"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 1}}', "names no weight file"),
    ],
)
def test_a_file_that_contradicts_itself(cache: TinyCache, name: str, content: bytes, why: str) -> None:
    cache.add(REPO, model_files() | {name: content})
    assert artifact(cache).missing == (f"{name} ({why})",)


def test_the_spelling_of_a_header_does_not_matter(cache: TinyCache) -> None:
    header = b'{ "b" : {"dtype":"U8", "data_offsets" : [ 8 , 20 ]},\n"a":{"data_offsets":[0,8]} }'
    cache.add(
        REPO,
        model_files() | {"model.safetensors": len(header).to_bytes(8, "little") + header + bytes(20)},
    )
    assert artifact(cache).weight_bytes == 20
    assert artifact(cache).complete


def test_a_number_elsewhere_in_a_header_is_no_end_of_a_tensor(cache: TinyCache) -> None:
    header = b'{"a":{"dtype":"U8","shape":[1,6],"data_offsets":[0,16]}}'
    cache.add(
        REPO,
        model_files() | {"model.safetensors": len(header).to_bytes(8, "little") + header + bytes(6)},
    )
    assert artifact(cache).missing == (f"model.safetensors ({14 + len(header)} of {24 + len(header)} bytes)",)


@pytest.mark.parametrize(
    ("files", "knows"),
    [
        ({"chat_template.jinja": b"{% if tools %}"}, True),
        ({"chat_template.jinja": b"{{ toolset }}"}, False),
        ({"tokenizer_config.json": b'{"chat_template": "{{ x }}", "tool_parser": "tools"}'}, False),
        ({"tokenizer_config.json": b'{"chat_template": "a\\n\\"tools\\ntools"}'}, True),
        ({"tokenizer_config.json": b'{"chat_template": [{"name": "t", "template": "tools"}]}'}, True),
        ({"tokenizer_config.json": b'{"chat_template": [{"name": "tools", "template": "x"}]}'}, False),
        ({"tokenizer_config.json": b'{"chat_template": null}'}, None),
        ({"tokenizer_config.json": b"{}"}, None),
        ({"tokenizer_config.json": b'{"chat_template": "tools'}, None),
    ],
)
def test_whether_a_template_knows_tools(cache: TinyCache, files: dict[str, bytes], knows: bool | None) -> None:
    cache.add(REPO, model_files() | files)
    assert artifact(cache).has_tool_template is knows


def test_what_was_read_once_is_not_read_again(cache: TinyCache) -> None:
    """A header that changes behind an unchanged stamp is not noticed: so it was not read."""
    commit = cache.add(REPO, model_files(length=64))
    local = LocalArtifacts(str(cache.root))
    first = local.look([REFERENCE])
    blob = cache.blob(REPO, commit, "model.safetensors")
    status = blob.stat()
    blob.write_bytes(bytes(status.st_size))
    os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert local.look([REFERENCE]) == first
    assert LocalArtifacts(str(cache.root), memo=local.memory).look([REFERENCE]) == first
    assert not artifact(cache).complete
    os.utime(blob, ns=(1, 1))
    answer = local.look([REFERENCE])[REFERENCE]
    assert isinstance(answer, Present)
    assert not answer.value.complete


def test_a_damaged_file_stays_damaged_in_memory(cache: TinyCache) -> None:
    cache.add(REPO, model_files() | {"config.json": b""})
    local = LocalArtifacts(str(cache.root))
    assert local.look([REFERENCE]) == local.look([REFERENCE])
