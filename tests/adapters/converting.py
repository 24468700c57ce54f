"""Conversions in a model cache of their own, by the real converter or by one that does what a test tells it."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.adapters.cache.storage import built_in_converter
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.conversion.converter import Report, convert
from reconciler.model.observed import Artifact, Conversion, Recipe
from reconciler.model.supply import ConvertOrder
from reconciler.ports.errors import ActionError

from .servers import until

REPOSITORY: Final = Path(__file__).resolve().parents[2]
FAKE: Final = REPOSITORY / "tests" / "programs" / "fake_converter.py"
REPO: Final = "tiny/base"
COMMIT: Final = "c" * 40
DISK: Final = 2**20


def silent(done: int, total: int) -> None:
    """Nobody wants to know."""


def gone(pid: int) -> bool:
    """Whether a process does nothing any more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Converting:
    """One cache, one source, and the note that the fake converter leaves about itself."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder, self.source = folder, source
        self.hub = folder / "my hub"
        self.note = folder / "a note.json"
        self.gate = folder / "gate"

    def fake(self, *switches: str) -> tuple[str, ...]:
        """The command of the fake converter."""
        return (sys.executable, "-S", str(FAKE), "--dest", "{dest}", "--note", str(self.note), *switches)

    def order(
        self, *settings: str, command: tuple[str, ...] = (), repo: str = REPO, disk: int = DISK, converter: str = ""
    ) -> ConvertOrder:
        """A conversion of the source, by mlx_lm or by a command of the host file."""
        recipe = Recipe(
            source=repo,
            revision="main",
            commit=COMMIT,
            arguments=settings,
            command=command,
            converter="" if command else converter or built_in_converter(),
        )
        result = Artifact(identity=f"recipe:{recipe.key}", path=str(self.final(recipe)), weight_bytes=100_000)
        return ConvertOrder(
            reference=f"{repo}@main",
            result=Conversion(recipe=recipe, artifact=result),
            source=str(self.source),
            memory=DISK,
            disk=disk,
        )

    def final(self, recipe: Recipe) -> Path:
        """Where the result of a recipe is served from."""
        return self.hub / recipe.folder

    def start(
        self, order: ConvertOrder, report: Report = silent, environ: Mapping[str, str] | None = None
    ) -> "asyncio.Task[None]":
        """Ask for it, in a running loop."""
        own = dict(os.environ) | dict(environ or {})
        return asyncio.ensure_future(
            convert(order, hub=str(self.hub), report=report, now=SystemClock().now, environ=own)
        )

    def run(self, order: ConvertOrder, report: Report = silent, environ: Mapping[str, str] | None = None) -> Path:
        """Ask for it and wait; the folder of the result is returned. Raises ActionError."""

        async def wait() -> None:
            await self.start(order, report, environ)

        asyncio.run(wait())
        return self.final(order.recipe)

    def refused(self, order: ConvertOrder) -> ActionError:
        """The error that it ends with; afterwards nothing of it is there but locks."""
        try:
            self.run(order)
        except ActionError as error:
            assert self.nothing_left(order), sorted(self.hub.rglob("*"))
            return error
        raise AssertionError("it was converted")

    def refused_as_busy(self, order: ConvertOrder) -> bool:
        """Whether somebody else is at work on it."""
        try:
            self.run(order)
        except ActionError as error:
            return (error.cause, error.permanent) == ("conversion-busy", False)
        return False

    def nothing_left(self, order: ConvertOrder) -> bool:
        """Whether neither the result nor a part of it is there."""
        place = self.final(order.recipe).parent
        return not place.exists() or all(path.name.endswith(".lock") for path in place.iterdir())

    def staging(self, order: ConvertOrder) -> Path:
        """Where it is written first."""
        final = self.final(order.recipe)
        return final.with_name(f".{final.name}.converting")

    def noted(self) -> dict[str, Any]:
        """What the fake converter is, as soon as it is at work."""
        until(self.note.exists, "the converter is at work")
        note: dict[str, Any] = json.loads(self.note.read_bytes())
        return note

    def made(self) -> tuple[Conversion, ...]:
        """What a look at the cache finds that was made of the source."""
        reference = f"{REPO}@main"
        return LocalArtifacts(cache=str(self.hub)).storage([reference]).conversions.get(reference, ())


def receipt_of(folder: Path) -> dict[str, Any]:
    """What a result says about itself."""
    receipt: dict[str, Any] = json.loads((folder / "receipt.json").read_bytes())
    return receipt


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and mtime of a folder and everything in it."""
    paths = (folder, *folder.rglob("*"))
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}
