"""Real mlx_lm.server processes that cannot serve: their own words still mean what the table says they mean."""

import http.client
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reconciler.backends.base import Answer, Diagnosis, Sign
from reconciler.backends.mlx_lm import MlxLm
from reconciler.programs.tiny_model import write_model
from tests.ports import free_port

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(240)]

DEADLINE = 60.0
"""Seconds for a server to fail; it takes one where nothing else runs."""
GRACE = 10.0
PAUSE = 0.05
ASKED_FOR = 5.0
"""Seconds that one question may take; a server that still loads keeps it waiting."""
SHARDS = 2

T = TypeVar("T")
Launch = Callable[..., "Server"]


class Server:
    """One `mlx_lm.server` and its log."""

    def __init__(self, model: Path, log: Path, port: int, *flags: str) -> None:
        self.port = port
        self.log = log
        command = (sys.executable, "-m", "mlx_lm", "server", f"--model={model}", "--host=127.0.0.1", f"--port={port}")
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                (*command, *flags),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(log.parent / "hf")},
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()

    def diagnosis(self) -> Diagnosis:
        """What the log says, as soon as it says something."""
        return until(lambda: MlxLm().diagnose(self.lines()), self)

    def answer(self) -> Answer:
        """What it answers to the question of the reconciler, as soon as it answers."""
        return until(self._ask, self)

    def _ask(self) -> Answer | None:
        asked = MlxLm().question("default_model")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ASKED_FOR)
        try:
            connection.request("POST", asked.path, json.dumps(dict(asked.body)))
            response = connection.getresponse()
            return Answer(status=response.status, body=response.read())
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def end(self) -> None:
        """Stop this process, and no other."""
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def until(ask: Callable[[], T | None], server: Server) -> T:
    """What `ask` gives, as soon as it gives something."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if (given := ask()) is not None:
            return given
        threading.Event().wait(PAUSE)
    raise AssertionError("\n".join(["nothing came of", *server.lines()]))


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start servers that end with the test."""
    started: list[Server] = []

    def start(model: Path, *flags: str, port: int | None = None) -> Server:
        log = tmp_path / f"{len(started)}.log"
        started.append(Server(model, log, port or free_port(), *flags))
        return started[-1]

    yield start
    for server in started:
        server.end()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that would load."""
    write_model(tmp_path / "model")
    return tmp_path / "model"


def split(model: Path) -> list[Path]:
    """Cut the weights into shards, as the conversion of a large model does."""
    whole = model / "model.safetensors"
    content = whole.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    data = content[8 + length :]
    meta = header.pop("__metadata__")
    names = list(header)
    files: dict[Path, list[str]] = {
        model / f"model-{number + 1:05}-of-{SHARDS:05}.safetensors": names[number::SHARDS] for number in range(SHARDS)
    }
    for file, held in files.items():
        table, parts, start = {"__metadata__": meta}, [], 0
        for name in held:
            first, last = header[name]["data_offsets"]
            parts.append(data[first:last])
            table[name] = header[name] | {"data_offsets": [start, start + last - first]}
            start += last - first
        text = json.dumps(table).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
    whole.unlink()
    index = {"metadata": {}, "weight_map": {name: file.name for file, held in files.items() for name in held}}
    listing = model / "model.safetensors.index.json"
    listing.unlink(missing_ok=True)  # in a cache it is a link, and what is behind it has its digest for a name
    listing.write_text(json.dumps(index))
    return list(files)


def no_shard(model: Path) -> None:
    split(model)[1].unlink()


def half_a_shard(model: Path) -> None:
    shard = split(model)[1]
    os.truncate(shard, shard.stat().st_size // 2)


def half_a_header(model: Path) -> None:
    os.truncate(model / "model.safetensors", 100)


def nothing_in_a_shard(model: Path) -> None:
    os.truncate(split(model)[0], 0)


def no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def half_a_config(model: Path) -> None:
    os.truncate(model / "config.json", 200)


def no_tokenizer(model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()


def half_a_tokenizer(model: Path) -> None:
    os.truncate(model / "tokenizer.json", 500)


def another_architecture(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "weirdo"}))


def no_folder(model: Path) -> None:
    shutil.rmtree(model)


BROKEN = [
    (half_a_shard, "weights-damaged", "exceeding the size of the file"),
    (half_a_header, "weights-damaged", "the file is only 100 bytes"),
    (nothing_in_a_shard, "weights-damaged", "empty"),
    (no_weights, "weights-missing", "model*.safetensors"),
    (half_a_config, "config-invalid", "config.json"),
    (no_tokenizer, "tokenizer-broken", "tokenizer.json"),
    (half_a_tokenizer, "tokenizer-broken", "tokenizer.json"),
    (another_architecture, "architecture-unsupported", "weirdo"),
    (no_folder, "model-not-found", "/model"),
]


@pytest.mark.fault("R04")
def test_r04_a_missing_shard_leaves_a_process_that_says_so_in_its_log(model: Path, launch: Launch) -> None:
    no_shard(model)
    server = launch(model)
    found = server.diagnosis()
    assert (found.cause, found.permanent) == ("model-incomplete", True)
    assert found.message.startswith("the weights lack tensors (")
    answer = server.answer()
    assert server.alive
    assert (answer.status, MlxLm().judge(answer)) == (404, Sign.DEAD)
    assert server.diagnosis() == found, "being asked does not change what the log says"


@pytest.mark.parametrize(("damage", "cause", "named"), BROKEN, ids=[case[0].__name__ for case in BROKEN])
def test_a_failed_load_is_named(
    model: Path, launch: Launch, damage: Callable[[Path], None], cause: str, named: str
) -> None:
    damage(model)
    server = launch(model)
    found = server.diagnosis()
    assert (found.cause, found.permanent) == (cause, True), server.lines()
    assert named in found.message
    assert server.alive


def test_a_lost_bind_leaves_a_process_that_says_so_in_its_log(model: Path, launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        server = launch(model, port=holder.getsockname()[1])
        found = server.diagnosis()
        assert (found.cause, found.permanent) == ("port-lost", False)
        assert server.alive


def test_a_refused_flag_ends_the_process(model: Path, launch: Launch) -> None:
    server = launch(model, "--nope=1")
    found = server.diagnosis()
    assert (found.cause, found.permanent) == ("flag-refused", True)
    assert "--nope=1" in found.message
    assert server.process.wait(GRACE) == 2


def test_a_server_that_serves_says_nothing_even_where_its_log_holds_every_request(model: Path, launch: Launch) -> None:
    server = launch(model, "--log-level=DEBUG")
    assert MlxLm().judge(server.answer()) is Sign.COMPLETION
    assert any(" - DEBUG - Incoming Request Body: " in line for line in server.lines())
    assert MlxLm().diagnose(server.lines()) is None


def test_a_broken_template_is_heard_of_in_the_answer_and_not_in_the_log(model: Path, launch: Launch) -> None:
    server = launch(model, "--chat-template={% for %}")
    answer = server.answer()
    assert answer.status == 404
    assert b"Expected an expression" in answer.body
    assert MlxLm().judge(answer) is Sign.REFUSED
    assert MlxLm().diagnose(server.lines()) is None
