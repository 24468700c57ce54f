"""A page that is served over real sockets, and what a reader of it says and hears."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from reconciler.adapters.listeners import LocalListeners
from reconciler.engine.loop import Tick
from reconciler.model.event import Event
from reconciler.model.host import HostFile, StatusPage
from reconciler.model.ledger import EMPTY
from reconciler.ports.host import Host
from reconciler.surface.page.listening import Page
from tests.golden.story import planner
from tests.ports import free_ports
from tests.surface.studio import FILE
from tests.world.script import Script
from tests.world.truth import Truth
from tests.world.world import World


@dataclass
class Served:
    """A page, and where it is."""

    page: Page
    port: int
    address: str
    warnings: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """What a browser says in `Host`."""
        return f"127.0.0.1:{self.port}"


def machine(events: Sequence[Event] = ()) -> Host:
    """Ports of a machine on which these events have happened, and whose listeners are real ones."""
    host = World(Truth(), HostFile(), Script()).host()
    host.state.save(EMPTY, events)
    return replace(host, listeners=LocalListeners())


@asynccontextmanager
async def serving(
    tick: Tick | None = None, events: Sequence[Event] = (), port: int | None = None, host: Host | None = None
) -> AsyncIterator[Served]:
    """A page that has been told of a tick."""
    warnings: list[str] = []
    port = free_ports(1)[0] if port is None else port
    rules = HostFile(name="studio", status_page=StatusPage(port=port))
    page = Page(planner(), host if host is not None else machine(events), rules, FILE, warnings.append)
    async with page.serving() as address:
        if tick is not None:
            page.told(tick)
        yield Served(page=page, port=port, address=address, warnings=warnings)


@dataclass(frozen=True)
class Answer:
    """What came back, as it came over the wire."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    def header(self, name: str) -> str:
        """One header, which must be there once."""
        (value,) = self.headers[name.lower()]
        return value

    @property
    def data(self) -> Any:
        return json.loads(self.body)


async def ask(port: int, path: str = "/", method: str = "GET", host: str | None = None, **headers: str) -> Answer:
    """One request, byte for byte as it is given: a client would mend what these tests break."""
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    named = f"Host: {f'127.0.0.1:{port}' if host is None else host}\r\n" if host != "" else ""
    return await said(port, f"{method} {path} HTTP/1.1\r\n{named}{head}Connection: close\r\n\r\n".encode())


async def said(port: int, request: bytes, address: str = "127.0.0.1") -> Answer:
    """What is answered to these bytes."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            writer.write(request)
            await writer.drain()
            whole = await reader.read()
        finally:
            writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers.setdefault(name.lower(), []).append(value)
    return Answer(status=int(first.split()[1]), headers=headers, body=body)


@asynccontextmanager
async def hints(served: Served) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The hints of the page as they come, to one who follows."""
    async with aiohttp.ClientSession() as session, session.get(f"{served.address}events") as stream:
        assert stream.status == 200, await stream.text()

        async def told() -> AsyncIterator[dict[str, Any]]:
            async for line in stream.content:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))

        yield told()
