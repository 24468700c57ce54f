"""`doctor`: looks for what is wrong with this machine, and says what mends it; it mends nothing itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from reconciler.engine.doctor import CHECKS, Check
from reconciler.model.doctor import Examined, Finding, Opinion
from reconciler.model.problem import ExitCode
from reconciler.model.units import count
from reconciler.surface.cli.options import file_options, settings
from reconciler.surface.composition import Compose
from reconciler.surface.render.text import printable

_COLOURS: Final = {Opinion.PROBLEM: "red", Opinion.WARNING: "yellow", Opinion.UNKNOWN: "yellow"}
_NAMES: Final = tuple(check.name for check in CHECKS)


@click.command("doctor")
@file_options
@click.option("-o", "--output", type=click.Choice(("table", "json")), default="table", help="How to print it.")
@click.argument("check", nargs=-1, metavar="[CHECK]...")
@click.pass_obj
def command(compose: Compose, config: Path | None, host_file: Path | None, output: str, check: tuple[str, ...]) -> int:
    """Look for what is wrong with this machine: all of it, or only the named checks.

    Every finding says what mends it. Returns 8 when there is a problem; a warning is none, and what could not be
    looked at is said to be unknown.
    """
    chosen = _chosen(check)
    case = compose(settings(config, host_file, ())).case()
    found = [one.of(case) for one in chosen]
    if output == "json":
        _data(found)
    else:
        _table(found, everything=bool(check))
    return ExitCode.ENVIRONMENT if Opinion.PROBLEM in {one.opinion for one in found} else ExitCode.OK


def _chosen(names: Sequence[str]) -> Sequence[Check]:
    """The checks of these names, or all. Raises click.UsageError."""
    for name in names:
        if name not in _NAMES:
            import difflib

            near = difflib.get_close_matches(name, _NAMES, n=1)
            meant = f"did you mean {near[0]}?" if near else f"there are: {', '.join(_NAMES)}"
            raise click.UsageError(f"there is no check {name!r}; {meant}")
    return [check for check in CHECKS if check.name in names or not names]


def _table(found: Sequence[Examined], *, everything: bool) -> None:
    """A line for each finding and one for what mends it, so that a command can be copied."""
    width = max(len(one.name) for one in found)
    elsewhere = [] if everything else [one.name for one in found if one.opinion is Opinion.NOT_APPLICABLE]
    for one in found:
        for finding in one.findings if one.name not in elsewhere else ():
            word = click.style(f"{finding.opinion:<14}", fg=_COLOURS.get(finding.opinion))
            tail = f" [{finding.reference}]" if finding.reference else ""
            click.echo(f"{word} {one.name:<{width}}  {printable(finding.text)}{tail}")
            if finding.fix:
                click.echo(f"{'':14} {'':{width}}  -> {printable(finding.fix)}")
    if elsewhere:
        click.echo(f"\nNot applicable here: {', '.join(elsewhere)}.")
    click.echo(f"\n{_summary([finding for one in found for finding in one.findings])}")


def _summary(findings: Sequence[Finding]) -> str:
    counts = {opinion: sum(finding.opinion is opinion for finding in findings) for opinion in Opinion}
    return (
        f"{count(counts[Opinion.PROBLEM], 'problem')}, {count(counts[Opinion.WARNING], 'warning')}, "
        f"{counts[Opinion.UNKNOWN]} unknown, {counts[Opinion.OK]} ok."
    )


def _data(found: Sequence[Examined]) -> None:
    import json

    from reconciler.model.base import plain
    from reconciler.model.document import FORMAT_VERSION

    checks = [{**plain(one), "verdict": one.opinion} for one in found]
    for one in checks:
        one["findings"] = [{"verdict": finding.pop("opinion"), **finding} for finding in one["findings"]]
    document = {"format_version": FORMAT_VERSION, "type": "doctor", "checks": checks}
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))
