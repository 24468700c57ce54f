"""`plan`: look once, forecast, print; nothing is changed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from reconciler.model.document import PlanDocument
from reconciler.model.problem import ExitCode, ReconcilerError, worst
from reconciler.model.supply import SourceCheck
from reconciler.planning.backoff import afresh
from reconciler.planning.forecast import forecast
from reconciler.surface.cli.looking import look, other_rules, tell_of_a_pin
from reconciler.surface.cli.options import FORMATS, settings, settings_options, source_options
from reconciler.surface.composition import Compose
from reconciler.surface.render import plan as render
from reconciler.surface.render.text import printable


@click.command("plan")
@settings_options
@source_options
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="table|json|ndjson|FILE",
    help="How to print the plan, or a file to keep it in; may be given twice.",
)
@click.option("--detailed-exitcode", is_flag=True, help="Return 2 when changes are pending.")
@click.option("--check-sources", is_flag=True, help="Ask the hub about what is declared and not here.")
@click.option("--full", is_flag=True, help="Show the command line of every launch.")
@click.pass_obj
def command(
    compose: Compose,
    config: Path | None,
    host_file: Path | None,
    overrides: tuple[str, ...],
    outputs: tuple[str, ...],
    detailed_exitcode: bool,
    check_sources: bool,
    full: bool,
) -> int:
    """Show what would be done, without doing it."""
    formats = [o for o in outputs if o in FORMATS]
    files = [_file(o) for o in outputs if o not in FORMATS]
    if len(formats) > 1 or len(files) > 1:
        raise click.UsageError("-o wants at most one format and one file")
    composition = compose(settings(config, host_file, overrides))
    desired, warnings = composition.desired()
    ledger = afresh(composition.host.state.ledger())
    answers: Mapping[str, SourceCheck] = {}
    if check_sources:
        from reconciler.surface.cli.sources import asked

        answers = asked(composition, desired, ledger)
        ledger = replace(ledger, sources={**ledger.sources, **answers})
    facts = look(composition, desired, ledger)
    kept = bool(files) or "json" in formats
    plan = render.document(forecast(composition.planner, facts), composition.file, facts=kept)
    for warning in warnings:
        click.echo(printable(warning.located(composition.file)), err=True)
    tell_of_a_pin(composition)
    if said := other_rules(composition):
        click.echo(printable(said), err=True)
    _print(plan, formats[0] if formats else "table", full)
    for path in files:
        _save(plan, path)
    code = ExitCode(plan.exit_code)
    if any(answer.retry_at is not None for answer in answers.values()):
        code = worst({code, ExitCode.UNSETTLED})  # it was to be checked, and could not be
    return code if detailed_exitcode or code is not ExitCode.CHANGES else ExitCode.OK


def _file(text: str) -> Path:
    """A file to keep the plan in. Raises click.UsageError for what is rather a misspelled format."""
    if "." not in text and "/" not in text:
        import difflib

        near = difflib.get_close_matches(text.lower(), FORMATS, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise click.UsageError(f"-o wants {', '.join(FORMATS)} or a file such as plan.json, not {text!r}.{meant}")
    return Path(text)


def _refuse_what_is_no_plan(path: Path) -> None:
    """Only a plan is replaced by a plan. Raises ReconcilerError, OSError."""
    import json

    try:
        if path.is_file() and (path.stat().st_size == 0 or json.loads(path.read_bytes()).get("type") == "plan"):
            return
        if not path.exists():
            return
    except (ValueError, AttributeError):
        pass
    raise ReconcilerError(
        "not-a-plan",
        f"{path} exists and is no plan, so it was left as it is",
        hint="name another file",
        code=ExitCode.USAGE,
    )


def _print(plan: PlanDocument, form: str, full: bool) -> None:
    if form == "table":
        click.echo(render.as_text(plan, full=full), nl=False)
        return
    import json

    from reconciler.model.base import plain

    if form == "json":
        click.echo(json.dumps(plain(plan), ensure_ascii=False, indent=2))
        return
    for line in render.as_lines(plan):
        click.echo(json.dumps(line, ensure_ascii=False))


def _save(plan: PlanDocument, path: Path) -> None:
    """Whole or not at all: written beside the file, then renamed over it."""
    import json
    import os

    from reconciler.model.base import plain

    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name or 'plan'}.{os.getpid()}")
    try:
        _refuse_what_is_no_plan(path)
        beside.write_text(json.dumps(plain(plan), ensure_ascii=False, indent=2) + "\n")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ReconcilerError(
            "plan-not-saved",
            f"the plan could not be kept in {path}: {error.strerror}",
            hint="name a file in a folder that you may write to",
            code=ExitCode.ENVIRONMENT,
        ) from error
    click.echo(f"The plan is kept in {path}.", err=True)
