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
    facts = forecast.first.facts
    running, after = _of(facts, Standing.OURS), _of(forecast.final.facts, Standing.OURS)
    # Whoever has just died is about to be started again: a death must not open the way for what takes it away.
    dead = _of(facts, Standing.GONE) & {label for g in facts.ledger.generations for label in g.servers}
    before = running | dead
    ending = sorted((running - after) | (dead - facts.desired.state.models.keys()))
    if not ending:
        return ()
    names = ", ".join(ending)
    if not facts.desired.state.models:
        return (("emptied", f"nothing is declared any more, and {len(ending)} running servers would end: {names}"),)
    if len(ending) * SHARE > len(before):
        return (("shrinks", f"{len(ending)} of {len(before)} running servers would end by one revision: {names}"),)
    return ()


def _of(facts: Facts, standing: Standing) -> set[str]:
    return {label for label, server in facts.observed.servers.items() if server.standing is standing}
