"""`hook`: lets a commit poke the watch, for where file events get lost."""

from collections.abc import Sequence
from pathlib import Path

import click

from reconciler.model.hook import Hook, HookStanding
from reconciler.model.problem import ExitCode
from reconciler.surface.cli.options import file_options, settings
from reconciler.surface.composition import Compose
from reconciler.surface.render.text import printable


@click.group("hook")
def command() -> None:
    """Let git tell the watch at once when something is committed.

    The hooks only poke: they carry nothing, print nothing, and no commit waits for them or fails because of them.
    """


@command.command("install")
@file_options
@click.pass_obj
def install(compose: Compose, config: Path | None, host_file: Path | None) -> int:
    """Install a post-commit hook, and others where there is none; a hook of somebody else is never written to."""
    hooks = compose(settings(config, host_file, ())).hooks
    found = hooks.install()
    _table(found)
    if any(hook.standing is HookStanding.FOREIGN for hook in found):
        click.echo(printable(f"A foreign hook was left alone. To be told by it as well, add this line: {hooks.line}"))
    return ExitCode.OK


@command.command("uninstall")
@file_options
@click.pass_obj
def uninstall(compose: Compose, config: Path | None, host_file: Path | None) -> int:
    """Remove the hooks that were installed, and nothing else."""
    hooks = compose(settings(config, host_file, ())).hooks
    removed = hooks.uninstall()
    for hook in removed:
        click.echo(printable(f"removed {hook.path}"))
    if not removed:
        click.echo("no hook of ours is installed")
    for hook in hooks.status():
        if hook.standing is HookStanding.JOINED:
            click.echo(printable(f"{hook.path} is not ours; remove this line from it: {hooks.line}"))
    return ExitCode.OK


@command.command("status")
@file_options
@click.option("-o", "--output", type=click.Choice(("table", "json")), default="table", help="How to print it.")
@click.pass_obj
def status(compose: Compose, config: Path | None, host_file: Path | None, output: str) -> int:
    """Show which hooks of the repository tell the watch."""
    found = compose(settings(config, host_file, ())).hooks.status()
    if output == "table":
        _table(found)
        return ExitCode.OK
    import json

    from reconciler.model.base import plain
    from reconciler.model.document import FORMAT_VERSION

    entries = [{**plain(hook), "tells": hook.tells} for hook in found]
    document = {"format_version": FORMAT_VERSION, "type": "hooks", "hooks": entries}
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    return ExitCode.OK


def _table(hooks: Sequence[Hook]) -> None:
    from reconciler.surface.render.table import show

    show(("HOOK", "STANDING"), ("PATH",), [(hook.name, hook.standing, hook.path) for hook in hooks])
