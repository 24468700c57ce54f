"""Real mlx_lm.server processes that must not serve: never published, named, not repeated, and nobody else suffers."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from reconciler.model.problem import ExitCode
from reconciler.programs.tiny_model import write_model
from tests.e2e.ensemble import Ensemble, alive, until
from tests.e2e.test_load_failures import split

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def answer(port: int) -> str:
    """What the server on a port says when it is greeted."""
    body = {"model": "default_model", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 32}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(json.load(response)["choices"][0]["message"]["content"]).strip()


def kept_out(ensemble: Ensemble, label: str, others: set[str]) -> None:
    """A label has and never had a line in the gateway's file, and the other labels serve and have theirs."""
    text = ensemble.published.read_text()
    assert f'"{label}"' not in text
    assert f":{ensemble.port(label)}/" not in text
    assert ensemble.routed() == ensemble.ever_routed() == others
    for other in others:
        assert ensemble.status(other)["health"] == "Healthy"
        assert answer(ensemble.port(other)) == f"Hello from {other}."


# ---------------------------------------------------------------------------------------- what no look at files shows


def odd_number_type(ensemble: Ensemble, label: str) -> None:
    content = (ensemble.snapshot(label) / "model.safetensors").read_bytes()
    ensemble.put(label, "model.safetensors", content.replace(b'"BF16"', b'"XX99"', 1))


def renamed_tensor(ensemble: Ensemble, label: str) -> None:
    content = (ensemble.snapshot(label) / "model.safetensors").read_bytes()
    ensemble.put(label, "model.safetensors", content.replace(b'"model.norm.weight"', b'"model.norm.wait__"', 1))


def no_tokenizer_file(ensemble: Ensemble, label: str) -> None:
    ensemble.put(label, "tokenizer.json", None)


def another_architecture(ensemble: Ensemble, label: str) -> None:
    config = json.loads((ensemble.snapshot(label) / "config.json").read_text())
    ensemble.put(label, "config.json", json.dumps(config | {"model_type": "weirdo"}).encode())


UNSEEN: dict[str, tuple[Callable[[Ensemble, str], None], str, str]] = {
    "odd": (odd_number_type, "weights-damaged", "XX99"),
    "renamed": (renamed_tensor, "weights-mismatch", "model.norm.wait__"),
    "wordless": (no_tokenizer_file, "tokenizer-broken", "tokenizer.json"),
    "weird": (another_architecture, "architecture-unsupported", "weirdo"),
}


@pytest.mark.heavy
@pytest.mark.fault("R04")
def test_r04_a_failed_load_is_named_ended_not_repeated_and_never_published(ensemble: Ensemble) -> None:
    ensemble.models(*UNSEEN, "sound")
    whole = (ensemble.snapshot("weird") / "config.json").read_bytes()
    for label, (damage, _, _) in UNSEEN.items():
        damage(ensemble, label)
    ensemble.declare(*UNSEEN, "sound")
    ensemble.apply(ExitCode.BLOCKED)
    assert ensemble.running() == [ensemble.pid("sound")]
    for label, (_, cause, named) in UNSEEN.items():
        kept_out(ensemble, label, {"sound"})
        status = ensemble.status(label)
        assert (status["sync"], status["reference"], status["pid"]) == ("OutOfSync", "held-permanent", None)
        assert f"({cause})" in status["reason"]
        attempt = ensemble.explain(label)["attempt"]
        assert (attempt["cause"], attempt["count"], attempt["permanent"]) == (cause, 1, True)
        assert named in attempt["error"]
        assert ensemble.run("explain", label).code == ExitCode.BLOCKED
        told = [(event["kind"], event["action"], event["reference"]) for event in ensemble.of(label)]
        assert ("done", "stop", cause) in told, "it lived on, and was ended"
        assert "proved" not in {kind for kind, _, _ in told}
    assert "Nothing can be done now." in ensemble.apply(ExitCode.BLOCKED)
    assert [ensemble.launches(label) for label in UNSEEN] == [1] * len(UNSEEN)
    ensemble.put("weird", "config.json", whole)
    ensemble.apply(ExitCode.BLOCKED)
    assert ensemble.launches("weird") == 1, "mended files alone say nothing: it waits for a person"
    done = ensemble.run("retry", "weird")
    assert ensemble.status("weird")["health"] == "Healthy", done.out + done.err
    assert answer(ensemble.port("weird")) == "Hello from weird."
    assert ensemble.routed() == {"sound", "weird"}


