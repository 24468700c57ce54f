"""Entry of the console script and of `python -m reconciler`."""

import gc
import sys

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
    sys.exit(run(_compose))


if __name__ == "__main__":
    main()
