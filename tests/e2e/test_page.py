"""The page of a real watch: what happens to real servers is on it, and a second watch can do without one."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.home import Home
from tests.e2e.watching import Command, Machine, kill, machine_of, until
from tests.ports import free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
def port() -> int:
    """Where the page is."""
    return free_ports(1)[0]


@pytest.fixture
def machine(home: Home, port: int) -> Iterator[Machine]:
    """Two models, and a page."""
    with machine_of(home, "alpha", "beta", more=f"status_page: {{port: {port}}}\n") as made:
        yield made


def read(port: int, path: str = "status.json") -> str:
    """What the page answers; empty while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return ""  # nobody is there, or the first look has not ended


def found(port: int) -> dict[str, Any]:
    """The document; empty before the first look."""
    text = read(port)
    return dict(json.loads(text)) if text else {}


def healthy(port: int) -> dict[str, int]:
    """label -> pid of what is well."""
    return {s["label"]: s["pid"] for s in found(port).get("servers", []) if s["health"] == "Healthy" and s["pid"]}


@pytest.mark.fault("X24", "S13")
def test_what_happens_is_on_the_page(machine: Machine, port: int) -> None:
    machine.declare("alpha", "beta")
    watch = machine.watch()
    until(lambda: set(healthy(port)) == {"alpha", "beta"}, "both are well", watch.said)
    assert f"status page: http://127.0.0.1:{port}/\n" in watch.err
    until(lambda: found(port)["settled"], "it settles", watch.said)
    pids, page = healthy(port), found(port)
    assert pids == {label: machine.pid(label) for label in ("alpha", "beta")}
    assert (page["health"], page["sync"], page["generation"]) == ("Healthy", "Synced", 1)
    assert page["gateways"][0]["matches"]
    assert page["result"]["kind"] == "settled"
    kill(pids["alpha"])
    until(lambda: healthy(port).get("alpha", pids["alpha"]) != pids["alpha"], "it is healed", watch.said)
    assert 'reconciler_server_launches_total{label="alpha"} 2\n' in read(port, "metrics")
    assert str(machine.home.root) not in read(port, "") + json.dumps(found(port)), "it is the home folder here"

    other = another(machine, port)
    until(lambda: "[status-page-unavailable]" in other.err, "the second watch has no page", other.said)
    assert f"port {port} is held by pid {watch.pid} " in other.err
    assert other.process.poll() is None
    other.end()
    assert set(healthy(port)) == {"alpha", "beta"}
    watch.end()
    assert read(port) == ""


def another(machine: Machine, port: int) -> Command:
    """A watch of nothing, with a state directory and a host file of its own, that wants the same port."""
    machine.home.write("version: 1\nmodels: {}\n", "nothing.yaml")
    rules = machine.home.write(f"version: 1\nstatus_page: {{port: {port}}}\n", "other.yaml")
    rules.chmod(0o600)
    words = ("watch", "-c", "nothing.yaml", "--host-file", str(rules))
    return machine.start(*words, RECONCILER_STATE=str(machine.home.root / "other"))
