"""The page in a real browser: what it shows with and without scripts, in light and dark, and as time goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.model.view import Facts
from tests.surface import studio
from tests.surface.browser import PROGRAM, Tab, tab
from tests.surface.served import Served, serving

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here; Debian's package is `chromium`")

PANELS: Final = ["summary", "ensemble", "memory", "plan", "events", "generations", "gateways"]
LOOKS: Final = ((True, False, 1280), (True, True, 390), (False, True, 1280), (False, False, 390))
"""Scripts, dark, and pixels of width."""
PNG: Final = b"\x89PNG\r\n\x1a\n"

CONTRAST: Final = """(() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = color;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    if (!element) return rgba("white");
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(element.parentElement));
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !parent.checkVisibility()) continue;
    const style = getComputedStyle(parent);
    const number = parent.matches("svg .number");
    if (parent.closest("svg") && !number) continue;
    const below = number ? rgba(getComputedStyle(parent.previousElementSibling).fill) : behind(parent);
    const ink = rgba(number ? style.fill : style.color);
    ink[3] *= Number(style.opacity);
    const pair = [light(over(ink, below)), light(below)].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${parent.outerHTML}`);
  }
  return poor;
})()"""
"""Texts that are hard to read: less than 4.5 to 1 against what is behind them."""


def browse(folder: Path, seen: Facts, looking: Callable[[Tab, Served], Awaitable[None]]) -> None:
    """Look at the page of a machine in a browser, and hear no complaint."""

    async def main() -> None:
        events = studio.happened(seen.now)
        async with serving(studio.tick(seen), events) as served, tab(folder, PROGRAM or "") as opened:
            await looking(opened, served)
            assert opened.complaints == []

    asyncio.run(main())


def now() -> float:
    return SystemClock().now()


def test_everything_is_there_with_and_without_scripts_in_light_and_dark(tmp_path: Path) -> None:
    async def looking(page: Tab, served: Served) -> None:
        pictures = set()
        for scripts, dark, width in LOOKS:
            await page.looks(scripts=scripts, dark=dark, width=width)
            await page.go(served.address)
            assert await page.ask("[...document.querySelectorAll('main section')].map((s) => s.id)") == PANELS
            shown = await page.ask("document.body.innerText")
            for text in ("gemma-3-27b", "Degraded", "Suspended", "reconciler rollback 12", "Planned peak", "litellm"):
                assert text in shown, text
            assert f"Plan for {studio.FILE} at" in shown
            assert await page.ask("document.documentElement.scrollWidth <= innerWidth"), "it fits its window"
            assert await page.ask("document.title") == "studio: Degraded, OutOfSync"
            assert await page.ask("[...document.querySelectorAll('.copy')].some((b) => b.checkVisibility())") is scripts
            ago = await page.ask("document.querySelector('#ensemble [data-says=ago]').textContent")
            assert ("ago" in ago) is scripts
            await page.ask("document.querySelectorAll('details').forEach((d) => (d.open = true))")
            assert await page.ask(CONTRAST) == []
            if scripts:
                pictures.add(await page.picture())
        assert len(pictures) == 2
        assert all(picture.startswith(PNG) and len(picture) > 50_000 for picture in pictures)

    browse(tmp_path, studio.pinned(studio.paused(studio.facts(now()))), looking)


def test_what_is_new_appears_and_what_a_reader_has_opened_stays(tmp_path: Path) -> None:
    seen = studio.facts(now())

    async def looking(page: Tab, served: Served) -> None:
        await page.go(served.address)
        await page.until("document.getElementById('live').dataset.state === 'live'")
        await page.ask("document.getElementById('more-qwen3-4b').open = true")
        await page.ask("document.querySelector('#more-qwen3-4b summary').focus()")
        label = "gemma-3-27b"
        well = replace(seen.observed.servers[label], health=seen.observed.servers["gpt-oss-120b"].health, detail="")
        healed = replace(seen, observed=replace(seen.observed, servers={**seen.observed.servers, label: well}))
        served.page.told(studio.tick(healed))
        await page.until("document.title === 'studio: Missing, OutOfSync'")
        assert "Degraded" not in await page.ask("document.getElementById('ensemble').innerText")
        assert await page.ask("document.getElementById('said').textContent") == "studio: Missing, OutOfSync"
        assert await page.ask("document.getElementById('more-qwen3-4b').open")
        assert await page.ask("document.activeElement.closest('details')?.id") == "more-qwen3-4b"
        assert not await page.ask("document.getElementById('more-gpt-oss-120b').open")

    browse(tmp_path, seen, looking)


def test_a_watch_that_is_gone_is_said_and_one_that_is_back_is_shown(tmp_path: Path) -> None:
    async def main() -> None:
        async with tab(tmp_path, PROGRAM or "") as page:
            async with serving(studio.tick(studio.facts(now()))) as served:
                await page.go(served.address)
                await page.until("document.getElementById('live').dataset.state === 'live'")
            await page.until("document.getElementById('lost').textContent.startsWith('The watch does not answer')")
            assert "qwen3-coder-30b" in await page.ask("document.body.innerText")
            async with serving(studio.tick(studio.paused(studio.facts(now()))), port=served.port):
                await page.until("document.body.innerText.includes('Source paused')")
                await page.until("document.getElementById('lost').textContent === ''")

    asyncio.run(main())


@pytest.mark.fault("S11", "S31")
def test_no_text_runs_and_no_other_page_reads_it(tmp_path: Path) -> None:
    seen = studio.facts(now())
    text = "<img src=x onerror='window.hit = 1'><script>window.hit = 2</script>"
    servers = {label: replace(s, detail=text) for label, s in seen.observed.servers.items()}
    suspensions = {label: replace(s, reason=text) for label, s in seen.ledger.suspensions.items()}
    ledger = replace(seen.ledger, suspensions=suspensions)

    async def looking(page: Tab, served: Served) -> None:
        await page.go(served.address)
        assert text in await page.ask("document.body.innerText")
        served.page.told(studio.tick(studio.paused(replace(seen, ledger=ledger))))
        await page.until("document.body.innerText.includes('Source paused')")
        assert await page.ask("window.hit ?? null") is None
        assert await page.ask("document.querySelectorAll('img').length") == 0
        await page.go("data:text/html,<h1>another page</h1>")
        for mode in ("cors", "no-cors"):
            found = f"fetch('{served.address}status.json', {{mode: '{mode}'}}).then((r) => r.text(), () => '')"
            assert await page.ask(found) == ""
        page.complaints.clear()  # the browser has said so

    browse(tmp_path, replace(seen, observed=replace(seen.observed, servers=servers), ledger=ledger), looking)


def test_who_does_not_see_it_is_told_what_is_what(tmp_path: Path) -> None:
    async def looking(page: Tab, served: Served) -> None:
        for width in (1280, 390):
            await page.looks(width=width)
            await page.go(served.address)
            await page.call("Accessibility.enable")
            nodes = (await page.call("Accessibility.getFullAXTree"))["nodes"]
            named = {(_value(node, "role"), _value(node, "name")) for node in nodes if not node.get("ignored")}
            roles = {role for role, _ in named}
            assert {"banner", "main", "contentinfo", "table", "rowheader", "columnheader", "progressbar"} <= roles
            regions = {name for role, name in named if role == "region"}
            assert regions >= {"Summary", "Ensemble", "Memory", "Pending plan", "Events", "Generations", "Gateways"}
            assert ("heading", "studio") in named
            (image,) = (name for role, name in named if role in ("image", "img"))
            assert image.startswith("140.6 GiB of 252.0 GiB reserved, planned peak ")
        # Everything that folds or scrolls can be reached without a mouse.
        assert await page.ask("[...document.querySelectorAll('summary, pre, a, button')].every((e) => e.tabIndex >= 0)")

    browse(tmp_path, studio.facts(now()), looking)


def _value(node: dict[str, Any], name: str) -> str:
    return str(node.get(name, {}).get("value", ""))
