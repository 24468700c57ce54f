"""What is said about a source that cannot be had: one reference, one sentence and one hint for each reason."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.adapters.hub.files import Unfit, chosen
from reconciler.adapters.hub.words import SAYINGS, told
from reconciler.model.supply import RemoteFile, SourceCheck
from tests.programs.fake_hub import Hub, Kind, Repo, Trouble, commit, serving
from tests.programs.tiny_cache import KV_BYTES, model_files, write_folder

from .hub_parts import REFERENCE, REPO, TOKEN, Place, children

Listen = Callable[..., int]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A repository that can be served."""
    write_folder(tmp_path / "model", model_files(shards=2))
    return tmp_path / "model"


@pytest.fixture
def hub(model: Path) -> Iterator[Hub]:
    """A hub with one repository that anybody may read."""
    with serving({REPO: Repo(model)}, TOKEN) as made:
        yield made


def of_kind(hub: Hub, kind: Kind) -> None:
    """Let the repository be another one."""
    hub.repos[REPO] = hub.repos[REPO]._replace(kind=kind)


def test_a_source_that_can_be_had_is_described_with_its_commit_its_files_and_what_its_configuration_says(
    hub: Hub, model: Path, tmp_path: Path
) -> None:
    config = (model / "config.json").read_text()
    more = '"max_position_embeddings": 40960, "quantization": {"bits": 4, "group_size": 64}, '
    (model / "config.json").write_text(config.replace("{", "{" + more, 1))
    (model / "model.py").write_text("import os")
    (model / "pytorch_model.bin").write_bytes(b"pickle")
    (found,) = Place(hub, tmp_path).check(REFERENCE)
    assert (found.problem, found.reason, found.retry_at) == ("", "", None)
    assert found.commit == commit(model)
    kept = {path.name: path.stat().st_size for path in model.iterdir() if path.suffix in {".json", ".safetensors"}}
    assert {file.name: file.size for file in found.files} == kept
    assert all(len(file.digest) == (64 if "safetensors" in file.name.split(".")[-1] else 0) for file in found.files)
    assert found.weight_bytes == sum(path.stat().st_size for path in model.glob("model*.safetensors"))
    assert (found.context_window, found.converted, found.cache.per_token) == (40960, True, KV_BYTES)


# ------------------------------------------------------------------------------------------- what the hub refuses


@pytest.mark.req("S0-09", "S0-03")
@pytest.mark.fault("H15")
def test_an_unknown_repository_without_a_token_is_about_its_name_first(hub: Hub, tmp_path: Path) -> None:
    (found,) = Place(hub, tmp_path).check("acme/tinny@main")
    assert (found.problem, found.retry_at) == ("source-not-found", None)
    assert "acme/tinny" in found.reason
    assert "private" in found.hint
    assert "token" not in found.reason.lower()
    assert "HF_TOKEN" not in found.reason
    assert found.hint.index("spelling") < found.hint.index("token")


@pytest.mark.req("S0-22")
@pytest.mark.fault("H14")
@pytest.mark.parametrize("kind", [Kind.GATED, Kind.GATED_FILES])
@pytest.mark.parametrize("token", ["", "hf_" + "another" * 5])
def test_a_gated_repository_names_its_page_the_terms_and_then_the_token(
    hub: Hub, kind: Kind, token: str, tmp_path: Path
) -> None:
    of_kind(hub, kind)
    hub.others.add(token)
    (found,) = Place(hub, tmp_path, {"HF_TOKEN": token} if token else {}).check(REFERENCE)
    assert (found.problem, found.retry_at) == ("source-gated", None)
    page = f"{hub.endpoint}/{REPO}"
    assert found.hint.index("licence and terms") < found.hint.index(page) < found.hint.index("HF_TOKEN")
    assert page in found.reason
    assert ("the account of the token" in found.reason) == bool(token)


def test_a_gated_repository_is_open_to_the_account_that_has_accepted_its_terms(hub: Hub, tmp_path: Path) -> None:
    of_kind(hub, Kind.GATED_FILES)
    (found,) = Place(hub, tmp_path, {"HF_TOKEN": TOKEN}).check(REFERENCE)
    assert (found.problem, found.commit) == ("", commit(hub.repos[REPO].folder))


