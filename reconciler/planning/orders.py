"""Which of the orders for weights may begin now: one for each artifact, within the disk, those in backoff left out."""

from collections.abc import Iterable, Mapping

from reconciler.model.base import noun
from reconciler.model.ledger import Ledger
from reconciler.model.names import Subject, artifact_subject
from reconciler.model.plan import Blocked, Waiting
from reconciler.model.supply import CheckOrder, ConvertOrder, FetchOrder, MoveOrder, SupplyOrder, VerifyOrder
from reconciler.model.target import Target
from reconciler.model.units import human
from reconciler.model.view import Facts

from . import backoff
from .memory import rank
from .supply import room


@noun
class Orders:
    """What may begin, and why other things do not."""

    orders: Mapping[Subject, SupplyOrder]
    """In the order of rank."""
    waiting: tuple[Waiting, ...] = ()
    blocked: tuple[Blocked, ...] = ()


def kind_of(order: SupplyOrder) -> str:
    """The verb that carries it out."""
    match order:
        case CheckOrder() | FetchOrder() | VerifyOrder():
            return "ensure"
        case ConvertOrder():
            return "convert"
        case MoveOrder(back=back):
            return "restore" if back else "offload"


def needed(facts: Facts, targets: Mapping[str, Target], more: Iterable[SupplyOrder]) -> dict[Subject, SupplyOrder]:
    """One order per artifact, for whoever is served first; a conversion comes after what other labels wait for."""
    wanted: dict[Subject, list[SupplyOrder]] = {}
    ranked = sorted(targets.values(), key=lambda target: rank(target, facts.ledger))
    for order in (*(order for target in ranked for order in target.supplies), *more):
        wanted.setdefault(artifact_subject(order.reference), []).append(order)
    return {
        subject: min(orders, key=lambda order: _preference(order, subject, facts)) for subject, orders in wanted.items()
    }


def _preference(order: SupplyOrder, subject: Subject, facts: Facts) -> tuple[bool, bool, int]:
    held = _hold(order, subject, facts.ledger, facts.now) is not None
    return isinstance(order, ConvertOrder), held, order.memory if isinstance(order, ConvertOrder) else 0


def admit(facts: Facts, orders: Mapping[Subject, SupplyOrder], headroom: int) -> Orders:
    """Those that are not backing off, as far as the disk reaches for all that begin together.

    `headroom` is memory in bytes: a conversion that cannot begin for want of it takes no disk from others.
    """
    busy = {job.subject for job in facts.in_flight}
    begin: dict[Subject, SupplyOrder] = {}
    waiting: list[Waiting] = []
    blocked: list[Blocked] = []
    left = room(facts)
    for subject, order in orders.items():
        if subject in busy:
            continue
        hold = _hold(order, subject, facts.ledger, facts.now)
        takes = 0 if isinstance(order, ConvertOrder) and order.memory > headroom else _disk(order)
        if isinstance(hold, Waiting):
            waiting.append(hold)
        elif isinstance(hold, Blocked):
            blocked.append(hold)
        elif left is not None and takes and takes > left:
            reason = f"it takes {human(takes)} of disk, and others that are brought first leave {human(max(left, 0))}"
            waiting.append(Waiting(subject=subject, reference="waiting-for-disk", reason=reason))
        else:
            left = None if left is None else left - takes
            begin[subject] = order
    return Orders(orders=begin, waiting=tuple(waiting), blocked=tuple(blocked))


def _hold(order: SupplyOrder, subject: Subject, ledger: Ledger, now: float) -> Waiting | Blocked | None:
    kind = kind_of(order)
    spec = order.recipe.key if isinstance(order, ConvertOrder) else kind
    return backoff.held(kind, subject, spec, ledger, now)


def _disk(order: SupplyOrder) -> int:
    match order:
        case FetchOrder(bytes=brought) | MoveOrder(back=True, bytes=brought):
            return brought
        case ConvertOrder(disk=written):
            return written
        case _:
            return 0


def conversion_first(
    facts: Facts, orders: Mapping[Subject, SupplyOrder], headroom: int, launches: int
) -> Subject | None:
    """The conversion that fits, at the latest once the present one has ended, and would not beside what is launched.

    Of several the largest.
    """
    reach = headroom + sum(job.claim.memory for job in facts.in_flight if job.kind == "convert")
    fitting = {
        subject: order.memory
        for subject, order in orders.items()
        if isinstance(order, ConvertOrder) and reach - launches < order.memory <= reach
    }
    return max(fitting, key=lambda subject: fitting[subject], default=None)
