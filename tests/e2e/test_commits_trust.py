"""Whom a watch believes, and what a person at the keyboard is told: signatures, histories, edits that are ignored."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.committed import Committed, committed
from tests.e2e.watching import Command, kill, until

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(120)]

SOURCE = "source/commit"


class Signed(Committed):
    """A machine on which every commit must be signed by one key."""

    def sign(self, text: str, message: str) -> str:
        """A commit of the one who may."""
        self.write(text)
        self.git("add", "-A")
        key = f"user.signingkey={self.home.root / 'boss'}"
        self.git("-c", "gpg.format=ssh", "-c", key, "commit", "-q", "-S", "--allow-empty", "-m", message)
        return self.head


def signers(root: Path) -> str:
    """The line of the host file; makes the key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "boss", "-f", str(root / "boss")], check=True)
    (root / "keys").mkdir(mode=0o755)
    allowed = root / "keys" / "allowed"
    allowed.write_text(f'boss@example.invalid namespaces="git" {(root / "boss.pub").read_text()}')
    return f"source: {{signers: {allowed}}}\n"


@pytest.fixture
def machine(home: Home) -> Iterator[Signed]:
    """Three models in a repository of which only signed commits count."""
    home.root.chmod(0o755)
    made = Signed(home, "alpha", "beta", "gamma", more=signers(home.root))
    try:
        yield made
    finally:
        made.close()


def refused(machine: Committed, watch: Command, reference: str) -> None:
    until(
        lambda: reference in [e["reference"] for e in machine.told("blocked", SOURCE)], f"{reference} said", watch.said
    )


def running(machine: Signed, *labels: str) -> Command:
    first = machine.sign(machine.text(*labels), "first")
    watch = machine.watch()
    machine.in_force(first, watch)
    return watch


@pytest.mark.fault("S22", "S26")
def test_an_apply_with_yes_releases_no_commit_that_nobody_signed(machine: Signed) -> None:
    watch = running(machine, "alpha")
    evil = machine.commit(machine.text("alpha", "beta"), "evil")
    refused(machine, watch, "commit-unsigned")
    code, said = machine.run("apply", "--yes")
    assert code == ExitCode.TRUST, said
    machine.sign(machine.text("alpha", "gamma"), "on top of it")
    code, said = machine.run("apply", "--yes")
    assert code == ExitCode.TRUST, said
    assert list(machine.one_each("alpha")) == ["alpha"]
    assert evil[:7] in said
    code, said = machine.run("accept", machine.head[:9], "--reason", "I have read both")
    assert code == ExitCode.OK, said
    assert sorted(machine.one_each("alpha", "gamma")) == ["alpha", "gamma"]


@pytest.mark.fault("S26")
def test_an_apply_of_the_saved_file_in_between_trusts_nobody(machine: Signed) -> None:
    watch = running(machine, "alpha")
    machine.commit(machine.text("alpha", "beta"), "evil")
    machine.sign(machine.text("alpha", "gamma"), "on top of it")
    refused(machine, watch, "commit-unsigned")
    kill(watch.pid)
    machine.write(machine.text("alpha", more="    aliases: [quick]\n"))
    machine.applied()
    machine.git("checkout", "-q", "--", ".")
    again = machine.watch()
    refused(machine, again, "commit-unsigned")
    assert list(machine.one_each("alpha")) == ["alpha"]


@pytest.mark.fault("D19", "S22")
def test_an_apply_of_the_commit_asks_what_the_watch_would_ask(machine: Signed) -> None:
    watch = running(machine, "alpha")
    kill(watch.pid)
    machine.commit(machine.text("alpha", "beta"), "evil")
    code, said = machine.run("apply", "--yes", "--source", "commit")
    assert code == ExitCode.TRUST, said
    assert "commit-unsigned" in said
    machine.git("checkout", "-q", "--detach")
    code, said = machine.run("apply", "--yes", "--source", "commit")
    assert code == ExitCode.BLOCKED, said
    assert "head-detached" in said
    assert list(machine.one_each("alpha")) == ["alpha"]


# ------------------------------------------------------------------------------------- what a person is told


@pytest.fixture
def open_machine(home: Home) -> Iterator[Committed]:
    """A repository of which every commit counts."""
    with committed(home, "alpha", "beta") as made:
        yield made


def watched(machine: Committed, *labels: str) -> Command:
    first = machine.commit(machine.text(*labels), "first")
    watch = machine.watch()
    machine.in_force(first, watch)
    return watch


@pytest.mark.fault("D17")
def test_an_apply_of_what_is_not_committed_says_that_it_is_ignored(open_machine: Committed) -> None:
    machine = open_machine
    watched(machine, "alpha")
    machine.write(machine.text("alpha", "beta"))
    code, said = machine.run("apply", "--yes")
    assert code == ExitCode.OK
    assert "edits of ensemble.yaml are not committed, so they are ignored" in said
    code, said = machine.run("apply", "--yes", "--source", "worktree")
    assert code == ExitCode.LOCKED, said
    assert "the running watch follows the commits of refs/heads/main" in said
    until(lambda: "not committed, and so ignored: edits of ensemble.yaml" in machine.run("status")[1], "status says it")
    assert list(machine.one_each("alpha")) == ["alpha"]


@pytest.mark.fault("D15")
def test_a_status_can_be_had_although_the_file_is_deleted(open_machine: Committed) -> None:
    machine = open_machine
    watch = watched(machine, "alpha")
    machine.git("rm", "-q", "ensemble.yaml")
    machine.git("commit", "-q", "-m", "gone")
    refused(machine, watch, "desired-file-missing")
    code, said = machine.run("status", RECONCILER_CONFIG="")
    assert "alpha" in said
    assert "desired-file-missing" in said
    assert code in (ExitCode.BLOCKED, ExitCode.INVALID)


def test_a_restart_with_other_overrides_is_no_restart_of_the_old_state(open_machine: Committed) -> None:
    """The content of the last run is not what this file means any more."""
    machine = open_machine
    watch = watched(machine, "alpha")
    before = machine.one_each("alpha")
    kill(watch.pid)
    machine.served_by("alpha", "demo/other")
    again = machine.watch("--set", "models.alpha.source.repo=demo/other")
    until(lambda: len(machine.told("proved", "server/alpha")) > 1, "another server is proved", again.said)
    assert machine.record("alpha")["fields"]["source"].startswith("demo/other@")
    assert machine.one_each("alpha") != before
