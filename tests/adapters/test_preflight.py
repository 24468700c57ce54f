"""What is to replace a server is tried out in the environment of mlx_lm itself, and nothing is started for it."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from reconciler.adapters.preflight import preflight
from reconciler.backends.base import Start
from reconciler.backends.mlx_lm import MlxLm
from reconciler.model.desired import ModelSpec, Source
from reconciler.model.target import PreflightOrder
from reconciler.ports.errors import ActionError
from reconciler.programs.tiny_model import write_model
from tests.adapters.servers import until

BACKEND = MlxLm()
RUNTIME = (sys.executable, "-m", "mlx_lm", "server")
GOOD = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sound"
    write_model(folder)
    return folder


def order(model: Path, **changes: Any) -> PreflightOrder:
    """How a start of this model is examined."""
    spec = ModelSpec(source=Source(repo="demo/fast"), requires=changes.pop("requires", ()))
    start = Start(
        label="fast",
        spec=spec,
        options={"decode_concurrency": 2},
        runtime=RUNTIME,
        host="127.0.0.1",
        port=1,
        model_path=str(model),
        draft_path=None,
        template=None,
        template_path=None,
    )
    start = replace(start, **changes)
    examination = BACKEND.preflight(start)
    assert examination is not None
    return PreflightOrder(
        label="fast",
        spec_hash="5bec",
        artifact="a11",
        backend="mlx-lm",
        runtime=start.runtime,
        program=examination.program,
        request=examination.request,
    )


def said(wanted: PreflightOrder, deadline: float = 120.0) -> ActionError | None:
    """Why it fails; None where it passes."""
    try:
        asyncio.run(preflight(wanted, {"mlx-lm": BACKEND}, deadline))
    except ActionError as error:
        return error
    return None


def damaged(model: Path, folder: Path, name: str, content: bytes) -> Path:
    """The same model with another file in it."""
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / name).write_bytes(content)
    return folder


def test_what_would_start_passes(model: Path) -> None:
    assert said(order(model, template=GOOD, draft_path=str(model))) is None


def test_weights_that_do_not_fit_are_named_as_a_server_would_name_them(model: Path, tmp_path: Path) -> None:
    content = (model / "model.safetensors").read_bytes().replace(b'"model.norm.weight"', b'"model.norm.wait__"', 1)
    error = said(order(damaged(model, tmp_path / "it", "model.safetensors", content)))
    assert error is not None
    assert (error.cause, error.permanent) == ("weights-mismatch", True)
    assert "model.norm.wait__" in error.message
    assert error.message.endswith("; the running server was kept")


def test_a_draft_that_cannot_be_loaded_is_refused(model: Path, tmp_path: Path) -> None:
    config = json.loads((model / "config.json").read_text()) | {"model_type": "weirdo"}
    other = damaged(model, tmp_path / "it", "config.json", json.dumps(config).encode())
    error = said(order(model, draft_path=str(other)))
    assert error is not None
    assert (error.cause, error.permanent) == ("architecture-unsupported", True)


@pytest.mark.parametrize(
    ("template", "requires", "refused"),
    [
        ("{% if ", (), "TemplateSyntaxError"),
        ("{% if tools %}{{ tools[0].nope.x }}{% endif %}", (), "(with tools)"),
        ("{% if tools %}{{ raise_exception('no tools') }}{% endif %}", ("tools",), "no tools"),
        ("{% if tools %}{{ raise_exception('no tools') }}{% endif %}", (), ""),
    ],
)
def test_a_template_must_render_what_clients_say(
    model: Path, template: str, requires: tuple[str, ...], refused: str
) -> None:
    error = said(order(model, template=template, requires=requires))
    if not refused:
        assert error is None
        return
    assert error is not None
    assert (error.cause, error.permanent) == ("template-broken", True)
    assert refused in error.message


def test_the_program_itself_judges_its_flags(model: Path) -> None:
    error = said(order(model, runtime=(*RUNTIME, "--of-another-version=1")))
    assert error is not None
    assert (error.cause, error.permanent) == ("flag-refused", True)
    assert "--of-another-version=1" in error.message


def test_a_python_without_the_program_is_a_broken_runtime(model: Path) -> None:
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    error = said(order(model, runtime=(str(base), *RUNTIME[1:])))
    assert error is not None
    assert (error.cause, error.permanent) == ("runtime-broken", True)


def test_a_command_whose_python_is_not_known_is_not_examined(model: Path) -> None:
    assert said(replace(order(model), runtime=("/bin/true",))) is None


def test_what_takes_too_long_is_ended_and_may_be_tried_again(model: Path) -> None:
    error = said(order(model), deadline=0.05)
    assert error is not None
    assert (error.cause, error.permanent) == ("preflight-timed-out", False)
    assert not children()


def test_who_does_not_want_it_any_more_leaves_nothing_of_it(model: Path) -> None:
    async def run() -> None:
        task = asyncio.create_task(preflight(order(model), {"mlx-lm": BACKEND}))
        async with asyncio.timeout(20):
            while not children():  # noqa: ASYNC110 - nobody sets an event for it
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    until(lambda: not children(), "the program is gone")


def children() -> list[int]:
    """Programs of a preflight that live."""
    found = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    return [child.pid for child in found if any("load_check.py" in word for word in child.cmdline())]


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        (("/venv/bin/python3.11", "-m", "mlx_lm", "server"), ()),
        (("/venv/bin/python", "-X", "utf8", "-m", "mlx_lm.server", "--pipeline"), ("--pipeline",)),
        (("/venv/bin/mlx_lm.server",), ()),
        (("/venv/bin/python", "-S", "/tests/quick_server.py"), None),
        (("/venv/bin/python", "-m", "mlx_lm", "chat"), None),
        (("/usr/bin/env", "python", "-m", "mlx_lm", "server"), None),
        ((), None),
    ],
)
def test_only_a_command_that_is_known_is_examined(runtime: tuple[str, ...], words: tuple[str, ...] | None) -> None:
    start = Start(
        label="fast",
        spec=ModelSpec(source=Source(repo="demo/fast")),
        options={},
        runtime=runtime,
        host="127.0.0.1",
        port=8100,
        model_path="/hub/fast",
        draft_path=None,
        template=None,
        template_path=None,
    )
    found = BACKEND.preflight(start)
    if words is None:
        assert found is None
        return
    assert found is not None
    argv = found.request["argv"]
    assert isinstance(argv, list)
    assert argv[: len(words)] == list(words)
    assert argv[len(words)] == "--model=/hub/fast"
