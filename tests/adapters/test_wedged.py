"""A server that is busy is told from one that is wedged: real processes with real clients, at a quicker pace."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reconciler.adapters.connections import Connections, connections
from reconciler.adapters.diagnosis import LogDiagnosis
from reconciler.adapters.inquiry import MISSES, Pace
from reconciler.adapters.listeners import LocalListeners
from reconciler.adapters.prober import CompletionProber
from reconciler.adapters.process_table import session_cpu_seconds
from reconciler.model.ledger import ServiceProof
from reconciler.model.observed import Health, ServerProcess, Standing
from tests.adapters.asking import Counting, FreePorts, in_a_loop

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(sys.platform != "linux", reason="how many bytes went each way is counted by Linux"),
]

PROGRAM = Path(__file__).resolve().parents[1] / "programs" / "wedging_server.py"
PACE = Pace(shortest=0.2, longest=0.3, look=0.05, standstill=0.25, misses=0.9)
DEADLINE = 30.0
LOOKS = 30
"""Looks after which a wedged server has long been found."""
DIED = (
    "2026-11-21 10:00:00,000 - ERROR - mlx_lm.server generation thread died: x\nTraceback (most recent call last):\n"
    '  File "/venv/mlx_lm/server.py", line 9, in _generate\n    run()\nRuntimeError: x\n'
)


class Watched:
    """A server process that was proved, whoever is connected to it, and the prober that watches it."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path, pace: Pace) -> None:
        self.backend = Counting()
        self.looks = 0
        self.walks = 0
        self.process = process
        self.log = log
        self._clients: list[asyncio.StreamWriter] = []
        backends = {"mlx-lm": self.backend}
        self.prober = CompletionProber(
            backends, LogDiagnosis(backends), LocalListeners().look, lambda: 1e6, self._cpu, self._traffic, pace
        )
        self.server = ServerProcess(
            label="it",
            port=port,
            standing=Standing.OURS,
            pid=process.pid,
            started=1,
            since=1e6 - 60,
            served_name="default_model",
            fields={"backend": "mlx-lm"},
            log=str(log),
        )

    def _cpu(self, leaders: Collection[int]) -> dict[int, float]:
        self.walks += 1
        return session_cpu_seconds(leaders)

    def _traffic(self, ports: Collection[int]) -> Connections:
        self.looks += 1
        return connections(ports)

    def now(self) -> ServerProcess:
        return self.prober.judged(self.server, None)

    async def becomes(self, health: Health) -> ServerProcess:
        await self.until(lambda: self.now().health is health)
        return self.now()

    async def looked(self, times: int = LOOKS) -> ServerProcess:
        """As it is judged after some more looks."""
        wanted = self.looks + times
        await self.until(lambda: self.looks >= wanted or self.now().health is not Health.SERVING)
        return self.now()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - nobody sets an event for it
                await asyncio.sleep(0.01)

    async def client(self, *, stream: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Somebody who asks."""
        reader, writer = await self.connected()
        self.ask(writer, stream=stream)
        return reader, writer

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Somebody who says nothing; the connection stays."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self._clients.append(writer)
        return reader, writer

    def ask(self, writer: asyncio.StreamWriter, *, stream: bool = False) -> None:
        body = b'{"stream": true}' if stream else b'{"stream": false}'
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)


@asynccontextmanager
async def watched(port: int, folder: Path, then: str, good: int = 2, pace: Pace = PACE) -> AsyncIterator[Watched]:
    """A server that is proved by its first two completions."""
    log = folder / "log"
    flags = [f"--port={port}", f"--good={good}", f"--then={then}"]
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
            [sys.executable, "-S", str(PROGRAM), *flags], stderr=file, stdin=subprocess.DEVNULL, start_new_session=True
        )
    made = Watched(process, port, log, pace)
    try:
        await made.becomes(Health.SERVING)
        assert made.backend.count == 2
        yield made
    finally:
        await made.prober.close()
        process.kill()
        process.wait()


@pytest.mark.fault("P08")
@pytest.mark.parametrize("then", ["silent", "headers"])
@in_a_loop
async def test_p08_one_that_lets_a_client_hang_and_answers_no_question_is_useless(
    tmp_path: Path, free_ports: FreePorts, then: str
) -> None:
    async with watched(free_ports(1)[0], tmp_path, then) as it:
        await it.client()
        found = await it.becomes(Health.ZOMBIE)
        assert found.cause == "unresponsive"
        assert not found.permanent
        assert "it has answered before" in found.detail
        assert it.backend.count >= 2 + MISSES


@pytest.mark.fault("P08")
@pytest.mark.parametrize("how", ["a new request", "in the middle of an answer", "before it is accepted"])
@in_a_loop
async def test_p08_one_that_is_stopped_is_useless(tmp_path: Path, free_ports: FreePorts, how: str) -> None:
    async with watched(free_ports(1)[0], tmp_path, "stream") as it:
        if how == "in the middle of an answer":
            reader, _ = await it.client(stream=True)
            await reader.readuntil(b"data: ")
            os.kill(it.process.pid, signal.SIGSTOP)
        elif how == "a new request":
            _, writer = await it.connected()
            await it.looked(2)
            os.kill(it.process.pid, signal.SIGSTOP)
            it.ask(writer)
        else:
            os.kill(it.process.pid, signal.SIGSTOP)
            await it.client()
        assert (await it.becomes(Health.ZOMBIE)).cause == "unresponsive"


@in_a_loop
async def test_one_that_streams_slowly_is_left_alone(tmp_path: Path, free_ports: FreePorts) -> None:
    async with watched(free_ports(1)[0], tmp_path, "stream", pace=Pace(look=0.2, standstill=1.0, misses=0.5)) as it:
        reader, _ = await it.client(stream=True)
        for _ in range(3):  # others wait meanwhile
            await it.client()
        assert (await it.looked(12)).health is Health.SERVING
        assert it.backend.count == 2, "nobody is asked who is at work"
        assert await reader.readuntil(b"data: ")


@in_a_loop
async def test_one_that_computes_and_says_nothing_is_left_alone(tmp_path: Path, free_ports: FreePorts) -> None:
    async with watched(free_ports(1)[0], tmp_path, "compute", pace=Pace(look=0.2, standstill=1.0, misses=0.5)) as it:
        await it.client(stream=True)
        assert (await it.looked(12)).health is Health.SERVING
        assert it.backend.count == 2


@in_a_loop
async def test_a_missing_answer_is_no_miss_while_others_get_theirs(tmp_path: Path, free_ports: FreePorts) -> None:
    async with watched(free_ports(1)[0], tmp_path, "stream") as it:
        await it.client(stream=True)
        with it.log.open("a") as log:
            log.write(DIED)
        await it.until(lambda: it.now().health is not Health.SERVING or it.backend.count > 2)
        assert (await it.looked()).health is Health.SERVING
        assert it.backend.count == 3, "what its log said was reason to ask once"


@in_a_loop
async def test_a_pool_of_idle_connections_costs_one_question(tmp_path: Path, free_ports: FreePorts) -> None:
    async with watched(free_ports(1)[0], tmp_path, "well") as it:
        clients = [await it.client() for _ in range(3)]
        for reader, _ in clients:
            assert b"pong" in await reader.readuntil(b"pong")
        await it.until(lambda: it.backend.count > 2)
        assert (await it.looked()).health is Health.SERVING
        assert it.backend.count == 3
        for reader, writer in clients:
            it.ask(writer)
            assert b"pong" in await reader.readuntil(b"pong")
        assert (await it.looked()).health is Health.SERVING
        assert it.backend.count == 3, "a pool that was used is idle again"
        os.kill(it.process.pid, signal.SIGSTOP)
        it.ask(clients[0][1])
        assert (await it.becomes(Health.ZOMBIE)).cause == "unresponsive"


@in_a_loop
async def test_one_that_comes_back_from_swap_stays(tmp_path: Path, free_ports: FreePorts) -> None:
    async with watched(free_ports(1)[0], tmp_path, "late") as it:
        reader, writer = await it.connected()
        await it.until(lambda: it.backend.count > 3)  # the first two of those came too late
        assert (await it.looked()).health is Health.SERVING
        it.ask(writer)
        assert b"pong" in await reader.readuntil(b"pong")


@in_a_loop
async def test_one_that_answers_as_another_model_is_useless(tmp_path: Path, free_ports: FreePorts) -> None:
    async with watched(free_ports(1)[0], tmp_path, "other") as it:
        await it.connected()
        found = await it.becomes(Health.ZOMBIE)
        assert (found.cause, found.permanent) == ("wrong-model", True)


@in_a_loop
async def test_servers_without_clients_cost_one_look_and_no_question(tmp_path: Path, free_ports: FreePorts) -> None:
    async with watched(free_ports(1)[0], tmp_path, "well") as it:
        for number in range(40):
            other = ServerProcess(
                label=f"other{number}",
                port=it.server.port,
                standing=Standing.OURS,
                pid=it.server.pid,
                started=1,
                served_name="default_model",
                fields={"backend": "mlx-lm"},
            )
            proof = ServiceProof(instance=other.instance, at=1e6)
            assert it.prober.judged(other, proof).health is Health.SERVING
        await it.looked(2)
        asked, looks, walks = it.backend.count, it.looks, it.walks
        os.kill(it.process.pid, signal.SIGSTOP)
        time = asyncio.get_running_loop().time
        began = time()
        await it.looked(10)
        assert it.looks - looks <= (time() - began) / PACE.look + 1, "one for all of them"
        assert (it.backend.count, it.walks) == (asked, walks)
        assert it.now().health is Health.SERVING
