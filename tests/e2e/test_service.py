"""The watch as a service: it brings up what is declared, and what ends it ends no server."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.contract.managers import Account
from tests.e2e.watching import Machine, alive, kill, machine_of


def _service(machine: Machine, account: Account, *words: str) -> str:
    result = machine.home.run("service", *words, env=account.environment(machine.environment()))
    assert result.code == ExitCode.OK, result.out + result.err
    return result.out


@contextmanager
def _ended(machine: Machine, account: Account) -> Iterator[None]:
    """Leave no watch behind, also where the test fails."""
    try:
        yield
    finally:
        machine.home.run("service", "uninstall", env=account.environment(machine.environment()))


def test_a_boot_brings_up_what_is_declared_and_the_end_of_the_service_ends_no_server(home: Home) -> None:
    account = Account(home.root)
    log = Path(home.root / "state" / "logs" / "_watch.log")
    with machine_of(home, "a", "b", "c") as machine, _ended(machine, account):
        machine.declare("a", "b")
        _service(machine, account, "install")
        first = machine.served("a", "b", told=log.read_text)
        assert set(machine.one_each("a", "b")) == {"a", "b"}
        watch = json.loads(_service(machine, account, "status", "-o", "json"))["pid"]
        _service(machine, account, "uninstall")
        assert not alive(watch)
        assert machine.one_each("a", "b") == first

        # What a boot leaves: nothing of ours runs, and the manager starts what is enabled.
        for pid in first.values():
            kill(pid)
        machine.declare("b", "c")
        _service(machine, account, "install")
        assert set(machine.served("b", "c", told=log.read_text)) == {"b", "c"}
        _service(machine, account, "uninstall")
        machine.one_each("b", "c")
