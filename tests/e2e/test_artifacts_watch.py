"""A watch that downloads what an edit adds, and a token that nobody but the hub is told."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from reconciler.adapters.hub.cache import MARK
from reconciler.model.problem import ExitCode
from reconciler.programs.tiny_model import write_cached
from tests.cli.home import Home
from tests.programs.fake_hub import Kind

from .supplied import BITS, WEIGHTS, Supplied, supplied
from .test_lifecycle import answer
from .watching import Command, until

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(240)]

CANARY = "hf_" + "CanaryThatIsSeenByNobody" * 2


@pytest.fixture
def machine(home: Home) -> Iterator[Supplied]:
    """A hub that lets one account in, and a machine with nothing in its cache."""
    with supplied(home, CANARY) as made:
        yield made


@contextmanager
def watching(machine: Supplied) -> Iterator[Command]:
    """A watch for the time of the block; it ends when it is told to."""
    command = Command(["watch"], machine.home, machine.home.environment(**machine.env), 0)
    try:
        yield command
        assert command.end() == ExitCode.TERMINATED, command.said()
    finally:
        if command.process.poll() is None:
            command.end(signal.SIGKILL)


def downloading(machine: Supplied) -> list[psutil.Process]:
    """The processes that ask the hub."""
    found = []
    for process in machine.children():
        with suppress(psutil.Error):
            found += [process] if any(word.endswith("programs/hub.py") for word in process.cmdline()) else []
    return found


def test_a_watch_downloads_what_an_edit_adds_and_ends_it_when_an_edit_takes_it_away(machine: Supplied) -> None:
    machine.quick()
    write_cached(machine.home.hub, "demo/alpha", "Here from the start.")
    machine.offers("acme/tiny")
    beta = {"source": {"repo": "acme/tiny"}}
    machine.declare("alpha")
    with watching(machine) as watch:
        until(lambda: machine.routed() == {"alpha"}, "alpha is served", watch.said)
        pid = machine.pid("alpha")
        gate = machine.gate("acme/tiny")
        machine.declare("alpha", "beta", beta=beta)
        until(gate.reached.is_set, "the edit is downloaded", watch.said)
        parts = machine.cached("acme/tiny").glob
        until(lambda: any(p.stat().st_size for p in parts(f"blobs/*{MARK}")), "a part of it is here", watch.said)
        (child,) = downloading(machine)
        assert machine.status("beta")["health"] == "Missing"
        assert machine.status("alpha")["health"] == "Healthy"

        machine.declare("alpha")
        until(lambda: not downloading(machine), "the download has ended", watch.said)
        # A process that is just ending has no command line any more by which it would be found.
        until(lambda: not child.is_running(), "nothing is left of it", watch.said)
        gate.gate.set()
        assert (machine.pid("alpha"), machine.routed()) == (pid, {"alpha"})
        assert len(list(machine.cached("acme/tiny").glob(f"blobs/*{MARK}"))) == 1

        machine.declare("alpha", "beta", beta=beta)
        until(lambda: machine.routed() == {"alpha", "beta"}, "beta is served", watch.said)
        assert [asked.status for asked in machine.hub.gets(WEIGHTS)] == [200, 206], "it went on where it was"
        assert machine.pid("alpha") == pid
    assert "Traceback" not in watch.said()


def test_an_apply_while_a_watch_downloads_is_told_how_far_it_is(machine: Supplied) -> None:
    machine.quick()
    machine.offers("acme/tiny")
    machine.declare()
    with watching(machine) as watch:
        until(lambda: "settled" in watch.out, "the watch has nothing to do", watch.said)
        gate = machine.gate("acme/tiny")
        machine.declare("alpha", alpha={"source": {"repo": "acme/tiny"}})
        until(gate.reached.is_set, "it is downloaded", watch.said)
        with machine.applying() as applying:
            until(lambda: "% of " in watch.out, "the watch says how far it is", watch.said)
            gate.gate.set()
            assert applying.wait(60) == ExitCode.OK, machine.said()
        assert machine.routed() == {"alpha"}
        assert len(machine.hub.gets(WEIGHTS)) == 1, "it was downloaded once"


@pytest.mark.parametrize("place", ["HF_TOKEN", "the file of hf auth login"])
def test_a_token_is_seen_by_the_hub_and_by_nobody_else(machine: Supplied, place: str) -> None:
    """Not by a delivery network, a converter or a server; in no log, no record, no output and no error."""
    file = machine.home.root / "hf" / "token"
    if place == "HF_TOKEN":
        machine.env["HF_TOKEN"] = CANARY
    else:
        file.parent.mkdir()
        file.write_text(CANARY)
    machine.hub.cdn = True
    machine.has_volume()
    machine.offers("acme/base", "Nobody knows.", base=True, kind=Kind.GATED)
    machine.offers("acme/down", kind=Kind.DOWN)
    declared = {"source": {"repo": "acme/base"}, "convert": BITS}
    machine.declare("alpha", "beta", alpha=declared, beta={"source": {"repo": "acme/down"}})
    environments: dict[str, dict[str, str]] = {}
    with machine.applying("--timeout", "60s") as applying:
        until(lambda: looked(machine, environments), "the converter and the server run", machine.said)
        until(lambda: machine.routed() == {"alpha"}, "alpha is served", machine.said)
        assert answer(machine.port("alpha")) == "Nobody knows."
        until(lambda: not machine.cached("acme/base").exists(), "the base is moved", machine.said)
        applying.send_signal(signal.SIGINT)
        applying.wait(60)
    for who in ("convert", "server"):
        assert not [name for name, value in environments[who].items() if CANARY in value], who
        assert "HF_TOKEN" not in environments[who]
    assert {asked.token for asked in machine.hub.asked if asked.host.startswith("127.0.0.1")} == {CANARY}
    assert {asked.token for asked in machine.hub.asked if asked.host.startswith("localhost")} == {""}
    said = [machine.run(*words) for words in (["status"], ["events"], ["plan", "--check-sources"], ["artifacts"])]
    assert not [result for result in said if CANARY in result.out + result.err]
    written = [path for path in machine.home.root.rglob("*") if path.is_file() and path != file]
    assert not [path for path in written if CANARY.encode() in path.read_bytes()]
    assert any(path.name == "state.db" for path in written)


def looked(machine: Supplied, environments: dict[str, dict[str, str]]) -> bool:
    """Whether the environments of the real converter and of the server have been seen."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            who = words[3] if words[1:3] == ["-m", "mlx_lm"] else ""
            if who in ("convert", "server") and any(str(machine.home.root) in word for word in words):
                environments[who] = process.environ()
    return len(environments) == 2
