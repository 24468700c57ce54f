"""`rollback`: bring an earlier generation back as an ordinary plan, and keep it until something newer is declared."""

import re
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from reconciler.engine.declared import Fixed
from reconciler.engine.requests import Asked, Request
from reconciler.engine.returning import Return, returned
from reconciler.model.generation import Generation
from reconciler.model.ledger import Ledger
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import shown
from reconciler.model.units import seconds
from reconciler.planning.backoff import afresh
from reconciler.planning.fallback import unfit
from reconciler.planning.forecast import Forecast, forecast
from reconciler.planning.generations import generation
from reconciler.surface.cli.acting import hand_over, is_watched, settle
from reconciler.surface.cli.apply import confirm
from reconciler.surface.cli.labels import text
from reconciler.surface.cli.looking import look
from reconciler.surface.cli.options import DEFAULT_TIMEOUT, file_options, settings
from reconciler.surface.composition import Compose, Composition
from reconciler.surface.render import plan as render
from reconciler.surface.render.text import printable

_ABBREVIATED: Final = re.compile(r"[0-9a-f]{7,64}")


@click.command("rollback")
@file_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask; refused where not all of it can come back.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop there.")
@click.option("--reason", default="rolled back by hand", metavar="TEXT", help="Shown for as long as it is pinned.")
@click.argument("generation", metavar="[GENERATION|COMMIT]", required=False)
@click.pass_obj
def command(
    compose: Compose,
    config: Path | None,
    host_file: Path | None,
    yes: bool,
    dry_run: bool,
    reason: str,
    generation: str | None,
) -> int:
    """Bring back an earlier generation: the newest one that was proved, or that of a number or a commit of `history`.

    Its content is kept here, so its commit may be gone. It is pinned: it stays in force until something newer is
    declared that says something else than what was left, or until `reconciler apply`.
    """
    composition = compose(settings(config, host_file, ()))
    watched = is_watched(composition)
    # Without a watch what is shown has to hold until it is done.
    with nullcontext() if watched or dry_run else composition.exclusively("rollback"):
        ledger = composition.host.state.ledger()
        number = _meant(ledger, generation)
        if number == ledger.current:
            click.echo(f"Generation {number} is in force already; nothing was changed.")
            return ExitCode.OK
        back = returned(composition.host, ledger, number)
        request = Request(do=Asked.ROLLBACK, number=number, reason=text(reason))
        code = _show(composition, ledger, back, request)
        if dry_run:
            click.echo(f"Next: reconciler rollback {number}")
            return ExitCode.OK if code is ExitCode.CHANGES else code
        if not yes:
            confirm(f"Go back to generation {number}?")
        elif code is ExitCode.BLOCKED:
            raise ReconcilerError(
                "rollback-unfit",
                f"not all of generation {number} that was proved can come back; nothing was changed",
                hint="look at what stands against it, and decide without --yes",
                code=ExitCode.BLOCKED,
            )
        if watched:
            return hand_over(composition, request, seconds(DEFAULT_TIMEOUT))
        return settle(composition, Fixed(back.desired, pinned=True), request, seconds(DEFAULT_TIMEOUT))


def _meant(ledger: Ledger, said: str | None) -> int:
    """The number of the generation that is meant. Raises ReconcilerError."""
    if said is None:
        return _before(ledger)
    if said.isdecimal() and generation(ledger, int(said)) is not None:
        return int(said)
    short = said.lower()
    for entry in ledger.generations:
        for revision in (entry.revision, *entry.revisions):
            digits = revision.rpartition(":")[2]
            if said == revision or (_ABBREVIATED.fullmatch(short) and digits.startswith(short)):
                return entry.number
    newest = sorted(ledger.generations, key=lambda entry: -entry.number)
    known = ", ".join(f"{entry.number} ({shown(entry.latest)})" for entry in newest)
    raise ReconcilerError(
        "generation-unknown",
        f"there is no generation {said!r}, by its number or by a commit that meant it; nothing was changed",
        hint=f"there is: {known or 'none yet'}",
        code=ExitCode.USAGE,
    )


def _before(ledger: Ledger) -> int:
    """The one that was in force last and proved, but for the present one and what was left. Raises ReconcilerError."""
    left = ledger.pin.left if ledger.pin is not None else ()
    for entry in ledger.generations:
        fits = entry.proved_at is not None and not entry.failed
        if fits and entry.number != ledger.current and entry.content not in left:
            return entry.number
    said = "no other generation than the one in force was ever proved" if ledger.current else "nothing was in force yet"
    raise ReconcilerError(
        "nothing-to-return-to",
        f"{said}; nothing was changed",
        hint="see: reconciler history",
        code=ExitCode.BLOCKED,
    )


def _show(composition: Composition, ledger: Ledger, back: Return, request: Request) -> ExitCode:
    """Print the plan and what the return means; BLOCKED where not all that was proved would come back."""
    now = composition.host.clock.now()
    pinned = back.pinned(afresh(ledger), now, request.reason)
    outcome = forecast(composition.planner, look(composition, back.desired, pinned))
    document = render.document(outcome, f"generation {request.number}")
    click.echo(render.as_text(document, acting=True), nl=False)
    for line in _meaning(composition, pinned, back, outcome):
        click.echo(printable(line))
    return ExitCode.BLOCKED if unfit(outcome, back.generation) is not None else ExitCode(document.exit_code)


def _meaning(composition: Composition, ledger: Ledger, back: Return, outcome: Forecast) -> Iterator[str]:
    then, pin = back.generation, ledger.pin
    since = f"{datetime.fromtimestamp(then.at).astimezone():%Y-%m-%d %H:%M}"
    yield f"Generation {then.number} is {shown(then.latest)}, in force since {since} for the first time."
    newest = shown(pin.bad) if pin is not None and pin.bad else "what is declared now"
    yield f"Pinned: it stays in force until something newer than {newest} says something else, or `reconciler apply`."
    yield from _doubts(then)
    if then.rules and then.rules != composition.rules:
        yield "The host file or the environment is another one than then, and counts as it is now."
    if (why := unfit(outcome, then)) is not None:
        yield f"Not all of it that was proved comes back: {why}."


def _doubts(then: Generation) -> Iterator[str]:
    if not then.servers:
        yield "Nothing of it was ever proved."
    elif then.partial:
        yield f"It is partial: {', '.join(then.missing)} was never proved under it."
    if then.failed:
        yield f"It was left because of this: {then.failed}."
