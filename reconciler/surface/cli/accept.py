"""`accept`: a person releases a revision that a guard stands against."""

import re
from pathlib import Path
from typing import Final

import click

from reconciler.engine.journal import changed
from reconciler.engine.requests import Asked, Request
from reconciler.model.event import Event
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import RELEASABLE, SourceRecord, shown
from reconciler.model.units import seconds
from reconciler.surface.cli.acting import hand_over, is_watched
from reconciler.surface.cli.labels import text
from reconciler.surface.cli.options import DEFAULT_TIMEOUT, file_options, settings
from reconciler.surface.composition import Compose, Composition
from reconciler.surface.render import events as render

_ABBREVIATED: Final = re.compile(r"[0-9a-f]{7,64}")


@click.command("accept")
@file_options
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is remembered with the revision.")
@click.argument("revision")
@click.pass_obj
def command(compose: Compose, config: Path | None, host_file: Path | None, reason: str, revision: str) -> int:
    """Take exactly this REVISION of the source, whatever a guard says: a commit of which 7 digits are enough.

    It is the one that `status` says the source is paused at. A later one is looked at anew.
    """
    if not reason.strip():
        raise click.UsageError("say --reason TEXT: it is remembered with the revision")
    composition = compose(settings(config, host_file, ()))
    if is_watched(composition):
        request = _request(composition, revision, reason)
        return hand_over(composition, request, seconds(DEFAULT_TIMEOUT))
    with composition.exclusively("accept"):
        _remember(composition, _request(composition, revision, reason))
    return ExitCode.OK


def _request(composition: Composition, said: str, reason: str) -> Request:
    """The request about the revision that is meant. Raises ReconcilerError."""
    record = composition.host.state.ledger().source
    if record is not None and record.reference and not record.refused:
        raise ReconcilerError(
            record.reference,
            f"the source is paused, and nothing waits for a release: {record.reason}",
            hint=record.hint,
            code=ExitCode.BLOCKED,
        )
    if record is None or not record.refused:
        raise ReconcilerError(
            "nothing-refused",
            "no revision waits for anybody, so nothing was changed",
            hint="see: reconciler status",
            code=ExitCode.USAGE,
        )
    if not _is_meant(said, record.refused):
        raise ReconcilerError(
            "other-revision",
            f"what waits is {shown(record.refused)}, and not {said}; nothing was changed",
            hint="look at what waits: reconciler status",
            code=ExitCode.USAGE,
        )
    _refuse_invalid(record)
    if record.reference not in RELEASABLE:
        raise ReconcilerError(
            record.reference,
            f"that is nothing to release {shown(record.refused)} from: {record.reason}; it is tried again",
            hint=record.hint or "mend what stands against it",
            code=ExitCode.BLOCKED,
        )
    return Request(do=Asked.ACCEPT, revision=record.refused, reason=text(reason))


def _is_meant(said: str, refused: str) -> bool:
    """Whether it is the revision, or the beginning of it."""
    short = said.lower()
    digits = refused.rpartition(":")[2]
    return said == refused or (_ABBREVIATED.fullmatch(short) is not None and digits.startswith(short))


def _refuse_invalid(record: SourceRecord) -> None:
    """What cannot be read cannot be released either. Raises ReconcilerError."""
    if record.reference == "invalid-document":
        raise ReconcilerError(
            record.reference,
            f"{shown(record.refused)} is invalid, so there is nothing to release: {record.reason}",
            hint="mend it and commit that",
            code=ExitCode.INVALID,
        )


def _remember(composition: Composition, request: Request) -> None:
    """What a watch would have done first; taken it is by the next one."""
    host = composition.host
    before, now = host.state.ledger(), host.clock.now()
    after = request.change(before, now)
    told = tuple(
        Event(at=now, kind=kind, subject=subject, text=sentence, reference=reference)
        for kind, subject, sentence, reference in changed(before, after)
    )
    host.state.save(after, told)
    for event in told:
        click.echo(render.line(event))
    click.echo("No watch is running: the next one takes it, and so does `reconciler apply`.")
