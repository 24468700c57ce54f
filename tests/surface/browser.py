"""A real Chromium without a screen, driven over its own protocol: what a page shows, says and looks like."""

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp

PROGRAM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS: Final = (
    "--headless",
    "--no-sandbox",  # who runs the tests may be root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-port=0",
)
_PATIENCE: Final = 30.0


class Tab:
    """One tab, and all that it has complained about."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self._socket, self._session = socket, session
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.complaints: list[str] = []
        """Errors of scripts, and what its own rules did not let it load."""

    async def listen(self) -> None:
        """Take what the browser says, until it is closed."""
        async for message in self._socket:
            said = message.json()
            if "id" in said and said["id"] in self._answers:
                self._answers.pop(said["id"]).set_result(said)
            elif said.get("method") == "Page.loadEventFired":
                self._loaded.set()
            elif said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] in ("error", "warning"):
                self.complaints.append(said["params"]["entry"]["text"])
            elif said.get("method") == "Runtime.consoleAPICalled" and said["params"]["type"] in ("error", "warning"):
                self.complaints.append(str(said["params"]["args"]))
            elif said.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(str(said["params"]["exceptionDetails"]))

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One request to the browser about this tab."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        said = {"id": self._number, "method": method, "params": params}
        await self._socket.send_json({**said, "sessionId": self._session} if self._session else said)
        async with asyncio.timeout(_PATIENCE):
            found = await answer
        assert "error" not in found, found
        result: dict[str, Any] = found["result"]
        return result

    async def go(self, address: str) -> None:
        """Open a page, and wait until it is loaded."""
        self._loaded.clear()
        await self.call("Page.navigate", url=address)
        async with asyncio.timeout(_PATIENCE):
            await self._loaded.wait()

    async def ask(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression holds in the page."""
        async with asyncio.timeout(_PATIENCE):
            while not await self.ask(expression):  # noqa: ASYNC110 -- the browser does not say when
                await asyncio.sleep(0.02)

    async def looks(self, *, dark: bool = False, width: int = 1280, height: int = 900, scripts: bool = True) -> None:
        """How the person sees it who sits in front of it."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=features)
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        await self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    async def picture(self) -> bytes:
        """The whole page as PNG."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(found["data"])


@asynccontextmanager
async def tab(folder: Path, program: str) -> AsyncIterator[Tab]:
    """A tab of a browser of its own, which is gone at the end of the block; `folder` is empty and its own."""
    process = await asyncio.create_subprocess_exec(
        program,
        *_OPTIONS,
        f"--user-data-dir={folder}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session, session.ws_connect(await _address(folder), max_msg_size=0) as ws:
            browser = Tab(ws, "")
            reading = asyncio.create_task(browser.listen())
            try:
                target = await browser.call("Target.createTarget", url="about:blank")
                attached = await browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
                browser._session = attached["sessionId"]
                for domain in ("Page", "Runtime", "Log"):
                    await browser.call(f"{domain}.enable")
                yield browser
                browser._session = ""
                with suppress(ConnectionError, TimeoutError):
                    await browser.call("Browser.close")
                    await asyncio.wait_for(process.wait(), _PATIENCE)
            finally:
                reading.cancel()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _address(folder: Path) -> str:
    """Where the browser listens, which it says when it does."""
    said = folder / "DevToolsActivePort"
    async with asyncio.timeout(_PATIENCE):
        while not (said.is_file() and said.read_text().count("\n")):  # noqa: ASYNC110 -- nor here
            await asyncio.sleep(0.02)
    port, path = said.read_text().splitlines()[:2]
    return f"ws://127.0.0.1:{port}{path}"
