"""The one file that tells a service manager about the watch."""

import contextlib
import os

from reconciler.model.observed import Absent, Observation, Present, Unknown
from reconciler.model.service import Service

_LIMIT = 2**20
_PRIVATE = 0o700
_MODE = 0o644
"""systemd complains about a file that others cannot read, and launchd about one that they can write."""


class UnitFile:
    """A file that is replaced in one step, so that a manager which reads it now reads one of the two."""

    def __init__(self, path: str) -> None:
        self.path = path

    def written(self) -> Observation[str]:
        """What it holds; a link is followed, as the manager does."""
        try:
            with open(self.path, "rb") as file:
                raw = file.read(_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            # A link that leads nowhere is somebody's, and is not written over.
            return Unknown(reason=f"{self.path} is a link to nothing") if os.path.islink(self.path) else Absent()
        except OSError as error:
            return Unknown(reason=f"{self.path}: {error.strerror}")
        return Present(value=raw.decode("utf-8", "replace"))

    def write(self, text: str) -> None:
        """Replace it. Raises OSError; then it is as it was."""
        folder = os.path.dirname(self.path)
        os.makedirs(folder, exist_ok=True)
        # Not a name that a manager would read as a service of its own.
        staged = f"{folder}/.{os.path.basename(self.path)}.{os.getpid()}"
        try:
            with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE), "wb") as file:
                os.fchmod(file.fileno(), _MODE)
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(staged)
            raise
        _sync(folder)

    def remove(self) -> None:
        """Remove it; it may be gone. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
            _sync(os.path.dirname(self.path))


def make_log_folder(service: Service) -> None:
    """The folder of the log, and the state directory around it, for their owner alone. Raises OSError.

    No manager makes a folder: launchd would not start the service, and would not say why.
    """
    logs = os.path.dirname(service.log)
    state = os.path.dirname(logs)
    os.makedirs(os.path.dirname(state), exist_ok=True)
    for folder in (state, logs):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, _PRIVATE)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
