"""The service manager of the system, as far as one service of one user goes: requests are short and not awaited."""

from typing import Protocol

from reconciler.model.observed import Observation
from reconciler.model.service import Service, ServiceRun


class ServiceManager(Protocol):
    """launchd or systemd, and the one file that tells it about the watch."""

    @property
    def name(self) -> str:
        """`launchd` or `systemd`."""
        ...

    @property
    def file(self) -> str:
        """Absolute path of the file."""
        ...

    def text(self, service: Service) -> str:
        """What the file has to hold. Raises ReconcilerError for what the format cannot say."""
        ...

    def described(self, text: str) -> Service | None:
        """The inverse of `text`; None for a file that is not ours."""
        ...

    def written(self) -> Observation[str]:
        """What the file holds."""
        ...

    def write(self, service: Service) -> None:
        """Replace the file in one step, and have a place for the log. Raises OSError."""
        ...

    def remove(self) -> None:
        """Remove the file, and what makes it start by itself. Raises OSError."""
        ...

    def run(self) -> Observation[ServiceRun]:
        """The service as the manager knows it; absent: it does not; unknown: the manager cannot be asked."""
        ...

    def start(self) -> None:
        """Let the manager read the file, and start the service anew. Raises ActionError."""
        ...

    def end(self) -> None:
        """End the service and let the manager forget it; done when it has. Raises ActionError."""
        ...

    @property
    def starting(self) -> str:
        """The commands by which a person does what `start` does."""
        ...

    @property
    def ending(self) -> str:
        """The commands by which a person does what `end` does."""
        ...

    def advice(self) -> str:
        """What a person should know about when it starts and ends; empty where there is nothing."""
        ...