@pytest.mark.req("S0-22")
def test_a_token_that_the_hub_does_not_know_is_said_to_be_rejected(hub: Hub, tmp_path: Path) -> None:
    wrong = "hf_" + "expired" * 5
    (found,) = Place(hub, tmp_path, {"HF_TOKEN": wrong}).check(REFERENCE)
    assert (found.problem, found.retry_at) == ("source-bad-token", None)
    assert "token rejected" in found.reason
    assert "HF_TOKEN" in found.hint
    assert wrong not in found.reason + found.hint


@pytest.mark.fault("H15")
def test_a_revision_that_is_not_there_is_named(hub: Hub, tmp_path: Path) -> None:
    (found,) = Place(hub, tmp_path).check(f"{REPO}@v2")
    assert (found.problem, found.retry_at) == ("source-revision-missing", None)
    assert "v2" in found.reason


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (Kind.DISABLED, "source-disabled"),
        (Kind.BARE_401, "source-not-found"),
        (Kind.BARE_404, "source-not-found"),
        (Kind.BARE_403, "source-forbidden"),
    ],
)
def test_a_refusal_is_told_by_its_message_and_else_by_its_status(
    hub: Hub, kind: Kind, problem: str, tmp_path: Path
) -> None:
    of_kind(hub, kind)
    (found,) = Place(hub, tmp_path).check(REFERENCE)
    assert (found.problem, found.retry_at) == (problem, None)
    assert REPO in found.reason


# --------------------------------------------------------------------------------------------------- what passes


@pytest.mark.fault("H16")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "Sun, 06 Nov 2044 08:52:00 GMT", "Date": "Sun, 06 Nov 2044 08:50:00 GMT"}, 120),
        ({"ratelimit": '"api";r=0;t=120'}, 120),
        ({}, 60),
    ],
)
def test_a_hub_that_is_asked_too_often_says_when_to_come_back(
    hub: Hub, headers: dict[str, str], seconds: float, tmp_path: Path
) -> None:
    hub.fail(Trouble.STATUS, status=429, headers=headers, on="/api/models", times=-1)
    place = Place(hub, tmp_path)
    (found,) = place.check(REFERENCE)
    assert (found.problem, found.retry_at) == ("source-rate-limited", found.at + seconds)
    assert len(hub.asked) == 1, "nothing is asked again before that"


@pytest.mark.fault("H16")
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_hub_that_fails_is_asked_again_later(hub: Hub, status: int, tmp_path: Path) -> None:
    hub.fail(Trouble.STATUS, status=status, on="/api/models")
    place = Place(hub, tmp_path)
    (found,) = place.check(REFERENCE)
    assert (found.problem, found.retry_at) == ("hub-unavailable", found.at + 60)
    assert str(status) in found.reason
    assert "source.repo" not in found.reason + found.hint
    (found,) = place.check(REFERENCE)
    assert found.problem == ""


def test_a_page_where_an_answer_should_be_is_no_hub(hub: Hub, tmp_path: Path) -> None:
    of_kind(hub, Kind.PAGE)
    (found,) = Place(hub, tmp_path).check(REFERENCE)
    assert found.problem == "hub-unavailable"
    assert found.retry_at is not None


