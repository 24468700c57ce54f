"""Whose listener it is that answers, as far as the machine says; one look at the ports serves all who ask."""

import asyncio
import os
import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from reconciler.adapters.diagnosis import LogDiagnosis
from reconciler.adapters.prober import CompletionProber
from reconciler.backends.mlx_lm import MlxLm
from reconciler.model.ledger import ServiceProof
from reconciler.model.observed import Health, Listener, Observation, Present, Unknown

from .asking import COMPLETION, DEADLINE, EPOCH, in_a_loop, listening, server


@pytest.mark.fault("P03")
@pytest.mark.parametrize("seen", [Present(value=Listener(port=1)), Unknown(reason="no answer in time")])
@in_a_loop
async def test_p03_a_listener_that_is_not_named_proves_nobody(seen: Observation[Listener]) -> None:
    """It may be another user's: its completions are no proof of our process, and it is not even asked."""
    async with listening(COMPLETION) as stub:
        backends = {"mlx-lm": MlxLm()}
        prober = CompletionProber(
            backends, LogDiagnosis(backends), lambda ports: dict.fromkeys(ports, seen), lambda: EPOCH
        )
        try:
            process = server(stub.port)
            async with asyncio.timeout(DEADLINE):
                while prober.judged(process, None).cause != "listener-unnamed":
                    await prober.changed()
            assert prober.judged(process, None).health is Health.STARTING
            assert stub.asked == []
            proof = ServiceProof(instance=process.instance, at=EPOCH - 1)
            assert prober.judged(replace(process, label="known"), replace(proof)).health is Health.SERVING
        finally:
            await prober.close()


@in_a_loop
async def test_one_look_at_the_ports_serves_all_servers() -> None:
    """A look takes 50 ms where lsof answers: forty servers must not take forty of them."""
    looks = 0

    def look(ports: Iterable[int]) -> dict[int, Observation[Listener]]:
        nonlocal looks
        looks += 1
        time.sleep(0.02)
        return {port: Present(value=Listener(port=port, pid=os.getpid())) for port in ports}

    backends = {"mlx-lm": MlxLm()}
    prober = CompletionProber(backends, LogDiagnosis(backends), look, lambda: EPOCH)
    servers = [server(8100 + number, f"m{number}") for number in range(20)]
    proofs = [ServiceProof(instance=process.instance, at=EPOCH - 1) for process in servers]
    try:
        for process, proof in zip(servers, proofs, strict=True):
            prober.judged(process, proof)
        looks = 0
        for process, proof in zip(servers, proofs, strict=True):
            assert prober.judged(process, proof).health is Health.SERVING
        assert looks <= 1
    finally:
        await prober.close()
