"""Whether somebody waits on a server that does nothing: what tells one that is busy from one that is wedged.

A connection alone is no request, since gateways keep idle ones open. So a standstill is a reason to ask, and never a
verdict; a connection that was open while the question was answered is idle, and no reason to ask again.
"""

from collections.abc import Collection, Mapping
from typing import Final

from reconciler.model.base import noun

from .connections import Connection

BUSY: Final = 0.01
"""Share of one processor from which on a server is at work: decoding takes several times that, waiting nothing."""


@noun
class Sample:
    """What one server shows of its work at one moment."""

    at: float
    """Seconds on a clock that stands still while the machine sleeps."""
    connections: Collection[Connection] | None = None
    """None where nobody can see them."""
    cpu: float | None = None
    """Seconds of processor time that it has used, with all that it has started; None where that cannot be told."""
    logged: int = 0
    """Bytes of its log."""
    steps: int = 0
    """Lines of its log that are written by working on a request, as far as its backend knows any."""


def worked(before: Sample, after: Sample) -> bool:
    """Whether it has done something for a request meanwhile.

    Lines of a log count only where they tell of such work, or where nothing else does: who polls `/health` causes
    lines too, and bytes.
    """
    if _answered_on(before, after) or after.steps > before.steps:
        return True
    if before.cpu is None or after.cpu is None:
        return after.logged != before.logged
    return after.cpu - before.cpu >= BUSY * (after.at - before.at)


def _answered_on(before: Sample, after: Sample) -> bool:
    """Whether more of an answer has reached a client that has asked nothing new: a stream goes on."""
    known = _by_peer(before.connections or ())
    return any(
        connection.sent is not None
        and (old := known.get(connection.peer)) is not None
        and old.sent is not None
        and connection.received == old.received
        and connection.sent > old.sent
        for connection in after.connections or ()
    )


class Standstill:
    """What the samples of one server show together."""

    def __init__(self) -> None:
        self._last: Sample | None = None
        self._since: float | None = None
        """When something was last done for those who are connected; None: nobody is."""
        self._unmoved: list[Connection] = []
        """Connections on which nothing was said between the last two samples."""
        self._idle: dict[str, Connection] = {}
        """Connections that were open while a question was answered: pools of gateways."""
        self.worked_at: float | None = None
        """When it was last seen at work for somebody; None: never."""

    def concerns(self, connections: Collection[Connection]) -> bool:
        """Whether any of these may be a request, so that it counts what the server does."""
        return any(self._may_wait(connection) for connection in connections)

    def seconds(self, sample: Sample) -> float:
        """How long somebody has been connected, as of this sample, to a server that does nothing; 0.0: nobody has."""
        before, self._last = self._last, sample
        there = _by_peer(sample.connections or ())
        self._idle = {peer: c for peer, c in self._idle.items() if peer in there and not _spoke(before, sample, c)}
        waiting = [connection for connection in there.values() if self._may_wait(connection)]
        known = _by_peer(before.connections or ()) if before is not None else {}
        self._unmoved = [connection for connection in waiting if known.get(connection.peer) == connection]
        if not waiting:
            self._since = None
            return 0.0
        at_work = before is not None and self._since is not None and worked(before, sample)
        if at_work:
            self.worked_at = sample.at
        if self._since is None or at_work or not self._unmoved:
            self._since = sample.at
        return sample.at - self._since

    def answered(self) -> None:
        """A question was answered, so whoever was connected meanwhile and got nothing has asked for nothing."""
        self._idle |= _by_peer(self._unmoved)
        self._last, self._since, self._unmoved = None, None, []

    def _may_wait(self, connection: Connection) -> bool:
        idle = self._idle.get(connection.peer)
        # A connection that has once been idle is so again when the server has spoken last.
        return idle is None or (connection != idle and connection.waits is not False)


def _spoke(before: Sample | None, sample: Sample, connection: Connection) -> bool:
    """Whether there may have been a request on a connection whose bytes nobody counts: the log has grown."""
    return connection.received is None and before is not None and before.logged != sample.logged


def _by_peer(connections: Collection[Connection]) -> Mapping[str, Connection]:
    return {connection.peer: connection for connection in connections}
