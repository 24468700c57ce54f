"""The command line: which commands there are, and how every failure reaches a person or a script."""

import importlib
import itertools
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from reconciler import __version__
from reconciler.model.problem import ExitCode, InvalidDocument, ReconcilerError
from reconciler.surface.composition import Compose

COMMANDS: Final = {
    "validate": "Check a desired state without looking at the machine.",
    "plan": "Show what would be done, without doing it.",
    "apply": "Bring the machine to the desired state.",
    "watch": "Keep the machine at the desired state as it is edited.",
    "status": "Show what is served, and what stands against the rest.",
    "explain": "Show everything that is known about one subject.",
    "trace": "Show which commit a server comes from, and what of it still holds.",
    "events": "Show what has happened.",
    "stop": "Stop a server and keep it stopped.",
    "suspend": "Stop a server for a time, with a reason.",
    "start": "Let a stopped or suspended server run again.",
    "retry": "Start a held server again.",
    "history": "Show what was in force, and what of it was proved.",
    "rollback": "Bring back an earlier generation.",
    "accept": "Take a revision that a guard stands against.",
    "logs": "Show the log of a server.",
    "artifacts": "Show all weights, what they are kept for, and what could be freed.",
    "offload": "Move base weights to cold storage.",
    "restore": "Bring base weights back from cold storage.",
    "volume": "Mark a disk as cold storage.",
    "hook": "Let git tell the watch at once when something is committed.",
    "service": "Let launchd or systemd keep the watch running.",
    "doctor": "Look for what is wrong with this machine, and say what mends it.",
    "demo": "Serve two tiny models for real, in a temporary folder.",
    "import": "Make a desired state from an mlxctl registry.",
    "schema": "Print or write the JSON Schemas of the documents.",
    "completion": "Print the completion script of a shell.",
}
"""name -> one line. A command's module is imported when it is run, so that --help imports none of them."""
_MODULES: Final = {"import": "importing"}
"""Commands whose name Python keeps for itself, and the modules that they are in."""


class _Lazy(click.Group):
    """Commands by name; each one is the function `command` of the module of the same name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = _MODULES.get(cmd_name, cmd_name)
        command: click.Command = importlib.import_module(f"reconciler.surface.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{meant}", ctx=ctx)
        return super().resolve_command(ctx, args)


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="reconciler")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("--no-color", is_flag=True, help="Print without colour, as NO_COLOR does.")
@click.option(
    "--exit-codes",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, wanted: _codes(ctx, wanted),
    help="Show what every exit code means.",
)
@click.pass_context
def cli(ctx: click.Context, debug: bool, no_color: bool) -> None:
    """Keeps a Mac serving exactly the MLX models that a git-tracked file declares."""
    ctx.meta["debug"] = debug
    if no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False


def _codes(ctx: click.Context, wanted: bool) -> None:
    if wanted:
        for code in ExitCode:
            click.echo(f"{code.value:>3}  {code.meaning}")
        ctx.exit(0)


def run(compose: Compose, argv: Sequence[str] | None = None) -> int:
    """Run one command line; every failure ends as one sentence and a code of `ExitCode`."""
    click.UsageError.exit_code = ExitCode.USAGE  # click says 2, which means "changes" here
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        result = cli.main(args=arguments, prog_name="reconciler", standalone_mode=False, obj=compose)
        return result if isinstance(result, int) else ExitCode.OK
    except ReconcilerError as error:
        return _refused(error, arguments)
    except click.ClickException as error:
        if _wants_json(arguments):
            told = ReconcilerError("usage", error.format_message(), hint="see --help", code=ExitCode(error.exit_code))
            return _refused(told, arguments)
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("error: interrupted; nothing was changed by it", err=True)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader went away, as `| head` does: that is its decision.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return ExitCode.OK
    except OSError as error:
        told = ReconcilerError(
            "environment",
            f"{error.filename or 'the machine'}: {error.strerror or error}",
            hint="mend what stands against it and try again",
            code=ExitCode.ENVIRONMENT,
        )
        return _refused(told, arguments)
    except Exception as error:  # the last resort: a bug must still end in one sentence
        if "--debug" in arguments:
            raise
        click.echo(
            f"error: internal error ({type(error).__name__}: {_safe(error)}); nothing was changed by it. "
            "Please report it with the output of `reconciler --debug ...`. [internal-error]",
            err=True,
        )
        return ExitCode.INTERNAL


def _refused(error: ReconcilerError, arguments: Sequence[str]) -> int:
    """One line per problem to people; one document to a script that asked for JSON."""
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()
    if _wants_json(arguments):
        import json

        click.echo(json.dumps(_as_data(error), ensure_ascii=False))
        return error.code
    from reconciler.surface.render.text import printable

    if isinstance(error, InvalidDocument):
        for problem in error.problems:
            click.echo(printable(problem.located(error.file)), err=True)
    click.echo(printable(f"error: {error.message}. {_sentence(error.hint)} [{error.reference}]"), err=True)
    return error.code


def _sentence(hint: str) -> str:
    return hint[:1].upper() + hint[1:] + ("" if hint.endswith((".", "?")) else ".")


def _wants_json(arguments: Sequence[str]) -> bool:
    glued = {"-ojson", "-ondjson", "--output=json", "--output=ndjson"}
    pairs = itertools.pairwise(arguments)
    return any(a in glued for a in arguments) or any(
        a in ("-o", "--output") and b in ("json", "ndjson") for a, b in pairs
    )


def _as_data(error: ReconcilerError) -> dict[str, Any]:
    from reconciler.model.base import plain
    from reconciler.model.document import FORMAT_VERSION

    problems = [plain(p) for p in error.problems] if isinstance(error, InvalidDocument) else []
    return {
        "format_version": FORMAT_VERSION,
        "type": "error",
        "reference": error.reference,
        "message": error.message,
        "hint": error.hint,
        "exit_code": int(error.code),
        "problems": problems,
    }


def _safe(error: Exception) -> str:
    from reconciler.surface.render.text import printable

    return printable(str(error))[:500]
