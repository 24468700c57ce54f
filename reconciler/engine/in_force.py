"""What this machine was last kept at, from what is remembered: neither the file nor its commit is asked."""

from reconciler.desired.canonical import restored
from reconciler.model.desired import Desired
from reconciler.planning.generations import generation
from reconciler.ports.host import StateStore


def in_force(state: StateStore) -> Desired | None:
    """The desired state of the generation in force; None where there is none, or its content is lost."""
    ledger = state.ledger()
    current, record = generation(ledger, ledger.current), ledger.source
    text = state.content(current.content) if current is not None else None
    if current is None or text is None:
        return None
    same = record is not None and ledger.pin is None and record.content == current.content
    try:
        return restored(text, record.revision if record is not None and same else current.revision)
    except ValueError:
        return None
