"""Whom the page answers: by reading alone, under its own names, and no page of somebody else."""

import asyncio
from typing import Final

import pytest
from aiohttp import hdrs

from reconciler.surface.page.answering import Answers
from reconciler.surface.page.board import About, Board
from tests.golden.story import planner
from tests.surface import studio
from tests.surface.served import ask, machine, said, serving

PATHS: Final = ("/", "/status.json", "/metrics", "/events", "/page.css", "/page.js", "/icon.svg")
TICK: Final = studio.tick(studio.facts())


@pytest.mark.fault("S11", "S12")
def test_nothing_but_reading_has_a_route() -> None:
    board = Board(About(planner=planner(), state=machine().state, file=studio.FILE, host="studio", homes=()))
    routes = Answers(board, 7575, lambda error: None).application().router.routes()
    methods = {(route.method, route.resource.canonical) for route in routes if route.resource is not None}
    assert {method for method, _ in methods} == {"GET", "HEAD"}
    assert {path for _, path in methods} == set(PATHS)


@pytest.mark.fault("S11")
@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_every_other_method_is_refused_and_changes_nothing(path: str) -> None:
    others = [*sorted(hdrs.METH_ALL - {"GET", "HEAD", "CONNECT"}), "PURGE"]

    async def main() -> None:
        async with serving(TICK) as served:
            before = await ask(served.port, "/status.json")
            for method in others:
                answer = await ask(served.port, path, method, Content_Length="0")
                assert answer.status == (404 if path == "/nowhere" else 405), (method, answer)
            assert (await ask(served.port, "/status.json")).body == before.body

    asyncio.run(main())


def _hosts(port: int) -> list[tuple[str, int]]:
    return [
        (f"127.0.0.1:{port}", 200),
        (f"localhost:{port}", 200),
        (f"[::1]:{port}", 200),
        ("", 400),
        ("127.0.0.1", 421),
        ("localhost", 421),
        (f"localhost.:{port}", 421),
        (f"LOCALHOST:{port}", 421),
        (f"127.0.0.1:{port + 1}", 421),
        (f"evil.example:{port}", 421),
        (f"127.0.0.1.evil.example:{port}", 421),
        (f"127.1:{port}", 421),
        (f"2130706433:{port}", 421),
        (f"user@127.0.0.1:{port}", 421),
        (f"127.0.0.1:{port}/", 421),
        (f"127.0.0.1:{port}, evil.example", 421),
        (f"0.0.0.0:{port}", 421),
    ]


@pytest.mark.fault("S11")
def test_only_its_own_names_are_answered_to() -> None:
    async def main() -> None:
        async with serving(TICK) as served:
            for path in PATHS:
                for host, status in _hosts(served.port):
                    if path != "/events" or status != 200:
                        answer = await ask(served.port, path, host=host)
                        assert answer.status == status, (path, host)
                        assert status == 200 or b"studio" not in answer.body

    asyncio.run(main())


@pytest.mark.fault("S11")
def test_a_request_that_names_another_host_in_its_target_is_refused() -> None:
    async def main() -> None:
        async with serving(TICK) as served:
            own = f"Host: {served.host}\r\nConnection: close\r\n\r\n"
            for target in (
                f"http://evil.example:{served.port}/",
                "http://evil.example/status.json",
                "http://127.0.0.1/",
            ):
                answer = await said(served.port, f"GET {target} HTTP/1.1\r\n{own}".encode())
                assert answer.status == 421, target
            twice = f"GET / HTTP/1.1\r\nHost: evil.example\r\n{own}"
            assert (await said(served.port, twice.encode())).status in (400, 421)

    asyncio.run(main())


@pytest.mark.fault("S11", "S12")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://HOST"}, 200),
        ({"Origin": "https://HOST"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, 200),
        ({"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"}, 200),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, 200),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "script"}, 403),
        ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}, 403),
    ],
)
def test_other_pages_get_nothing(headers: dict[str, str], status: int) -> None:
    async def main() -> None:
        async with serving(TICK) as served:
            sent = {name: value.replace("HOST", served.host) for name, value in headers.items()}
            answer = await ask(served.port, "/status.json", **sent)
            assert answer.status == status
            assert (b"studio" in answer.body) == (status == 200)
            assert not [name for name in answer.headers if name.startswith("access-control") or name == "set-cookie"]

    asyncio.run(main())


@pytest.mark.fault("S11", "S13")
@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_every_answer_says_what_it_may_load_and_not_who_serves_it(path: str) -> None:
    async def main() -> None:
        async with serving(TICK) as served:
            answer = await ask(served.port, path, host="evil.example" if path == "/events" else None)
            rules = answer.header("Content-Security-Policy").split("; ")
            assert rules[0] == "default-src 'none'"
            assert "frame-ancestors 'none'" in rules
            assert "unsafe" not in answer.header("Content-Security-Policy")
            assert answer.header("X-Content-Type-Options") == "nosniff"
            assert answer.header("Referrer-Policy") == "no-referrer"
            assert answer.header("Server") == "reconciler"

    asyncio.run(main())
