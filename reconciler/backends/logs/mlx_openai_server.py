"""What the log of mlx-openai-server 1.8 says about failures."""

import re
from collections.abc import Sequence
from typing import Final

from reconciler.backends.base import Diagnosis

from .python import PROGRAM, Raised, meaning, raised, sentence

# The last words of a start that failed, by the line that says so: click, the interpreter, asyncio, uvicorn.
_REFUSED: Final = re.compile(r"Error: (?P<what>(?:No such option|Invalid value|Option|Missing|Got unexpected).*)")
_MODULE: Final = re.compile(r"\S*python[\d.]*: (?P<what>No module named .*)")
_BIND: Final = re.compile(r"ERROR:\s+(?P<what>\[Errno \d+\]) error while attempting to bind ")
_STARTUP: Final = re.compile(r"ERROR:\s+Application startup failed\. Exiting\.")
_STARTED: Final = re.compile(r"INFO:\s+Application startup complete\.")


def diagnose(lines: Sequence[str]) -> Diagnosis | None:
    """Its last words; it exits with 0 after a failed start, so the log alone tells that from a stop."""
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        if refused := _REFUSED.match(line):
            says = sentence(f"the program refuses its command line: {refused['what']}")
            return Diagnosis(cause="flag-refused", message=says, permanent=True)
        if missing := _MODULE.match(line):
            return _known(Raised(said=f"ImportError: {missing['what']}"))
        if bind := _BIND.match(line):
            return _known(Raised(said=f"OSError: {bind['what']}"))
        if _STARTUP.match(line):
            return _failed_start(lines[:number])
        if _STARTED.match(line):
            return None
    # Nothing of the kind: the program may have died before it could say more than a traceback.
    exception = raised(lines)
    return None if exception is None else _known(exception)


def _known(exception: Raised) -> Diagnosis | None:
    found = meaning(PROGRAM, exception)
    return found and Diagnosis(cause=found[0].cause, message=found[1], permanent=found[0].permanent)


def _failed_start(lines: Sequence[str]) -> Diagnosis:
    exception = raised(lines)
    if exception is None:
        return Diagnosis(cause="load-failed", message="the worker could not load the model")
    says = sentence(f"the worker could not load the model: {exception.said.splitlines()[0]}")
    return _known(exception) or Diagnosis(cause="load-failed", message=says)
