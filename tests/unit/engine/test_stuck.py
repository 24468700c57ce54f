"""A server that nothing ends: its port and its memory stay taken, and nobody hammers at it (fault R13).

No process of ours can be made to survive SIGKILL, so the adapter is given a prover that sees one survive, and the loop
a world in which every stop fails.
"""

import asyncio
import subprocess
import sys
from dataclasses import replace

import pytest

from reconciler.adapters import stopping
from reconciler.adapters.listeners import LocalListeners
from reconciler.adapters.process_table import seen
from reconciler.adapters.proof import Proof
from reconciler.adapters.records import Record
from reconciler.model.desired import ModelSpec, Source
from reconciler.model.observed import ServerProcess, Standing
from reconciler.planning.backoff import CAP
from reconciler.ports.errors import ActionError
from tests.world.drive import Scenario
from tests.world.script import Fault, Script
from tests.world.world import World

from .test_journal import scenario, settle


@pytest.mark.fault("R13")
def test_r13_who_survives_sigkill_is_named_and_its_record_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "KILL_SECONDS", 0.3)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True) as child:
        alive = seen(child.pid)
        assert alive is not None
        server = ServerProcess(
            label="fast", port=8100, standing=Standing.OURS, pid=child.pid, started=alive.started, fields={}
        )
        proof = Proof(standing=Standing.OURS, members=(child.pid,), leader=alive)
        looked: list[str] = []

        def look() -> tuple[Record, Proof]:
            return record(server), proof

        ending = stopping.Stopping(server, look, LocalListeners(), looked.append)
        with pytest.raises(ActionError) as caught:
            asyncio.run(ending.run(grace=0.1))
        assert child.wait(10) < 0, "it was told to end"
    assert caught.value.cause == "stuck"
    assert str(child.pid) in caught.value.message


def record(server: ServerProcess) -> Record:
    return Record(
        label=server.label,
        port=server.port,
        host="127.0.0.1",
        token="t",
        boot_id="b",
        spec_hash="a",
        fields={},
        artifact="",
        served_name="",
        memory=0,
        since=0.0,
        log="",
        log_start=0,
        argv=(),
        pid=server.pid,
        started=server.started,
    )


@pytest.mark.fault("R13")
def test_r13_nothing_is_started_on_its_port_and_it_is_not_hammered_at() -> None:
    calm = scenario(["deep", "fast"])
    world = calm.world()
    settle(calm, world)
    port = world.truth.records["fast"].process.port
    models = {
        "deep": calm.desired.state.models["deep"],
        "heir": ModelSpec(source=Source(repo="org/fast"), port=port),
    }
    edited = replace(calm.desired, state=replace(calm.desired.state, models=models), revision="worktree:1")
    # The first request is the withdrawal of its route; after it, whatever is asked fails.
    script = Script(faults=(None, *[Fault.FAIL] * 2_000))
    given = Scenario(desired=edited, host_file=calm.host_file, truth=world.truth, script=script)
    stuck = World(world.truth, calm.host_file, script, world.time)
    began = stuck.now
    settle(given, stuck)
    stuck.verify()
    asked = [request.at - began for request in stuck.requests if request.kind == "stop"]
    assert stuck.truth.records["fast"].live(stuck.now)
    assert "heir" not in stuck.truth.records
    assert stuck.truth.records["deep"].live(stuck.now)
    hours = (stuck.now - began) / 3600
    assert len([at for at in asked if at > 3600]) <= (hours - 1) * 3600 / (CAP / 4), "a try in a while, not a storm"
    assert len([at for at in asked if at < 60]) <= 8
