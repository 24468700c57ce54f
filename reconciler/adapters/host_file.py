"""Finds the host file, which says what is allowed on this machine, and refuses one that others could have written."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from reconciler.model.problem import ExitCode, ReconcilerError

VARIABLE: Final = "RECONCILER_HOST_FILE"
_NAME: Final = "reconciler/host.yaml"
_LIMIT: Final = 2**20
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def find_host_file(explicit: Path | None = None) -> tuple[str, bytes] | None:
    """(name, content) of the file that was named, else of the first usual place that has one; None where none has.

    Raises ReconcilerError when a named one is missing, and when the one that was found cannot be trusted.
    """
    named = explicit or os.environ.get(VARIABLE)
    if named:
        content = _read(str(named))
        if content is None:
            raise _refused("host-file-missing", f"there is no host file {named}", f"mend the path or {VARIABLE}")
        return str(named), content
    for path in usual_places():
        content = _read(path)
        if content is not None:
            return path, content
    return None


def usual_places() -> Iterator[str]:
    """Where a host file is looked for, in this order."""
    yield os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), _NAME)
    if sys.platform == "darwin":
        yield os.path.join(os.path.expanduser("~/Library/Application Support"), _NAME)


def _read(path: str) -> bytes | None:
    """The content of a trusted file; None where there is none. At most one byte more than a document may have."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _refused("host-file-unreadable", f"{path}: {error.strerror}", "make it readable") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _refused("host-file-unreadable", f"{path} is not a plain file", "put a plain file there")
        _check(path, status)
        folder = os.path.dirname(os.path.realpath(path))
        _check(folder, os.stat(folder))
        content = b""
        while len(content) <= _LIMIT and (part := os.read(handle, _LIMIT + 1 - len(content))):
            content += part
    finally:
        os.close(handle)
    return content


def _check(path: str, status: os.stat_result) -> None:
    """Only we and root may be able to write what allows commands to run (S18)."""
    if status.st_uid not in {os.geteuid(), 0}:
        raise _refused(
            "host-file-untrusted",
            f"{path} belongs to user {status.st_uid}, who could allow commands here",
            "make it yours (chown), or use another file",
        )
    sticky_folder = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & _OTHERS_WRITE and not sticky_folder:
        raise _refused(
            "host-file-untrusted",
            f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})",
            f"chmod go-w '{path}'",
        )


def _refused(reference: str, message: str, hint: str) -> ReconcilerError:
    return ReconcilerError(reference, message, hint=hint, code=ExitCode.ENVIRONMENT)
