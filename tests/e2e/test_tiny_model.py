"""The tiny model is real: `mlx_lm.server` loads it and says what was written into it, word for word."""

import hashlib
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
from typing import Any

import pytest

from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.model.observed import Artifact, Present
from reconciler.programs import tiny_model
from reconciler.programs.tiny_model import write_cached, write_model
from tests.ports import free_port

DEADLINE = 60.0
"""Seconds for a server to answer; it takes two where nothing else runs."""
GRACE = 10.0
PAUSE = 0.05
REPO = "tiny/fox"
# Repeated words, more than one line, and characters of two, three and four bytes.
REPLY = "The fox said:\n\n  «ring ding ding ding», then\nring ding ding — 日本 🦊!"

Serve = Callable[[Path], "Server"]


class Server:
    """One `mlx_lm.server` on a port that nobody had."""

    def __init__(self, model: Path, home: Path) -> None:
        self.port = free_port()
        self.log = home / f"{self.port}.log"
        address = ("--host", "127.0.0.1", "--port", str(self.port))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                (sys.executable, "-m", "mlx_lm", "server", "--model", str(model), *address),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "hf")},
            )

    def ask(self, content: str, **fields: object) -> dict[str, Any]:
        """The first choice of a chat completion, as soon as the server gives one.

        It listens before the model is loaded, so a refused connection, a cut one and an error all mean "not yet",
        until the process is gone or the deadline passes.
        """
        body = {
            "model": "default_model",
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 64,
            "temperature": 0,
        }
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            json.dumps(body | fields).encode(),
            {"Content-Type": "application/json"},
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + DEADLINE
        last: Exception | None = None
        while self.process.poll() is None and (left := deadline - time.monotonic()) > 0:
            try:
                with direct.open(request, timeout=left) as response:
                    choice: dict[str, Any] = json.load(response)["choices"][0]
                    return choice
            except (OSError, ValueError, http.client.HTTPException) as error:
                last = error
                threading.Event().wait(PAUSE)
        raise AssertionError(f"no answer ({last}):\n{self.log.read_text(errors='replace')}")

    def end(self) -> None:
        """Stop this process, and no other."""
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers that end with the test."""
    started: list[Server] = []

    def start(model: Path) -> Server:
        started.append(Server(model, tmp_path))
        return started[-1]

    yield start
    for server in started:
        server.end()


def artifact(hub: Path) -> Artifact:
    """What the reconciler sees of the repository in a cache."""
    reference = f"{REPO}@main"
    found = LocalArtifacts(cache=str(hub)).look([reference])[reference]
    assert isinstance(found, Present), found
    return found.value


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.e2e
def test_a_real_server_gives_the_reply_that_was_written(tmp_path: Path, serve: Serve) -> None:
    write_cached(tmp_path / "hub", REPO, REPLY)
    server = serve(Path(artifact(tmp_path / "hub").path))
    for question in ("What does the fox say?", REPLY, ""):
        choice = server.ask(question)
        assert choice["message"]["content"] == REPLY
        assert choice["finish_reason"] == "stop"


@pytest.mark.e2e
def test_the_reply_is_cut_where_the_client_says_so(tmp_path: Path, serve: Serve) -> None:
    write_model(tmp_path / "model", "I am a tiny model.")
    choice = serve(tmp_path / "model").ask("Who am I", max_tokens=2, temperature=1.0)
    assert (choice["message"]["content"], choice["finish_reason"]) == ("I am a", "length")


def test_the_reconciler_finds_it_complete(tmp_path: Path) -> None:
    commit = write_cached(tmp_path, REPO, REPLY)
    seen = artifact(tmp_path)
    weights = Path(seen.path) / "model.safetensors"
    index = json.loads((Path(seen.path) / "model.safetensors.index.json").read_bytes())
    header_length = int.from_bytes(weights.read_bytes()[:8], "little")
    assert seen.missing == ()
    assert seen.identity == commit
    assert seen.shards == 1
    assert seen.weight_bytes == weights.stat().st_size - 8 - header_length == index["metadata"]["total_size"]


def test_the_cache_has_the_layout_of_a_download(tmp_path: Path) -> None:
    commit = write_cached(tmp_path, REPO, REPLY)
    folder = tmp_path / "models--tiny--fox"
    links = list((folder / "snapshots" / commit).iterdir())
    assert len(commit) == 40
    assert (folder / "refs" / "main").read_text() == commit
    assert {link.readlink() for link in links} == {
        Path("../../blobs", hashlib.sha256(link.read_bytes()).hexdigest()) for link in links
    }
    assert {link.resolve() for link in links} == set((folder / "blobs").iterdir())


def test_the_same_reply_is_the_same_commit_and_another_one_is_not(tmp_path: Path) -> None:
    first = write_cached(tmp_path / "one", REPO, "Ring.")
    assert write_cached(tmp_path / "two", REPO, "Ring.") == first
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    second = write_cached(tmp_path / "one", REPO, "Ding.")
    assert artifact(tmp_path / "one").identity == second != first
    assert write_cached(tmp_path / "one", REPO, "Ring.") == first
    assert artifact(tmp_path / "one").missing == ()


def test_a_seed_changes_the_weights_alone(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        write_model(tmp_path / name, seed=seed)
    one, two, three = (contents(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert {name for name in one if one[name] != three[name]} == {"model.safetensors"}


@pytest.mark.parametrize("reply", ["", " ", "x ", "\nx", "stop <|im_end|> here", "\ud800"])
def test_a_reply_that_would_not_arrive_is_refused(tmp_path: Path, reply: str) -> None:
    with pytest.raises(ValueError, match=r"a reply|surrogates"):
        write_model(tmp_path / "model", reply)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("repo", ["fox", "../fox", "tiny/fox/cub", "/fox", "tiny/fox@main"])
def test_a_name_that_is_no_repository_is_refused(tmp_path: Path, repo: str) -> None:
    with pytest.raises(ValueError, match="owner/name"):
        write_cached(tmp_path, repo, REPLY)
    assert not list(tmp_path.iterdir())


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, by path, with nothing to import but the standard library."""
    command = (sys.executable, "-I", "-S", tiny_model.__file__, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_program_needs_no_package(tmp_path: Path) -> None:
    printed = run(str(tmp_path / "model"), "--reply", REPLY)
    assert (printed.stdout, printed.stderr) == (f"{tmp_path / 'model'}\n", "")
    write_model(tmp_path / "same", REPLY)
    assert contents(tmp_path / "model") == contents(tmp_path / "same")

    cached = run("cache", str(tmp_path / "hub"), REPO, "--reply", REPLY)
    assert cached.stdout == f"{artifact(tmp_path / 'hub').identity}\n"


def test_the_program_refuses_in_one_line(tmp_path: Path) -> None:
    refused = run("cache", str(tmp_path / "hub"), "fox")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].endswith("'fox' is no repository of the form owner/name")
