"""`demo`: the main job on two tiny models, in a temporary folder."""

import subprocess
import sys
from importlib.resources import as_file, files

import click

from reconciler.model.problem import ExitCode


@click.command("demo")
def command() -> int:
    """Serve two tiny models for real, in a temporary folder, and leave nothing behind.

    Needs git. Takes about a minute.
    """
    with as_file(files("reconciler") / "programs") as programs:
        done = subprocess.run([sys.executable, str(programs / "demo.py")], check=False)
    return ExitCode.OK if done.returncode == 0 else ExitCode.UNSETTLED
