"""`service`: the watch as a service of the system, which starts it at login and starts it again when it ends."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from reconciler.engine.service import report
from reconciler.model.observed import Absent, Present, Unknown
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.service import THROTTLE, FileStanding, Service
from reconciler.planning.service import ServiceReport
from reconciler.ports.errors import ActionError
from reconciler.ports.service import ServiceManager
from reconciler.surface.cli.options import file_options, settings, source_options
from reconciler.surface.composition import Compose, Composition, Settings
from reconciler.surface.render.text import printable


@click.group("service")
def command() -> None:
    """Let launchd or systemd keep the watch running.

    It starts when you log in, and is started again when it ends. Servers outlive it, however it ends.
    """


@command.command("install")
@file_options
@source_options
@click.option("-y", "--yes", is_flag=True, help="Replace a file of ours that says something else without a question.")
@click.pass_obj
def install(compose: Compose, config: Path | None, host_file: Path | None, yes: bool) -> int:
    """Write the service's file, and start the service.

    What runs already and is as it should be is left alone. A file that is not ours is never replaced unasked.
    """
    service, composition = _wanted(compose, settings(config, host_file, ()))
    manager = composition.service_manager(None)
    changed = _write(manager, service, yes)
    before = _pid(manager)
    if not changed and before is not None:
        click.echo(f"the service is installed already, and runs as pid {before}")
        return ExitCode.OK
    taken = before is None and composition.busy()
    try:
        manager.start()
    except ActionError as error:
        raise ReconcilerError(
            error.cause,
            f"{manager.file} is there, and the service was not started: {error.message}",
            hint=f"when you are logged in, say: {manager.starting}",
            code=ExitCode.ENVIRONMENT,
        ) from error
    said = f"{manager.name} keeps the watch running from now on"
    click.echo(printable(f"{said}; it writes to {service.log}"))
    if taken:
        click.echo(f"another reconciler is at work here; the service tries again every {THROTTLE} s until it has ended")
    if advice := manager.advice():
        click.echo(printable(advice))
    return ExitCode.OK


@command.command("uninstall")
@click.pass_obj
def uninstall(compose: Compose) -> int:
    """End the service and remove its file; servers stay.

    A file that is not ours stays too.
    """
    manager = compose(settings(None, None, ())).service_manager(None)
    written = manager.written()
    if isinstance(written, Unknown):
        raise _unreadable(written)
    if isinstance(written, Present) and manager.described(written.value) is None:
        raise ReconcilerError(
            "service-foreign",
            f"{manager.file} was not written by `reconciler service install`, so nothing was changed",
            hint="remove it yourself, if it is not needed",
            code=ExitCode.BLOCKED,
        )
    known = not isinstance(manager.run(), Absent)
    if isinstance(written, Absent) and not known:
        click.echo("there is no service")
        return ExitCode.OK
    try:
        manager.end()
    except ActionError as error:
        manager.remove()
        raise ReconcilerError(
            error.cause,
            f"{manager.file} is gone; whether the service still runs is not known: {error.message}",
            hint=f"when you are logged in, say: {manager.ending}",
            code=ExitCode.ENVIRONMENT,
        ) from error
    manager.remove()
    click.echo("the service has ended and its file is gone; servers stay as they are")
    return ExitCode.OK


@command.command("status")
@click.option("-o", "--output", type=click.Choice(("table", "json")), default="table", help="How to print it.")
@click.pass_obj
def status(compose: Compose, output: str) -> int:
    """Show whether the service is installed, runs, and is what would be installed now.

    Returns 8 when it is not all three.
    """
    composition = compose(settings(None, None, ()))
    found = report(composition.service_manager(None), composition.service)
    if output == "json":
        _data(found)
    else:
        for line in _told(found):
            click.echo(printable(line))
    return ExitCode.OK if found.sound else ExitCode.ENVIRONMENT


@command.command("print")
@file_options
@source_options
@click.option("--for", "name", type=click.Choice(("launchd", "systemd")), help="Whose file; else this system's.")
@click.pass_obj
def show(compose: Compose, config: Path | None, host_file: Path | None, name: str | None) -> int:
    """Print the file that `install` would write, and change nothing."""
    service, composition = _wanted(compose, settings(config, host_file, ()))
    click.echo(composition.service_manager(name).text(service), nl=False)
    return ExitCode.OK


def _wanted(compose: Compose, said: Settings) -> tuple[Service, Composition]:
    """The service as it has to be. Raises ReconcilerError for a desired state that the watch would not take."""
    composition = compose(said)
    if said.source is None:
        composition = compose(replace(said, source=str(composition.mode)))
    composition.desired()
    words = ["watch", "-c", os.path.abspath(composition.file)]
    if said.host_file is not None:
        words += ["--host-file", os.path.abspath(said.host_file)]
    for option, value in (("--source", said.source), ("--ref", said.ref)):
        words += [option, value] if value is not None else []
    return composition.service(words), composition


def _write(manager: ServiceManager, service: Service, yes: bool) -> bool:
    """Let the file say the service; False: it did. Raises ReconcilerError, click.Abort; then it is as it was."""
    written, text = manager.written(), manager.text(service)
    if isinstance(written, Unknown):
        raise _unreadable(written)
    if isinstance(written, Present):
        if written.value == text:
            return False
        _ask(manager, written.value, text, yes)
    manager.write(service)
    click.echo(printable(f"{manager.file} is written"))
    return True


def _ask(manager: ServiceManager, old: str, new: str, yes: bool) -> None:
    """Show what would change, and ask: always where the file is somebody else's."""
    import difflib

    ours = manager.described(old) is not None
    click.echo(printable(f"{manager.file} is there already{'' if ours else ', and was not written by reconciler'}:"))
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "as it is", "as it would be", lineterm="")
    for line in lines:
        click.echo(printable(line))
    if ours and yes:
        return
    if not sys.stdin.isatty():
        raise ReconcilerError(
            "service-differs" if ours else "service-foreign",
            f"{manager.file} says something else, and there is no terminal to ask on, so nothing was changed",
            hint="say --yes to replace it" if ours else "move it away, and say it again",
            code=ExitCode.BLOCKED,
        )
    click.confirm("Replace it?", abort=True)


