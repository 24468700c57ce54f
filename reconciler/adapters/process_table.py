"""What the kernel says about single processes: start, life, session, token, and which boot this is.

Linux says it in /proc, macOS through libproc (`darwin_processes`). None of it needs a right over other users'
processes, none of it looks at more than the one process that is asked about, except `own_pids`.
"""

import os
import sys
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from reconciler.model.observed import Provenance

TOKEN_VARIABLE: Final = "RECONCILER_TOKEN"
"""What the environment of every server carries; random, and of one launch alone."""
LABEL_VARIABLE: Final = "RECONCILER_LABEL"
COMMIT_VARIABLE: Final = "RECONCILER_COMMIT"
GENERATION_VARIABLE: Final = "RECONCILER_GENERATION"
SPEC_VARIABLE: Final = "RECONCILER_SPEC"
"""Where a server comes from, for people and for whatever looks at the process; nothing is concluded from them."""
LOCK_DESCRIPTOR: Final = 9
"""Number under which a server holds its lock: the highest that a POSIX shell leaves to its user."""

_BOOT_FILE: Final = "/proc/sys/kernel/random/boot_id"
_BOOT_SYSCTL: Final = "kern.bootsessionuuid"
_DEAD: Final = frozenset("ZXx")


class Seen(NamedTuple):
    """One process at one moment."""

    pid: int
    started: int
    """Start on the monotonic clock of this boot: clock ticks on Linux, Mach time units on macOS."""
    alive: bool
    """False for a zombie: it holds nothing any more (R05)."""
    session: int
    """Pid of its session's leader; 0 where that cannot be seen."""


def seen(pid: int) -> Seen | None:
    """A process as it is now; None where there is none of that pid. Raises OSError when it cannot be looked at."""
    if sys.platform == "darwin":
        from . import darwin_processes

        return darwin_processes.seen(pid)
    try:
        raw = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces and parentheses; everything behind the last one is numbers.
    state, _, _, session, *rest = raw[raw.rindex(b")") + 2 :].split()
    # A first thread that has ended is shown as a zombie although the others go on (proc(5): num_threads).
    alive = state.decode() not in _DEAD or int(rest[13]) > 1
    return Seen(pid, int(rest[15]), alive, int(session))


def session_cpu_seconds(leaders: Collection[int]) -> dict[int, float]:
    """Leader -> processor time of all that it has started, a worker may be what works; without those not to be seen.

    One walk over the processes of this user serves all leaders.
    """
    used: dict[int, float] = {}
    for pid in own_pids():
        if (found := seen(pid)) is not None and found.session in leaders and (spent := cpu_seconds(pid)) is not None:
            used[found.session] = used.get(found.session, 0.0) + spent
    return used


def cpu_seconds(pid: int) -> float | None:
    """Processor time that a process has used; None where that cannot be told."""
    if sys.platform == "darwin":
        from . import darwin_processes

        return darwin_processes.cpu_seconds(pid)
    try:
        raw = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    user, system = raw[raw.rindex(b")") + 2 :].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def unique(pid: int) -> int | None:
    """What no other process of this boot ever has, not even with the same pid and tick (R06); None where unknown.

    The inode of a pidfd is that from Linux 6.9 on; before, all have one inode, and equality says nothing.
    """
    if sys.platform == "darwin":
        from . import darwin_processes

        return darwin_processes.unique(pid)
    if sys.platform != "linux":
        return None
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        return os.fstat(handle).st_ino
    finally:
        os.close(handle)


def token(pid: int) -> str | None:
    """The token in a process's environment, "" where it has none; None where nobody may read it.

    A process that is just ending, and a kernel thread, have no environment at all: that is not a missing token.
    Raises OSError when it could not be looked at.
    """
    variables = _environment(pid)
    return None if variables is None else _variable(variables, TOKEN_VARIABLE)


def carried(pid: int) -> Provenance | None:
    """What a process's environment says about its launch; None where nobody may read it, or where it has none.

    Raises OSError when it could not be looked at.
    """
    variables = _environment(pid)
    if variables is None:
        return None
    return Provenance(
        label=_variable(variables, LABEL_VARIABLE),
        revision=_variable(variables, COMMIT_VARIABLE),
        generation=_variable(variables, GENERATION_VARIABLE),
        spec_hash=_variable(variables, SPEC_VARIABLE),
    )


def _environment(pid: int) -> list[bytes] | None:
    """NAME=value of a process; None where nobody may read it, and where it has none at all."""
    if sys.platform == "darwin":
        from . import darwin_processes

        variables = darwin_processes.environment(pid)
    else:
        try:
            variables = _read(f"/proc/{pid}/environ").split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None
    return variables if any(variables) else None


def _variable(variables: list[bytes], name: str) -> str:
    """The value of a variable; "" where there is none of this name."""
    prefix = f"{name}=".encode()
    found = next((entry for entry in variables if entry.startswith(prefix)), prefix)
    return found.removeprefix(prefix).decode("ascii", "replace")


def own_pids(session: int | None = None) -> Iterator[int]:
    """Every process of this user but this one: the one question whose cost grows with the machine.

    With a `session` those of it alone, which costs a hundredth: they are told from the others by one system call each.
    """
    if sys.platform == "darwin":
        from . import darwin_processes

        pids = darwin_processes.pids_of(os.geteuid())
    else:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    for pid in pids:
        if session is not None and not _is_in(pid, session):
            continue
        if pid != os.getpid() and (sys.platform == "darwin" or _is_own(pid)):
            yield pid


def _is_in(pid: int, session: int) -> bool:
    """Whether a process is in a session; one of which that cannot be told may be."""
    try:
        return os.getsid(pid) == session
    except ProcessLookupError:
        return False
    except OSError:
        return True


def holds(pid: int, path: str) -> bool:
    """Whether a process has the lock file open where a server has it; never true on macOS, which hides that."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/fd/{LOCK_DESCRIPTOR}"), os.stat(path))
    except OSError:
        return False


def group_exists(group: int) -> bool:
    """Whether any process, be it a zombie, is in a process group. No signal is sent."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def boot_id() -> str | None:
    """What distinguishes this boot of the machine from every other; None where it cannot be read."""
    if sys.platform == "darwin":
        from .darwin import sysctl_text

        return sysctl_text(_BOOT_SYSCTL)
    try:
        return _read(_BOOT_FILE).decode("ascii").strip() or None
    except (OSError, ValueError):
        return None


def _read(path: str) -> bytes:
    with open(path, "rb", 0) as handle:
        return handle.read()


def _is_own(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    except OSError:
        return False
