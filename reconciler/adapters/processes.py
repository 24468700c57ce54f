"""The run records of one state directory, as far as this version can prove them.

A record is `run/LABEL.json` beside `run/LABEL.lock`, which the server holds as long as it lives (docs/
architecture.md, section 6). Two things are proved without looking at a process: a record of another boot is of a
process that is gone, and so is one whose lock is free. Everything else is unknown, and so is left alone.
"""

import fcntl
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from reconciler.model.observed import ServerProcess, Standing
from reconciler.model.target import LaunchOrder
from reconciler.ports.errors import ActionError, ObservationError

_RECORD: Final = ".json"
_LOCK: Final = ".lock"
_LIMIT: Final = 2**20
_BOOT_FILE: Final = "/proc/sys/kernel/random/boot_id"
_BOOT_SYSCTL: Final = "kern.bootsessionuuid"


class RecordedProcesses:
    """Lists records; starting and ending processes is not in this version."""

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        self._run = os.fspath(run_dir)

    def records(self) -> Mapping[str, ServerProcess]:
        """label -> its record. Raises ObservationError when the directory cannot be listed."""
        try:
            names = sorted(name for name in os.listdir(self._run) if name.endswith(_RECORD))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ObservationError(f"{self._run}: {error.strerror}") from error
        labels = [name.removesuffix(_RECORD) for name in names]
        return {label: self._one(label) for label in labels if label and not label.startswith(".")}

    def _one(self, label: str) -> ServerProcess:
        path = os.path.join(self._run, label)
        try:
            with open(path + _RECORD, "rb") as handle:
                record = json.loads(handle.read(_LIMIT))
            if not isinstance(record, dict):
                raise ValueError("no JSON object")
        except (OSError, ValueError, RecursionError) as error:
            record = {}
            detail = f"its record cannot be read: {error}"
        else:
            detail = "this version cannot prove it"
        standing = Standing.UNKNOWN
        if record.get("boot_id") and (boot := boot_id()) and record["boot_id"] != boot:
            standing, detail = Standing.GONE, "the machine has been started again since"
        elif _is_free(path + _LOCK):
            standing, detail = Standing.GONE, "nobody holds its lock"
        return ServerProcess(
            label=label,
            port=_number(record, "port") or 0,
            standing=standing,
            pid=_number(record, "pid"),
            started=_number(record, "started"),
            spec_hash=_text(record, "spec_hash"),
            fields=_texts(record.get("fields")),
            artifact=_text(record, "artifact"),
            served_name=_text(record, "served_name"),
            memory=_number(record, "memory") or 0,
            detail=detail,
        )

    async def launch(self, order: LaunchOrder) -> None:
        """Not in this version."""
        raise _not_available(f"start {order.label}")

    async def stop(self, process: ServerProcess) -> None:
        """Not in this version."""
        raise _not_available(f"stop {process.label}")

    async def adopt(self, process: ServerProcess) -> None:
        """Not in this version."""
        raise _not_available(f"adopt {process.label}")

    async def forget(self, process: ServerProcess) -> None:
        """Not in this version."""
        raise _not_available(f"forget {process.label}")


def boot_id() -> str | None:
    """What distinguishes this boot of the machine from every other; None where it cannot be read."""
    if sys.platform == "darwin":
        from .darwin import sysctl_text

        return sysctl_text(_BOOT_SYSCTL)
    try:
        with open(_BOOT_FILE, encoding="ascii") as handle:
            return handle.read().strip() or None
    except OSError:
        return None


def _is_free(path: str) -> bool:
    """Whether a lock file is there and nobody holds it; a shared test lock is taken and given back."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _not_available(what: str) -> ActionError:
    return ActionError("not-available", f"this version cannot {what}", permanent=True)


def _number(record: Mapping[str, Any], name: str) -> int | None:
    value = record.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return value if isinstance(value, str) else ""


def _texts(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        return {}
    return {name: text for name, text in value.items() if isinstance(text, str)}
