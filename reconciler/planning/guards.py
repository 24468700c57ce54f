"""What an unattended reconciler would not do without a person: a revision that takes too much away at once."""

from typing import Final

from reconciler.model.observed import Standing
from reconciler.model.view import Facts

from .forecast import Forecast

SHARE: Final = 2
"""One in `SHARE` running servers may end by one revision; more needs a person."""


def guards(forecast: Forecast) -> tuple[tuple[str, str], ...]:
    """(stable reference, one sentence) for every guard that this forecast would trip; faults D12 and D13.

    A person who looks at a plan sees them and decides. A server that is replaced does not count: it comes back.
    """
    before, after = _running(forecast.first.facts), _running(forecast.final.facts)
    ending = sorted(before - after)
    if not ending:
        return ()
    names = ", ".join(ending)
    if not forecast.first.facts.desired.state.models:
        return (("emptied", f"nothing is declared any more, and {len(ending)} running servers would end: {names}"),)
    if len(ending) * SHARE > len(before):
        return (("shrinks", f"{len(ending)} of {len(before)} running servers would end by one revision: {names}"),)
    return ()


def _running(facts: Facts) -> set[str]:
    return {label for label, server in facts.observed.servers.items() if server.standing is Standing.OURS}
