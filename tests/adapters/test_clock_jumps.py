"""What a jump of the clock does to servers that are asked: the machine slept, or somebody set it."""

import asyncio
from pathlib import Path

import pytest

from reconciler.model.observed import Health
from tests.adapters.asking import (
    COMPLETION,
    EPOCH,
    NOT_YET,
    asking,
    in_a_loop,
    listening,
    server,
    until,
)


@pytest.mark.fault("X10", "X09")
@pytest.mark.parametrize("jump", [8 * 3600.0, -3600.0])
@in_a_loop
async def test_x10_a_machine_that_slept_has_waited_for_nobody(jump: float) -> None:
    async with listening(NOT_YET) as stub, asking() as asker:
        process = server(stub.port)
        asker.prober.judged(process, None)
        await until(lambda: stub.asked, "it is asked")
        asker.now += jump
        found = await asker.says(process, lambda it: it.cause == "loading")
        assert found.health is Health.STARTING
        assert found.asked_since == EPOCH + jump, "the hours do not count as time that its start takes"


@pytest.mark.fault("X10")
@in_a_loop
async def test_x10_after_a_sleep_nobody_is_asked_for_being_old(tmp_path: Path) -> None:
    async with listening(COMPLETION) as stub, asking() as asker:
        process = server(stub.port)
        await asker.becomes(process, Health.SERVING)
        asker.now += 8 * 3600
        for _ in range(20):
            assert asker.prober.judged(process, None).health is Health.SERVING
            await asyncio.sleep(0)
        assert len(stub.asked) == 2