@pytest.mark.heavy
@pytest.mark.fault("R04")
def test_r04_a_shard_that_goes_while_the_server_starts_is_a_failed_load(ensemble: Ensemble) -> None:
    ensemble.models("alpha", "beta")
    shards = split(ensemble.snapshot("alpha"))
    kept = shards[1].read_bytes()
    ensemble.declare("alpha", "beta")
    with ensemble.applying() as apply:
        pid = ensemble.started("alpha", apply)
        os.kill(pid, signal.SIGSTOP)
        shards[1].unlink()
        os.kill(pid, signal.SIGCONT)
        assert apply.wait(timeout=60) == ExitCode.BLOCKED, ensemble.said()
    assert not alive(pid)
    kept_out(ensemble, "alpha", {"beta"})
    attempt = ensemble.explain("alpha")["attempt"]
    assert (attempt["cause"], attempt["count"], attempt["permanent"]) == ("model-incomplete", 1, True)
    assert shards[1].name in ensemble.status("alpha")["reason"], "and meanwhile a look at the files shows it too"
    shards[1].write_bytes(kept)
    assert ensemble.run("retry", "alpha").code == ExitCode.OK
    assert answer(ensemble.port("alpha")) == "Hello from alpha."
    assert ensemble.routed() == {"alpha", "beta"}


# ------------------------------------------------------------------------------------------ what a look at files shows


def missing_shard(folder: Path) -> str:
    shard = split(folder)[1]
    shard.unlink()
    return shard.name


def truncated_shard(folder: Path) -> str:
    shard = split(folder)[0]
    os.truncate(shard, shard.stat().st_size - 8)
    return f"{shard.name} ("


def no_tokenizer(folder: Path) -> str:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    return "tokenizer.json"


