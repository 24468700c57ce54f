"""Cold storage is the disk that holds the agreed identity, and nothing that happens to lie at its path.

When a volume is not mounted, its mount point is an ordinary folder of the system disk, and writes land there
(measured; fault O06). So the identity is a file on the volume, it is read through the descriptor that all later
requests go through, and the file system must be another one than that of the model cache.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from reconciler.adapters.durable.files import Files, LocalFiles
from reconciler.ports.errors import ActionError

IDENTITY: Final = ".reconciler-volume"
_TEMPORARY: Final = f"{IDENTITY}.part"
_ID: Final = re.compile(r"[0-9a-f]{32}")


@contextmanager
def mounted(path: str, identity: str, *, cache: Files, separate: bool = True) -> Iterator[LocalFiles]:
    """The volume at `path`, held open. Raises ActionError: `volume-unmounted`, `volume-wrong` or `volume-unmarked`.

    `cache` is the model cache; `separate` false says that the volume may be on the same disk as it.
    """
    try:
        files = LocalFiles(path)
    except OSError as error:
        raise ActionError(
            "volume-unmounted",
            f"{path} cannot be opened ({error.strerror or error}); nothing was moved (is it mounted?)",
        ) from error
    with files:
        check(files, path, identity, cache=cache if separate else None)
        yield files


def check(files: Files, path: str, identity: str, *, cache: Files | None) -> None:
    """Refuse a volume that is not the one of `identity`, or is on the file system of `cache`. Raises ActionError.

    `path` is how it is called in messages; `cache` None: a folder on the same file system will do.
    """
    try:
        found = read_identity(files)
        same = cache is not None and cache.device() == files.device()
    except OSError as error:
        raise ActionError(
            "volume-unmounted", f"{path} cannot be read ({error.strerror or error}); nothing was moved"
        ) from error
    if same:
        raise ActionError(
            "volume-unmounted",
            f"{path} is on the disk of the model cache, so no volume is mounted there; nothing was moved; "
            "mount it, or say `separate: false` in the host file if it is meant to be a folder of that disk",
        )
    if found is None:
        raise ActionError(
            "volume-unmarked",
            f"{path} has no {IDENTITY}, so it cannot be told from another disk; nothing was moved; "
            "mark it with `reconciler volume init`",
            permanent=True,
        )
    if found != identity:
        raise ActionError(
            "volume-wrong",
            f"{path} is the volume {found} and not {identity}, which the host file names; nothing was moved",
        )


def read_identity(files: Files) -> str | None:
    """The identity that a volume holds; None where it has none. Raises OSError when it cannot be looked at."""
    if files.look(IDENTITY) is None:
        return None
    text = files.read(IDENTITY).decode("ascii", "replace").strip()
    return text if _ID.fullmatch(text) else None


def initialise(path: str) -> str:
    """Give the folder at `path` an identity, or say which one it has; it is the `id` of the host file.

    Raises ActionError `volume-unmounted` where there is no such folder, `volume-unwritable` where it takes no file.
    """
    import secrets

    try:
        files = LocalFiles(path)
    except OSError as error:
        raise ActionError("volume-unmounted", f"{path} cannot be opened ({error.strerror or error})") from error
    with files:
        try:
            return _marked(files, secrets.token_hex(16))
        except OSError as error:
            raise ActionError(
                "volume-unwritable", f"{path} takes no identity ({error.strerror or error}); nothing on it was changed"
            ) from error


def _marked(files: Files, identity: str) -> str:
    """Write an identity where there is none; a run that was cut off leaves only the temporary file."""
    if files.look(IDENTITY) is not None:
        if (found := read_identity(files)) is None:
            raise OSError(0, f"its {IDENTITY} is damaged", IDENTITY)
        files.sync(IDENTITY)
        files.sync("")
        return found
    if files.look(_TEMPORARY) is not None:
        files.remove(_TEMPORARY)
    files.write(_TEMPORARY, [f"{identity}\n".encode()])
    files.sync(_TEMPORARY)
    files.rename(_TEMPORARY, IDENTITY)
    files.sync("")
    return identity
