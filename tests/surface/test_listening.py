"""The page over real sockets: what it sends again, what it costs, who follows it, and where it listens."""

import asyncio
import gzip
import socket
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import psutil
import pytest

from reconciler.engine.loop import Engine, Tick
from reconciler.model.event import Event, EventKind
from reconciler.model.host import HostFile, StatusPage
from reconciler.model.names import server_subject
from reconciler.planning.forecast import NotConvergent
from reconciler.planning.plan import Decision, Planner
from reconciler.surface.page.answering import STREAMS
from reconciler.surface.page.board import About, Board
from reconciler.surface.page.listening import Page
from tests.golden.story import NOW, planner
from tests.surface import studio
from tests.surface.served import ask, hints, machine, said, serving
from tests.unit.engine.test_journal import scenario
from tests.world.drive import PATIENCE, Edited, eyes
from tests.world.virtual_time import run

PATHS: Final = ("/", "/status.json", "/metrics", "/page.css", "/page.js", "/icon.svg")
TICK: Final = studio.tick(studio.facts())


@pytest.mark.parametrize("path", PATHS)
def test_what_a_reader_has_is_not_sent_again(path: str) -> None:
    async def main() -> None:
        async with serving(TICK) as served:
            first = await ask(served.port, path)
            tag = first.header("ETag")
            assert tag.startswith('W/"')
            for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
                again = await ask(served.port, path, If_None_Match=known)
                assert (again.status, again.body, again.header("ETag")) == (304, b"", tag), known
            for unknown in ('"other"', "rubbish", '"'):
                assert (await ask(served.port, path, If_None_Match=unknown)).status == 200, unknown
            packed = await ask(served.port, path, Accept_Encoding="br, gzip")
            if len(first.body) > 1024:
                assert packed.header("Content-Encoding") == "gzip"
                assert gzip.decompress(_unchunked(packed.body, packed.headers)) == first.body
            head = await ask(served.port, path, "HEAD")
            assert (head.status, head.body, head.header("ETag")) == (200, b"", tag)

    asyncio.run(main())


def _unchunked(body: bytes, headers: dict[str, list[str]]) -> bytes:
    if headers.get("transfer-encoding") != ["chunked"]:
        return body
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + body[:length], body[length + 2 :]
    return whole


def test_another_look_has_another_tag() -> None:
    async def main() -> None:
        async with serving(TICK) as served:
            tags = {(await ask(served.port, path)).header("ETag") for path in ("/", "/status.json", "/metrics")}
            served.page.told(studio.tick(studio.facts(NOW + 60)))
            again = {(await ask(served.port, path)).header("ETag") for path in ("/", "/status.json", "/metrics")}
            assert not tags & again

    asyncio.run(main())


def test_before_the_first_look_nothing_is_said() -> None:
    async def main() -> None:
        async with serving() as served:
            for path in ("/", "/status.json", "/metrics"):
                answer = await ask(served.port, path)
                assert (answer.status, answer.body[:14]) == (503, b"The first look")
            served.page.told(TICK)
            assert (await ask(served.port, "/")).status == 200

    asyncio.run(main())


class Endless(Planner):
    """A planner with a bug: it always wants something."""

    def decide(self, *args: Any, **kwargs: Any) -> Decision:
        raise NotConvergent("no end")


def test_a_plan_without_an_end_does_not_hide_the_rest() -> None:
    endless = Endless(planner().backends, planner().verbs)
    board = Board(About(planner=endless, state=machine().state, file="f", host="h", homes=()))
    board.told(TICK)
    assert board.now is not None
    assert board.now.document.plan is None
    assert "It could not be foreseen." in board.now.page.body.decode()
    assert board.now.document.servers


class Counting(Planner):
    """How often somebody has wanted to know what follows."""

    decided = 0

    def decide(self, *args: Any, **kwargs: Any) -> Decision:
        Counting.decided += 1
        return super().decide(*args, **kwargs)


def test_nothing_is_made_while_nobody_asks_and_nothing_twice() -> None:
    Counting.decided = 0
    board = Board(
        About(
            planner=Counting(planner().backends, planner().verbs), state=machine().state, file="f", host="h", homes=()
        )
    )
    for _ in range(1000):
        board.told(TICK)
    assert Counting.decided == 0
    assert board.now is not None
    board.metrics(board.now)
    assert Counting.decided == 0
    pages = {(board.now.page.tag, board.now.status.tag, board.now.state) for _ in range(10)}
    assert len(pages) == 1
    once = Counting.decided
    assert once > 0
    board.told(TICK)
    board.metrics(board.now)
    assert Counting.decided == once


def test_who_follows_is_told_of_every_look_and_whether_it_is_new() -> None:
    async def main() -> None:
        async with serving(TICK) as served, hints(served) as told:
            first = await anext(told)
            page = (await ask(served.port)).body.decode()
            assert f'data-state="{first["state"]}"' in page
            later = replace(TICK.decision.view.facts, now=NOW + 1)
            served.page.told(studio.tick(later))
            second = await anext(told)
            assert second["at"] == first["at"] + 1
            assert second["state"] == first["state"], "nothing but the time is new"
            served.page.told(studio.tick(studio.paused(later)))
            assert (await anext(told))["state"] != first["state"]
            served.page.failed(OSError("the disk is gone"))
            assert (await anext(told))["state"] != first["state"]
            assert "the disk is gone" in (await ask(served.port)).body.decode()

    asyncio.run(main())


