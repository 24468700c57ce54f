"""Looks again and again for one loop: at everything, or at what may have changed since it last saw everything.

Weights and ports are most of what a look at everything costs. Every job that ends and every answer of a server is a
reason to look again, and none of these touches the weights or the port of another one: so for as long as `FRESH` those
are taken to be as they were. Servers and gateways are looked at each time, because what is told a gateway rests on
them. That there is nothing to do is only concluded from a look at everything (`engine/loop.py`).
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from reconciler.model.desired import Desired
from reconciler.model.host import HostFile
from reconciler.model.ledger import Ledger
from reconciler.model.observed import ObservedState
from reconciler.model.plan import Blocked, InFlight
from reconciler.model.view import Facts
from reconciler.ports.errors import ObservationError
from reconciler.ports.host import Host

from .observe import glance, glimpse, observe

FRESH: Final = 1.0
"""Seconds for which a look at everything holds for weights and ports that are not known to have changed since."""


class Observer:
    """The eyes of one loop."""

    def __init__(self, host: Host, host_file: HostFile, backends: Iterable[str]) -> None:
        self.host = host
        self.whole = False
        """Whether the last look was at everything."""
        self._host_file, self._backends = host_file, sorted(backends)
        self._last: tuple[Desired, ObservedState] | None = None
        self._seen = 0.0
        """When everything was looked at, seconds since the epoch."""
        self._changed: set[str] | None = None
        """Labels whose weights and ports may have changed since the last look; None: anything may have."""

    def heed(self, labels: Iterable[str]) -> None:
        """Look at the ports and weights of these labels anew."""
        if self._changed is not None:
            self._changed.update(labels)

    def forget(self) -> None:
        """Look at everything anew."""
        self._changed = None

    def look(
        self, desired: Desired, ledger: Ledger, in_flight: tuple[InFlight, ...] = (), source: Blocked | None = None
    ) -> Facts:
        """All that one decision rests on."""
        observed = self._glance(desired, ledger)
        self.whole = observed is None
        if observed is None:
            began = self.host.clock.now()
            observed = observe(self.host, desired, ledger, self._backends)
            self._seen = began
        self._last, self._changed = (desired, observed), set()
        return Facts(
            desired=desired,
            observed=observed,
            ledger=ledger,
            host=self._host_file,
            now=self.host.clock.now(),
            in_flight=in_flight,
            source=source,
        )

    def glimpse(self, last: Facts, ledger: Ledger, labels: Collection[str], in_flight: tuple[InFlight, ...]) -> Facts:
        """The facts of a look, however long ago, with what has become of some servers. Raises ObservationError.

        For what follows from the end of these servers alone.
        """
        observed = glimpse(self.host, last.observed, last.desired, ledger, labels)
        return replace(last, observed=observed, ledger=ledger, now=observed.at, in_flight=in_flight)

    def gateways_stand(self) -> bool:
        """Whether the files of all gateways are as they were at the last look."""
        return self._last is not None and self.host.gateways.look() == self._last[1].gateways

    def _glance(self, desired: Desired, ledger: Ledger) -> ObservedState | None:
        """The last look brought up to date; None where everything has to be looked at."""
        if self._changed is None or self._last is None or self._last[0] is not desired:
            return None
        if not 0.0 <= self.host.clock.now() - self._seen < FRESH or self._last[1].blind is not None:
            return None
        try:
            found = glance(self.host, self._last[1], desired, ledger, self._changed)
        except ObservationError:
            return None  # the look at everything says what stands against looking
        if found.artifacts != self._last[1].artifacts:
            return None  # where weights have come or gone, so may have what lies in cold storage
        return found
