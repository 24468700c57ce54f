"""Entry of the console script and of `python -m reconciler`."""

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

from reconciler.model.problem import ExitCode
from reconciler.surface.cli.main import run
from reconciler.surface.composition import Composition, Settings


def _compose(settings: Settings) -> Composition:
    # Imported when a command first needs the machine: --help and completion never do.
    from reconciler.wiring import compose

    return compose(settings)


def main() -> None:
    """Run the command line and exit with its code."""
    # A short run frees nothing: collecting garbage half-way costs a third of a plan of 10,000 models, and a few
    # milliseconds of every start. What runs on switches it on again.
    gc.disable()
    _leave(run(_compose))


def _leave(code: int) -> NoReturn:
    """End at once: to free every object one by one, before the system takes back all, is a tenth of a plan."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass  # the reader went away, as `| head` does
    except OSError as error:
        code = code or ExitCode.ENVIRONMENT
        with suppress(OSError):
            os.write(2, f"error: the output could not be written: {error.strerror}. [output-lost]\n".encode())
    os._exit(code)


if __name__ == "__main__":
    main()
