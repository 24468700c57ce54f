"""What `stop`, `start` and `retry` share: a request about labels, carried out by a loop of our own or by the watch."""

from pathlib import Path

import click

from reconciler.engine.requests import Request
from reconciler.model.desired import Desired
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.units import seconds
from reconciler.surface.cli.acting import hand_over, running, settle
from reconciler.surface.cli.options import DEFAULT_TIMEOUT, settings
from reconciler.surface.composition import Compose, Composition


def carry_out(compose: Compose, config: Path | None, host_file: Path | None, request: Request) -> ExitCode:
    """Have the request remembered first, then acted on. Raises ReconcilerError for a label that nobody knows."""
    composition = compose(settings(config, host_file, ()))
    desired, _ = composition.desired()
    _refuse_unknown(composition, desired, request.labels)
    watch, timeout = running(composition), seconds(DEFAULT_TIMEOUT)
    with watch or composition.exclusively(f"{request.do} {' '.join(request.labels)}"):
        if watch is not None:
            return hand_over(watch, composition, request, timeout)
        return settle(composition, desired, request, timeout)


def chosen(
    compose: Compose, config: Path | None, host_file: Path | None, label: str | None, everything: bool
) -> tuple[str, ...]:
    """One label, or all that are declared or run. Raises click.UsageError where neither or both were said."""
    if (label is None) != everything:
        raise click.UsageError("say one LABEL, or --all")
    if label is not None:
        return (label,)
    composition = compose(settings(config, host_file, ()))
    desired, _ = composition.desired()
    declared = [name for name, model in desired.state.models.items() if model.port != "none"]
    return tuple(dict.fromkeys([*declared, *composition.host.processes.records({})]))


def _refuse_unknown(composition: Composition, desired: Desired, labels: tuple[str, ...]) -> None:
    unknown = [label for label in labels if label not in desired.state.models]
    recorded = composition.host.processes.records({}) if unknown else {}
    for label in unknown:
        if label not in recorded:
            import difflib

            near = difflib.get_close_matches(label, desired.state.models, n=1)
            known = f"did you mean {near[0]}?" if near else f"declared: {', '.join(desired.state.models) or 'nothing'}"
            raise ReconcilerError(
                "unknown-label",
                f"{label!r} is not declared, so nothing was changed",
                hint=known,
                code=ExitCode.USAGE,
            )
