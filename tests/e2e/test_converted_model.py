"""A real server answers a completion with what a real conversion has made."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.adapters.converting import Converting
from tests.ports import free_port
from tests.programs.tiny_base import write_base

pytestmark = pytest.mark.heavy

DEADLINE: Final = 60.0
GRACE: Final = 10.0
PAUSE: Final = 0.05
REPLY: Final = "I was converted, and I still know my line."

Ask = Callable[[Path], str]


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Start a server on a model folder, which ends with the test, and ask it for a completion."""
    started: list[subprocess.Popen[bytes]] = []

    def serve(model: Path) -> str:
        port = free_port()
        log = tmp_path / "server.log"
        address = ("--host", "127.0.0.1", "--port", str(port))
        with log.open("wb") as output:
            process = subprocess.Popen(
                (sys.executable, "-m", "mlx_lm", "server", "--model", str(model), *address),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
            )
        started.append(process)
        return answer(process, port, log)

    yield serve
    for process in started:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answer(process: "subprocess.Popen[bytes]", port: int, log: Path) -> str:
    """What the server says, as soon as it says something; it listens before its model is loaded."""
    body = {"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 64, "temperature": 0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + DEADLINE
    while process.poll() is None and (left := deadline - time.monotonic()) > 0:
        try:
            with direct.open(request, timeout=left) as response:
                return str(json.load(response)["choices"][0]["message"]["content"])
        except (OSError, ValueError, http.client.HTTPException):
            threading.Event().wait(PAUSE)
    raise AssertionError(f"no answer:\n{log.read_text(errors='replace')}")


@pytest.mark.e2e
@pytest.mark.req("S1-79")
@pytest.mark.parametrize(
    ("family", "dtype", "settings"),
    [("llama", "bfloat16", ("bits=4", "mode=affine")), ("qwen3", "float16", ("mode=mxfp4",))],
)
def test_a_converted_model_says_what_its_base_said(
    tmp_path: Path, ask: Ask, family: str, dtype: str, settings: tuple[str, ...]
) -> None:
    base = tmp_path / "base"
    write_base(base, REPLY, dtype=dtype, family=family)
    work = Converting(tmp_path, base)
    folder = work.run(work.order(*settings))
    assert (folder / "model.safetensors").stat().st_size < (base / "model.safetensors").stat().st_size / 2
    assert ask(folder) == REPLY