def half_a_config(folder: Path) -> str:
    content = (folder / "config.json").read_bytes()
    (folder / "config.json").unlink()
    (folder / "config.json").write_bytes(content[: len(content) // 2])
    return "config.json"


@pytest.mark.heavy
def test_what_is_seen_to_be_incomplete_is_never_started_and_says_which_file(ensemble: Ensemble) -> None:
    damages = {"missing": missing_shard, "short": truncated_shard, "wordless": no_tokenizer, "half": half_a_config}
    ensemble.models(*damages, "sound")
    named = {label: damage(ensemble.snapshot(label)) for label, damage in damages.items()}
    ensemble.declare(*damages, "sound")
    said = ensemble.apply(ExitCode.BLOCKED)
    assert ensemble.labels() == ["sound"]
    for label, file in named.items():
        kept_out(ensemble, label, {"sound"})
        status = ensemble.status(label)
        assert (status["reference"], status["health"], status["pid"]) == ("artifact-partial", "Missing", None)
        assert file in status["reason"]
        assert f"server/{label}: the model demo/{label}@main is incomplete" in said
        assert ensemble.launches(label) == 0


# ---------------------------------------------------------------------------------------------------- time and ports


@pytest.mark.heavy
def test_a_server_that_is_still_loading_has_no_route(ensemble: Ensemble) -> None:
    ensemble.models("alpha", "beta")
    ensemble.declare("alpha", "beta")
    with ensemble.applying() as apply:
        pid = ensemble.started("alpha", apply)
        os.kill(pid, signal.SIGSTOP)
        until(ensemble.routed, "the other one is published", apply)
        assert apply.poll() is None, "it still waits"
        kept_out(ensemble, "alpha", {"beta"})
        assert ensemble.status("alpha")["health"] == "Progressing"
        os.kill(pid, signal.SIGCONT)
        assert apply.wait(timeout=60) == ExitCode.OK, ensemble.said()
    assert ensemble.pid("alpha") == pid
    assert ensemble.routed() == {"alpha", "beta"}
    assert answer(ensemble.port("alpha")) == "Hello from alpha."


@pytest.mark.req("S1-26")
@pytest.mark.fault("P02", "P03")
def test_p02_p03_a_server_whose_port_was_stolen_is_ended_and_the_thief_is_not(ensemble: Ensemble) -> None:
    ensemble.models("alpha", "beta")
    ensemble.declare("alpha", "beta")
    port = ensemble.port("alpha")
    with ensemble.applying() as apply:
        pid = ensemble.started("alpha", apply)
        os.kill(pid, signal.SIGSTOP)
        with socket.create_server(("127.0.0.1", port)):
            os.kill(pid, signal.SIGCONT)
            assert apply.wait(timeout=60) == ExitCode.BLOCKED, ensemble.said()
            assert not alive(pid)
            kept_out(ensemble, "alpha", {"beta"})
            assert f"port {port} is held by pid {os.getpid()}" in ensemble.status("alpha")["reason"]
            assert ensemble.explain("alpha")["attempt"]["cause"] == "port-lost"
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                pass
    ensemble.apply()
    assert answer(port) == "Hello from alpha."
    assert ensemble.routed() == {"alpha", "beta"}


@contextmanager
def own_server(folder: Path, port: int, env: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that a person has started by hand, as soon as it answers."""
    write_model(folder, "Hello from my own model.")
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(folder), "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
    try:
        until(lambda: _answers(port), "it answers")
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(port: int) -> bool:
    try:
        return bool(answer(port))
    except OSError:
        return False


@pytest.mark.heavy
@pytest.mark.fault("P09")
def test_p09_a_persons_own_server_on_the_port_is_not_taken_for_ours(ensemble: Ensemble, tmp_path: Path) -> None:
    ensemble.models("alpha", "beta")
    ensemble.declare("alpha", "beta")
    port = ensemble.port("alpha")
    with own_server(tmp_path / "own", port, ensemble.home.environment(HF_HUB_OFFLINE="1")) as theirs:
        said = ensemble.apply(ExitCode.BLOCKED)
        assert f"port {port} is held by pid {theirs.pid}" in said
        assert "mlx_lm" in ensemble.status("alpha")["reason"]
        kept_out(ensemble, "alpha", {"beta"})
        assert ensemble.run("stop", "--all").code in (ExitCode.OK, ExitCode.BLOCKED)
        assert theirs.poll() is None
        assert answer(port) == "Hello from my own model."
    assert ensemble.launches("alpha") == 0


# ------------------------------------------------------------------------------------------------------- the network


@contextmanager
def hub() -> Iterator[tuple[str, list[str]]]:
    """A hub that knows no repository, and remembers what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.req("S4-42", "S0-26", "S0-33")
def test_a_hub_is_asked_for_nothing_neither_what_is_cached_nor_a_bare_name(ensemble: Ensemble) -> None:
    bare = "gemma-4-31b-it"
    ensemble.models("alpha")
    with hub() as (url, asked):
        ensemble.env |= {"HF_ENDPOINT": url}
        # Servers get none of our environment, so theirs is told where this hub is by other means.
        ensemble.runtime = ("/usr/bin/env", f"HF_ENDPOINT={url}", sys.executable, "-m", "mlx_lm", "server")
        ensemble.declare("alpha")
        ensemble.apply()
        assert answer(ensemble.port("alpha")) == "Hello from alpha."
        environ = psutil.Process(ensemble.pid("alpha")).environ()
        assert (environ["HF_ENDPOINT"], environ["HF_HUB_OFFLINE"]) == (url, "1")
        ensemble.declare("alpha", "absent", absent={"source": {"repo": bare}})
        assert bare in ensemble.apply(ExitCode.INVALID)
        ensemble.declare("alpha", "absent")
        assert "[artifact-missing]" in ensemble.apply(ExitCode.BLOCKED, HF_HUB_OFFLINE="1")
        assert ensemble.labels() == ["alpha"]
        assert asked == []
        assert "[source-not-found]" in ensemble.apply(ExitCode.BLOCKED)
        assert ensemble.status("absent")["reference"] == "source-not-found"
        assert ensemble.labels() == ["alpha"]
        assert asked, "what is not here is asked about"
        assert not [path for path in asked if "demo/absent" not in path], "and nothing else is"
        code = f"from huggingface_hub import model_info\nmodel_info({bare!r})"
        subprocess.run(
            [sys.executable, "-c", code],
            env=ensemble.home.environment(HF_ENDPOINT=url),
            check=False,
            capture_output=True,
        )
        assert any(bare in path for path in asked), "whoever does ask for it, is heard"
