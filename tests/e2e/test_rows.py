"""Rows and faults through the command line, on servers that are started for real and that fail when told to."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode
from tests.e2e.ensemble import STUB, Ensemble, alive, until
from tests.ports import free_port
from tests.programs.tiny_cache import TinyCache

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

BUDGET = 5
"""Failed starts after which a server is held, as the messages say."""
REFUSED_FLAG = "__main__.py: error: unrecognized arguments: --nope=1"


def completion(port: int) -> object:
    """What the server on a port says to one question."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", data=b"{}")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["choices"][0]["message"]["content"]


def files_of(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, size and time of everything in a folder."""
    return {
        str(path): (found.st_ino, found.st_size, found.st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        for found in [path.lstat()]
    }


# ------------------------------------------------------------------------------------------------- servers that fail


@pytest.mark.req("S0-10")
@pytest.mark.fault("R03")
def test_r03_a_crash_loop_is_held_and_a_new_spec_releases_it(ensemble: Ensemble) -> None:
    ensemble.stubs("alpha", "beta")
    ensemble.order("alpha", say=["it begins", "RuntimeError: no more beans"], exit=1)
    ensemble.declare("alpha", "beta")
    said = ensemble.apply(ExitCode.BLOCKED)
    assert f"failed {BUDGET} times in a row" in said
    starts = ensemble.starts("alpha")
    assert len(starts) == BUDGET
    assert ensemble.routed() == ensemble.ever_routed() == {"beta"}
    assert "Nothing can be done now." in ensemble.apply(ExitCode.BLOCKED)
    assert ensemble.starts("alpha") == starts, "no further start while it is held"
    status = ensemble.status("alpha")
    assert (status["health"], status["reference"], status["pid"]) == ("Degraded", "crash-loop", None)
    assert f"failed {BUDGET} times" in status["reason"]
    assert "RuntimeError: no more beans" in status["reason"]
    assert ensemble.explain("alpha")["attempt"]["count"] == BUDGET
    history = ensemble.of("alpha")
    assert sum(e["kind"] == "failed" for e in history) == BUDGET
    assert history[-1]["reference"] == "crash-loop"
    ensemble.order("alpha")
    ensemble.declare("alpha", "beta", alpha={"options": {"temp": 0.5}})
    ensemble.apply()
    assert len(ensemble.starts("alpha")) == BUDGET + 1
    assert ensemble.routed() == {"alpha", "beta"}


@pytest.mark.req("S0-39")
def test_the_report_of_a_crash_says_what_ran_what_it_said_where_and_which_class_that_is(ensemble: Ensemble) -> None:
    ensemble.stubs("alpha")
    ensemble.order("alpha", say=["usage: server", REFUSED_FLAG], exit=2)
    ensemble.declare("alpha")
    ensemble.apply(ExitCode.BLOCKED)
    (pid,) = ensemble.starts("alpha")
    report = ensemble.explain("alpha")
    assert (report["attempt"]["cause"], report["attempt"]["permanent"]) == ("flag-refused", True)
    assert report["blocked"][0]["reference"] == "held-permanent"
    # Seen while it was still ending, it was stopped and its record removed; what it said is kept either way.
    assert report["attempt"]["evidence"].startswith(f"{pid}:")
    assert report["command"][:3] == list(ensemble.runtime)
    assert f"--port={ensemble.port('alpha')}" in report["command"]
    assert report["log_tail"] == ["usage: server", REFUSED_FLAG]
    assert REFUSED_FLAG in Path(report["log"]).read_text(), "that is the file it really wrote to"
    assert any(event["reference"] == "flag-refused" for event in report["events"]), "when, and of which phase"
    text = ensemble.run("explain", "alpha").out
    assert all(part in text for part in (report["log"], REFUSED_FLAG, str(STUB), "flag-refused"))


@pytest.mark.fault("R02")
def test_r02_a_server_that_never_listens_is_ended_and_never_published(ensemble: Ensemble) -> None:
    ensemble.stubs("alpha", "beta")
    ensemble.order("alpha", hang=True)
    ensemble.host["start_timeout"] = "3s"
    ensemble.declare("alpha", "beta")
    with ensemble.applying() as apply:
        until(lambda: len(ensemble.starts("alpha")) > 1, "another attempt", apply)
    first, second, *_ = ensemble.starts("alpha")
    assert not alive(first)
    assert ensemble.routed() == ensemble.ever_routed() == {"beta"}
    told = [(e["kind"], e["action"], e["reference"]) for e in ensemble.of("alpha")]
    late = told.index(("failed", "", "not-proved-in-time"))
    ended = told.index(("done", "stop", "not-proved-in-time"))
    assert told.index(("done", "launch", "not-running")) < late < ended, "it was ended by us, and because it was late"
    assert ensemble.started("alpha") == second


@pytest.mark.req("S1-26")
def test_a_process_that_answers_as_another_model_is_not_ready(ensemble: Ensemble) -> None:
    ensemble.stubs("alpha", "beta")
    answer = {"error": "Repository Not Found for url: https://huggingface.co/api/models/default_model/revision/main"}
    ensemble.order("alpha", answer={"status": 404, "body": answer})
    ensemble.declare("alpha", "beta")
    ensemble.apply(ExitCode.BLOCKED)
    assert ensemble.routed() == ensemble.ever_routed() == {"beta"}
    report = ensemble.explain("alpha")
    assert report["attempt"]["cause"] == "wrong-model"
    assert "api/models/default_model" in report["attempt"]["error"], "it says under which name it was sought"
    assert not any(event["kind"] == "proved" for event in ensemble.of("alpha"))
    assert not any(map(alive, ensemble.starts("alpha")))


# ------------------------------------------------------------------------------------------ models that are not there


@pytest.mark.req("S1-11")
def test_a_repository_of_gguf_alone_is_refused_with_a_reason(ensemble: Ensemble) -> None:
    ensemble.stubs("beta")
    files = {"model-q4_k_m.gguf": b"GGUF\3\0\0\0" + bytes(64), "config.json": b"{}", "README.md": b"# a model\n"}
    TinyCache(ensemble.home.hub).add("demo/alpha", files)
    ensemble.declare("alpha", "beta")
    said = ensemble.apply(ExitCode.BLOCKED)
    assert "demo/alpha@main" in said
    assert "gguf" in ensemble.status("alpha")["reason"]
    assert ensemble.status("alpha")["reference"] == "artifact-format"
    assert ensemble.labels() == ["beta"]
    assert ensemble.routed() == {"beta"}


@pytest.mark.req("S1-47")
def test_an_absent_model_launches_nothing_and_is_named_in_no_line_of_the_gateway(ensemble: Ensemble) -> None:
    ensemble.stubs("beta")
    ensemble.declare("alpha", "beta")
    said = ensemble.apply(ExitCode.BLOCKED)
    assert "hf download demo/alpha --revision main" in said
    assert ensemble.status("alpha")["reference"] == "artifact-missing"
    text = ensemble.published.read_text()
    assert "alpha" not in text
    assert str(ensemble.port("alpha")) not in text
    assert ensemble.routed() == {"beta"}
    assert ensemble.labels() == ["beta"]
    assert ensemble.launches("alpha") == 0


# ----------------------------------------------------------------------------------------------------- what is not ours


@pytest.mark.req("S1-24")
def test_status_names_a_foreign_listener_and_no_command_touches_it(ensemble: Ensemble) -> None:
    ensemble.stubs("alpha")
    ensemble.declare("alpha")
    port = ensemble.port("alpha")
    with socket.create_server(("127.0.0.1", port)):
        done = ensemble.run("status", "-o", "json")
        assert done.code == ExitCode.BLOCKED
        (entry,) = json.loads(done.out)["servers"]
        assert (entry["reference"], entry["pid"], entry["health"]) == ("port-occupied", None, "Missing")
        assert f"port {port} is held by pid {os.getpid()}" in entry["reason"]
        planned = json.loads(ensemble.run("plan", "-o", "json").out)
        assert not [action for action in planned["actions"] if action["subject"] == "server/alpha"]
        for command in (("apply", "--yes"), ("stop", "alpha", "--force"), ("start", "alpha"), ("retry", "alpha")):
            ensemble.run(*command)
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                pass
    assert ensemble.starts("alpha") == []


@pytest.mark.req("S3-49")
def test_stop_all_ends_what_is_ours_alone(ensemble: Ensemble, tmp_path: Path) -> None:
    ensemble.stubs("alpha", "beta")
    port = free_port()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    stranger = subprocess.Popen([sys.executable, "-S", STUB, f"--model={theirs}", "--host=127.0.0.1", f"--port={port}"])
    try:
        ensemble.declare("alpha", "beta")
        ensemble.apply()
        pids = [ensemble.pid("alpha"), ensemble.pid("beta")]
        done = ensemble.run("stop", "--all")
        assert done.code == ExitCode.OK, done.out + done.err
        assert not any(map(alive, pids))
        assert ensemble.routed() == set()
        assert completion(port) == "ok"
        assert stranger.poll() is None
    finally:
        stranger.terminate()
        stranger.wait(timeout=30)


# ------------------------------------------------------------------------------------------------------ how it is used


@pytest.mark.req("S3-02")
def test_three_servers_run_at_once(ensemble: Ensemble) -> None:
    labels = ("alpha", "beta", "gamma")
    ensemble.stubs(*labels)
    ensemble.declare(*labels)
    ensemble.apply()
    pids = {ensemble.pid(label) for label in labels}
    assert len(pids) == len(labels)
    assert [completion(ensemble.port(label)) for label in labels] == ["ok"] * len(labels)
    assert ensemble.routed() == set(labels)
    assert ensemble.running() == sorted(pids)


@pytest.mark.req("S1-19")
def test_everything_works_without_ssh(ensemble: Ensemble, tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    ensemble.env["PATH"] = str(empty)
    ensemble.stubs("alpha")
    ensemble.declare("alpha")
    ensemble.apply()
    assert ensemble.status("alpha")["health"] == "Healthy"
    assert completion(ensemble.port("alpha")) == "ok"
    assert ensemble.run("stop", "alpha").code == ExitCode.OK


@pytest.mark.req("S3-52")
def test_status_of_a_dead_server_says_so_and_changes_no_file(ensemble: Ensemble) -> None:
    ensemble.stubs("alpha")
    ensemble.declare("alpha")
    ensemble.apply()
    pid = ensemble.pid("alpha")
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), "it is dead")
    before = files_of(ensemble.home.root)
    entry = ensemble.status("alpha")
    assert (entry["sync"], entry["health"], entry["pid"]) == ("OutOfSync", "Degraded", None)
    assert f"its process {pid} is gone" in entry["reason"]
    assert "Degraded" in ensemble.run("status").out
    assert files_of(ensemble.home.root) == before


@pytest.mark.fault("R10")
def test_r10_an_edit_while_nothing_runs_replaces_the_old_instance(ensemble: Ensemble) -> None:
    ensemble.stubs("alpha", "beta")
    ensemble.declare("alpha", "beta")
    ensemble.apply()
    old, other = ensemble.pid("alpha"), ensemble.pid("beta")
    ensemble.declare("alpha", "beta", alpha={"options": {"temp": 0.5}})
    ensemble.apply()
    assert not alive(old)
    assert ensemble.starts("alpha") == [old, ensemble.pid("alpha")]
    assert "--temp=0.5" in ensemble.explain("alpha")["live"]["command"]
    assert ensemble.pid("beta") == other


# ------------------------------------------------------------------------------------------------------ order and kills


@pytest.mark.req("S1-89")
def test_a_swap_withdraws_stops_launches_proves_and_publishes_in_this_order(ensemble: Ensemble) -> None:
    ensemble.stubs("alpha")
    ensemble.declare("alpha")
    ensemble.apply()
    seen = len(ensemble.events())
    ensemble.declare("alpha", alpha={"options": {"temp": 0.5}})
    ensemble.apply()
    steps = [
        (e["action"] or e["kind"], e["kind"], e["text"].split()[0])
        for e in ensemble.events()[seen:]
        if e["kind"] in ("started", "done", "proved")
    ]
    assert [step[:2] for step in steps] == [
        ("publish", "started"),
        ("publish", "done"),
        ("stop", "started"),
        ("stop", "done"),
        ("launch", "started"),
        ("launch", "done"),
        ("proved", "proved"),
        ("publish", "started"),
        ("publish", "done"),
    ]
    assert (steps[0][2], steps[-2][2]) == ("withdraw", "route")


@pytest.mark.req("S1-89")
def test_what_comes_after_a_file_that_cannot_be_written_is_left_undone(ensemble: Ensemble) -> None:
    folder = ensemble.home.root / "mounted"
    ensemble.published = folder / "litellm.yaml"
    ensemble.stubs("alpha")
    ensemble.declare("alpha")
    said = ensemble.apply(ExitCode.BLOCKED)
    assert f"there is no folder {folder}" in said
    assert not folder.exists(), "and it is not made: the volume may just not be mounted"
    pid = ensemble.pid("alpha")
    folder.mkdir()
    ensemble.apply()
    assert (ensemble.pid("alpha"), ensemble.routed()) == (pid, {"alpha"})
    content = ensemble.published.read_bytes()
    ensemble.published.unlink()
    ensemble.published.mkdir()
    ensemble.declare("alpha", alpha={"options": {"temp": 0.5}})
    said = ensemble.apply(ExitCode.BLOCKED)
    assert "is not a plain file" in said
    assert ensemble.starts("alpha") == [pid], "a route that cannot be withdrawn keeps its server"
    assert completion(ensemble.port("alpha")) == "ok"
    assert list(ensemble.published.iterdir()) == []
    ensemble.published.rmdir()
    ensemble.published.write_bytes(content)
    ensemble.apply()
    assert not alive(pid)


MOMENTS: dict[str, Callable[[Ensemble], bool]] = {
    "locked": lambda e: (e.run_folder / "alpha.lock").exists(),
    "recorded": lambda e: (e.run_folder / "alpha.json").exists(),
    "started": lambda e: bool(e.starts("alpha")),
    "listening": lambda e: "wait server/alpha: it listens" in e.said(),
    "proved": lambda e: "proved server/alpha" in e.said(),
}


@pytest.mark.req("S1-27")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_reconciler_that_is_killed_during_a_launch_leaves_a_readable_state(ensemble: Ensemble, moment: str) -> None:
    ensemble.stubs("alpha", "beta")
    ensemble.declare("alpha", "beta")
    with ensemble.applying() as apply:
        until(lambda: MOMENTS[moment](ensemble), moment, apply)
        apply.send_signal(signal.SIGKILL)
        assert apply.wait(timeout=30) == -signal.SIGKILL
    for path in (ensemble.home.root / "state").rglob("*.json"):
        json.loads(path.read_text())
    assert json.loads(ensemble.run("status", "-o", "json").out)["type"] == "status"
    ensemble.apply()
    assert ensemble.routed() == {"alpha", "beta"}
    assert ensemble.running() == sorted([ensemble.pid("alpha"), ensemble.pid("beta")])
    assert [len(ensemble.starts(label)) for label in ("alpha", "beta")] == [1, 1], "what was started was taken up"
    assert "Nothing to do." in ensemble.apply()
