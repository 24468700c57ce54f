"""What both service managers promise, in front of programs that answer as launchctl and systemctl do."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.observed import Absent, Present, Unknown
from reconciler.model.service import Service
from reconciler.ports.errors import ActionError
from reconciler.ports.service import ServiceManager
from tests.e2e.watching import alive, until

from .managers import MANAGERS, Account

WAITS = "import os, signal; print(os.environ['SAID'], flush=True); signal.pause()"


@pytest.fixture
def account(tmp_path: Path) -> Account:
    home = tmp_path / "a home's $HOME 100%"
    home.mkdir()
    return Account(home)


@pytest.fixture(params=MANAGERS, ids=lambda make: make.__name__)
def manager(request: pytest.FixtureRequest, account: Account) -> Iterator[ServiceManager]:
    make: Callable[[Account], ServiceManager] = request.param
    made = make(account)
    yield made
    account.end(made)


@pytest.fixture
def service(account: Account) -> Service:
    argv = (sys.executable, "-c", WAITS, "two words", '"', "back\\slash", "$HOME", "${PATH}", "%h", ";", "", "ünï")
    return Service(argv=argv, environment={"SAID": 'a "b" $c %d \\e'}, log=str(account.root / "100% log"))


def running(manager: ServiceManager) -> int:
    found = manager.run()
    assert isinstance(found, Present), found
    assert found.value.pid is not None, found
    return found.value.pid


def test_there_is_nothing_at_first(manager: ServiceManager) -> None:
    assert manager.written() == Absent()
    assert manager.run() == Absent()
    manager.end()
    manager.remove()


def test_what_is_written_is_described(manager: ServiceManager, service: Service) -> None:
    text = manager.text(service)
    assert manager.described(text) == service
    manager.write(service)
    assert manager.written() == Present(value=text)
    assert stat.S_IMODE(os.stat(manager.file).st_mode) == 0o644
    assert os.listdir(os.path.dirname(manager.file)) == [os.path.basename(manager.file)]


def test_a_file_of_somebody_else_is_not_ours(manager: ServiceManager, service: Service) -> None:
    assert manager.described("") is None
    assert manager.described("[Service]\nExecStart=/bin/true\n") is None
    assert manager.described(manager.text(service).replace("RECONCILER_SERVICE", "SOMETHING")) is None


def test_a_started_service_runs_as_it_is_described(manager: ServiceManager, service: Service) -> None:
    manager.write(service)
    manager.start()
    pid = running(manager)
    log = Path(service.log)
    until(lambda: log.exists() and log.read_text().endswith("\n"), "the service has said what it was told")
    assert log.read_text() == 'a "b" $c %d \\e\n'
    if sys.platform == "linux":
        assert Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1] == list(service.argv)


def test_a_service_that_is_started_again_is_another_process_of_the_new_file(
    manager: ServiceManager, service: Service
) -> None:
    manager.write(service)
    manager.start()
    before = running(manager)
    manager.write(replace(service, environment={"SAID": "new"}))
    manager.start()
    assert running(manager) != before
    until(lambda: not alive(before), "the first one has ended")
    until(lambda: Path(service.log).read_text().endswith("new\n"), "the second one has said what it was told")


def test_an_ended_service_is_gone_and_is_not_started_again(
    manager: ServiceManager, account: Account, service: Service
) -> None:
    manager.write(service)
    manager.start()
    pid = running(manager)
    manager.end()
    assert not alive(pid)
    manager.remove()
    assert manager.run() == Absent()
    assert manager.written() == Absent()
    assert not [path for path in (account.root / ".config").rglob("*") if path.is_symlink()]


def test_a_manager_that_cannot_be_reached_is_unknown_and_nothing_is_claimed(
    manager: ServiceManager, account: Account, service: Service
) -> None:
    account.leave()
    found = manager.run()
    assert isinstance(found, Unknown)
    assert "says: " in found.reason
    manager.write(service)
    for request in (manager.start, manager.end):
        with pytest.raises(ActionError) as refused:
            request()
        assert refused.value.cause == "service-manager-unreachable"
    manager.remove()
    assert manager.written() == Absent()


def test_a_link_to_nothing_is_somebodys(manager: ServiceManager) -> None:
    path = Path(manager.file)
    path.parent.mkdir(parents=True)
    path.symlink_to("nowhere")
    assert isinstance(manager.written(), Unknown)


def test_a_failed_write_leaves_the_file_as_it_was(manager: ServiceManager, service: Service) -> None:
    path = Path(manager.file)
    path.mkdir(parents=True)
    with pytest.raises(OSError, match=r"directory|exists"):
        manager.write(service)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
