"""Options that several commands share, with one meaning each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from reconciler.surface.composition import Settings

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_TIMEOUT: Final = "30m"
FORMATS: Final = ("table", "json", "ndjson")


def file_options(command: F) -> F:
    """-c/--config and --host-file."""
    command = click.option(
        "--host-file",
        type=click.Path(path_type=Path),
        help="The host file; else RECONCILER_HOST_FILE, else the config directory.",
    )(command)
    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        help="The desired state; else RECONCILER_CONFIG, else ensemble.yaml here or above.",
    )(command)


def settings_options(command: F) -> F:
    """-c/--config, --host-file and --set."""
    override = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Override a field, as models.fast.source.repo=owner/name.",
    )
    return file_options(override(command))


def source_options(command: F) -> F:
    """--source and --ref, which `settings` finds by itself."""
    command = click.option(
        "--ref",
        metavar="BRANCH",
        expose_value=False,
        callback=_noted,
        help="The branch whose commits count, such as main.",
    )(command)
    return click.option(
        "--source",
        type=click.Choice(("commit", "worktree")),
        expose_value=False,
        callback=_noted,
        help="Whether the committed or the saved desired state counts; else as the host file says.",
    )(command)


def _noted(context: click.Context, option: click.Parameter, value: str | None) -> None:
    context.meta[f"{__name__}.{option.name}"] = value


def settings(config: Path | None, host_file: Path | None, overrides: tuple[str, ...]) -> Settings:
    """What the shared options mean. Raises click.UsageError."""
    pairs: dict[str, str] = {}
    for override in overrides:
        field, equals, value = override.partition("=")
        if not equals or not field or not value:
            raise click.UsageError(f"--set wants FIELD=VALUE, not {override!r}")
        pairs[field] = value
    context = click.get_current_context(silent=True)
    noted = context.meta if context is not None else {}
    source, ref = noted.get(f"{__name__}.source"), noted.get(f"{__name__}.ref")
    if ref and source == "worktree":
        raise click.UsageError("--ref names a branch, and --source worktree means the saved file: leave one out")
    # Who names a branch means its commits.
    source = "commit" if ref and source is None else source
    return Settings(config=config, host_file=host_file, overrides=pairs, source=source, ref=ref)
