"""What `stop`, `suspend`, `start` and `retry` share: a request about labels, for a loop of our own or for the watch."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

import click

from reconciler.engine.declared import Declared, Fixed
from reconciler.engine.in_force import in_force
from reconciler.engine.requests import Asked, Request
from reconciler.model.desired import Desired, Gateways, launch_reference
from reconciler.model.names import Subject, artifact_subject, gateway_subject, server_subject
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.units import seconds
from reconciler.surface.cli.acting import hand_over, is_watched, settle
from reconciler.surface.cli.options import DEFAULT_TIMEOUT, settings
from reconciler.surface.composition import Compose, Composition
from reconciler.surface.render.text import printable
from reconciler.surface.unknown_label import unknown_label


def carry_out(compose: Compose, config: Path | None, host_file: Path | None, request: Request) -> ExitCode:
    """Have the request remembered first, then acted on. Raises ReconcilerError for a label that nobody knows.

    Without a watch nothing else is done: neither for other labels, nor what an edit that is not in force asks for.
    """
    composition = compose(settings(config, host_file, ()))
    timeout = seconds(DEFAULT_TIMEOUT)
    if is_watched(composition):
        return hand_over(composition, request, timeout)  # it knows best which labels there are
    with composition.exclusively(f"{request.do} {' '.join(request.labels)}"):
        desired, declared = _kept_at(composition, named=config is not None)
        _refuse_unknown(composition, desired, request.labels)
        _say_what_is_left_alone(composition, desired, request)
        planner = composition.planner.about(concerned(desired, request.labels))
        return settle(composition, declared, request, timeout, planner)


def chosen(
    compose: Compose, config: Path | None, host_file: Path | None, label: str | None, everything: bool
) -> tuple[str, ...]:
    """One label, or all that are declared or run. Raises click.UsageError where neither or both were said."""
    if (label is None) != everything:
        raise click.UsageError("say one LABEL, or --all")
    if label is not None:
        return (label,)
    composition = compose(settings(config, host_file, ()))
    desired = in_force(composition.host.state) or _saved(composition)
    models = desired.state.models if desired is not None else {}
    declared = [name for name, model in models.items() if model.port != "none"]
    return tuple(dict.fromkeys([*declared, *composition.host.processes.records({})]))


def text(said: str) -> str:
    """What a person has said, as it can be stored and sent: a byte that is no text here arrives as half a surrogate."""
    return said.encode("utf-8", "backslashreplace").decode()


def login() -> str:
    """Who asks, for people; empty where that cannot be told."""
    import getpass

    try:
        return text(os.environ.get("SUDO_USER") or getpass.getuser())
    except (OSError, KeyError):
        return ""


def concerned(desired: Desired, labels: Iterable[str]) -> Iterator[Subject]:
    """What is acted on for some labels: their servers, what they load, and every gateway."""
    yield from (gateway_subject(field.name) for field in fields(Gateways))
    for label in labels:
        yield server_subject(label)
        model = desired.state.models.get(label)
        for source in (model.source, model.draft) if model is not None else ():
            if source is not None:
                yield artifact_subject(str(launch_reference(source)))


def _kept_at(composition: Composition, named: bool) -> tuple[Desired, Declared]:
    """What is in force here; the saved file only where nothing is. Raises ReconcilerError.

    `named`: a person has said which file is meant.
    """
    state = composition.host.state
    found, record = in_force(state), state.ledger().source
    if found is None:
        desired, _ = composition.desired()
        return desired, Fixed(desired, enters=False)
    if named and record is not None and record.place != composition.place:
        raise ReconcilerError(
            "other-source",
            f"what is in force here comes from {record.place}, not from {composition.place}; nothing was changed",
            hint="leave -c out, or apply that file first",
            code=ExitCode.LOCKED,
        )
    return found, Fixed(found, pinned=True)


def _saved(composition: Composition) -> Desired | None:
    """The desired state of the file; None where it is invalid."""
    try:
        return composition.desired()[0]
    except ReconcilerError:
        return None


def _say_what_is_left_alone(composition: Composition, desired: Desired, request: Request) -> None:
    """Who mends a model and says `retry` may expect that the edit is applied."""
    saved = _saved(composition) if request.do in (Asked.START, Asked.RETRY) else None
    for label in request.labels if saved is not None else ():
        edited = saved.state.models.get(label) if saved is not None else None
        if edited is not None and edited != desired.state.models.get(label):
            said = f"{label} is started as it is in force; the file says something else now: reconciler apply"
            click.echo(printable(said), err=True)


def _refuse_unknown(composition: Composition, desired: Desired, labels: tuple[str, ...]) -> None:
    declared = desired.state.models
    unknown = [label for label in labels if label not in declared]
    recorded = composition.host.processes.records({}) if unknown else {}
    for label in unknown:
        if label not in recorded:
            saved = _saved(composition)
            raise unknown_label(label, declared, saved=saved is not None and label in saved.state.models)
