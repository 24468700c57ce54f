"""The programs that are run as children: what they say, what they leave, and that they end with their starter."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from reconciler.adapters.child import PROGRAMS, PYTHON, Child, running, without_tokens
from reconciler.adapters.hub.cache import MARK
from reconciler.adapters.hub.words import told
from reconciler.model.supply import FetchOrder
from reconciler.ports.errors import ActionError
from tests.programs.fake_hub import Hub, Repo, Trouble, serving

from .hub_parts import REFERENCE, REPO, TOKEN, WEIGHTS, Place, loaded, until, written

HUB = [sys.executable, str(PROGRAMS / "hub.py")]
FULL_DISK = Path(__file__).parents[1] / "programs" / "full_disk.py"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub that has one repository."""
    with serving({REPO: Repo(written(tmp_path / "model"))}, TOKEN) as made:
        yield made


@pytest.fixture
def place(hub: Hub, tmp_path: Path) -> Place:
    """An empty cache."""
    return Place(hub, tmp_path)


def run(argv: list[str], request: Mapping[str, Any], environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a program says, whose input stays open until it has ended."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(json.dumps(request) + "\n")
        program.stdin.flush()
        return [json.loads(line) for line in program.stdout]


def request_of(place: Place, order: FetchOrder, **more: Any) -> dict[str, Any]:
    """An order as the program gets it."""
    (place.folder / "blobs").mkdir(parents=True)
    files = [{"name": file.name, "size": file.size, "digest": file.digest} for file in order.files]
    request = {"do": "fetch", "repo": REPO, "commit": order.commit, "cache": str(place.cache), "files": files}
    return request | {"pause": 0.01} | more


# ---------------------------------------------------------------------------------------------------------- hub.py


def test_a_file_that_is_too_long_for_one_answer_comes_in_parts(place: Place, hub: Hub) -> None:
    order = place.order()
    said = run(HUB, request_of(place, order, part=100_000), place.environ)
    blobs = {line["have"]: line["blob"] for line in said if "have" in line}
    here = {name: (place.folder / "blobs" / blob).read_bytes() for name, blob in blobs.items()}
    assert here == loaded(hub.repos[REPO].folder)
    assert [asked.status for asked in hub.gets(WEIGHTS)] == [206] * (len(here[WEIGHTS]) // 100_000 + 1)
    assert "done" in said[-1]


@pytest.mark.fault("H08")
def test_a_full_disk_is_told_and_given_back_what_was_begun(place: Place) -> None:
    order = place.order()
    argv = [sys.executable, str(FULL_DISK), "100000", str(PROGRAMS / "hub.py")]
    said = run(argv, request_of(place, order), place.environ)
    found = told(said[-1]["error"], REFERENCE, place.environ)
    assert (found.problem, "is full" in found.reason) == ("disk-full", True)
    assert place.begun() == []
    small = {file.size for file in order.files if file.name != WEIGHTS}
    assert {path.stat().st_size for path in (place.folder / "blobs").iterdir()} == small


def test_the_answers_are_the_only_thing_on_the_output(place: Place) -> None:
    request = {"do": "check", "references": [{"repo": REPO, "revision": "main"}]}
    said = run(HUB, request, place.environ | {"HF_DEBUG": "1"})
    assert [set(line) for line in said] == [{"answer", "commit", "files", "config"}, {"done"}]


def test_the_download_ends_when_whoever_ordered_it_is_gone(place: Place, hub: Hub) -> None:
    order = place.order()
    hub.fail(Trouble.GATE, after=70_000)
    with subprocess.Popen(HUB, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=place.environ) as program:
        assert program.stdin is not None
        program.stdin.write(json.dumps(request_of(place, order)).encode() + b"\n")
        program.stdin.flush()
        asyncio.run(until(lambda: [path.stat().st_size for path in place.begun()] == [70_000], "it is in the middle"))
        program.stdin.close()
        assert program.wait(20) == 3
    assert [path.stat().st_size for path in place.begun()] == [70_000]


def test_its_partial_files_have_a_name_that_the_library_counts_as_one() -> None:
    assert MARK in (PROGRAMS / "hub.py").read_text()
    assert MARK.endswith(".incomplete")


# -------------------------------------------------------------------------------------------------------- child.py


def script(folder: Path, text: str) -> str:
    """A program of the test."""
    path = folder / "program.py"
    path.write_text(f"import json, os, subprocess, sys\nrequest = json.loads(sys.stdin.readline())\n{text}\n")
    return str(path)


def lines_of(program: str, request: Mapping[str, Any] | None = None, **environ: str) -> tuple[list[Any], Child]:
    """All that a program says."""

    async def followed() -> tuple[list[Any], Child]:
        async with running(program, request or {}, environ=environ) as child:
            said = []
            while (line := await child.line()) is not None:
                said.append(line)
            return said, child

    return asyncio.run(followed())


def test_a_child_has_its_request_a_session_of_its_own_and_a_lower_priority(tmp_path: Path) -> None:
    text = "print(json.dumps([request, os.getsid(0), os.nice(0), sys.stdin.isatty()][:3] and {'r': request, "
    text += "'sid': os.getsid(0), 'nice': os.nice(0), 'path': sys.path[0]}))"
    said, child = lines_of(script(tmp_path, text), {"long": "x" * 200_000})
    assert said[0] | {"path": ""} == {
        "r": {"long": "x" * 200_000},
        "sid": child.pid,
        "nice": os.nice(0) + 5,
        "path": "",
    }
    assert said[0]["path"] != str(tmp_path), "nothing beside a program shadows what it imports"
    assert child.status == 0


@pytest.mark.parametrize("text", ["print('not json')", "print('[1]')", "print('x' * 9_000_000)"])
def test_what_is_no_json_object_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ActionError) as error:
        lines_of(script(tmp_path, text))
    assert error.value.cause == "program-failed"


def test_the_complaint_of_a_program_is_told_without_its_secrets(tmp_path: Path) -> None:
    said, child = lines_of(script(tmp_path, f"sys.exit('x' * 100_000 + chr(10) + 'no: Bearer {TOKEN}')"))
    assert said == []
    assert child.complaint() == "no: [secret]"
    assert (child.failed().cause, TOKEN in child.failed().message) == ("program-failed", False)
    assert child.status == 1


def test_what_a_program_has_started_goes_with_it(tmp_path: Path) -> None:
    text = "made = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], stdin=-3)\n"
    text += "print(json.dumps({'pid': made.pid}), flush=True); sys.stdin.read()"

    async def left() -> tuple[int, Child]:
        async with running(script(tmp_path, text), {}, environ={}) as child:
            said = await child.line()
            assert said is not None
            assert psutil.pid_exists(said["pid"])
            return said["pid"], child

    pid, child = asyncio.run(left())
    asyncio.run(until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "it is gone"))
    assert child.status == 0
    assert not psutil.pid_exists(child.pid)


