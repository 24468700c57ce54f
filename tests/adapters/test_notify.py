"""Notifications reach real programs and real web servers, or it is said once why not; nobody waits for another."""

import asyncio
import gc
import json
import os
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from reconciler.adapters.notify.command import Command
from reconciler.adapters.notify.courier import QUEUE, Couriers, Receiver, Undelivered
from reconciler.adapters.notify.webhook import LONGEST, TRIES, Webhook
from tests.e2e.watching import alive, until
from tests.ports import free_ports

SECRET = "T0/B0/s3cr3t"
BODY = b'{"text": "held"}'
NOW = 1_000_000.0
Answer = web.Response | None
"""None: it never answers."""


def ok() -> web.Response:
    return web.Response(text="ok")


async def posted(*answers: Callable[[], Answer], timeout: float = 10.0) -> tuple[list[bytes], str]:
    """Deliver to a server with these answers, the last one again and again: what arrived, and why it failed."""
    arrived: list[bytes] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        arrived.append(await request.read())
        made = answers[min(len(arrived), len(answers)) - 1]()
        if made is None:
            await asyncio.sleep(3600)
        assert made is not None
        return made

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    [port] = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        address = f"http://127.0.0.1:{port}/services/{SECRET}"
        return arrived, await failure(Webhook(address, timeout, lambda: NOW, pause=0.0).deliver)
    finally:
        await runner.cleanup()


async def failure(deliver: Callable[[bytes], Awaitable[None]]) -> str:
    """Why it did not arrive; empty: it did."""
    try:
        await deliver(BODY)
    except Undelivered as error:
        return str(error)
    return ""


# ----------------------------------------------------------------------------------------------------------- webhooks


def test_an_address_gets_one_json_object() -> None:
    assert asyncio.run(posted(ok)) == ([BODY], "")


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_it_is_tried_again_while_the_other_side_is_in_trouble(status: int) -> None:
    def trouble() -> web.Response:
        return web.Response(status=status)

    assert asyncio.run(posted(trouble, trouble, ok)) == ([BODY] * 3, "")
    assert asyncio.run(posted(trouble)) == ([BODY] * TRIES, f"it answered {status}, {TRIES} times")


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_what_is_refused_is_not_tried_again(status: int) -> None:
    arrived, why = asyncio.run(posted(lambda: web.Response(status=status), ok))
    assert (len(arrived), why) == (1, f"it answered {status}")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    arrived, why = asyncio.run(posted(lambda: web.Response(status=status, headers={"Location": "/elsewhere"}), ok))
    assert (len(arrived), why) == (1, f"it answered {status}")


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(f"{LONGEST + 1:.0f}", f"{LONGEST + 1:.0f} s"), ("Mon, 12 Jan 1970 14:46:40 GMT", "3600 s")],
    ids=["seconds", "a date"],
)
def test_who_asks_to_be_left_alone_for_long_is_left_alone(asked: str, seconds: str) -> None:
    arrived, why = asyncio.run(posted(lambda: web.Response(status=503, headers={"Retry-After": asked}), ok))
    assert (len(arrived), why) == (1, f"it answered 503, and wants to be left alone for {seconds}")


@pytest.mark.parametrize("asked", ["0", "soon", "-5", "Mon, 12 Jan 1970 13:46:39 GMT"])
def test_who_asks_for_nothing_in_particular_is_tried_again(asked: str) -> None:
    arrived, why = asyncio.run(posted(lambda: web.Response(status=503, headers={"Retry-After": asked}), ok))
    assert (len(arrived), why) == (2, "")


def test_one_that_never_answers_is_given_up() -> None:
    arrived, why = asyncio.run(posted(lambda: None, timeout=0.1))
    assert (len(arrived), why) == (TRIES, f"it did not answer in 0.1 s, {TRIES} times")


@pytest.mark.fault("S17")
def test_nobody_is_there_and_the_address_is_not_said() -> None:
    [port] = free_ports(1)
    address = f"http://127.0.0.1:{port}/services/{SECRET}"
    why = asyncio.run(failure(Webhook(address, 10, lambda: NOW, pause=0.0).deliver))
    assert why == f"it cannot be reached (Connection refused), {TRIES} times"
    assert (
        asyncio.run(failure(Webhook(f"http://nobody.invalid/{SECRET}", 10, lambda: NOW, pause=0.0).deliver)).count(
            SECRET
        )
        == 0
    )