@pytest.mark.fault("H17")
def test_a_hub_that_cannot_be_reached_is_asked_again_later(
    free_ports: Callable[[int], list[int]], tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    (found,) = Place(None, tmp_path, {"HF_ENDPOINT": f"http://127.0.0.1:{port}"}).check(REFERENCE)
    assert (found.problem, found.retry_at) == ("hub-unreachable", found.at + 60)
    assert f"127.0.0.1:{port} could not be reached (connection" in found.reason


@pytest.mark.fault("H17")
def test_a_hub_that_does_not_speak_tls_is_said_to_fail_at_that(hub: Hub, tmp_path: Path) -> None:
    (found,) = Place(None, tmp_path, {"HF_ENDPOINT": hub.endpoint.replace("http:", "https:")}).check(REFERENCE)
    assert found.problem == "hub-unreachable"
    assert "(TLS: " in found.reason


@pytest.mark.fault("H17")
def test_a_proxy_that_is_not_there_makes_the_hub_unreachable(
    hub: Hub, free_ports: Callable[[int], list[int]], tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    (found,) = Place(hub, tmp_path, {"HTTP_PROXY": f"http://user:secretsecret@127.0.0.1:{port}"}).check(REFERENCE)
    assert found.problem == "hub-unreachable"
    assert "secretsecret" not in found.reason
    assert hub.asked == []


@pytest.mark.fault("H17")
def test_a_hub_that_says_nothing_is_given_up_with_all_that_was_asked_of_it(listen: Listen, tmp_path: Path) -> None:
    place = Place(None, tmp_path, {"HF_ENDPOINT": f"http://127.0.0.1:{listen()}"}, answer=0.5)
    for found in place.check(REFERENCE, "acme/other@main"):
        assert (found.problem, found.retry_at) == ("hub-unreachable", found.at + 60)
        assert "timeout" in found.reason
    assert children() == []


# ------------------------------------------------------------------------------------------ what nobody is asked


@pytest.mark.fault("H13")
@pytest.mark.parametrize("reference", ["gemma-4-31b-it", "gemma-4-31b-it@main"])
def test_a_bare_label_is_told_to_be_one_and_causes_no_request(hub: Hub, reference: str, tmp_path: Path) -> None:
    (found,) = Place(hub, tmp_path).check(reference)
    assert (found.problem, found.retry_at) == ("bare-repository-name", None)
    assert "looks like an API label, not a repository" in found.reason
    assert hub.asked == []


@pytest.mark.parametrize(
    "reference",
    ["/no/such/path", "a/b/c@main", "acme/tiny", "acme/tiny@", "acme/tiny@a/../b", "acme/..@main", "acme/ti ny@main"],
)
def test_what_is_no_reference_causes_no_request(hub: Hub, reference: str, tmp_path: Path) -> None:
    (found,) = Place(hub, tmp_path).check(reference)
    assert (found.problem, found.retry_at) == ("source-bad-syntax", None)
    assert hub.asked == []


def test_a_name_that_only_the_library_refuses_causes_no_request(hub: Hub, tmp_path: Path) -> None:
    (found,) = Place(hub, tmp_path).check("acme/ti--ny@main")
    assert found.problem == "source-bad-syntax"
    assert hub.asked == []


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_where_asking_is_forbidden_nobody_is_asked(hub: Hub, switch: str, tmp_path: Path) -> None:
    (found,) = Place(hub, tmp_path, {switch: "1"}).check(REFERENCE)
    assert (found.problem, found.retry_at) == ("hub-offline", None)
    assert f"hf download {REPO} --revision main" in found.hint
    assert hub.asked == []


# -------------------------------------------------------------------------------------------- what cannot be served


@pytest.mark.fault("S27")
@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["config.json", "model-Q4_K_M.gguf"], "gguf"),
        (["config.json", "pytorch_model.bin"], "bin"),
        (["config.json", "consolidated.00.pth"], "pth"),
        (["config.json", "unet/model.safetensors"], "model*.safetensors"),
        (["model.safetensors", "README.md"], "config.json"),
    ],
)
def test_a_repository_that_no_server_could_load_is_refused_before_a_byte_of_it_is_brought(
    hub: Hub, names: list[str], word: str, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"{}")
    hub.repos[REPO] = Repo(folder)
    (found,) = Place(hub, tmp_path).check(REFERENCE)
    assert (found.problem, found.retry_at) == ("source-wrong-format", None)
    assert word in found.reason


@pytest.mark.fault("H20")
@pytest.mark.parametrize(
    "names",
    [
        ("Tokenizer.json", "tokenizer.json"),
        ("stra\N{LATIN SMALL LETTER SHARP S}e.json", "STRASSE.json"),
        ("u\N{COMBINING DIAERESIS}.json", "\N{LATIN SMALL LETTER U WITH DIAERESIS}.json"),
        ("../evil.json",),
        ("a/../../evil.json",),
        ("/etc/evil.json",),
        ("a\\..\\evil.json",),
        ("evil\n.json",),
    ],
)
def test_names_that_leave_the_folder_or_are_one_file_on_a_mac_are_refused(names: tuple[str, ...]) -> None:
    whole = ["config.json", "model.safetensors"]
    assert [file.name for file in chosen(RemoteFile(name=name, size=1) for name in whole)] == whole
    with pytest.raises(Unfit) as refused:
        chosen(RemoteFile(name=name, size=1) for name in (*whole, *names))
    assert refused.value.problem == "source-unsafe-names"