def test_a_program_that_does_not_end_by_itself_is_killed(tmp_path: Path) -> None:
    async def left() -> Child:
        program = script(tmp_path, "import signal; print('{}', flush=True); signal.pause()")
        async with running(program, {}, environ={}, grace=0.05) as child:
            assert await child.line() == {}
            return child

    assert asyncio.run(left()).status == -signal.SIGKILL


def test_a_cancelled_block_is_left_only_when_the_child_is_gone(tmp_path: Path) -> None:
    children: list[Child] = []

    async def held() -> None:
        program = script(tmp_path, "import signal; print('{}', flush=True); signal.pause()")
        async with running(program, {}, environ={}, grace=0.05) as child:
            children.append(child)
            await child.line()
            await child.line()

    async def interrupted() -> None:
        task = asyncio.create_task(held())
        await until(lambda: children, "it runs")
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # an impatient person
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not psutil.pid_exists(children[0].pid)

    asyncio.run(interrupted())
    assert children[0].status == -signal.SIGKILL


def test_an_interpreter_that_is_not_there_is_told(tmp_path: Path) -> None:
    async def started() -> None:
        async with running("hub.py", {}, environ={}, command=(str(tmp_path / "python"),)):
            raise AssertionError("nothing can have been started")

    with pytest.raises(ActionError) as error:
        asyncio.run(started())
    assert (error.value.cause, error.value.permanent) == ("executable-missing", True)
    assert PYTHON[0] == sys.executable


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"])
def test_an_environment_without_tokens_has_none_and_lets_none_be_sent(name: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    made = without_tokens({name: TOKEN, "PATH": os.environ["PATH"], "HF_HOME": str(tmp_path)})
    asks = "from huggingface_hub.utils import build_hf_headers as b; print(json.dumps({'sent': b()}))"
    said, _ = lines_of(script(tmp_path, asks), {}, **made, HF_HUB_DISABLE_TELEMETRY="1")
    assert "authorization" not in said[0]["sent"]
    assert made["HF_HOME"] == str(tmp_path)
