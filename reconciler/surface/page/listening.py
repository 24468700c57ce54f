"""The page of a running watch: where it listens, and what the loop tells it."""

import errno
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from reconciler.engine.loop import Tick
from reconciler.model.host import HostFile
from reconciler.model.observed import Present
from reconciler.planning.diff import owner
from reconciler.planning.plan import Planner
from reconciler.ports.host import Host

from .board import About, Board
from .whose import homes, machine

_FAMILIES: Final = (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6))
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_WAITING: Final = 64
"""Connections that may wait to be accepted."""
_FAREWELL: Final = 1.0
"""Seconds that answers under way have when the watch ends."""


class Page:
    """The page of one running loop; `warn` says a sentence to a person."""

    def __init__(
        self, planner: Planner, host: Host, host_file: HostFile, file: str, warn: Callable[[str], None]
    ) -> None:
        """`file`: absolute path of the desired file."""
        # Of its own, as a planner remembers what it has resolved last: the loop's must not be made to forget it.
        foreseeing = Planner(planner.backends, planner.verbs)
        about = About(planner=foreseeing, state=host.state, file=file, host=machine(host_file), homes=homes())
        self._board = Board(about)
        self._host, self._warn = host, warn
        self._port = None if host_file.status_page.port == "none" else host_file.status_page.port
        self._said = ""

    def told(self, tick: Tick) -> None:
        """One turn of the loop. It costs nothing: what is shown is made when somebody asks."""
        if self._port is not None:
            self._board.told(tick)

    def failed(self, error: Exception) -> None:
        """A look that failed."""
        if self._port is not None:
            self._board.failed(error)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Answer until the end of the block. The address of the page; empty where there is none.

        A port that somebody else has is no reason to stop: it is said, and the watch goes on without a page.
        """
        with self._bound() as sockets:
            if self._port is None or not sockets:
                yield ""
                return
            from aiohttp import web  # only who has a page pays for a server

            from .answering import Answers

            answers = Answers(self._board, self._port, self._mishap)
            runner = web.AppRunner(answers.application(), access_log=None, logger=_silent(), shutdown_timeout=_FAREWELL)
            await runner.setup()
            try:
                for listener in sockets:
                    await web.SockSite(runner, listener, backlog=_WAITING).start()
                yield f"http://127.0.0.1:{self._port}/"
            finally:
                await runner.cleanup()

    @contextmanager
    def _bound(self) -> Iterator[list[socket.socket]]:
        """Sockets on every loopback address; none where there is no page to be."""
        sockets: list[socket.socket] = []
        try:
            if self._port is not None and self._is_free(self._port):
                try:
                    _bind(self._port, sockets)
                except OSError as error:
                    self._refuse(f"port {self._port} could not be bound: {error.strerror}")
                    sockets = _closed(sockets)
            yield sockets
        finally:
            _closed(sockets)

    def _is_free(self, port: int) -> bool:
        """Whether nobody listens on it, at any address: a program that has all of them must not lose one to us."""
        found = self._host.listeners.look([port]).get(port)
        if isinstance(found, Present):
            self._refuse(f"port {port} is held by {owner(found.value)}")
            return False
        return True

    def _refuse(self, why: str) -> None:
        self._warn(
            f"there is no status page, as {why}; the watch goes on without it. "
            "Give status_page.port in the host file another port, or 'none'. [status-page-unavailable]"
        )

    def _mishap(self, error: Exception) -> None:
        """Said once for each kind: a page that is asked for every second must not fill a terminal."""
        said = f"{type(error).__name__}: {error}"
        if said != self._said:
            self._said = said
            self._warn(f"the status page could not be made, and the watch goes on ({said}) [status-page-failed]")


def _bind(port: int, sockets: list[socket.socket]) -> None:
    """Add one socket for each loopback address that this machine has. Raises OSError."""
    for address, family in _FAMILIES:
        try:
            listener = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            continue
        sockets.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind((address, port))
            listener.listen(_WAITING)  # two that begin at once can both have bound it, and one of them is told here
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            _closed([sockets.pop()])


def _closed(sockets: list[socket.socket]) -> list[socket.socket]:
    for listener in sockets:
        with suppress(OSError):
            listener.close()
    return []


def _silent() -> logging.Logger:
    """Where the server's own complaints go: a stranger who sends garbage is no business of the terminal."""
    made = logging.getLogger("reconciler.page")
    made.addHandler(logging.NullHandler())
    made.propagate = False
    return made
