"""What is answered to a request: a gate that lets in nobody but this page's own readers, and five things to read."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import ETag, web

from reconciler.model.names import authority

from . import metrics
from .board import Board, Content, Rendering, content

NAMES: Final = ("127.0.0.1", "localhost", "::1")
_LOADS: Final = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
HEADERS: Final = {
    "Content-Security-Policy": f"{_LOADS}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Server": "reconciler",
}
"""Of every answer."""
FILES: Final = {
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
STREAMS: Final = 32
"""How many may follow at a time: each tab of a browser is one."""
_ALIVE: Final = 20.0
"""Seconds between two signs of life on a stream, so that one whose reader is gone is noticed."""
_RETRY: Final = 1_000
"""Milliseconds after which a browser that has lost the stream tries again."""
_PATIENCE: Final = 10.0
"""Seconds in which a reader must have taken what it is sent."""
_SHARE: Final = 9
"""Seconds of rest for each second that a hint has cost."""
_SMALL: Final = 1_024
"""Bytes up to which nothing is compressed."""
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Answers:
    """The routes of one page. `mishap` is told of an answer that could not be made."""

    def __init__(self, board: Board, port: int, mishap: Callable[[Exception], None]) -> None:
        self._board, self._mishap = board, mishap
        self._hosts = frozenset(authority(name, port) for name in NAMES)
        folder = Path(__file__).parent
        texts = {path: (folder / name).read_text(encoding="utf-8") for path, (name, _) in FILES.items()}
        self._files = {path: (content(texts[path]), type_) for path, (_, type_) in FILES.items()}
        self._ending = False

    def application(self) -> web.Application:
        """Everything that this listener can do: there is no route by which anything is changed."""
        made = web.Application(middlewares=[self._gate])
        made.on_response_prepare.append(_headed)
        made.on_shutdown.append(self._end)
        made.router.add_get("/", self._page)
        made.router.add_get("/status.json", self._status)
        made.router.add_get("/metrics", self._metrics)
        made.router.add_get("/events", self._events, allow_head=False)
        for path in self._files:
            made.router.add_get(path, self._file)
        return made

    async def _end(self, _: web.Application) -> None:
        self._ending = True
        self._board.wake()

    # -------------------------------------------------------------------------------------------------- gate

    @web.middleware
    async def _gate(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if (refusal := self._refusal(request)) is not None:
            return web.Response(status=refusal[0], text=f"{refusal[1]}\n")
        try:
            return await handler(request)
        except web.HTTPException as answer:
            return web.Response(status=answer.status, text=f"{answer.reason}\n", headers=_allowed(answer))
        except ConnectionError:
            raise
        except Exception as error:  # one answer that cannot be made must not cost the loop its peace
            self._mishap(error)
            return web.Response(status=500, text=f"The page could not be made ({type(error).__name__}).\n")

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        """Why a request is not answered: it was meant for another name, or comes from another page (S11, S12)."""
        hosts = request.headers.getall("Host", [])
        # A target that is a whole address would name a host of its own.
        if len(hosts) != 1 or hosts[0] not in self._hosts or not request.raw_path.startswith("/"):
            return 421, "This page answers to 127.0.0.1, localhost and [::1] with its port, and to no other name."
        if any(origin != f"http://{hosts[0]}" for origin in request.headers.getall("Origin", [])):
            return 403, "This page is not for other pages."
        to_look = request.headers.get("Sec-Fetch-Mode") == "navigate"
        opened = to_look and request.headers.get("Sec-Fetch-Dest", "document") == "document"
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not opened:
            return 403, "This page is not for other pages."
        return None

    # ----------------------------------------------------------------------------------------------- answers

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return _answer(request, self._look().page, "text/html; charset=utf-8")

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return _answer(request, self._look().status, "application/json; charset=utf-8")

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return _answer(request, self._board.metrics(self._look()), metrics.TYPE)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return _answer(request, *self._files[request.path])

    def _look(self) -> Rendering:
        """The last look. Raises web.HTTPServiceUnavailable before there is one."""
        now = self._board.now
        if now is None:
            raise web.HTTPServiceUnavailable(reason="The first look has not ended yet; ask again in a moment.")
        return now

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """A hint for every look: when it was, and a name for what it shows."""
        if len(self._board.readers) >= STREAMS:
            raise web.HTTPServiceUnavailable(reason="Too many are following already.")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        news, time = asyncio.Event(), asyncio.get_running_loop().time
        news.set()
        self._board.readers.add(news)
        try:
            await _send(response, f"retry: {_RETRY}\n\n")
            while not self._ending:
                try:
                    async with asyncio.timeout(_ALIVE):
                        await news.wait()
                except TimeoutError:
                    await _send(response, ":\n\n")
                    continue
                news.clear()
                if not self._ending and (now := self._board.now) is not None:
                    began = time()
                    hint = json.dumps({"at": now.at, "state": now.state})
                    cost = time() - began
                    await _send(response, f"data: {hint}\n\n")
                    # Whoever follows takes a tenth of the loop at most; what happens meanwhile is one hint.
                    await asyncio.sleep(_SHARE * cost)
        except TimeoutError:
            pass  # it does not read
        finally:
            self._board.readers.discard(news)
        return response


async def _send(response: web.StreamResponse, text: str) -> None:
    """Raises TimeoutError where nobody reads it."""
    async with asyncio.timeout(_PATIENCE):
        await response.write(text.encode())


async def _headed(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _allowed(answer: web.HTTPException) -> dict[str, str]:
    return {"Allow": answer.headers["Allow"]} if "Allow" in answer.headers else {}


def _answer(request: web.Request, found: Content, type_: str) -> web.Response:
    """The content, or that it is still what the reader has."""
    known = request.if_none_match or ()
    if any(tag.value in (found.tag, "*") for tag in known):
        response = web.Response(status=304)
    else:
        response = web.Response(body=found.body, headers={"Content-Type": type_})
        if len(found.body) > _SMALL and "gzip" in request.headers.get("Accept-Encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
    response.etag = ETag(found.tag, is_weak=True)
    response.headers["Vary"] = "Accept-Encoding"
    return response
