"""Who is started again without another decision, because the last one has decided it already; pure.

A decision takes longer than a launch. Where nothing was to be done or waited for, and nothing is known to have changed
since but that servers have ended which served as declared, it could not come to anything else than to start them as
they were: those are named here, and the decision about what is known of them is made afterwards
(`tests/property/test_restart_at_once.py` holds the two against each other).
"""

from collections.abc import Iterable

from reconciler.model.change import Change, Verdict
from reconciler.model.observed import RESTARTED_MACHINE, Absent, Standing
from reconciler.model.target import LaunchOrder
from reconciler.model.view import Facts

from .plan import Decision


def at_once(last: Decision, now: Facts, labels: Iterable[str]) -> tuple[LaunchOrder, ...]:
    """The orders of those of `labels` that the next decision would start. `now`: what has become of them."""
    view = last.view
    if not last.plan.settled or last.plan.blocked or view.facts.in_flight or now.in_flight:
        return ()
    if view.headroom < 0:
        return ()  # a smaller budget keeps nobody from running, but from being started
    changes = {change.label: change for change in view.changes}
    before, after = view.facts.observed.artifacts, now.observed.artifacts
    if any(after[reference] != seen for reference, seen in before.items()):
        return ()
    orders = [_order(changes[label], now) for label in sorted(labels)]
    found = tuple(order for order in orders if order is not None)
    # Where not all of them can be started, who goes first is a decision.
    return found if len(found) == len(orders) <= view.launch_slots else ()


def _order(change: Change, now: Facts) -> LaunchOrder | None:
    """How it is started again; None where that needs more thought."""
    live, target, dead = change.live, change.target, now.observed.servers.get(change.label)
    if live is None or target is None or dead is None or change.verdict is not Verdict.MATCHES:
        return None
    ended = dead.standing is Standing.GONE and dead.instance == live.instance
    if not ended or dead.permanent or dead.cause == RESTARTED_MACHINE:
        return None
    order = target.order
    if order is None or not target.always or target.problems or target.awaits is not None:
        return None
    same = (order.spec_hash, order.artifact, order.port) == (live.spec_hash, live.artifact, live.port)
    free = isinstance(now.observed.listener(order.port), Absent)
    new = change.label not in now.ledger.attempts and change.label not in now.ledger.suspensions
    return order if same and free and new and order.memory <= live.memory else None
