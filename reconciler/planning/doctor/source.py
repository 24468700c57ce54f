"""Where the desired state comes from and what keeps it in force: git, the clock, the service."""

from collections.abc import Iterator, Sequence
from typing import Final

from reconciler.model.doctor import ClockState, Complaint, Finding, GitState, Owned
from reconciler.model.hook import NEEDED, Hook, HookStanding
from reconciler.model.observed import Absent, Present, Unknown
from reconciler.model.service import FileStanding
from reconciler.model.units import spoken
from reconciler.planning.service import ServiceReport

from .said import complained, ok, problem, quoted, unknown, warning
from .versions import is_below

_GIT: Final = "2.38"
"""The first git that knows safe.bareRepository, which is pinned."""
_WRITTEN: Final = 1_767_225_600.0
"""2026-01-01: this code is younger, so a clock that says less is wrong."""
_LEEWAY: Final = 60.0
_OTHERS: Final = 0o077
_INSTALL: Final = "reconciler service install"
_HOOK: Final = "reconciler hook install"


def git(found: GitState | Complaint) -> Iterator[Finding]:
    """Git is there, may read the repository, and takes the settings that are pinned (fault S25)."""
    if isinstance(found, Complaint):
        yield complained(found)
        return
    if is_below(found.version, _GIT):
        text = f"git {found.version} does not know all settings that keep it from running what a repository names"
        yield warning("git-outdated", text, f"install git {_GIT} or newer")
    loose = [name for name, value in found.pinned.items() if found.effective.get(name) != value]
    if loose:
        text = f"git does not take these settings from us: {', '.join(loose)}"
        yield problem("git-not-pinned", text, f"git config --list --show-origin  # in {quoted(found.folder)}")
    elif not is_below(found.version, _GIT):
        where = f", and may read {found.folder}" if found.folder else "; the desired file is in no repository"
        yield ok(f"git {found.version} takes the settings that are pinned{where}")


def hooks(found: Sequence[Hook] | Complaint) -> Iterator[Finding]:
    """Whether a commit pokes the watch. File events tell it too, so that nothing is wrong without a hook."""
    if isinstance(found, Complaint):
        yield complained(found)
        return
    outdated = [hook for hook in found if hook.standing is HookStanding.OUTDATED]
    for hook in outdated:
        yield warning("hook-outdated", f"{hook.path} pokes another state directory, or is of another version", _HOOK)
    needed = next((hook for hook in found if hook.name == NEEDED), None)
    if needed is None or needed in outdated:
        return
    if needed.tells:
        yield ok(f"{needed.path} tells the watch of a commit")
    elif needed.standing is HookStanding.FOREIGN:
        yield ok(f"{needed.path} is somebody else's, so file events alone tell the watch of a commit")
    else:
        yield ok(f"file events tell the watch of a commit; where they get lost: {_HOOK}")


def clock(found: ClockState) -> Iterator[Finding]:
    """Attempts, suspensions and proofs are remembered by the clock."""
    if found.now < _WRITTEN:
        yield problem("clock-wrong", "the clock is before 2026, and downloads will fail by their certificates", _set())
    elif found.last_event is not None and found.last_event > found.now + _LEEWAY:
        ahead = spoken(found.last_event - found.now)
        text = (
            f"the last event was written {ahead} in the future: the clock was set back, and what is due waits so long"
        )
        yield warning("clock-set-back", text, _set())
    elif found.synchronised == Present(value=False):
        yield warning("clock-not-synchronised", "the clock is not set by the network", _set())
    else:
        yield ok("the clock is plausible")


def service(found: ServiceReport) -> Iterator[Finding]:
    """The watch as a service: as it would be installed now, and running. One that nobody has installed is no fault."""
    if found.standing is None:
        yield unknown(found.why)
    elif found.standing is FileStanding.FOREIGN:
        yield warning("service-foreign", f"{found.file} was not written by reconciler", "move it away")
    elif found.standing is FileStanding.ABSENT:
        if isinstance(found.run, Present):
            text = f"{found.manager} runs the service, and its file {found.file} is gone"
            yield warning("service-file-gone", text, _INSTALL)
        else:
            yield ok(f"the watch is no service; to have it started at login: {_INSTALL}")
    else:
        yield from _installed(found)


def _installed(found: ServiceReport) -> Iterator[Finding]:
    if found.standing is FileStanding.DIFFERS:
        text = f"{found.file} is not what would be written now ({', '.join(found.differs)})"
        yield warning("service-outdated", text, _INSTALL)
    match found.run:
        case Unknown(reason=reason):
            yield unknown(reason)
        case Absent():
            text = f"{found.file} is there, and {found.manager} does not know it"
            yield problem("service-not-loaded", text, _INSTALL)
        case Present(value=run) if run.pid is None:
            text = f"the service is installed and does not run: {run.detail}"
            yield problem("service-not-running", text, "reconciler service status, and the end of its log")
        case Present(value=run):
            if found.standing is FileStanding.CURRENT:
                yield ok(f"{found.manager} keeps the watch running, pid {run.pid}")


def host_file(found: Owned) -> Iterator[Finding]:
    """It may name where secrets are, and is read by its owner alone. Who may write it is asked whenever it is read."""
    if found.mode & _OTHERS:
        text = f"{found.path} can be read by others (mode {found.mode:04o})"
        yield warning("host-file-readable", text, f"chmod 600 {quoted(found.path)}")
    else:
        yield ok(f"{found.path} is {'yours alone' if found.ours else 'read by root alone'}")


def _set() -> str:
    return "have the clock set by the network (Mac: System Settings > General > Date & Time; Linux: timedatectl)"
