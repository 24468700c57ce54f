"""Files of unfinished downloads in the model cache, and whether somebody is writing them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from reconciler.model.doctor import Leftover

_END: Final = ".incomplete"
_REPOSITORIES: Final = ("models--", "datasets--", "spaces--")


def leftovers(cache: str, now: float) -> Iterator[Leftover]:
    """Every partial file of a cache. Raises OSError where the cache itself cannot be listed."""
    for folder in sorted(os.listdir(cache)):
        if folder.startswith(_REPOSITORIES):
            blobs = f"{cache}/{folder}/blobs"
            with suppress(FileNotFoundError, NotADirectoryError):
                for entry in sorted(os.scandir(blobs), key=lambda entry: entry.name):
                    if entry.name.endswith(_END) and entry.is_file(follow_symlinks=False):
                        yield _leftover(entry, f"{cache}/.locks/{folder}", now)


def _leftover(entry: "os.DirEntry[str]", locks: str, now: float) -> Leftover:
    status = entry.stat(follow_symlinks=False)
    # huggingface_hub 2.4 writes BLOB.8DIGITS.incomplete, older ones BLOB.incomplete; both under the lock of the blob.
    lock = f"{locks}/{entry.name.partition('.')[0]}.lock"
    return Leftover(path=entry.path, size=status.st_size, age=max(0.0, now - status.st_mtime), locked=_is_locked(lock))


def _is_locked(path: str) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it cannot be told, and a file that is written must not be taken for an orphan
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
