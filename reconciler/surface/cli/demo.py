"""`demo`: the main job on two small models, in a temporary folder."""

import signal
import subprocess
import sys
from importlib.resources import as_file, files

import click

from reconciler.model.problem import ExitCode

_PASSED_ON = {
    code.value: code for code in (ExitCode.OK, ExitCode.ENVIRONMENT, ExitCode.INTERRUPTED, ExitCode.TERMINATED)
}


@click.command("demo")
@click.option(
    "--model",
    type=click.Choice(["tiny", "smollm2"]),
    default="tiny",
    show_default=True,
    help="Two models made on the spot, or a real one and one of them: SmolLM2-135M-Instruct, 93 MB, downloaded once.",
)
def command(model: str) -> int:
    """Serve two small models for real, in a temporary folder, and leave nothing behind.

    Needs git. Takes about a minute. What --model smollm2 downloads is kept in the user's cache.
    """
    with as_file(files("reconciler") / "programs") as programs:
        demo = subprocess.Popen([sys.executable, str(programs / "demo.py"), "--model", model])
        signal.signal(signal.SIGTERM, lambda *_: demo.terminate())
        return _PASSED_ON.get(_ended(demo), ExitCode.UNSETTLED)


def _ended(demo: subprocess.Popen[bytes]) -> int:
    """The demo's exit code. Ctrl-C reaches it too, and it is waited for while it stops what it has started."""
    while True:
        try:
            return demo.wait()
        except KeyboardInterrupt:
            continue
