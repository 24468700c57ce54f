"""One machine put together to be examined: what cannot be had is a part of the case, and ends nothing."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.machine import memory_total, working_set
from reconciler.engine.doctor import Case
from reconciler.engine.service import Describe, report
from reconciler.model.doctor import Complaint
from reconciler.model.host import HostFile
from reconciler.model.observed import Absent, Observation, Present
from reconciler.model.problem import InvalidDocument, ReconcilerError

if TYPE_CHECKING:
    from reconciler.model.desired import Desired, DesiredState
    from reconciler.model.hook import Hook
    from reconciler.ports.hooks import Hooks
    from reconciler.ports.service import ServiceManager

T = TypeVar("T")

_NO_REPOSITORY = ("repository-missing", "desired-file-not-found")


def case(
    place: Callable[[], str],
    named: str | None,
    host_file: Callable[[], HostFile],
    desired: Callable[[], "Desired"],
    manager: "ServiceManager",
    describe: Describe,
    hooks: "Callable[[], Hooks]",
) -> Case:
    """The case of this machine. `named`: the host file as it was named on the command line."""
    from reconciler.adapters.cache.digests import Digests
    from reconciler.adapters.cache.hf_cache import cache_root
    from reconciler.adapters.doctor.examiner import LocalExaminer
    from reconciler.adapters.state_dir import default_root
    from reconciler.adapters.transcripts import LocalMac

    allowed = _or_complaint(host_file)
    host = allowed if isinstance(allowed, HostFile) else HostFile()
    found = _or_complaint(place)
    where = None if isinstance(found, Complaint) else found
    return Case(
        examiner=LocalExaminer(host, named, where, SystemClock().now),
        mac=LocalMac(),
        host_file=allowed,
        desired=_desired(where, allowed, desired),
        usable=memory_total(lambda: working_set(Digests(default_root(os.environ)))),
        service=lambda: report(manager, describe),
        hooks=lambda: _hooks(hooks),
        models=cache_root(os.environ),
    )


def _desired(
    place: str | None, allowed: HostFile | Complaint, desired: Callable[[], "Desired"]
) -> "Observation[DesiredState | Complaint]":
    if place is None:
        return Absent()
    if isinstance(allowed, Complaint):
        return Present(value=allowed)  # what the desired state may name is not known without it
    found = _or_complaint(desired)
    return Present(value=found if isinstance(found, Complaint) else found.state)


def _hooks(hooks: "Callable[[], Hooks]") -> "Observation[Sequence[Hook] | Complaint]":
    found = _or_complaint(lambda: hooks().status())
    nowhere = isinstance(found, Complaint) and found.reference in _NO_REPOSITORY
    return Absent() if nowhere else Present(value=found)


def _or_complaint(make: Callable[[], T]) -> T | Complaint:
    try:
        return make()
    except InvalidDocument as error:
        first = error.problems[0].located(error.file) if error.problems else ""
        return Complaint(reference=error.reference, message=f"{error.message} ({first})", hint=error.hint)
    except ReconcilerError as error:
        return Complaint(reference=error.reference, message=error.message, hint=error.hint)
