"""The ends of real processes."""

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from reconciler.adapters.exits import Exits

Child = subprocess.Popen[bytes]


@pytest.fixture
def children() -> Iterator[list[Child]]:
    """Three that run until they are ended."""
    made = [subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) for _ in range(3)]
    yield made
    for child in made:
        child.kill()
        child.wait()
        if child.stdin is not None:
            child.stdin.close()


@pytest.fixture
def exits() -> Iterator[Exits]:
    made = Exits()
    yield made
    made.close()


def after(exits: Exits, pids: list[int], *ended: Child) -> frozenset[int]:
    """Who is told of once these have been ended, while all of `pids` are waited for."""

    async def main() -> frozenset[int]:
        waiting = asyncio.ensure_future(exits.next(pids))
        await asyncio.sleep(0)
        assert not waiting.done()
        for child in ended:
            child.kill()
        return await asyncio.wait_for(waiting, 10)

    return asyncio.run(main())


def test_each_end_is_told_by_its_pid(exits: Exits, children: list[Child]) -> None:
    pids = [child.pid for child in children]
    assert after(exits, pids, children[1]) == {pids[1]}
    assert after(exits, [pids[0], pids[2]], children[2]) == {pids[2]}


def test_one_that_ended_while_nobody_waited_is_told_at_once(exits: Exits, children: list[Child]) -> None:
    pids = [child.pid for child in children]
    after(exits, pids, children[0])
    children[1].kill()
    children[1].wait()
    assert asyncio.run(exits.next(pids[1:])) == {pids[1]}


def test_one_that_is_not_there_has_ended(exits: Exits, children: list[Child]) -> None:
    children[0].kill()
    children[0].wait()
    assert asyncio.run(exits.next([children[0].pid])) == {children[0].pid}


def test_nobody_asks_for_it_any_more(exits: Exits, children: list[Child]) -> None:
    pids = [child.pid for child in children]
    after(exits, pids, children[0])
    assert after(exits, [pids[2]], children[1], children[2]) == {pids[2]}


def test_a_wait_is_begun_anew_after_it_was_closed(exits: Exits, children: list[Child]) -> None:
    pids = [child.pid for child in children]
    after(exits, pids, children[0])
    exits.close()
    assert after(exits, pids[1:], children[2]) == {pids[2]}


def test_without_a_descriptor_nothing_is_told_and_nothing_fails(exits: Exits, children: list[Child]) -> None:
    async def main() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))), hard))
        taken = []
        try:
            with suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            waiting = asyncio.ensure_future(exits.next([children[0].pid]))
            await asyncio.sleep(0)
            assert not waiting.done()
            waiting.cancel()
        finally:
            for handle in taken:
                os.close(handle)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    asyncio.run(main())
    assert after(exits, [child.pid for child in children], children[0]) == {children[0].pid}


def test_the_end_of_one_that_nobody_waits_for_is_not_told_by_a_copy_of_its_descriptor(
    exits: Exits, children: list[Child]
) -> None:
    """A child that is being started has copies of all descriptors until its program runs."""
    pids = [child.pid for child in children]
    after(exits, pids, children[0])
    reading, writing = os.pipe()
    holder = os.fork()
    if not holder:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        after(exits, pids[1:2], children[1])
        children[2].kill()
        children[2].wait()
        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(asyncio.wait_for(exits.next([os.getpid()]), 0.1))
    finally:
        os.close(writing)
        os.waitpid(holder, 0)
        os.close(reading)
