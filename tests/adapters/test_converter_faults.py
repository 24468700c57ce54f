"""A converter that fails, lies, hangs or is killed leaves nothing that counts as a model, and the next run works."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.model.base import plain
from reconciler.model.supply import ConvertOrder
from reconciler.ports.errors import ActionError
from reconciler.programs.tiny_model import write_model
from tests.programs.tiny_base import write_base

from .converting import REPOSITORY, Converting, gone, receipt_of, stamps
from .servers import until

pytestmark = pytest.mark.heavy

_IN_ANOTHER_PROCESS: Final = """
import asyncio, json, sys
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.conversion.converter import convert
from reconciler.model.observed import Artifact, Conversion, Recipe
from reconciler.model.supply import ConvertOrder

said = json.loads(sys.argv[2])
recipe = Recipe(**{name: tuple(value) if isinstance(value, list) else value for name, value in said["recipe"].items()})
result = Conversion(recipe=recipe, artifact=Artifact(identity="recipe", path="/x"))
order = ConvertOrder(reference="x", result=result, source=said["source"], memory=1, disk=1)
asyncio.run(convert(order, hub=sys.argv[1], report=lambda done, total: None, now=SystemClock().now))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base, and a model as a converter leaves one; blanks in both names."""
    folder = tmp_path_factory.mktemp("models")
    base, finished = folder / "a base", folder / "a result"
    write_base(base)
    write_model(finished)
    return base, finished


@pytest.fixture
def work(models: tuple[Path, Path], tmp_path: Path) -> Iterator[Converting]:
    work = Converting(tmp_path, models[0])
    yield work
    work.gate.touch()  # whatever a failed test has left waiting ends


@pytest.fixture
def finished(models: tuple[Path, Path]) -> str:
    return str(models[1])


@contextlib.contextmanager
def another_process(work: Converting, order: ConvertOrder) -> Iterator["subprocess.Popen[bytes]"]:
    """A reconciler that converts and nothing else; killed at the latest when the block is left."""
    request = json.dumps({"recipe": plain(order.recipe), "source": order.source})
    command = (sys.executable, "-c", _IN_ANOTHER_PROCESS, str(work.hub), request)
    with subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def one_that_hangs(work: Converting, finished: str, *switches: str) -> tuple[str, ...]:
    """A converter that has written half of a model, and waits for the gate."""
    return work.fake("--from", finished, "--half", "--gate", str(work.gate), *switches)


# ------------------------------------------------------------------------------------------------------------ commands


@pytest.mark.req("S1-78", "S1-80")
@pytest.mark.fault("C09")
def test_a_command_of_the_host_file_gets_its_own_words_and_little_else(work: Converting, finished: str) -> None:
    words = ("--from", finished, "--src", "{src}", "--repo", "of {repo}", "--say", '{"json": 1} $HOME `x`')
    order = work.order("bits=4", command=work.fake(*words))
    with pytest.raises(ActionError, match="bits=4 was asked for, and it is not quantised"):
        work.run(order)  # the settings are not appended, and the result is judged by them all the same
    note = work.noted()
    dest = str(work.staging(order))
    expected = ["--dest", dest, "--note", str(work.note), "--from", finished]
    expected += ["--src", str(work.source), "--repo", "of tiny/base", "--say", '{"json": 1} $HOME `x`']
    assert note["argv"] == expected
    assert " " in dest
    assert " " in str(work.source)
    assert not note["dest_was_there"]
    assert note["nice"] >= 10
    assert note["cwd"] == "/"
    assert note["group"] == note["runner"] != os.getpgrp()


def test_a_converter_gets_no_token_and_no_leave_to_run_code(work: Converting) -> None:
    secrets = {"HF_TOKEN": "hf_x", "HUGGING_FACE_HUB_TOKEN": "hf_x", "MLX_LM_TRUST_REMOTE_CODE": "1"}
    with pytest.raises(ActionError, match="failed: exit code 3"):
        work.run(
            work.order(command=work.fake("--exit", "3")),
            environ={"PYTHONPATH": "/x", "HF_ENDPOINT": "http://x", **secrets},
        )
    environ = work.noted()["environ"]
    assert not environ.keys() & {*secrets, "PYTHONPATH", "HF_ENDPOINT"}
    assert (environ["HF_HUB_OFFLINE"], environ["PATH"]) == ("1", os.environ["PATH"])


@pytest.mark.req("S1-80")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{foo}",), "{foo} is none of its placeholders {repo}, {src}, {dest}"),
        (("{}",), "{} is none of its placeholders"),
    ],
)
def test_a_placeholder_that_does_not_exist_is_refused_before_anything_runs(
    work: Converting, words: tuple[str, ...], said: str
) -> None:
    error = work.refused(work.order(command=work.fake(*words)))
    assert (error.cause, error.permanent) == ("converter-placeholder", True)
    assert said in error.message
    assert not work.note.exists()
    assert not work.hub.exists()


@pytest.mark.fault("C06")
@pytest.mark.parametrize("program", ["/nowhere/convert", "no-such-converter", "./convert"])
def test_a_converter_that_is_not_there_is_named(work: Converting, program: str) -> None:
    error = work.refused(work.order(command=(program, "{dest}")))
    assert (error.cause, error.permanent) == ("converter-missing", True)
    assert program in error.message


@pytest.mark.fault("C06")
def test_a_python_without_the_converter_is_named(work: Converting) -> None:
    command = (sys.executable, "-S", "-m", "mlx_lm", "convert", "--mlx-path", "{dest}")
    error = work.refused(work.order(command=command))
    assert (error.cause, error.permanent) == ("converter-missing", True)


# ------------------------------------------------------------------------------------------------------------- results


@pytest.mark.req("S1-67")
@pytest.mark.fault("C02")
def test_a_result_appears_whole_and_only_then_and_once(work: Converting, finished: str) -> None:
    order = work.order(command=work.fake("--from", finished, "--gate", str(work.gate)))
    folder = work.final(order.recipe)

    async def watch() -> None:
        task = work.start(order)
        await asyncio.to_thread(work.noted)
        await asyncio.to_thread(until, (work.staging(order) / "tokenizer.json").exists, "it has written")
        assert not folder.exists()
        assert work.made() == ()
        work.gate.touch()
        await task

    asyncio.run(watch())
    (made,) = work.made()
    assert made.artifact.complete
    assert not work.staging(order).exists()

    before = stamps(folder.parent)
    work.note.unlink()
    work.run(order)
    assert not work.note.exists()  # nothing was started for the same recipe
    assert stamps(folder.parent) == before


@pytest.mark.fault("C02")
def test_a_damaged_result_is_made_anew(work: Converting, finished: str) -> None:
    order = work.order(command=work.fake("--from", finished))
    folder = work.run(order)
    good = receipt_of(folder)["files"]
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    work.note.unlink()
    work.run(order)
    assert work.note.exists()
    assert receipt_of(folder)["files"] == good
    assert weights.read_bytes() != content


@pytest.mark.fault("C02")
def test_a_folder_without_a_receipt_is_neither_used_nor_removed(work: Converting, finished: str) -> None:
    order = work.order(command=work.fake("--from", finished))
    write_model(work.final(order.recipe))
    before = stamps(work.final(order.recipe))
    with pytest.raises(ActionError) as raised:
        work.run(order)
    assert (raised.value.cause, raised.value.permanent) == ("destination-foreign", True)
    assert stamps(work.final(order.recipe)) == before
    assert work.made() == ()


@pytest.mark.fault("C07")
@pytest.mark.parametrize(
    ("switches", "said"),
    [
        ((), "it is not whole: config.json"),
        (("--unmade",), "nothing was written"),
        (("--from", "{result}", "--half"), "it is not whole: model.safetensors"),
        (("--from", "{result}", "--drop", "tokenizer.json", "--config", '{"x": 1}'), "mlx_lm cannot load it"),
        (("--from", "{result}", "--drop", "config.json"), "it is not whole: config.json"),
        (("--from", "{result}", "--config", '{"num_hidden_layers": 3}'), "mlx_lm cannot load it"),
        (("--from", "{base}"), "model.safetensors is not in MLX's format"),
    ],
)
def test_an_exit_with_zero_proves_nothing(
    work: Converting, finished: str, switches: tuple[str, ...], said: str
) -> None:
    known = {"{result}": finished, "{base}": str(work.source)}
    error = work.refused(work.order(command=work.fake(*(known.get(word, word) for word in switches))))
    assert (error.cause, error.permanent) == ("conversion-wrong", True)
    assert said in error.message


@pytest.mark.parametrize(
    ("switches", "cause", "permanent", "said"),
    [
        (("--exit", "3"), "conversion-failed", False, "exit code 3, and nothing was said"),
        (("--exit", "1", "--say", "ValueError: bad bits"), "conversion-failed", True, "ValueError: bad bits"),
        (("--exit", "1", "--say", "RuntimeError: busy"), "conversion-failed", False, "RuntimeError: busy"),
        (("--exit", "1", "--say", "key hf_abcdefghijklmnopqrst"), "conversion-failed", False, "key [secret]"),
        (("--enospc",), "disk-full", False, "has filled the disk"),
        (("--say", "RuntimeError: [write] Unable to write 7829 bytes to file."), "disk-full", False, "filled the disk"),
    ],
)
@pytest.mark.fault("C08")
def test_a_converter_that_fails_is_quoted(
    work: Converting, switches: tuple[str, ...], cause: str, permanent: bool, said: str
) -> None:
    error = work.refused(work.order(command=work.fake(*switches)))
    assert (error.cause, error.permanent) == (cause, permanent)
    assert said in error.message
    assert error.message.endswith("the base weights were kept")


@pytest.mark.fault("C08")
def test_nothing_is_started_where_the_disk_has_no_room(work: Converting) -> None:
    error = work.refused(work.order(command=work.fake(), disk=2**60))
    assert (error.cause, error.permanent) == ("disk-full", False)
    assert not work.note.exists()


@pytest.mark.fault("C11")
def test_a_source_that_changes_meanwhile_is_not_what_was_converted(work: Converting, finished: str) -> None:
    work.source = work.folder / "base"
    write_base(work.source)
    switches = ("--from", finished, "--touch", str(work.source / "config.json"))
    error = work.refused(work.order(command=work.fake(*switches)))
    assert (error.cause, error.permanent) == ("source-changed", False)


@pytest.mark.fault("C13")
def test_two_sources_whose_names_look_alike_have_two_results(work: Converting, finished: str) -> None:
    orders = [work.order(command=work.fake("--from", finished), repo=repo) for repo in ("a/b--c", "a--b/c")]
    one = work.run(orders[0])
    other = work.final(orders[1].recipe)
    assert one.parent == other.parent
    assert one != other
    found = LocalArtifacts(cache=str(work.hub)).storage(["a/b--c@main", "a--b/c@main"]).conversions
    assert [(reference, made[0].artifact.path) for reference, made in found.items()] == [("a/b--c@main", str(one))]

    shutil.copytree(one, other)  # whole, and not what this name promises
    with pytest.raises(ActionError) as raised:
        work.run(orders[1])
    assert (raised.value.cause, raised.value.permanent) == ("destination-foreign", True)
    assert receipt_of(other) == receipt_of(one)


# --------------------------------------------------------------------------------------------------------------- kills


def converter(note: dict[str, Any]) -> int:
    return int(note["pid"])


def runner(note: dict[str, Any]) -> int:
    return int(note["runner"])


@pytest.mark.fault("C01")
@pytest.mark.parametrize("victim", [converter, runner])
def test_a_kill_half_way_leaves_nothing_and_the_next_run_works(
    work: Converting, finished: str, victim: Callable[[dict[str, Any]], int]
) -> None:
    order = work.order(command=one_that_hangs(work, finished, "--child"))

    async def kill() -> dict[str, Any]:
        task = work.start(order)
        note = await asyncio.to_thread(work.noted)
        os.kill(victim(note), signal.SIGKILL)
        with pytest.raises(ActionError) as raised:
            await task
        assert (raised.value.cause, raised.value.permanent) == ("conversion-failed", False)
        return note

    note = asyncio.run(kill())
    until(lambda: all(gone(note[name]) for name in ("pid", "runner", "child")), "all of it is gone")
    assert work.nothing_left(order)
    assert work.made() == ()
    work.note.unlink()
    work.gate.touch()
    assert work.refused(order).cause == "conversion-wrong"  # it runs, and comes to the half of a model that it writes


@pytest.mark.fault("C01")
def test_a_cancelled_conversion_is_ended_before_it_returns(work: Converting, finished: str) -> None:
    order = work.order(command=one_that_hangs(work, finished, "--child"))

    async def cancel() -> dict[str, Any]:
        task = work.start(order)
        note = await asyncio.to_thread(work.noted)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return note

    note = asyncio.run(cancel())
    assert all(gone(note[name]) for name in ("pid", "runner"))
    until(lambda: gone(note["child"]), "its own child is gone")
    assert work.nothing_left(order)


@pytest.mark.fault("C01", "C12")
def test_a_killed_reconciler_leaves_no_converter_and_the_next_one_starts_afresh(
    work: Converting, finished: str
) -> None:
    order = work.order(command=one_that_hangs(work, finished, "--child"))
    with another_process(work, order):
        note = work.noted()
        until((work.staging(order) / "tokenizer.json").exists, "it has written")
        assert work.refused_as_busy(order)
    until(lambda: all(gone(note[name]) for name in ("pid", "runner", "child")), "all of it is gone")
    assert work.staging(order).exists()
    assert work.made() == ()
    work.note.unlink()
    work.gate.touch()
    error = work.refused(order)  # it starts with an absent destination, writes half a model again, and is judged
    assert error.cause == "conversion-wrong"


@pytest.mark.fault("C12")
def test_a_converter_that_outlives_its_reconciler_keeps_others_away(work: Converting, finished: str) -> None:
    order = work.order(command=one_that_hangs(work, finished))
    with another_process(work, order):
        note = work.noted()
        psutil.Process(note["runner"]).suspend()  # it cannot end the converter when its input ends
    os.kill(note["runner"], signal.SIGKILL)
    until(lambda: gone(note["runner"]), "the runner is gone")
    assert not gone(note["pid"])
    assert work.refused_as_busy(order)
    assert work.staging(order).exists()
    work.gate.touch()
    until(lambda: gone(note["pid"]), "the converter has ended")
    work.note.unlink()
    assert work.refused(order).cause == "conversion-wrong"  # it runs again, and writes half of a model again


@pytest.mark.fault("C12")
def test_a_lock_that_somebody_holds_is_waited_for_by_nobody(work: Converting) -> None:
    order = work.order(command=work.fake())
    place = work.final(order.recipe)
    place.parent.mkdir(parents=True)
    with place.with_name(f".{place.name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert work.refused_as_busy(order)
    assert not work.note.exists()