def _unreadable(written: Unknown) -> ReconcilerError:
    return ReconcilerError(
        "service-unreadable",
        f"{written.reason}; nothing was changed",
        hint="mend it, or move it away",
        code=ExitCode.ENVIRONMENT,
    )


def _pid(manager: ServiceManager) -> int | None:
    found = manager.run()
    return found.value.pid if isinstance(found, Present) else None


def _told(found: ServiceReport) -> Sequence[str]:
    """The report for people, one fact a line."""
    match found.standing:
        case FileStanding.ABSENT:
            file = "not there; to have it: reconciler service install"
        case FileStanding.FOREIGN:
            file = "not written by reconciler"
        case FileStanding.DIFFERS:
            file = (
                f"not what would be written now ({', '.join(found.differs)}); to renew it: reconciler service install"
            )
        case FileStanding.CURRENT:
            file = "as it would be written now"
        case None:
            file = f"not known: {found.why}"
    match found.run:
        case Present(value=run):
            runs = f"{run.detail}, pid {run.pid}" if run.pid is not None else run.detail
        case Absent():
            runs = "not loaded"
        case Unknown(reason=reason):
            runs = f"not known: {reason}"
    return (f"{found.file}: {file}", f"{found.manager}: {runs}")


def _data(found: ServiceReport) -> None:
    import json

    from reconciler.model.document import FORMAT_VERSION

    run = found.run.value if isinstance(found.run, Present) else None
    known = not isinstance(found.run, Unknown)
    document = {
        "format_version": FORMAT_VERSION,
        "type": "service",
        "manager": found.manager,
        "file": found.file,
        "standing": found.standing,
        "differs": list(found.differs),
        "loaded": run is not None if known else None,
        "pid": run.pid if run is not None else None,
        "detail": run.detail if run is not None else found.run.reason if isinstance(found.run, Unknown) else "",
    }
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))
