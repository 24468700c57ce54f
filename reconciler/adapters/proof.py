"""Whose process a record names: the proof without which nothing is ever signalled (docs/architecture.md, Proof).

*Ours* is a process while its lock is held, its record is of this boot, it has the start and the unique number of
the record, is no zombie, and its environment, where that can be read, carries the token of the launch. A first
process that is gone while others of its session live on with that token, or with the token and the lock, leaves
*ours* that can be stopped and not served from (R11, R14). *Orphan* is the live leader of a session with the token
of a record that names no process yet. *Gone* is it once the lock is free and nobody of it is left, or the machine
has been started again. Everything else is unknown, with the reason.
"""

from collections.abc import Iterator
from typing import Final

from reconciler.model.base import noun
from reconciler.model.observed import Standing

from .process_table import Seen, group_exists, holds, own_pids, seen, token, unique
from .records import Lock, Record, Run

REBOOTED: Final = "the machine has been started again since"


@noun
class Proof:
    """What is proved of a record at one moment."""

    standing: Standing
    members: tuple[int, ...] = ()
    """Live processes that are proved to be of this launch; the leader alone, where it lives."""
    leader: Seen | None = None
    """The first process, which leads the group; None where it does not live or is not proved."""
    reason: str = ""


def prove(run: Run, record: Record, boot: str | None, lock: Lock | None = None) -> Proof:
    """Look at the lock and at the processes that the record speaks of. Raises OSError when that is not possible.

    `lock` is given by who holds the lock himself, and so cannot test it.
    """
    if record.newer:
        return _unknown(record.flaw)
    if boot is not None and record.boot_id not in {"", boot} and not record.flaw:
        return Proof(standing=Standing.GONE, reason=REBOOTED)
    lock = lock or run.lock()
    if record.flaw:
        return _gone(f"{record.flaw}; nobody holds its lock") if lock is Lock.FREE else _unknown(record.flaw)
    if boot is None:
        return _gone() if lock is Lock.FREE else _unknown("what distinguishes this boot from others cannot be read")
    return _unfinished(run, record, lock) if record.pid is None else _finished(run, record, lock)


def survivors(run: Run, record: Record, lock: Lock) -> tuple[int, ...]:
    """Live processes of a launch whose first process is gone, in order of their pids. Raises OSError.

    Whoever is in another session counts by the lock that it holds, and so not where nobody holds it.
    """
    session = record.pid if lock is Lock.FREE else None
    return tuple(
        sorted(
            found.pid
            for found in carriers(record.token, session)
            if found.session == record.pid or holds(found.pid, run.lock_path)
        )
    )


def carriers(wanted: str, session: int | None = None) -> Iterator[Seen]:
    """Every live process of this user, or of one session, whose environment carries a token. Raises OSError."""
    for pid in own_pids(session):
        if token(pid) == wanted and (found := seen(pid)) is not None and found.alive:
            yield found


def _unfinished(run: Run, record: Record, lock: Lock) -> Proof:
    """A record that was written before a start, and no process named in it."""
    if lock is Lock.FREE:
        return _gone("its launch was cut off before its server ran")
    if lock is Lock.MISSING:
        return _unknown("its lock file is missing, and its record names no process")
    pid = run.announced(record.token)
    found = seen(pid) if pid is not None and pid > 1 and token(pid) == record.token else None
    leaders = [found] if found is not None and found.alive and found.session == found.pid else []
    if not leaders:
        leaders = [found for found in carriers(record.token) if found.session == found.pid]
    if len(leaders) == 1:
        return Proof(standing=Standing.ORPHAN, members=(leaders[0].pid,), leader=leaders[0])
    if leaders:
        return _unknown(f"several processes carry its token: {_listed(leader.pid for leader in leaders)}")
    return _unknown("its launch is under way, or was cut off and something that cannot be named holds its lock")


def _finished(run: Run, record: Record, lock: Lock) -> Proof:
    """A record that names its process."""
    pid = record.pid or 0
    found = seen(pid)
    same = found is not None and found.started == record.started and _same_number(record, pid)
    if found is not None and same and found.alive:
        carried = token(pid)
        if lock is Lock.HELD:
            if carried not in {None, record.token}:
                return _unknown(f"pid {pid} does not carry the token of its launch")
            return Proof(standing=Standing.OURS, members=(pid,), leader=found)
        if lock is Lock.MISSING:
            return _unknown("its lock file is missing")
        # A process that is just ending has given up its environment before its descriptors.
        if carried == record.token:
            return _unknown(f"pid {pid} runs and does not hold its lock")
    if lock is Lock.HELD or group_exists(pid):
        left = survivors(run, record, lock)
        if left:
            reason = f"its first process {pid} is gone, and {_listed(left)} of it still run"
            return Proof(standing=Standing.OURS, members=left, reason=reason)
        if lock is Lock.HELD:
            who = "is another process now" if found is not None and not same else "is gone"
            return _unknown(f"pid {pid} {who}, and something that cannot be named holds its lock")
    return _gone()


def _same_number(record: Record, pid: int) -> bool:
    """Whether the unique number is not another one; one that cannot be had, then or now, decides nothing."""
    now = None if record.unique is None else unique(pid)
    return now is None or now == record.unique


def _gone(reason: str = "") -> Proof:
    return Proof(standing=Standing.GONE, reason=reason)


def _unknown(reason: str) -> Proof:
    return Proof(standing=Standing.UNKNOWN, reason=reason)


def _listed(pids: Iterator[int] | tuple[int, ...]) -> str:
    return f"pid {', '.join(map(str, sorted(pids)))}"
