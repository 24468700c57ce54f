"""Tells when the desired file, a template or a commit may have changed. Folders are watched, because editors rename.

On Linux the kernel is asked directly, which costs nothing while nothing happens: watchfiles 1.3 looks at its own queue
twenty times a second, 0.3 % of a processor on the machine where that was measured. Elsewhere it is watchfiles. Where
the kernel has no watch left for us, the files are looked at: the polling of watchfiles compares whole seconds, and so
misses an edit that follows another at once.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

from reconciler.model.hint import FILES, Hint

STEP: Final = 50
DEBOUNCE: Final = 200
"""Milliseconds: `step` is the quiet time that ends a batch, and how often watchfiles 1.3 looks at its queue."""
PAUSE: Final = 0.05
"""Seconds between two hints: the first is given at once, what follows it is one more."""
_LOOK: Final = 1.0
"""Seconds between two looks at every file, where nothing tells of changes."""
_GLANCE: Final = 5.0
"""Seconds after which it is looked whether the folders are still the same ones."""
_AGAIN: Final = 0.5
"""Seconds until a folder that is gone is looked for again."""
_OF_GIT: Final = frozenset({"index", "COMMIT_EDITMSG", "FETCH_HEAD", "ORIG_HEAD"})
"""What git writes beside its refs, also to answer `git status`; none of it says what is committed."""
_LOCK: Final = ".lock"
"""How git names a file that it is writing; the change is the rename that follows."""

_KERNEL: Final = sys.platform == "linux"

Folders = dict[str, tuple[int, int]]
"""path -> device and inode: a folder that was replaced has the same path."""
Stamp = tuple[int, int, int]
"""Inode, size and time of the last write of a file."""


class EditWatch:
    """The folders that `folders` names, watched from the first question on until `close`."""

    def __init__(self, folders: Callable[[], Iterable[str]]) -> None:
        self._wanted = folders
        self._edited = asyncio.Event()
        self._told = -PAUSE
        self._task: asyncio.Task[None] | None = None

    async def changed(self) -> Hint:
        """Return when something may have changed since the last return; what changed is found by reading."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="watch edits")
        await self._edited.wait()
        now = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._told + PAUSE - now()))
        self._told = now()
        self._edited.clear()
        return FILES

    async def close(self) -> None:
        """End the watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        gone = False
        while True:
            folders = self._folders()
            if not folders:
                if not gone:
                    self._edited.set()
                gone = True
                await asyncio.sleep(_AGAIN)
                continue
            gone = False
            try:
                await (self._by_kernel(folders) if _KERNEL else self._by_library(folders))
            except (OSError, RuntimeError):
                await asyncio.sleep(_GLANCE)  # the slow looks of the loop have to do meanwhile

    async def _by_kernel(self, folders: Folders) -> None:
        """Until they are other folders. Raises OSError."""
        from . import inotify

        try:
            queue = inotify.watch(folders)
        except OSError:
            if self._folders() == folders:  # they are there: the kernel has no watch left
                await self._by_looking(folders)
            return
        loop, happened = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(queue, happened.set)
        try:
            self._edited.set()  # for what happened before the watch stood
            lost = False
            while not lost and self._folders() == folders:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_GLANCE):
                        await happened.wait()
                happened.clear()
                found = inotify.read(queue)
                lost = any(one.lost for one in found)
                if lost or any(one.folder or _is_heeded(one.name) for one in found):
                    self._edited.set()
        finally:
            loop.remove_reader(queue)
            os.close(queue)

    async def _by_looking(self, folders: Folders) -> None:
        """Until they are other folders. Raises OSError."""
        before: dict[str, Stamp] = {}
        while self._folders() == folders:
            if (found := dict(_files(folders))) != before:
                self._edited.set()
            before = found
            await asyncio.sleep(_LOOK)

    async def _by_library(self, folders: Folders) -> None:
        """Until they are other folders. Raises OSError and RuntimeError."""
        from watchfiles import Change, awatch

        watching = False
        # The default filter leaves out what editors write beside a file, and this looks beside it as well.
        async for changes in awatch(
            *folders,
            watch_filter=None,
            recursive=False,
            step=STEP,
            debounce=DEBOUNCE,
            rust_timeout=int(_AGAIN * 1000),
            yield_on_timeout=True,
        ):
            if not watching or any(_is_heeded(os.path.basename(path)) for _, path in changes):
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


def _files(folders: Iterable[str]) -> Iterator[tuple[str, Stamp]]:
    """What is in the folders. Raises OSError."""
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_heeded(entry.name):
                    status = entry.stat(follow_symlinks=False)
                    yield entry.path, (status.st_ino, status.st_size, status.st_mtime_ns)


def _is_heeded(name: str) -> bool:
    return not (name.endswith(_LOCK) or name in _OF_GIT)