def test_something_else_than_a_web_server_is_given_up() -> None:
    async def talk() -> str:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"220 mail.example ESMTP\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await failure(Webhook(f"http://127.0.0.1:{port}/", 10, lambda: NOW, pause=0.0).deliver)

    assert asyncio.run(talk()).startswith("what answers there is no web server")


# ----------------------------------------------------------------------------------------------------------- commands


def program(folder: Path, text: str) -> str:
    """A script of the user."""
    path = folder / "tell"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def run(command: Command) -> str:
    return asyncio.run(failure(command.deliver))


def test_a_program_reads_one_json_object_and_the_end(tmp_path: Path) -> None:
    told = program(tmp_path, f'cat > "$1"; ps -o sid= -p $$ > {tmp_path}/session; env > {tmp_path}/env; echo noise >&2')
    own = {"PATH": os.environ["PATH"], "HOME": "/home/me", "HF_TOKEN": "hf_x", "LD_PRELOAD": "x", "LC_ALL": "C"}
    assert run(Command((told, f"{tmp_path}/a b"), 10, own)) == ""
    assert (tmp_path / "a b").read_bytes() == BODY
    given = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert (given["HOME"], given["LC_ALL"]) == ("/home/me", "C")
    assert not {"HF_TOKEN", "LD_PRELOAD"} & given.keys()
    assert int((tmp_path / "session").read_text()) != os.getsid(0)


def test_a_program_need_not_read(tmp_path: Path) -> None:
    assert run(Command((program(tmp_path, "exit 0"),), 10, os.environ)) == ""


def test_a_program_that_is_found_by_its_name(tmp_path: Path) -> None:
    program(tmp_path, f"cat > {tmp_path}/told")
    assert run(Command(("tell",), 10, {"PATH": f"{tmp_path}:/usr/bin:/bin"})) == ""
    assert (tmp_path / "told").read_bytes() == BODY


@pytest.mark.parametrize(
    ("text", "why"), [("exit 3", "it ended with 3"), ("kill -TERM $$", "it was ended by signal 15")]
)
def test_a_program_that_fails(tmp_path: Path, text: str, why: str) -> None:
    assert run(Command((program(tmp_path, text),), 10, os.environ)) == why


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    assert run(Command((f"{tmp_path}/nothing",), 10, os.environ)) == f"there is no program {tmp_path}/nothing"


def test_a_program_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    told = program(tmp_path, f"sleep 1000 & echo $$ $! > {tmp_path}/pids; trap '' TERM; wait")
    assert run(Command((told,), 1.0, os.environ)) == "it took longer than 1 s and was ended"
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    until(lambda: not any(alive(pid) for pid in pids), "both are gone")


def test_a_program_is_ended_with_the_watch(tmp_path: Path) -> None:
    told = program(tmp_path, f"echo $$ > {tmp_path}/pid.tmp; mv {tmp_path}/pid.tmp {tmp_path}/pid; sleep 1000")

    async def begin_and_end() -> None:
        task = asyncio.create_task(Command((told,), 600, os.environ).deliver(BODY))
        await asyncio.to_thread(until, (tmp_path / "pid").exists, "it runs")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(begin_and_end())
    assert not alive(int((tmp_path / "pid").read_text()))


# ------------------------------------------------------------------------------------------------------------- queues


class Listener:
    """A receiver that does as it is told, and remembers."""

    def __init__(self, *failures: str) -> None:
        self.told: list[dict[str, Any]] = []
        self.open = asyncio.Event()
        self.open.set()
        self._failures = list(failures)

    async def deliver(self, body: bytes) -> None:
        self.told.append(json.loads(body))
        await self.open.wait()
        if self._failures and (why := self._failures.pop(0)):
            raise Undelivered(why)

    def receiver(self, name: str = "notify[0]", on: tuple[str, ...] = ("held", "paused")) -> Receiver:
        return Receiver(name=name, on=on, deliver=self.deliver)

    @property
    def numbers(self) -> list[int]:
        return [entry["number"] for entry in self.told]


def notice(number: int, on: str = "held") -> dict[str, Any]:
    return {"on": on, "subject": f"server/{number}", "number": number}


