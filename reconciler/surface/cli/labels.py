"""What `stop`, `start` and `retry` share: a request about labels, carried out by a loop of our own or by the watch."""

from pathlib import Path

import click

from reconciler.engine.requests import Request
from reconciler.model.desired import Desired
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.units import seconds
from reconciler.surface.cli.acting import hand_over, is_watched, settle
from reconciler.surface.cli.options import DEFAULT_TIMEOUT, settings
from reconciler.surface.composition import Compose, Composition


def carry_out(compose: Compose, config: Path | None, host_file: Path | None, request: Request) -> ExitCode:
    """Have the request remembered first, then acted on. Raises ReconcilerError for a label that nobody knows."""
    composition = compose(settings(config, host_file, ()))
    timeout = seconds(DEFAULT_TIMEOUT)
    if is_watched(composition):
        _refuse_unknown(composition, _desired_or_none(composition), request.labels)
        return hand_over(composition, request, timeout)
    desired, _ = composition.desired()
    _refuse_unknown(composition, desired, request.labels)
    with composition.exclusively(f"{request.do} {' '.join(request.labels)}"):
        return settle(composition, desired, request, timeout)


def _desired_or_none(composition: Composition) -> Desired | None:
    """The desired state; None where it is invalid, while a running watch has the last good one in force."""
    try:
        return composition.desired()[0]
    except ReconcilerError:
        return None


def chosen(
    compose: Compose, config: Path | None, host_file: Path | None, label: str | None, everything: bool
) -> tuple[str, ...]:
    """One label, or all that are declared or run. Raises click.UsageError where neither or both were said."""
    if (label is None) != everything:
        raise click.UsageError("say one LABEL, or --all")
    if label is not None:
        return (label,)
    composition = compose(settings(config, host_file, ()))
    desired = _desired_or_none(composition)
    models = desired.state.models if desired is not None else {}
    declared = [name for name, model in models.items() if model.port != "none"]
    return tuple(dict.fromkeys([*declared, *composition.host.processes.records({})]))


def _refuse_unknown(composition: Composition, desired: Desired | None, labels: tuple[str, ...]) -> None:
    declared = desired.state.models if desired is not None else {}
    unknown = [label for label in labels if label not in declared]
    recorded = composition.host.processes.records({}) if unknown else {}
    for label in unknown:
        if label not in recorded and desired is not None:
            import difflib

            near = difflib.get_close_matches(label, declared, n=1)
            known = f"did you mean {near[0]}?" if near else f"declared: {', '.join(declared) or 'nothing'}"
            raise ReconcilerError(
                "unknown-label",
                f"{label!r} is not declared, so nothing was changed",
                hint=known,
                code=ExitCode.USAGE,
            )
