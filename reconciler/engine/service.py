"""Looking at the watch as a service: its file, what it would be now, and what the manager says."""

from collections.abc import Callable, Sequence

from reconciler.model.observed import Absent, Unknown
from reconciler.model.problem import ReconcilerError
from reconciler.model.service import FileStanding, Service
from reconciler.planning.service import ServiceReport, arguments, differences, settled
from reconciler.ports.service import ServiceManager

Describe = Callable[[Sequence[str]], Service]
"""From what `reconciler` is told to the service that would be installed now. Raises ReconcilerError."""


def report(manager: ServiceManager, describe: Describe) -> ServiceReport:
    """The service as it is, compared with what would be written now for the same arguments."""
    written = manager.written()
    if isinstance(written, Unknown):
        return _report(manager, None, why=written.reason)
    if isinstance(written, Absent):
        return _report(manager, FileStanding.ABSENT)
    known = manager.described(written.value)
    if known is None:
        return _report(manager, FileStanding.FOREIGN)
    try:
        wanted = settled(describe(arguments(known)), known)
    except ReconcilerError as error:
        return _report(manager, FileStanding.DIFFERS, (f"what it is told cannot be followed: {error.message}",))
    if manager.text(wanted) == written.value:
        return _report(manager, FileStanding.CURRENT)
    return _report(manager, FileStanding.DIFFERS, differences(known, wanted) or ("the form of the file",))


def _report(
    manager: ServiceManager, standing: FileStanding | None, differs: tuple[str, ...] = (), why: str = ""
) -> ServiceReport:
    return ServiceReport(
        manager=manager.name, file=manager.file, standing=standing, why=why, differs=differs, run=manager.run()
    )
