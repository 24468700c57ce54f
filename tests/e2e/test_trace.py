"""`trace`: from a label, a port or a process to the commit that put a server there, and what of it still holds."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.committed import Committed, committed
from tests.e2e.watching import Machine, kill, machine_of, until
from tests.ports import free_ports

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(120)]

CARRIED = ("RECONCILER_LABEL", "RECONCILER_COMMIT", "RECONCILER_GENERATION", "RECONCILER_SPEC")
MORE = "    options: {max_tokens: 7}\n"
Lines = Mapping[str, tuple[str, str | None, str]]


@pytest.fixture
def idle(home: Home) -> Iterator[Machine]:
    """Two models, of which the first is declared."""
    with machine_of(home, "alpha", "beta") as made:
        made.declare("alpha", more="    aliases: [quick]\n")
        yield made


@pytest.fixture
def machine(idle: Machine) -> Machine:
    """The first is served, too."""
    idle.applied()
    return idle


@pytest.fixture
def repository(home: Home) -> Iterator[Committed]:
    """Two models in a repository, of which the first is committed, and served from that commit."""
    with committed(home, "alpha", "beta") as made:
        made.declare("alpha")
        made.applied("--source", "commit")
        yield made


def said(machine: Machine, subject: object, code: ExitCode = ExitCode.OK) -> str:
    """What people are told; nothing is folded."""
    got, text = machine.run("trace", "--", str(subject), COLUMNS="1000")
    assert got == code, text
    return text


def found(machine: Machine, subject: object) -> dict[str, Any]:
    code, text = machine.run("trace", "-o", "json", "--", str(subject))
    assert code == ExitCode.OK, text
    document: dict[str, Any] = json.loads(text)
    assert (document["format_version"], document["type"]) == ("1.0", "trace")
    return document


def lines(document: Mapping[str, Any]) -> Lines:
    return {line["name"]: (line["found"], line["agreement"], line["difference"]) for line in document["lines"]}


def environment(pid: int) -> dict[str, str]:
    variables = psutil.Process(pid).environ()
    return {name: variables.get(name, "") for name in CARRIED}


# ------------------------------------------------------------------------------------------------- what it carries


def test_a_server_carries_its_commit_its_generation_and_its_spec_and_its_record_too(repository: Committed) -> None:
    pid, record = repository.pid("alpha"), repository.record("alpha")
    assert environment(pid) == {
        "RECONCILER_LABEL": "alpha",
        "RECONCILER_COMMIT": repository.head,
        "RECONCILER_GENERATION": "1",
        "RECONCILER_SPEC": record["spec_hash"],
    }
    assert (record["revision"], record["generation"]) == (repository.head, 1)


def test_a_trace_tells_everything_and_no_secret(repository: Committed) -> None:
    pid, port, head = repository.pid("alpha"), repository.ports["alpha"], repository.head
    document = found(repository, "alpha")
    assert (document["subject"], document["pid"], document["port"]) == ("server/alpha", pid, port)
    assert (document["revision"], document["generation"], document["behind"]) == (head, 1, 0)
    assert (document["revision_in_force"], document["generation_in_force"]) == (head, 1)
    assert {agreement for _, agreement, _ in lines(document).values()} == {"matches"}
    assert set(lines(document)) == {
        *("process", "listener", "environment", "spec", "artifact", "weights", "template"),
        *("gateway/litellm", "commit", "generation", "newer commits"),
    }
    assert lines(document)["listener"][0].startswith(f"port {port} is held by pid {pid} (")
    assert str(repository.home.hub) in lines(document)["weights"][0]
    assert lines(document)["gateway/litellm"][0] == f"127.0.0.1:{port} as default_model"
    assert f"--port={port}" in document["command"]
    token = repository.record("alpha")["token"]
    assert token not in json.dumps(document)
    text = said(repository, "alpha")
    assert token not in text
    assert text.startswith("server/alpha: Synced, Healthy. serving as declared [in-sync]\nlaunched on ")
    assert text.count("matches") == len(document["lines"])
    assert "differs" not in text


def test_a_label_an_alias_a_port_and_a_process_are_one_trace(machine: Machine) -> None:
    whole = found(machine, "alpha")
    for subject in ("quick", "server/alpha", machine.ports["alpha"], machine.pid("alpha")):
        assert found(machine, subject) == whole
    assert lines(whole)["newer commits"] == ("what is declared is not followed by commit", None, "")
    assert whole["revision"].startswith("worktree:")


def test_a_worker_of_a_server_is_traced_to_it(home: Home) -> None:
    with machine_of(home, "alpha") as machine:
        host = home.root / "host.yaml"
        shell = json.dumps(["/bin/sh", "-c", 'sleep 600 & exec "$@"', "sh"])
        host.write_text(host.read_text().replace("command: [", f"command: [{shell[1:-1]}, "))
        machine.declare("alpha")
        machine.applied()
        (worker,) = psutil.Process(machine.pid("alpha")).children()
        assert found(machine, worker.pid) == found(machine, "alpha")


# ----------------------------------------------------------------------------------------------------------- strangers


def test_a_stranger_is_named_and_said_not_to_be_ours(machine: Machine) -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        text = said(machine, port)
        assert found(machine, port)["pid"] == os.getpid()
    assert text.startswith(f"port/{port}: port {port} is held by pid {os.getpid()} (")
    assert text.endswith(", which is not ours\n")
    text = said(machine, os.getpid())
    assert text.startswith(f"pid/{os.getpid()}: pid {os.getpid()} (")
    assert text.endswith(" is not of a server of ours\n")


def test_a_stranger_on_a_declared_port_is_a_difference(machine: Machine) -> None:
    machine.declare("alpha", "beta")
    with socket.create_server(("127.0.0.1", machine.ports["beta"])):
        traced = lines(found(machine, machine.ports["beta"]))
    assert traced["listener"][0].startswith(f"port {machine.ports['beta']} is held by pid {os.getpid()} (")
    assert traced["listener"][1:] == ("differs", "that is not ours")
    assert traced["process"][1] == "differs"


# --------------------------------------------------------------------------------------------------------- differences


def test_what_does_not_run_and_what_is_not_declared_are_answers(machine: Machine) -> None:
    machine.declare("beta")
    beta = found(machine, "beta")
    assert lines(beta)["process"] == ("no process", "differs", "it is declared and does not run")
    assert beta["answer"].startswith("OutOfSync, Missing. demo/beta@main has to be verified first")
    assert beta["pid"] is None
    left = found(machine, "alpha")
    assert lines(left)["process"][1:] == ("differs", "it is no longer declared")
    assert left["pid"] == machine.pid("alpha")
    kill(machine.pid("alpha"))
    assert lines(found(machine, "alpha"))["process"][:2] == ("no process", "differs")


def test_a_record_that_the_process_contradicts_is_said(machine: Machine) -> None:
    path = machine.state / "run" / "alpha.json"
    record = machine.record("alpha")
    path.write_text(json.dumps(record | {"revision": "f" * 40, "generation": 9}))
    text, agreement, difference = lines(found(machine, "alpha"))["environment"]
    assert agreement == "differs"
    assert record["revision"] in text
    assert "commit fffffff, generation 9" in difference
    del record["revision"], record["generation"]
    path.write_text(json.dumps(record))
    old = lines(found(machine, "alpha"))
    assert old["process"][1] == "matches", "a record of an earlier version proves its process"
    assert old["commit"] == ("unknown", "unknown", "it was launched by a version that did not write it down")


def test_a_row_that_somebody_took_out_of_the_gateway_s_file_differs(machine: Machine) -> None:
    machine.published.unlink()
    route = f"127.0.0.1:{machine.ports['alpha']} as default_model, also quick"
    assert lines(found(machine, "alpha"))["gateway/litellm"] == ("no route", "differs", f"it should be {route}")


@pytest.mark.parametrize(("subject", "meant"), [("server/alpah", "alpha"), ("qiuck", "quick")])
def test_what_is_unknown_is_answered_with_what_was_meant(idle: Machine, subject: str, meant: str) -> None:
    text = said(idle, subject, ExitCode.USAGE)
    assert f"'{subject}' is no label, port or process that anything is known about. Did you mean {meant}?" in text
    code, text = idle.run("trace", subject, "-o", "json")
    assert code == ExitCode.USAGE
    assert (json.loads(text)["reference"], json.loads(text)["hint"]) == ("unknown-subject", f"did you mean {meant}?")


@pytest.mark.parametrize("subject", ["", "0", "٣", "99999999999999999999", "\x1b[31m"])
def test_what_nobody_knows_is_never_an_internal_error(idle: Machine, subject: str) -> None:
    assert "\x1b" not in said(idle, subject, ExitCode.USAGE)


def test_tracing_changes_nothing(repository: Committed) -> None:
    def everything() -> list[tuple[Path, int]]:
        paths = [*repository.state.rglob("*"), *(repository.repo / ".git").rglob("*")]
        return sorted((path, path.lstat().st_mtime_ns) for path in paths)

    before = everything()
    said(repository, "alpha")
    said(repository, repository.ports["alpha"])
    assert everything() == before


# ------------------------------------------------------------------------------------------------------------- commits


def test_a_commit_that_nobody_applied_leaves_it_behind_by_one(repository: Committed) -> None:
    old, pid = repository.head, repository.pid("alpha")
    assert lines(found(repository, "alpha"))["newer commits"] == ("behind by 0", "matches", "")
    repository.declare("alpha", more=MORE)
    new = repository.head
    document = found(repository, "alpha")
    assert (document["revision"], document["behind"], document["pid"]) == (old, 1, pid)
    traced = lines(document)
    assert traced["environment"][:2] == (
        f"label alpha, commit {old[:7]}, generation 1, spec {repository.record('alpha')['spec_hash']}",
        "matches",
    )
    assert traced["commit"] == (old[:7], "matches", "")
    assert traced["newer commits"] == (
        "behind by 1",
        "differs",
        f"1 commit since then touches what is declared; the newest, {new[:7]}, is not in force",
    )
    assert traced["spec"][1:] == ("differs", "options.max_tokens is none, declared 7")
    text = said(repository, "alpha")
    assert old[:7] in text
    assert "behind by 1 " in text
    (repository.repo / "notes.txt").write_text("nothing that is declared")
    repository.git("add", "-A")
    repository.git("commit", "-q", "-m", "notes")
    assert found(repository, "alpha")["behind"] == 1
    assert environment(pid)["RECONCILER_COMMIT"] == old, "nothing was launched meanwhile"


def test_a_commit_that_changes_another_server_is_told_and_restarts_nothing(repository: Committed) -> None:
    old, pid = repository.head, repository.pid("alpha")
    watch = repository.watch()
    repository.declare("alpha", "beta")
    new = repository.head
    repository.in_force(new, watch)
    assert repository.one_each("alpha", "beta")["alpha"] == pid
    alpha, beta = found(repository, "alpha"), found(repository, "beta")
    assert (alpha["revision"], alpha["generation"], alpha["behind"]) == (old, 1, 1)
    assert (beta["revision"], beta["generation"], beta["behind"]) == (new, 2, 0)
    commit = (old[:7], "differs", f"{new[:7]} is in force; nothing of this server has changed with it")
    assert lines(alpha)["commit"] == commit
    assert lines(alpha)["generation"] == ("1", "differs", "2 is in force")
    assert lines(alpha)["spec"][1] == lines(alpha)["environment"][1] == "matches"
    assert {agreement for _, agreement, _ in lines(beta).values()} == {"matches"}
    assert environment(repository.pid("beta"))["RECONCILER_COMMIT"] == new
    kill(pid)
    until(lambda: repository.pid("alpha") not in (0, pid), "it is started again", watch.said)
    assert environment(repository.pid("alpha"))["RECONCILER_COMMIT"] == new, "a new process is of what is in force"
    assert repository.record("alpha")["generation"] == 2


def test_a_commit_that_is_no_longer_in_the_repository_cannot_be_counted(repository: Committed) -> None:
    old = repository.head
    repository.git("checkout", "-q", "--orphan", "fresh")
    repository.commit(repository.text("alpha"), "another root")
    repository.git("branch", "-qf", "main", "fresh")
    repository.git("checkout", "-q", "main")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "-q", "--prune=now")
    document = found(repository, "alpha")
    assert (document["revision"], document["behind"]) == (old, None)
    text, agreement, difference = lines(document)["newer commits"]
    assert (text, agreement) == ("unknown", "unknown")
    assert old[:7] in difference