@pytest.mark.fault("S27")
def test_only_weights_settings_and_templates_are_chosen() -> None:
    wanted = [
        "additional_chat_templates/tool.jinja",
        "chat_template.jinja",
        "config.json",
        "merges.txt",
        "model.safetensors",
        "model.safetensors.index.json",
        "qwen.tiktoken",
        "tokenizer.model",
        "vocab.txt",
    ]
    others = [
        "README.md",
        "run.py",
        "pytorch_model.bin",
        "model.gguf",
        "x.pt",
        "x.pkl",
        ".x/y.json",
        "requirements.txt",
    ]
    others += ["consolidated.safetensors", "original/model.safetensors", "training_args.bin", "tokenizer.py"]
    found = chosen(RemoteFile(name=name, size=1) for name in (*others, *reversed(wanted)))
    assert [file.name for file in found] == wanted


# ------------------------------------------------------------------------------------------------------- together


def test_all_findings_of_all_sources_come_from_one_run(hub: Hub, model: Path, tmp_path: Path) -> None:
    kinds = {
        "acme/gated": Kind.GATED,
        "acme/down": Kind.DOWN,
        "acme/disabled": Kind.DISABLED,
        "acme/forbidden": Kind.BARE_403,
    }
    hub.repos |= {name: Repo(model, kind) for name, kind in kinds.items()}
    asked = [REFERENCE, "label", "a/b/c", "acme/none@main", f"{REPO}@v9", *(f"{name}@main" for name in kinds)]
    asked += [f"acme/none{number}@main" for number in range(20)]
    found = [answer.problem for answer in Place(hub, tmp_path).check(*asked)]
    assert found[:5] == ["", "bare-repository-name", "source-bad-syntax", "source-not-found", "source-revision-missing"]
    assert found[5:9] == ["source-gated", "hub-unavailable", "source-disabled", "source-forbidden"]
    assert found[9:] == ["source-not-found"] * 20
    assert len(hub.asked) == len(asked) - 2 + 1, "one request per repository, and one for the configuration"
    assert children() == []


def test_every_class_has_a_sentence_and_a_hint_of_its_own() -> None:
    said = [told({"class": name, "message": name}, REFERENCE, {}) for name in SAYINGS]
    assert len({each.reason for each in said}) == len({each.problem for each in said}) == len(SAYINGS)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)+", each.problem) and each.hint for each in said)
    assert all("{" not in each.reason + each.hint for each in said)


@pytest.mark.parametrize("from_file", [False, True])
def test_a_token_reaches_the_hub_and_nobody_else(
    hub: Hub, from_file: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    of_kind(hub, Kind.GATED)
    place = Place(hub, tmp_path, {} if from_file else {"HF_TOKEN": TOKEN})
    if from_file:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "token").write_text(TOKEN)
    said = repr(place.check(REFERENCE, "acme/none@main"))
    assert {asked.token for asked in hub.asked} == {TOKEN}
    assert TOKEN not in said + "".join(capfd.readouterr())


def test_no_telemetry_is_sent_with_a_question(hub: Hub, tmp_path: Path) -> None:
    Place(hub, tmp_path, {"AI_AGENT": "somebody"}).check(REFERENCE)
    assert {asked.path.split("?")[0].split("/")[1] for asked in hub.asked} == {"api", "acme"}
    assert not [asked for asked in hub.asked if "agent" in asked.path]


def test_cancelling_a_check_leaves_nothing_behind(listen: Listen, tmp_path: Path) -> None:
    place = Place(None, tmp_path, {"HF_ENDPOINT": f"http://127.0.0.1:{listen()}"})

    async def interrupted() -> list[SourceCheck]:
        task = asyncio.create_task(place.client.check([REFERENCE]))
        while not children():
            assert not task.done()
            await asyncio.sleep(0.003)
        task.cancel()
        return list(await asyncio.gather(task, return_exceptions=True))  # type: ignore[arg-type]

    (outcome,) = asyncio.run(interrupted())
    assert isinstance(outcome, asyncio.CancelledError)
    assert children() == []
