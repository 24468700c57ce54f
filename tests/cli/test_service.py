"""`service` on the command line: what is written, what is asked, and what stays when no manager can be reached."""

import json
import plistlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.lock import held
from reconciler.model.problem import ExitCode
from tests.cli.home import Home, Result
from tests.contract.managers import Account
from tests.e2e.watching import alive, kill, until

NOTHING = "version: 1\nmodels: {}\n"


class Person:
    """Somebody with a home, and a service manager that knows nothing yet."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.account = Account(home.root)

    def run(self, *words: str, **more: str) -> Result:
        """A command line with the manager's programs on the PATH."""
        return self.home.run("service", *words, env=self.account.environment(self.home.environment(**more)))

    def status(self) -> dict[str, Any]:
        """What `status` says; its code says the same."""
        result = self.run("status", "-o", "json")
        said: dict[str, Any] = json.loads(result.out)
        sound = said["standing"] == "current" and said["pid"] is not None
        assert result.code == (ExitCode.OK if sound else ExitCode.ENVIRONMENT)
        return said

    @property
    def file(self) -> Path:
        """Where the service's file is or would be."""
        return Path(self.status()["file"])


@pytest.fixture
def person(home: Home) -> Iterator[Person]:
    home.write(NOTHING)
    made = Person(home)
    yield made
    (made.account.store / "absent").unlink(missing_ok=True)
    if (pid := made.status()["pid"]) is not None:
        kill(pid)


def test_print_shows_both_files_and_changes_nothing(person: Person) -> None:
    person.account.environment({})
    before = sorted(person.home.root.rglob("*"))
    for_launchd = person.run("print", "--for", "launchd")
    assert (for_launchd.code, for_launchd.err) == (ExitCode.OK, "")
    entries = plistlib.loads(for_launchd.out.encode())
    assert entries["ProgramArguments"][-2:] == ["-c", str(person.home.root / "ensemble.yaml")]
    assert entries["EnvironmentVariables"]["RECONCILER_STATE"] == str(person.home.root / "state")
    for_systemd = person.run("print", "--for", "systemd")
    assert (for_systemd.code, for_systemd.err) == (ExitCode.OK, "")
    assert "\nKillMode=process\n" in for_systemd.out
    assert sorted(person.home.root.rglob("*")) == before


def test_what_the_watch_is_told_about_files_is_absolute(person: Person) -> None:
    said = person.run("print", "--for", "systemd", "--host-file", "host.yaml", "--source", "worktree").out
    root = person.home.root
    expected = f"watch -c {root}/ensemble.yaml --host-file {root}/host.yaml --source worktree\n"
    assert expected in said


@pytest.mark.parametrize("command", ["install", "print"])
def test_a_desired_state_that_is_invalid_is_refused(person: Person, command: str) -> None:
    person.home.write("version: 1\nmodells: {}\nmodels: {}\n")
    result = person.run(command)
    assert result.code == ExitCode.INVALID
    assert "did you mean 'models'" in result.err
    assert not person.file.exists()


def test_without_a_session_the_file_is_kept_and_one_sentence_says_what_to_run(person: Person) -> None:
    person.account.leave()
    result = person.run("install")
    assert result.code == ExitCode.ENVIRONMENT
    assert person.file.exists()
    assert f"{person.file} is there, and the service was not started" in result.err
    assert "say: systemctl --user" in result.err or "say: launchctl bootstrap" in result.err
    assert person.status()["loaded"] is None
    state = person.home.root / "state"
    assert [oct(path.stat().st_mode & 0o777) for path in (state, state / "logs")] == ["0o700", "0o700"]
    gone = person.run("uninstall")
    assert gone.code == ExitCode.ENVIRONMENT
    assert not person.file.exists()
    assert "whether the service still runs is not known" in gone.err


def test_install_runs_the_watch_and_a_second_one_leaves_it_alone(person: Person) -> None:
    first = person.run("install")
    assert first.code == ExitCode.OK, first.err
    assert person.status()["standing"] == "current"
    pid = person.status()["pid"]
    log = person.home.root / "state" / "logs" / "_watch.log"
    until(lambda: log.exists() and "watching" in log.read_text(), "the watch has begun")
    second = person.run("install")
    assert (second.code, second.out) == (
        ExitCode.OK,
        f"the service is installed already, and runs as pid {pid}\n",
    )
    assert person.status()["pid"] == pid
    ended = person.run("uninstall")
    assert (ended.code, ended.out.count("\n")) == (ExitCode.OK, 1)
    assert not alive(pid)
    assert person.status() | {"file": "", "detail": ""} == person.status() | {
        "file": "",
        "detail": "",
        "standing": "absent",
        "loaded": False,
        "pid": None,
    }
    assert person.run("uninstall").out == "there is no service\n"


def test_install_says_when_another_reconciler_is_at_work(person: Person) -> None:
    with held(person.home.root / "state", "a test"):
        result = person.run("install")
    assert result.code == ExitCode.OK
    assert "another reconciler is at work here; the service tries again every 10 s" in result.out


def test_another_content_is_shown_and_replaced_only_when_that_is_meant(person: Person) -> None:
    person.account.leave()
    person.run("install")
    before = person.file.read_text()
    refused = person.run("install", HF_HUB_CACHE="/elsewhere")
    assert refused.code == ExitCode.BLOCKED
    assert "HF_HUB_CACHE" in refused.out
    assert "[service-differs]" in refused.err
    assert person.file.read_text() == before
    assert person.run("install", "--yes", HF_HUB_CACHE="/elsewhere").code == ExitCode.ENVIRONMENT
    assert "/elsewhere" in person.file.read_text()


def test_status_names_what_differs_but_not_the_search_path(person: Person) -> None:
    person.account.leave()
    person.run("install", HF_HUB_CACHE="/elsewhere", PATH="/opt/tool/bin:/usr/bin:/bin")
    found = person.status()
    assert (found["standing"], found["differs"]) == ("differs", ["HF_HUB_CACHE"])
    assert "HF_HUB_CACHE" in person.run("status").out
    person.run("install", "--yes", PATH="/opt/tool/bin:/usr/bin:/bin")
    assert person.status()["standing"] == "current"


def test_status_says_when_the_desired_file_is_gone(person: Person) -> None:
    person.account.leave()
    person.run("install")
    (person.home.root / "ensemble.yaml").unlink()
    assert person.status()["standing"] == "differs"
    assert "what it is told cannot be followed" in person.run("status").out


def test_a_file_of_somebody_else_is_neither_replaced_nor_removed(person: Person) -> None:
    path = person.file
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/bin/true\n")
    assert person.status()["standing"] == "foreign"
    for words in (("install",), ("install", "--yes"), ("uninstall",)):
        result = person.run(*words)
        assert result.code == ExitCode.BLOCKED
        assert "[service-foreign]" in result.err
    assert path.read_text() == "[Service]\nExecStart=/bin/true\n"
