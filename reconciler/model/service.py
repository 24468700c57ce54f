"""The watch as a service of the system: what it is made of, and how it stands."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from .base import noun

THROTTLE: Final = 10
"""Seconds between two starts of a service that keeps ending."""
PATIENCE: Final = 30
"""Seconds that the watch has to end before it is killed; its servers stay."""
MARK: Final = "RECONCILER_SERVICE"
"""The variable by which a file of ours is known, and a watch that was started by one."""


@noun
class Service:
    """A program that the service manager of the system starts and keeps running."""

    argv: tuple[str, ...]
    """Program, by its absolute path, and arguments."""
    environment: Mapping[str, str]
    log: str
    """Absolute path of the file that its output is appended to."""


@noun
class ServiceRun:
    """A service that the manager knows."""

    pid: int | None
    """None while it does not run."""
    detail: str
    """What the manager says about it."""


class FileStanding(StrEnum):
    """What is at the place of the service's file."""

    ABSENT = "absent"
    FOREIGN = "foreign"
    """A file that was not written by us: it is never replaced or removed unasked."""
    CURRENT = "current"
    DIFFERS = "differs"
    """Ours, and not what would be written now."""
