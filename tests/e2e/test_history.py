"""`history`, `rollback` and `accept` as command lines, with a watch and without."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.committed import Committed, committed
from tests.e2e.watching import Machine, machine_of, until

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(120)]

FLAGS = "    options: {max_tokens: 9}\n"


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    """Two models that are served in the second generation; in the first alpha alone was."""
    with machine_of(home, "alpha", "beta") as made:
        made.declare("alpha")
        made.applied()
        made.declare("alpha", "beta")
        made.applied()
        yield made


def history(machine: Machine) -> dict[str, Any]:
    code, said = machine.run("history", "-o", "json")
    assert code == ExitCode.OK, said
    found: dict[str, Any] = json.loads(said)
    return found


def states(machine: Machine) -> list[tuple[int, str, bool, bool]]:
    """Number, state, in force, pinned; the newest first."""
    return [(g["number"], g["state"], g["current"], g["pinned"]) for g in history(machine)["generations"]]


def test_nothing_was_in_force_on_a_new_machine(home: Home) -> None:
    assert home.run("history").out == "Nothing has been in force here yet.\n"
    document = json.loads(home.run("history", "-o", "json").out)
    assert (document["type"], document["generations"], document["pin"]) == ("history", [], None)
    for args, code in ((["rollback"], ExitCode.BLOCKED), (["rollback", "1"], ExitCode.USAGE)):
        assert home.run(*args).code == code
    result = home.run("accept", "0123456", "--reason", "x")
    assert (result.code, "[nothing-refused]" in result.err) == (ExitCode.USAGE, True)


def test_a_return_without_a_watch(machine: Machine) -> None:
    alpha = machine.one_each("alpha", "beta")["alpha"]
    assert states(machine) == [(2, "proved", True, False), (1, "proved", False, False)]
    table = machine.run("history")[1].splitlines()
    assert table[0].split() == ["NUMBER", "SINCE", "REVISION", "STATE", "NOTE"]
    assert table[1].split()[-3:] == ["proved", "in", "force"]

    code, said = machine.run("rollback", "--dry-run")
    assert code == ExitCode.OK, said
    assert "stop    server/beta" in said
    assert "Pinned: it stays in force until something newer than worktree:" in said
    assert said.endswith("Next: reconciler rollback 1\n")
    code, said = machine.run("rollback")
    assert (code, "[not-confirmed]" in said) == (ExitCode.BLOCKED, True), "there is nobody to ask"
    machine.one_each("alpha", "beta")
    assert states(machine)[0] == (2, "proved", True, False), "nothing was changed"

    code, said = machine.run("rollback", "--yes", "--reason", "too hot")
    assert code == ExitCode.OK, said
    assert machine.one_each("alpha") == {"alpha": alpha}
    assert machine.routed() == {"alpha"}
    assert states(machine) == [(2, "proved", False, False), (1, "proved", True, True)]
    first = machine.run("status")[1].splitlines()[0]
    assert first.startswith("pinned to generation 1: too hot (a person, ")
    assert "in force already" in machine.run("rollback", "1")[1]
    code, said = machine.run("rollback")
    assert (code, "[nothing-to-return-to]" in said) == (ExitCode.BLOCKED, True), "what was left is not before it"

    watch = machine.watch()
    machine.run("status")
    assert machine.one_each("alpha") == {"alpha": alpha}, "a watch does not fight it"
    watch.end()
    said = machine.applied()
    assert "Done: settled; 2 servers serving, 0 blocked.\n" in said
    assert "generation 1 is pinned (too hot); an apply of something else ends that" in said
    assert history(machine)["pin"] is None, "whoever applies the file ends it"


def test_a_generation_is_meant_by_number_or_by_what_began_it(machine: Machine) -> None:
    first = history(machine)["generations"][1]["revision"]
    for name in ("1", first, first.partition(":")[2][:7]):
        code, said = machine.run("rollback", name, "--dry-run")
        assert code == ExitCode.OK, said
        assert said.endswith("Next: reconciler rollback 1\n")
    for name in ("3", first.partition(":")[2][:6], "0" * 40, "main"):
        code, said = machine.run("rollback", name, "--dry-run")
        assert (code, "[generation-unknown]" in said) == (ExitCode.USAGE, True), said


def test_what_would_not_come_back_whole_is_said(machine: Machine) -> None:
    """Never proved, other rules than then, and weights that are gone: a person decides, and --yes does not."""
    machine.order("beta", "unsupported")
    machine.declare("alpha", "beta", more=FLAGS)
    assert machine.run("apply", "--yes")[0] == ExitCode.BLOCKED
    machine.order("beta", "")
    machine.declare("alpha")
    machine.applied()
    assert states(machine) == [(3, "partial", False, False), (2, "proved", False, False), (1, "proved", True, False)]
    assert history(machine)["generations"][0]["missing"] == ["beta"]
    host = machine.home.root / "host.yaml"
    host.write_text(host.read_text() + "start_timeout: 9m\n")
    code, said = machine.run("rollback", "3", "--dry-run")
    assert "It is partial: beta was never proved under it." in said
    assert "The host file or the environment is another one than then" in said
    for path in (machine.home.hub / "models--demo--beta").rglob("*.safetensors"):
        path.unlink()
    code, said = machine.run("rollback", "2", "--yes")
    assert (code, "[rollback-unfit]" in said) == (ExitCode.BLOCKED, True), said
    assert "Not all of it that was proved comes back: server/beta" in said
    machine.one_each("alpha")
    assert history(machine)["pin"] is None


# ------------------------------------------------------------------------------------------------------------- accept


@pytest.fixture
def repository(home: Home) -> Iterator[Committed]:
    with committed(home, "alpha", "beta", "gamma") as made:
        yield made


def paused(repository: Committed) -> str:
    """A watch that has refused a commit which takes too much away, and was ended; the commit."""
    first = repository.commit(repository.text("alpha", "beta", "gamma"), "the first")
    watch = repository.watch()
    repository.in_force(first, watch)
    small = repository.commit(repository.text("alpha"), "much less")
    until(lambda: repository.told("blocked", "source/commit"), "it is refused", watch.said)
    watch.end()
    return small


def test_what_is_accepted_without_a_watch_is_taken_by_the_next(repository: Committed) -> None:
    small = paused(repository)
    before = repository.one_each("alpha", "beta", "gamma")
    for said, reference in ((small[:6], "other-revision"), ("f" * 40, "other-revision"), ("main", "other-revision")):
        code, words = repository.run("accept", said, "--reason", "x")
        assert (code, f"[{reference}]" in words) == (ExitCode.USAGE, True), words
    code, words = repository.run("accept", small[:7].upper(), "--reason", "one is enough")
    assert code == ExitCode.OK, words
    assert f"accepted source/commit: {small[:7]} is released: one is enough" in words
    assert repository.one_each("alpha", "beta", "gamma") == before, "nobody watches"
    watch = repository.watch()
    repository.in_force(small, watch)
    assert repository.one_each("alpha") == {"alpha": before["alpha"]}
    code, words = repository.run("accept", small, "--reason", "again")
    assert (code, "[nothing-refused]" in words) == (ExitCode.USAGE, True)


def test_what_is_invalid_cannot_be_released(repository: Committed) -> None:
    first = repository.commit(repository.text("alpha"), "the first")
    watching = repository.watch()
    repository.in_force(first, watching)
    bad = repository.commit("version: 1\nmodells: {}\n", "bad")
    until(lambda: repository.told("blocked", "source/commit"), "it is refused", watching.said)
    code, words = repository.run("status")
    assert code == ExitCode.INVALID
    assert words.splitlines()[0].startswith(f"paused source/commit at {first[:7]}: {bad[:7]}: ")
    code, words = repository.run("accept", bad, "--reason", "please")
    assert (code, f"{bad[:7]} is invalid" in words) == (ExitCode.INVALID, True), words
    repository.one_each("alpha")
