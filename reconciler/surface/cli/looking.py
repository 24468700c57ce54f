"""One look at the machine for a command that shows something: what every such command begins with."""

from reconciler.model.desired import Desired
from reconciler.model.ledger import Ledger
from reconciler.model.view import Facts
from reconciler.observing.observe import survey
from reconciler.surface.composition import Composition


def look(composition: Composition, desired: Desired, ledger: Ledger | None = None) -> Facts:
    """The facts as of now, with what is remembered, or with `ledger` in its place. Raises ReconcilerError."""
    host = composition.host
    remembered = host.state.ledger() if ledger is None else ledger
    return survey(host, desired, composition.host_file, remembered, composition.planner.backends)
