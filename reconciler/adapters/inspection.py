"""A look at one process that somebody has named by its number; it is for people, and proves nothing."""

from reconciler.model.observed import Inspection

from .port_owners import command_line
from .process_table import carried, seen


def inspect(pid: int) -> Inspection | None:
    """What can be seen of a process; None where there is none of this pid. Raises OSError."""
    found = seen(pid)
    if found is None or not found.alive:
        return None
    return Inspection(pid=pid, session=found.session, command=command_line(pid), carried=carried(pid))
