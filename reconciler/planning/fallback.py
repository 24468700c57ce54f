"""When a generation cannot be proved, and whether the one before it could come back."""

from dataclasses import replace
from typing import Final

from reconciler.model.generation import Generation
from reconciler.model.ledger import Ledger
from reconciler.model.plan import Plan
from reconciler.model.source import Mode
from reconciler.model.view import View

from .forecast import Forecast
from .generations import generation
from .guards import guards

HELD: Final = ("crash-loop", "held-permanent")
"""Why a server is not started again by itself."""


def failing(view: View, plan: Plan) -> tuple[Generation, str] | None:
    """The generation to go back to, and why, when the one in force cannot be proved; None: there is no reason to.

    A server that the last proved generation served is held under the present one, and no person has said anything.
    Once: what has failed is not gone back from a second time.
    """
    ledger, record = view.facts.ledger, view.facts.ledger.source
    current = generation(ledger, ledger.current)
    if current is None or current.failed or current.proved_at is not None or ledger.pin is not None:
        return None
    if view.facts.desired.state.policy.rollback != "auto" or record is None or record.mode is not Mode.COMMIT:
        return None
    before = next((g for g in ledger.generations if g is not current and g.proved_at is not None), None)
    if before is None:
        return None
    for blocked in plan.blocked:
        label = blocked.subject.removeprefix("server/")
        lost = label in before.servers and label not in current.servers and label in view.targets
        if blocked.reference in HELD and lost and before.servers[label].spec_hash != view.targets[label].spec_hash:
            return before, f"{label}: {blocked.reason}"
    return None


def failed(ledger: Ledger, why: str) -> Ledger:
    """The ledger with the generation in force marked as one that could not be proved."""
    marked = tuple(replace(g, failed=why) if g.number == ledger.current else g for g in ledger.generations)
    return replace(ledger, generations=marked)


def unfit(outcome: Forecast, back: Generation) -> str | None:
    """Why a return would not bring back what was proved, or None."""
    for _, tripped in guards(outcome):
        return tripped
    reasons = [(blocked.subject, blocked.reason) for blocked in outcome.end.blocked]
    if not outcome.settled:
        reasons += [(waiting.subject, waiting.reason) for waiting in outcome.end.waiting]
    lost = (f"{s}: {reason}" for s, reason in reasons if s.removeprefix("server/") in back.servers)
    return next(lost, None)
