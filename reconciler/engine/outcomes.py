"""What the ledger remembers of jobs that have ended."""

from collections.abc import Iterable
from dataclasses import replace

from reconciler.actions.base import Verb
from reconciler.actions.launch import Launch
from reconciler.actions.preflight import Preflight
from reconciler.model.ledger import Ledger
from reconciler.planning import backoff
from reconciler.ports.host import Clock

from .jobs import Outcome


def folded(ledger: Ledger, outcome: Outcome, clock: Clock) -> Ledger:
    """The ledger after a job has ended: what it has learned, and its failure counted or forgotten."""
    action = outcome.action
    if outcome.lesson is not None:
        lesson = outcome.lesson
        preflights = {**ledger.preflights, **lesson.preflights}
        ledger = replace(ledger, sources={**ledger.sources, **lesson.sources}, preflights=preflights)
    order = action.order if isinstance(action, Launch | Preflight) else None
    key, spec = (order.label, order.spec_hash) if order else (backoff.action_key(action), backoff.spec_of(action))
    if outcome.cancelled:
        return ledger
    if outcome.cause is None:
        if order is None and key in ledger.attempts:
            return replace(ledger, attempts={k: a for k, a in ledger.attempts.items() if k != key})
        return ledger
    failure = backoff.Failure(
        cause=outcome.cause,
        error=outcome.error,
        permanent=outcome.permanent,
        artifact=order.artifact if order else "",
    )
    return backoff.failed(ledger, key, spec, failure, clock.now(), clock.jitter())


def without_progress(ledger: Ledger, chosen: Iterable[Verb], outcomes: Iterable[Outcome], clock: Clock) -> Ledger:
    """The ledger after actions that ended well and are to be done again at once, which would go on for ever.

    A launch is not among them: its server may have died, which is counted by itself.
    """
    done = [outcome.action for outcome in outcomes if outcome.cause is None and not outcome.cancelled]
    for action in chosen:
        if action in done and not isinstance(action, Launch):
            error = f"it was done and has to be done again at once ({action.kind}: {action.reason})"
            failure = backoff.Failure(cause="no-progress", error=error, permanent=True)
            key, spec = backoff.action_key(action), backoff.spec_of(action)
            ledger = backoff.failed(ledger, key, spec, failure, clock.now(), clock.jitter())
    return ledger