def test_a_watch_that_ends_waits_for_nobody_who_follows() -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            async with serving(TICK) as served:
                reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
                writer.write(f"GET /events HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode())
                await reader.readuntil(b"data: ")
            await reader.read()
            writer.close()
            with pytest.raises(ConnectionError):
                await ask(served.port)

    asyncio.run(main())


def test_only_so_many_may_follow() -> None:
    async def main() -> None:
        async with serving(TICK) as served:
            socks = []
            request = f"GET /events HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode()
            for _ in range(STREAMS):
                reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
                writer.write(request)
                assert b"200" in await reader.readline()
                socks.append(writer)
            assert (await ask(served.port, "/events")).status == 503
            for writer in socks:
                writer.close()
            async with asyncio.timeout(20):
                while (await ask(served.port, "/metrics")).status != 200:
                    pass

    asyncio.run(main())


@pytest.mark.fault("X24")
def test_a_port_that_somebody_has_is_left_to_him_and_the_watch_goes_on() -> None:
    async def main(taken: socket.socket) -> None:
        port = taken.getsockname()[1]
        async with serving(TICK, port=port) as served:
            assert served.address == ""
            (warning,) = served.warnings
            assert f"port {port} is held by pid " in warning
            assert "[status-page-unavailable]" in warning
            served.page.told(TICK)
            served.page.failed(OSError("no"))

    for address in ("127.0.0.1", "0.0.0.0"):
        with socket.create_server((address, 0)) as taken:
            asyncio.run(main(taken))


def test_no_page_is_wanted() -> None:
    async def main() -> None:
        warnings: list[str] = []
        rules = HostFile(status_page=StatusPage(port="none"))
        page = Page(planner(), machine(), rules, studio.FILE, warnings.append)
        async with page.serving() as address:
            page.told(TICK)
            assert (address, warnings) == ("", [])

    asyncio.run(main())


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")
def test_both_loopback_addresses_answer_and_no_other() -> None:
    async def main() -> None:
        async with serving(TICK) as served:
            request = f"GET /status.json HTTP/1.1\r\nHost: [::1]:{served.port}\r\nConnection: close\r\n\r\n".encode()
            assert (await said(served.port, request, "::1")).status == 200
            bound = {c.laddr.ip for c in psutil.Process().net_connections() if c.laddr.port == served.port}
            assert bound <= {"127.0.0.1", "::1"}

    asyncio.run(main())


GARBAGE: Final = (
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\nA" + b"a" * 70_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: \x00\r\n\r\n",
)


def test_garbage_is_refused_and_said_to_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with serving(TICK) as served:
            for garbage in GARBAGE:
                assert (await said(served.port, garbage)).status == 400
            assert (await ask(served.port)).status == 200
            assert served.warnings == []

    asyncio.run(main())
    assert capfd.readouterr().err == ""


def test_an_answer_that_cannot_be_made_is_said_once_and_the_page_comes_back() -> None:
    async def main() -> None:
        host = machine()
        broken = replace(host, state=Broken())
        async with serving(TICK, host=broken) as served:
            for _ in range(3):
                answer = await ask(served.port)
                assert (answer.status, answer.body) == (500, b"The page could not be made (OSError).\n")
            (warning,) = served.warnings
            assert "[status-page-failed]" in warning

    asyncio.run(main())


class Broken:
    """A state directory that cannot be read."""

    def __getattr__(self, name: str) -> Any:
        raise OSError("the disk is gone")


def test_what_a_real_loop_tells_is_shown() -> None:
    """Ticks of the engine on a world, over real HTTP."""
    given = scenario(("fast", "deep"))
    world = given.world()
    ticks: list[Tick] = []
    engine = Engine(eyes(world.host(), given.host_file), planner(), Edited(given.wanted(world)), ticks.append)
    run(engine.settle(world.now + PATIENCE), world.time)

    async def main() -> None:
        async with serving(host=replace(machine(), state=world.host().state)) as served:
            for tick in ticks:
                served.page.told(tick)
            found = (await ask(served.port, "/status.json")).data
            assert {s["label"]: (s["sync"], s["health"]) for s in found["servers"]} == {
                "fast": ("Synced", "Healthy"),
                "deep": ("Synced", "Healthy"),
            }
            assert found["settled"] is True
            assert found["gateways"][0]["matches"] is True
            assert found["result"]["kind"] == "settled"
            text = (await ask(served.port, "/metrics")).body.decode()
            assert 'reconciler_server_launches_total{label="fast"} 1\n' in text
            assert 'reconciler_server_up{label="deep",port="8100"} 1\n' in text

    asyncio.run(main())


def test_launches_are_counted_and_others_are_not() -> None:
    started = [
        Event(at=1.0, kind=EventKind.STARTED, subject=server_subject("fast"), text="", action=action)
        for action in ("launch", "stop", "launch")
    ]

    async def main() -> None:
        async with serving(studio.tick(studio.facts(), *started)) as served:
            text = (await ask(served.port, "/metrics")).body.decode()
            assert 'reconciler_server_launches_total{label="fast"} 2\n' in text
            assert 'reconciler_events_total{kind="started"} 3\n' in text

    asyncio.run(main())


@pytest.mark.fault("X24")
def test_of_two_that_begin_at_once_one_has_the_page() -> None:
    """Neither is seen to listen by the other when it looks."""

    class Unseen:
        """Listeners that show nothing."""

        def look(self, ports: Iterable[int]) -> dict[int, Any]:
            return {}

    async def main() -> None:
        host = replace(machine(), listeners=Unseen())
        async with serving(TICK, host=host) as first, serving(TICK, host=host, port=first.port) as second:
            assert (second.address, len(second.warnings)) == ("", 1)
            assert f"port {first.port} could not be bound" in second.warnings[0]
            assert (await ask(first.port)).status == 200

    asyncio.run(main())
