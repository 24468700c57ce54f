"""What `stop`, `start` and `retry` share: a change of what is remembered about labels, then a run of the loop."""

from collections.abc import Callable
from pathlib import Path

import click

from reconciler.model.desired import Desired
from reconciler.model.ledger import Ledger
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.units import seconds
from reconciler.surface.cli.acting import DEFAULT_TIMEOUT, settle
from reconciler.surface.cli.options import settings
from reconciler.surface.composition import Compose

Change = Callable[[Ledger, tuple[str, ...], float], Ledger]
"""The ledger after a person has said something about these labels at this time."""


def remember_and_settle(
    compose: Compose, config: Path | None, host_file: Path | None, labels: tuple[str, ...], doing: str, change: Change
) -> ExitCode:
    """Make `change` durable first, then act on it. Raises ReconcilerError for a label that is not declared."""
    composition = compose(settings(config, host_file, ()))
    desired, _ = composition.desired()
    _refuse_unknown(desired, labels)
    with composition.exclusively(f"{doing} {' '.join(labels)}"):
        host = composition.host
        host.state.save(change(host.state.ledger(), labels, host.clock.now()))
        return settle(composition, desired, seconds(DEFAULT_TIMEOUT))


def chosen(
    compose: Compose, config: Path | None, host_file: Path | None, label: str | None, everything: bool
) -> tuple[str, ...]:
    """One label or all that are declared. Raises click.UsageError where neither or both were said."""
    if (label is None) != everything:
        raise click.UsageError("say one LABEL, or --all")
    if label is not None:
        return (label,)
    desired, _ = compose(settings(config, host_file, ())).desired()
    return tuple(name for name, model in desired.state.models.items() if model.port != "none")


def _refuse_unknown(desired: Desired, labels: tuple[str, ...]) -> None:
    for label in labels:
        if label not in desired.state.models:
            import difflib

            near = difflib.get_close_matches(label, desired.state.models, n=1)
            known = f"did you mean {near[0]}?" if near else f"declared: {', '.join(desired.state.models) or 'nothing'}"
            raise ReconcilerError(
                "unknown-label",
                f"{label!r} is not declared, so nothing was changed",
                hint=known,
                code=ExitCode.USAGE,
            )
