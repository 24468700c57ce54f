"""Tells when the desired file, or a template beside it, may have changed. Folders are watched, for editors rename."""

import asyncio
import os
from pathlib import Path
from typing import Final

from .worktree import TEMPLATES

STEP: Final = 50
DEBOUNCE: Final = 200
"""Milliseconds: `step` is the quiet time that ends a batch, and how often watchfiles 1.3 looks at its queue."""
_AGAIN: Final = 1.0
"""Seconds until a folder that is gone is looked for again."""


class EditWatch:
    """The folders of one desired file, watched from the first question on until `close`."""

    def __init__(self, file: Path) -> None:
        self._folder = Path(os.path.realpath(file)).parent
        self._edited = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def changed(self) -> None:
        """Return when something has changed since the last return; what changed is found by reading."""
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
        from watchfiles import awatch

        while True:
            folders = self._folders()
            if not folders:
                await asyncio.sleep(_AGAIN)
                continue
            try:
                # The default filter leaves out what editors write beside a file, and this looks beside it as well.
                changes = awatch(*folders, watch_filter=None, recursive=False, step=STEP, debounce=DEBOUNCE)
                async for _ in changes:
                    self._edited.set()
                    if self._folders() != folders:
                        break
            except OSError:
                await asyncio.sleep(_AGAIN)  # a folder has just gone; it may come back

    def _folders(self) -> list[Path]:
        return [folder for folder in (self._folder, self._folder / TEMPLATES) if folder.is_dir()]
