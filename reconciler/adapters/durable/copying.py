"""The steps that moving weights and publishing conversions are made of: copy, compare, make durable, remove."""

import errno
import hashlib
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from reconciler.ports.errors import ActionError

from .files import Entry, Files, Kind
from .manifest import NOTES, Item, Manifest, same_shape, shape, walk

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FINDER: Final = re.compile(r"(.*/)?(\.DS_Store|\._[^/]+)")
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


class Watch:
    """Tells how far a request is, and ends it when it is not wanted any more.

    `report` is told what is being done (`reading`, `copying`, `checking`) and how many bytes of it are done.
    """

    def __init__(
        self,
        report: Callable[[str, int], None] = lambda what, done: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._report = report
        self._cancelled = cancelled

    def stage(self, what: str) -> Callable[[int], None]:
        """What to call with the length of every piece; it raises ActionError `cancelled`."""
        done = 0

        def count(length: int) -> None:
            nonlocal done
            if self._cancelled():
                raise ActionError("cancelled", "it was cancelled; what was there before is unchanged")
            done += length
            self._report(what, done)

        return count


@contextmanager
def told(subject: str) -> Iterator[None]:
    """Say an OSError as an ActionError: `disk-full`, `disk-forbidden` or `disk-failed`."""
    try:
        yield
    except OSError as error:
        cause = "disk-failed"
        if error.errno in _FULL:
            cause = "disk-full"
        elif error.errno in _FORBIDDEN:
            cause = "disk-forbidden"
        place = f" ({error.filename})" if error.filename else ""
        raise ActionError(
            cause, f"{subject} was not finished: {error.strerror or error}{place}; no complete copy was removed"
        ) from error


def copy(source: Files, root: str, target: Files, part: str, want: Manifest, watch: Callable[[int], None]) -> None:
    """Copy a folder to one that is absent; each file is durable before the next begins."""
    target.make_folder(part)
    for path, item in want.items.items():
        here = f"{part}/{path}"
        if item.kind is Kind.FOLDER:
            target.make_folder(here)
        elif item.kind is Kind.LINK:
            target.link(here, item.target)
        else:
            target.write(here, _watched(source.chunks(f"{root}/{path}"), watch))
            target.sync(here)
    sync_folders(target, part, want)


def difference(
    files: Files, root: str, want: Manifest, watch: Callable[[int], None], *, without: tuple[str, ...]
) -> str:
    """A path at which a folder is not what the manifest says, read back from the medium; empty: it is.

    What the Finder leaves wherever somebody looks with it does not make a copy a bad one.
    """
    here = shape(files, root, without=without).items.items()
    counted = {path: item for path, item in here if path in want.items or not _FINDER.fullmatch(path)}
    if path := same_shape(Manifest(items=counted), want):
        return path
    for path, item in want.files():
        if files.digest(f"{root}/{path}", watch) != item.digest:
            return path
    return ""


def harden(files: Files, root: str, want: Manifest, extra: Iterable[str] = ()) -> None:
    """Make all of a folder durable, its name included.

    Also what looks finished: it may be in memory only, left there by a run that was killed between a rename and
    the sync of its folder. Without this two crashes lose everything (faults.md 3.3, protocol v2).
    """
    for path, _ in want.files():
        files.sync(f"{root}/{path}")
    for name in extra:
        files.sync(f"{root}/{name}")
    sync_folders(files, root, want)
    files.sync(posixpath.dirname(root))


def sync_folders(files: Files, root: str, want: Manifest) -> None:
    """Make the names in a folder and in all folders below it durable."""
    for path in want.folders():
        files.sync(f"{root}/{path}")
    files.sync(root)


def write_durably(files: Files, path: str, content: bytes) -> None:
    """Replace a small file, whole or not at all, and durable when this returns."""
    folder, _, name = path.rpartition("/")
    temporary = posixpath.join(folder, f".{name}.part")
    if files.look(temporary) is not None:
        files.remove(temporary)
    files.write(temporary, [content])
    files.sync(temporary)
    if files.digest(temporary) != hashlib.sha256(content).hexdigest():
        raise OSError(errno.EIO, "the disk holds something else than was written", temporary)
    files.rename(temporary, path)
    files.sync(folder)


def remove_durably(files: Files, path: str) -> None:
    """Remove a small file if it is there; gone for good when this returns."""
    if files.look(path) is not None:
        files.remove(path)
        files.sync(posixpath.dirname(path))


def remove_tree(files: Files, root: str) -> None:
    """Remove a folder of ours with all that is in it, if it is there."""
    entry = files.look(root)
    if entry is None:
        return
    if entry.kind is not Kind.FOLDER:
        files.remove(root)
        return
    for name in files.names(root):
        remove_tree(files, f"{root}/{name}")
    files.remove_folder(root)


def remove_listed(files: Files, root: str, want: Manifest) -> None:
    """Remove a folder of which a copy exists, and nothing that the copy does not have. Raises ActionError."""
    here = shape(files, root)
    notes = [f"{NOTES}/{path}" for path, entry in _notes(files, root) if entry.size]
    for path in (*notes, *here.items):
        if notes or not alike(here.items[path], want.items.get(path)):
            raise ActionError(
                "source-changed",
                f"{root}/{path} is not in the verified copy; it and what is beside it was kept; look at it, move it "
                "away if it is needed, and try again",
                permanent=True,
            )
    for path, item in reversed(list(here.items.items())):
        if item.kind is Kind.FOLDER:
            files.remove_folder(f"{root}/{path}")
        else:
            files.remove(f"{root}/{path}")
    remove_tree(files, f"{root}/{NOTES}")
    files.remove_folder(root)


def alike(one: Item, other: Item | None) -> bool:
    """Whether two items differ in nothing but the digest, which is not known of every one."""
    return other is not None and (one.kind, one.size, one.target) == (other.kind, other.size, other.target)


def _notes(files: Files, root: str) -> Iterator[tuple[str, Entry]]:
    """What the library has written down about the hub; its files are empty."""
    return walk(files, f"{root}/{NOTES}") if files.look(f"{root}/{NOTES}") is not None else iter(())


def _watched(chunks: Iterable[bytes], watch: Callable[[int], None]) -> Iterator[bytes]:
    for chunk in chunks:
        watch(len(chunk))
        yield chunk
