"""One look at the machine for a command that shows something: what every such command begins with."""

import click

from reconciler.model.desired import Desired
from reconciler.model.ledger import Ledger
from reconciler.model.plan import Blocked
from reconciler.model.view import Facts
from reconciler.observing.observer import Observer
from reconciler.surface.composition import Composition
from reconciler.surface.render.text import printable


def standing(composition: Composition) -> tuple[Desired, Blocked | None]:
    """What the machine is kept at by a running watch, and why that is not the newest; else what is saved.

    Raises ReconcilerError.
    """
    found = composition.in_force()
    return found if found is not None else (composition.desired()[0], None)


def other_rules(composition: Composition) -> str:
    """That the running watch goes by another host file than this command, as a sentence; empty: it does not."""
    if composition.in_force() is None or composition.host.state.ledger().rules in ("", composition.rules):
        return ""
    return (
        "the running watch was started with another host file, other overrides or another environment; "
        "restart it, as what is shown here is not all that it goes by [other-rules]"
    )


def recover(composition: Composition) -> None:
    """Go on from what can still be known where the state is damaged, and say what was lost. Raises ReconcilerError."""
    if lost := composition.recover():
        click.echo(printable(lost), err=True)


def look(
    composition: Composition, desired: Desired, ledger: Ledger | None = None, source: Blocked | None = None
) -> Facts:
    """The facts as of now, with what is remembered, or with `ledger` in its place. Raises ReconcilerError.

    `source`: why the newest revision is not what `desired` is.
    """
    remembered = composition.host.state.ledger() if ledger is None else ledger
    return observer(composition).look(desired, remembered, source=source)


def observer(composition: Composition) -> Observer:
    """New eyes, which have seen nothing yet."""
    return Observer(composition.host, composition.host_file, composition.planner.backends)


def tell_of_a_pin(composition: Composition) -> None:
    """An `apply` of anything else than what was gone back to ends the pin, which nobody should do unawares."""
    pin = composition.host.state.ledger().pin
    if pin is not None:
        said = f"generation {pin.number} is pinned ({pin.reason}); an apply of something else ends that"
        click.echo(printable(said), err=True)
