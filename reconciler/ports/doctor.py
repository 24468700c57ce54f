"""The questions of an examination, which nothing else has to ask."""

from typing import Protocol

from reconciler.model.doctor import (
    ClockState,
    Complaint,
    Disk,
    GitState,
    Install,
    Leftover,
    LentPorts,
    Listening,
    Owned,
    StateFolder,
)
from reconciler.model.observed import Observation


class Examiner(Protocol):
    """Looks at one machine for what may be wrong with it.

    Absent means that there is nothing of the kind here. What cannot be looked at is unknown.
    """

    @property
    def uid(self) -> int:
        """Number of the user who asks."""
        ...

    def state_folder(self) -> Observation[StateFolder]:
        """How the file system of the state directory behaves; files are made for it and removed."""
        ...

    def state_owners(self) -> Observation[tuple[Owned, ...]]:
        """The state directory and its files."""
        ...

    def database(self) -> Observation[Complaint | None]:
        """What is wrong with the state database; None: nothing."""
        ...

    def disks(self) -> Observation[tuple[Disk, ...]]:
        """The room of the state directory and of the model cache."""
        ...

    def installs(self) -> Observation[tuple[Install, ...]]:
        """Every install of a package that matters, without starting or importing any."""
        ...

    def listening(self) -> Observation[tuple[Listening, ...]]:
        """Every TCP socket that listens; absent where this system has no such list."""
        ...

    def leftovers(self) -> Observation[tuple[Leftover, ...]]:
        """The files of unfinished downloads in the model cache."""
        ...

    def lent_ports(self) -> Observation[LentPorts]:
        """The ports of outgoing connections; absent where this system has no such file."""
        ...

    def git(self) -> Observation[GitState | Complaint]:
        """Git as it is called here; absent where no desired file was found."""
        ...

    def clock(self) -> Observation[ClockState]:
        """The clock."""
        ...

    def tokens(self) -> Observation[tuple[Owned, ...]]:
        """Files with a token of the model hub; they are not read."""
        ...

    def host_file(self) -> Observation[Owned]:
        """The host file that is in use."""
        ...