class Notice(dict[str, Any]):
    """One that can be watched."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


async def idle() -> None:
    """Until whatever can be done has been."""
    for _ in range(500):
        await asyncio.sleep(0)


def test_everybody_is_told_what_they_want_in_its_order() -> None:
    async def story() -> tuple[list[int], list[int]]:
        one, other = Listener(), Listener()
        couriers = Couriers((one.receiver(), other.receiver(on=("paused",))), print)
        for number in range(4):
            couriers.send(notice(number, on="paused" if number == 2 else "held"))
        await couriers.close()
        return one.numbers, other.numbers

    assert asyncio.run(story()) == ([0, 1, 2, 3], [2])


def test_one_that_hangs_holds_up_nobody_else_and_not_the_end() -> None:
    async def story() -> tuple[list[int], list[int], list[str]]:
        said: list[str] = []
        hangs, other = Listener(), Listener()
        hangs.open.clear()
        couriers = Couriers((hangs.receiver(), other.receiver("notify[1]")), said.append, grace=0.05)
        for number in range(3):
            couriers.send(notice(number))
        await couriers.close()
        couriers.send(notice(9))
        await idle()
        return hangs.numbers, other.numbers, said

    arrived = "3 notifications (held server/0, held server/1, held server/2)"
    assert asyncio.run(story()) == ([0], [0, 1, 2], [f"notify[0]: {arrived} did not arrive before the end"])


def test_the_oldest_are_dropped_and_that_is_said_on_both_sides() -> None:
    async def story() -> tuple[Listener, list[str]]:
        said: list[str] = []
        slow = Listener()
        slow.open.clear()
        couriers = Couriers((slow.receiver(),), said.append)
        for number in range(QUEUE + 6):
            couriers.send(notice(number))
            if number == 0:
                await idle()  # it is on its way, and not in the queue any more
        slow.open.set()
        await couriers.close()
        return slow, said

    slow, said = asyncio.run(story())
    assert slow.numbers == [0, *range(6, QUEUE + 6)]
    assert [entry["dropped"] for entry in slow.told] == [0, 5, *[0] * (QUEUE - 1)]
    assert said == [
        "notify[0] does not keep up: 5 notifications (held server/1, held server/2, held server/3, ...) dropped"
    ]


def test_what_one_that_hangs_for_long_has_lost_is_counted_and_not_kept() -> None:
    """Every notification that was dropped stayed in memory until the next delivery."""

    async def story() -> tuple[int, list[str]]:
        said: list[str] = []
        hangs = Listener()
        hangs.open.clear()
        couriers = Couriers((hangs.receiver(),), said.append, grace=0.0)
        couriers.send(notice(0))
        await idle()
        last = weakref.WeakSet[Notice]()
        for number in range(1, 1_000):
            payload = Notice(notice(number))
            last.add(payload)
            couriers.send(payload)
        del payload
        gc.collect()
        kept = len(last)
        await couriers.close()
        return kept, said

    kept, said = asyncio.run(story())
    assert kept == QUEUE
    first = "held server/1, held server/2, held server/3, ..."
    assert said == [f"notify[0]: 1000 notifications ({first}) did not arrive before the end"]


def test_a_failure_is_said_once_until_it_works_again() -> None:
    async def story() -> tuple[list[int], list[str]]:
        said: list[str] = []
        listener = Listener("no", "no", "", "gone", "gone")
        couriers = Couriers((listener.receiver(),), said.append)
        for number in range(5):
            couriers.send(notice(number))
        await couriers.close()
        return listener.numbers, said

    numbers, said = asyncio.run(story())
    assert numbers == [0, 1, 2, 3, 4]
    assert said == [f"notify[0] was not told: {why}; that is said once, until it works again" for why in ("no", "gone")]


def test_a_receiver_with_a_bug_ends_nothing() -> None:
    async def story() -> list[str]:
        said: list[str] = []

        async def broken(body: bytes) -> None:
            raise ZeroDivisionError("of a stranger")

        other = Listener()
        couriers = Couriers((Receiver(name="x", on=("held",), deliver=broken), other.receiver("y")), said.append)
        couriers.send(notice(1))
        couriers.send(notice(2))
        await couriers.close()
        assert other.numbers == [1, 2]
        return said

    assert asyncio.run(story()) == [
        "x was not told: ZeroDivisionError: of a stranger; that is said once, until it works again"
    ]


def test_nobody_to_tell_is_no_trouble() -> None:
    async def story() -> None:
        couriers = Couriers((), print)
        couriers.send(notice(1))
        await couriers.close()
        await Couriers((Listener().receiver(),), print).close()

    asyncio.run(story())
