"""`apply`: show the plan, ask, then bring the machine to it and say what came of it."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click

from reconciler.model.desired import Desired
from reconciler.model.document import FORMAT_VERSION
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.supply import SourceCheck
from reconciler.model.units import DURATION, seconds
from reconciler.planning.backoff import afresh
from reconciler.planning.fingerprint import fingerprint
from reconciler.planning.forecast import Forecast, forecast
from reconciler.surface.cli.looking import look, recover, tell_of_a_pin
from reconciler.surface.cli.options import DEFAULT_TIMEOUT, settings, settings_options, source_options
from reconciler.surface.composition import Compose, Composition
from reconciler.surface.render import plan as render
from reconciler.surface.render.text import printable

_QUESTION = "Apply this plan?"


@click.command("apply")
@settings_options
@source_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop there, as `plan` does.")
@click.option(
    "--timeout",
    default=DEFAULT_TIMEOUT,
    metavar="DURATION",
    help="When to give up waiting, such as 10m; not while weights move.",
)
@click.argument("plan", required=False, type=click.Path(path_type=Path))
@click.pass_obj
def command(
    compose: Compose,
    config: Path | None,
    host_file: Path | None,
    overrides: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    timeout: str,
    plan: Path | None,
) -> int:
    """Bring the machine to the desired state.

    Ends when nothing is left to do, twice in a row. Servers outlive this command. With PLAN, a file that `plan -o FILE`
    has kept, nothing is asked, and nothing is done when a fact that it rests on has moved.
    """
    if not DURATION.regex.fullmatch(timeout):
        raise click.UsageError(f"--timeout must be {DURATION.says}")
    composition = compose(settings(config, host_file, overrides))
    desired = _declared(composition, acting=not dry_run)
    asks = not dry_run and (plan is None or any(name.startswith("source/") for name in _read(plan)))
    sources = _asked(composition, desired) if asks else {}
    foreseen = _foresee(composition, desired, sources)
    if plan is not None:
        _refuse_half(foreseen, plan)
    shown = _show(composition, foreseen, plan, acting=not dry_run)
    if dry_run:
        return ExitCode.OK if shown.code is ExitCode.CHANGES else shown.code
    if shown.settled and not sources:
        return shown.code  # nothing was written, not even a lock
    from reconciler.engine.declared import Fixed
    from reconciler.engine.requests import Asked, Request
    from reconciler.surface.cli.acting import hand_over, is_watched, settle

    request = Request(do=Asked.APPLY, revision=desired.revision, sources=sources)
    if is_watched(composition):
        if overrides:
            raise click.UsageError("--set cannot be given while a watch is running: the watch would undo it")
        if shown.actions and not yes and plan is None:
            confirm(_QUESTION)
        return hand_over(composition, request, seconds(timeout))
    with composition.exclusively("apply"):
        # What a person confirms, now or by PLAN, is what holds under the lock; --yes confirms whatever holds then.
        if plan is not None or not yes:
            _confirm_again(composition, desired, shown, plan, sources)
        return settle(composition, Fixed(desired, composition.record(desired)), request, seconds(timeout))


class _Shown(NamedTuple):
    """A plan that a person has seen."""

    code: ExitCode
    actions: bool
    settled: bool
    """Nothing to do, and nothing to wait for either."""
    facts: dict[str, str]


def _declared(composition: Composition, *, acting: bool) -> Desired:
    """What is to be brought about, its warnings told; who acts mends a damaged state before anything rests on it."""
    if acting:
        recover(composition)
    desired, warnings = composition.followed()
    for warning in warnings:
        click.echo(printable(warning.located(composition.file)), err=True)
    tell_of_a_pin(composition)
    return desired


def _asked(composition: Composition, desired: Desired) -> Mapping[str, SourceCheck]:
    """What the hub says about what is not here, so that the plan can be whole."""
    from reconciler.surface.cli.sources import asked

    return asked(composition, desired, afresh(composition.host.state.ledger()))


def _foresee(composition: Composition, desired: Desired, sources: Mapping[str, SourceCheck]) -> Forecast:
    ledger = afresh(composition.host.state.ledger())
    ledger = replace(ledger, sources={**ledger.sources, **sources})
    return forecast(composition.planner, look(composition, desired, ledger))


def _show(composition: Composition, outcome: Forecast, kept: Path | None, acting: bool) -> _Shown:
    """Print the plan. Raises ReconcilerError where a kept one is stale."""
    facts = fingerprint(outcome.first.facts)
    if kept is not None:
        _refuse_stale(kept, facts)
    document = render.document(outcome, composition.file)
    click.echo(render.as_text(document, acting=acting), nl=False)
    return _Shown(ExitCode(document.exit_code), bool(document.actions), outcome.steps[0].plan.settled, facts)


def _confirm_again(
    composition: Composition,
    desired: Desired,
    shown: _Shown,
    plan: Path | None,
    sources: Mapping[str, SourceCheck],
) -> None:
    """Look once more, show what has become another plan, and ask. Raises ReconcilerError, click.Abort."""
    outcome = _foresee(composition, desired, sources)
    if fingerprint(outcome.first.facts) != shown.facts:
        shown = _show(composition, outcome, plan, acting=True)
    if shown.actions and plan is None:
        confirm(_QUESTION)


def _refuse_half(outcome: Forecast, path: Path) -> None:
    """Who approves a question has not approved what follows from its answer. Raises ReconcilerError."""
    if any(action.reference == "hub-not-asked" for action in outcome.actions):
        raise ReconcilerError(
            "plan-not-whole",
            f"the plan in {path} was made without asking the hub, so it does not say what would follow; "
            "nothing was changed",
            hint="keep a whole one with: reconciler plan --check-sources -o FILE",
            code=ExitCode.BLOCKED,
        )


def _refuse_stale(path: Path, now: dict[str, str]) -> None:
    then = _read(path)
    moved = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    if moved:
        raise ReconcilerError(
            "stale-plan",
            f"{', '.join(moved)} moved since the plan in {path} was made; nothing was changed",
            hint="plan again, and look at the difference",
            code=ExitCode.STALE,
        )


def _read(path: Path) -> dict[str, str]:
    """The facts of a kept plan. Raises ReconcilerError where the file is none."""
    try:
        document = json.loads(path.read_bytes())
        facts = {str(name): str(digest) for name, digest in document["facts"].items()}
        major = str(document["format_version"]).partition(".")[0]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReconcilerError(
            "no-plan",
            f"{path} is not a plan that was kept ({type(error).__name__}); nothing was changed",
            hint="keep one with: reconciler plan -o FILE",
            code=ExitCode.USAGE,
        ) from error
    if major != FORMAT_VERSION.partition(".")[0]:
        raise ReconcilerError(
            "newer-plan",
            f"{path} has the format {document['format_version']}, and this version reads {FORMAT_VERSION}",
            hint="plan again with this version",
            code=ExitCode.STALE,
        )
    return facts


def confirm(question: str) -> None:
    """Ask. Raises click.Abort, and ReconcilerError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ReconcilerError(
            "not-confirmed",
            "there is no terminal to ask on, so nothing was changed",
            hint="say --yes to apply without a question",
            code=ExitCode.BLOCKED,
        )
    click.confirm(question, abort=True)
