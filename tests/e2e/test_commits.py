"""`watch` on a git repository, as a process: commits taken, refused, rewritten, gone back from, with real servers."""

import json
import os
import signal
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.committed import Committed, committed
from tests.e2e.watching import Command, alive, kill, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SOURCE = "source/commit"


@pytest.fixture
def machine(home: Home) -> Iterator[Committed]:
    """Three models in a repository; none is declared yet."""
    with committed(home, "alpha", "beta", "gamma") as made:
        yield made


def running(machine: Committed, *labels: str) -> tuple[Command, str]:
    """A watch that has brought up these labels, and the commit that declares them."""
    first = machine.commit(machine.text(*labels), "the first")
    watch = machine.watch()
    machine.in_force(first, watch)
    return watch, first


def refused(machine: Committed, watch: Command, reference: str, times: int = 1) -> None:
    until(
        lambda: len([e for e in machine.told("blocked", SOURCE) if e["reference"] == reference]) >= times,
        f"{reference} is said",
        watch.said,
    )


def healed(machine: Committed, watch: Command, label: str, dead: int) -> None:
    """Wait until another process than the dead one answers under a label."""
    proved = f"server/{label}"
    until(
        lambda: (
            machine.pid(label) not in (0, dead)
            and machine.told("proved", proved)[-1]["text"].startswith(f"pid {machine.pid(label)} ")
        ),
        f"{label} answers again",
        watch.said,
    )


