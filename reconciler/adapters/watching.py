"""Tells when the desired file, or a template, may have changed. Folders are watched, because editors rename."""

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Final

STEP: Final = 50
DEBOUNCE: Final = 200
"""Milliseconds: `step` is the quiet time that ends a batch, and how often watchfiles 1.3 looks at its queue."""
_GLANCE: Final = 500
"""Milliseconds after which it is looked whether the folders are still the same ones."""
_AGAIN: Final = 0.5
"""Seconds until a folder that is gone is looked for again."""

Folders = dict[str, tuple[int, int]]
"""path -> device and inode: a folder that was replaced has the same path."""


class EditWatch:
    """The folders that `folders` names, watched from the first question on until `close`."""

    def __init__(self, folders: Callable[[], Iterable[str]]) -> None:
        self._wanted = folders
        self._edited = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def changed(self) -> None:
        """Return when something may have changed since the last return; what changed is found by reading."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="watch edits")
        await self._edited.wait()
        self._edited.clear()

    async def close(self) -> None:
        """End the watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                if folders := self._folders():
                    await self._watch_these(folders)
                    continue
            except (OSError, RuntimeError):
                pass  # a folder has just gone, or the system has no watch left: it is looked for again
            await asyncio.sleep(_AGAIN)
            self._edited.set()

    async def _watch_these(self, folders: Folders) -> None:
        """Until they are other folders."""
        from watchfiles import Change, awatch

        watching = False
        # The default filter leaves out what editors write beside a file, and this looks beside it as well.
        async for changes in awatch(
            *folders,
            watch_filter=None,
            recursive=False,
            step=STEP,
            debounce=DEBOUNCE,
            rust_timeout=_GLANCE,
            yield_on_timeout=True,
        ):
            if changes or not watching:
                self._edited.set()  # the first time for what happened before the watch stood
            watching = True
            # A new folder of the same name may even have the number of the old one.
            replaced = any(kind is Change.deleted and path in folders for kind, path in changes)
            if replaced or self._folders() != folders:
                return

    def _folders(self) -> Folders:
        found: Folders = {}
        for path in self._wanted():
            try:
                status = os.stat(path)
            except OSError:
                continue
            found[path] = status.st_dev, status.st_ino
        return found
