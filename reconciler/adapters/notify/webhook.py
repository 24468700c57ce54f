"""Tells an address on the web: one JSON object is posted, and where it leads to is never followed."""

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .courier import Undelivered

if TYPE_CHECKING:
    import aiohttp

TRIES: Final = 3
PAUSE: Final = 1.0
"""Seconds before the second try; four times as long before the third."""
LONGEST: Final = 300.0
"""Seconds for which one may be asked to wait; who asks for more is given up."""
_GROWTH: Final = 4
_DONE: Final = range(200, 300)
_LATER: Final = 429
_TROUBLE: Final = range(500, 600)
_HEADERS: Final = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "reconciler"}


class Webhook:
    """One address."""

    def __init__(self, address: str, timeout: float, now: Callable[[], float], pause: float = PAUSE) -> None:
        """`timeout`: seconds of one try; `now`: seconds since the epoch, as who asks to wait may name a moment."""
        self._address = address
        self._timeout = timeout
        self._now = now
        self._pause = pause

    async def deliver(self, body: bytes) -> None:
        """Post it, again where the network or the other side is in trouble. Raises Undelivered."""
        import aiohttp

        pause = self._pause
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout)) as session:
            for _ in range(TRIES - 1):
                try:
                    return await self._post(session, body)
                except _Again as again:
                    wait = max(pause, again.after)
                    if wait > LONGEST:
                        raise Undelivered(f"{again}, and wants to be left alone for {wait:.0f} s") from None
                await asyncio.sleep(wait)
                pause *= _GROWTH
            try:
                await self._post(session, body)
            except _Again as again:
                raise Undelivered(f"{again}, {TRIES} times") from None

    async def _post(self, session: "aiohttp.ClientSession", body: bytes) -> None:
        """Raises _Again for what may pass, else Undelivered."""
        import aiohttp

        try:
            async with session.post(self._address, data=body, headers=_HEADERS, allow_redirects=False) as response:
                status, after = response.status, response.headers.get("Retry-After", "")
        except TimeoutError:
            raise _Again(f"it did not answer in {self._timeout:g} s") from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
            raise _Again(f"it cannot be reached ({_reason(error)})") from None
        except aiohttp.ClientError as error:
            raise Undelivered(f"what answers there is no web server ({type(error).__name__})") from None
        if status in _DONE:
            return
        said = f"it answered {status}"
        if status in _TROUBLE or status == _LATER:
            raise _Again(said, self._seconds(after))
        raise Undelivered(said)

    def _seconds(self, text: str) -> float:
        """What `Retry-After` asks for: seconds, or a date."""
        if text.strip().isdecimal():
            return float(text)
        from email.utils import parsedate_to_datetime

        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._now())
        except ValueError:
            return 0.0


class _Again(Exception):
    """It may work later; `after`: in so many seconds at the earliest."""

    def __init__(self, said: str, after: float = 0.0) -> None:
        super().__init__(said)
        self.after = after


def _reason(error: Exception) -> str:
    """What the system says; the text of the error itself may have the address in it, and that is a secret."""
    cause = getattr(error, "os_error", error)
    number = getattr(cause, "errno", None)
    if number is not None and number > 0:
        return os.strerror(number)
    return getattr(cause, "strerror", None) or type(error).__name__