def asked(machine: Committed, label: str) -> str:
    """What the served model says about which weights it is."""
    body = json.dumps({"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 20}).encode()
    address = f"http://127.0.0.1:{machine.ports[label]}/v1/chat/completions"
    request = Request(address, data=body, headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        said: str = answer.read().decode()
    return said


def test_a_commit_is_taken_and_touches_nothing_else(machine: Committed) -> None:
    watch, first = running(machine, "alpha", "beta")
    assert f"watching the commits of refs/heads/main for {machine.file}" in watch.err
    before = machine.one_each("alpha", "beta")
    second = machine.commit(machine.text("alpha", "beta", "gamma"), "one more")
    machine.in_force(second, watch)
    after = machine.one_each("alpha", "beta", "gamma")
    assert {label: after[label] for label in before} == before
    assert machine.routed() == {"alpha", "beta", "gamma"}
    assert [e["revision"] for e in machine.told("revision")] == [first, second]


def test_a_comment_restarts_and_writes_nothing(machine: Committed) -> None:
    watch, _ = running(machine, "alpha")
    before, stamp = machine.one_each("alpha"), machine.stamp()
    second = machine.commit(f"# the same\n{machine.text('alpha')}", "a comment")
    until(lambda: machine.told("revision")[-1]["revision"] == second, "the commit is in force", watch.said)
    assert machine.one_each("alpha") == before
    assert machine.stamp() == stamp
    history = json.loads(machine.run("history", "-o", "json")[1])
    assert [g["number"] for g in history["generations"]] == [1], "its content is no new one"


@pytest.mark.fault("D24")
def test_d24_a_commit_that_does_not_validate_changes_nothing_and_both_are_said(machine: Committed) -> None:
    watch, first = running(machine, "alpha")
    before, stamp = machine.one_each("alpha"), machine.stamp()
    bad = machine.commit(machine.text("alpha") + "modles: {}\n", "a typo")
    refused(machine, watch, "invalid-document")
    assert (machine.one_each("alpha"), machine.stamp()) == (before, stamp)
    code, said = machine.run("status")
    assert code == ExitCode.INVALID
    assert first[:7] in said
    assert bad[:7] in said
    other = machine.commit(machine.text("alpha").replace("port:", "prot:"), "another mistake")
    refused(machine, watch, "invalid-document", times=2)
    kill(watch.pid)
    again = machine.watch()
    refused(machine, again, "invalid-document", times=2)
    kill(before["alpha"])
    healed(machine, again, "alpha", before["alpha"])
    good = machine.commit(machine.text("alpha", "beta"), "mended")
    machine.in_force(good, again)
    assert other not in [e["revision"] for e in machine.told("revision")]


@pytest.mark.fault("D22")
def test_d22_rewritten_history_is_held_until_a_person_accepts_that_revision(machine: Committed) -> None:
    watch, _ = running(machine, "alpha")
    machine.in_force(machine.commit(machine.text("alpha", "beta"), "more"), watch)
    before = machine.one_each("alpha", "beta")
    machine.git("reset", "-q", "--hard", "HEAD~1")
    rewritten = machine.commit(machine.text("alpha", "gamma"), "another history")
    refused(machine, watch, "history-rewritten")
    assert machine.one_each("alpha", "beta") == before
    assert machine.run("status")[0] == ExitCode.TRUST
    code, said = machine.run("accept", "0" * 40, "--reason", "a guess")
    assert code == ExitCode.USAGE, said
    assert machine.one_each("alpha", "beta") == before
    code, said = machine.run("accept", rewritten[:10], "--reason", "we squashed it")
    assert code == ExitCode.OK, said
    machine.in_force(rewritten, watch)
    after = machine.one_each("alpha", "gamma")
    assert after["alpha"] == before["alpha"]
    assert [e["text"] for e in machine.told("accepted")] == [f"{rewritten[:7]} is released: we squashed it"]


@pytest.mark.req("S1-33")
@pytest.mark.fault("D12", "D15")
@pytest.mark.parametrize("how", ["emptied", "deleted"])
def test_an_emptied_or_deleted_file_stops_nothing(machine: Committed, how: str) -> None:
    watch, _ = running(machine, "alpha", "beta")
    before = machine.one_each("alpha", "beta")
    if how == "emptied":
        machine.commit(machine.text(), "nothing any more")
        refused(machine, watch, "emptied")
    else:
        machine.git("rm", "-q", "ensemble.yaml")
        machine.git("commit", "-q", "-m", "gone")
        refused(machine, watch, "desired-file-missing")
    assert machine.one_each("alpha", "beta") == before
    back = machine.commit(machine.text("alpha", "beta"), "back")
    until(lambda: machine.status()["blocked"] == [], "nothing stands against it", watch.said)
    assert machine.one_each("alpha", "beta") == before
    assert machine.head == back


@pytest.mark.fault("D17")
def test_d17_an_edit_that_is_not_committed_is_said_and_ignored(machine: Committed) -> None:
    watch, _ = running(machine, "alpha")
    before = machine.one_each("alpha")
    machine.write(machine.text("beta"))
    until(lambda: machine.told("uncommitted", SOURCE), "the edit is seen", watch.said)
    assert machine.one_each("alpha") == before
    assert machine.routed() == {"alpha"}
    machine.git("add", "-A")
    machine.git("commit", "-q", "-m", "half of it goes, which is not more than half")
    refused(machine, watch, "shrinks")


@pytest.mark.fault("D19")
def test_d19_a_rebase_that_has_stopped_pauses_and_its_end_goes_on(machine: Committed) -> None:
    watch, first = running(machine, "alpha")
    machine.git("checkout", "-q", "-b", "side")
    machine.commit(machine.text("alpha", "gamma"), "theirs")
    machine.git("checkout", "-q", "main")
    second = machine.commit(machine.text("alpha", "beta"), "ours")
    machine.in_force(second, watch)
    before = machine.one_each("alpha", "beta")
    machine.git("rebase", "-q", "side", code=1)
    refused(machine, watch, "rebase-in-progress")
    assert machine.one_each("alpha", "beta") == before
    machine.git("rebase", "--abort")
    until(lambda: machine.status()["blocked"] == [], "nothing stands against it", watch.said)
    assert machine.one_each("alpha", "beta") == before
    assert first != second


@pytest.mark.fault("R09")
def test_a_daemon_that_is_killed_and_started_again_changes_nothing(machine: Committed) -> None:
    watch, _ = running(machine, "alpha", "beta")
    before, stamp, told = machine.one_each("alpha", "beta"), machine.stamp(), len(machine.events())
    for _ in range(3):
        kill(watch.pid)
        watch = machine.watch()
    assert watch.end(signal.SIGTERM) == ExitCode.TERMINATED
    assert (machine.one_each("alpha", "beta"), machine.stamp()) == (before, stamp)
    assert len(machine.events()) == told, "there is nothing to tell"


@pytest.mark.fault("R10")
def test_r10_a_commit_that_came_while_nobody_watched_replaces_what_runs(machine: Committed) -> None:
    watch, _ = running(machine, "alpha", "beta")
    before = machine.one_each("alpha", "beta")
    kill(watch.pid)
    text = machine.served_by("alpha", "demo/other") + machine.text("beta").partition("models:\n")[2]
    commit = machine.commit(text, "other weights")
    machine.in_force(commit, machine.watch())
    after = machine.one_each("alpha", "beta")
    assert after["beta"] == before["beta"]
    assert not alive(before["alpha"])
    assert "models--demo--other" in asked(machine, "alpha")


def test_a_person_goes_back_and_the_watch_does_not_fight_it(machine: Committed) -> None:
    watch, _ = running(machine, "alpha", "beta")
    first = machine.one_each("alpha", "beta")
    rest = machine.text("beta").partition("models:\n")[2]
    worse = machine.served_by("alpha", "demo/worse") + rest
    machine.in_force(machine.commit(worse, "worse"), watch)
    assert "models--demo--worse" in asked(machine, "alpha")
    code, said = machine.run("rollback", "--yes")
    assert code == ExitCode.OK, said
    assert "models--demo--alpha" in asked(machine, "alpha")
    assert machine.one_each("alpha", "beta")["beta"] == first["beta"]
    assert machine.told("rolled-back")
    machine.commit(f"# still\n{worse}", "the same, with a comment")
    machine.run("apply", "--dry-run")
    kill(watch.pid)
    again = machine.watch()
    until(lambda: machine.status()["pin"] is not None, "the pin is known", again.said)
    assert "models--demo--alpha" in asked(machine, "alpha")
    better = machine.commit(machine.served_by("alpha", "demo/better") + rest, "better")
    machine.in_force(better, again)
    assert "models--demo--better" in asked(machine, "alpha")
    assert machine.status()["pin"] is None


def test_a_generation_outlives_its_commit(machine: Committed) -> None:
    """History is rewritten and collected; what was in force can come back all the same."""
    watch, first = running(machine, "alpha", "beta")
    machine.git("checkout", "-q", "--orphan", "fresh")
    alone = machine.commit(machine.text("alpha", "beta", "gamma"), "a new root")
    machine.git("branch", "-qf", "main", "fresh")
    machine.git("checkout", "-q", "main")
    machine.git("reflog", "expire", "--expire=now", "--all")
    machine.git("gc", "-q", "--prune=now")
    machine.git("cat-file", "-e", first, code=1)
    # Whether the old commit is gone already when the watch looks is a matter of luck.
    until(lambda: machine.told("blocked", SOURCE), "the new root is not taken", watch.said)
    assert machine.told("blocked", SOURCE)[-1]["reference"] in ("history-unknown", "history-rewritten")
    assert machine.run("accept", alone, "--reason", "a new root")[0] == ExitCode.OK
    machine.in_force(alone, watch)
    code, said = machine.run("rollback", "1", "--yes")
    assert code == ExitCode.OK, said
    assert sorted(machine.one_each("alpha", "beta")) == ["alpha", "beta"]


@pytest.mark.timeout(180)
def test_a_commit_that_cannot_be_proved_is_gone_back_from_once(machine: Committed) -> None:
    watch, _ = running(machine, "alpha", "beta")
    before = machine.one_each("alpha", "beta")
    rest = machine.text("beta").partition("models:\n")[2]
    (machine.home.root / "orders" / "models--demo--broken").write_text("unsupported")
    bad = machine.commit(machine.served_by("alpha", "demo/broken") + rest, "broken")
    until(lambda: machine.told("rolled-back"), "it has gone back", watch.said)
    until(lambda: machine.routed() == {"alpha", "beta"}, "both are routed", watch.said)
    after = machine.one_each("alpha", "beta")
    assert after["beta"] == before["beta"]
    assert "models--demo--alpha" in asked(machine, "alpha")
    status = machine.status()
    assert status["pin"]["bad"] == bad
    assert status["pin"]["automatic"] is True
    kill(watch.pid)
    again = machine.watch()
    kill(after["alpha"])
    healed(machine, again, "alpha", after["alpha"])
    assert "models--demo--alpha" in asked(machine, "alpha")
    assert len(machine.told("rolling-back")) == 1


def test_the_second_watch_on_one_state_directory_is_refused(machine: Committed) -> None:
    watch, _ = running(machine, "alpha")
    code, said = machine.run("watch")
    assert code == ExitCode.LOCKED
    assert f"pid {watch.pid} (watch)" in said


def test_the_branch_that_was_followed_stays_the_one(machine: Committed) -> None:
    """A checkout of another branch is no new desired state (fault D18)."""
    watch, _ = running(machine, "alpha")
    before = machine.one_each("alpha")
    machine.git("checkout", "-q", "-b", "trial")
    machine.commit(machine.text("alpha", "beta"), "a trial")
    kill(watch.pid)
    again = machine.watch()
    machine.git("checkout", "-q", "main")
    machine.in_force(machine.commit(machine.text("alpha", "gamma"), "meant"), again)
    assert machine.one_each("alpha", "gamma")["alpha"] == before["alpha"]
    assert os.path.exists(machine.file)


@pytest.mark.fault("D25")
def test_d25_of_a_storm_of_commits_the_newest_counts_and_nobody_is_restarted_for_the_others(machine: Committed) -> None:
    watch, _ = running(machine, "alpha", "beta")
    before = machine.one_each("alpha", "beta")
    text = machine.text("alpha", "beta")
    for number in range(60):
        more = f"defaults: {{max_output_tokens: {900 + number}}}\nmodels:"
        last = machine.commit(text.replace("models:", more))
    machine.in_force(last, watch)
    assert machine.one_each("alpha", "beta") == before
    taken = [e["revision"] for e in machine.told("revision")]
    assert taken[-1] == last
    assert len(taken) == len(set(taken))
