"""Measures what a model takes in memory by building it, empty, in the environment of the server that will load it.

The work is done by `reconciler/programs/model_memory.py` as a child: never in our own interpreter, never with code of
the model's author, without network and weights. What cannot be measured is left to the formula of `model_config`.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from reconciler.adapters.child import running, without_tokens
from reconciler.model.base import noun
from reconciler.model.cache_cost import CacheCost, Window
from reconciler.ports.errors import ActionError

PROGRAM: Final = "model_memory.py"
DEADLINE: Final = 120.0
"""Seconds: models with recurrent layers take several, on a machine that is busy loading others many more."""
_NICENESS: Final = 10
_KEPT: Final = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR"})
_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    # The environment is the server's: not even a compiled module is left in it.
    "PYTHONDONTWRITEBYTECODE": "1",
}
_PYTHON: Final = re.compile(r"python[0-9.]*")
_EXEC: Final = re.compile(rb"""exec'?\s+["']?([^"'\s]+)""")
_HEAD: Final = 1024
_BITS: Final = 63


@noun
class Measured:
    """What building a model has shown."""

    weight_bytes: int | None
    """What `mlx_lm` holds after a load; None where another program has quantised it and only its files can tell."""
    cache: CacheCost
    """Exact."""
    version: str = ""
    """mlx-lm's."""
    working_set: int | None = None
    """Bytes that Metal recommends to keep resident at most, all processes together; None where there is no Metal."""


async def measure(
    config: Mapping[str, Any],
    runtime: Sequence[str],
    *,
    deadline: float = DEADLINE,
    tell: Callable[[str], None] | None = None,
) -> Measured | None:
    """Measure the model of this config.json for the server that `runtime` starts; None where that does not work.

    `tell` is then given the reason, one phrase. The child is gone when this returns or is cancelled.
    """
    try:
        answer = await _answer(config, runtime, deadline)
    except ActionError as error:
        answer = {"error": error.message}
    measured = from_document(answer)
    if measured is None and tell is not None:
        reason = answer.get("error")
        tell(reason if isinstance(reason, str) else "it was answered with something else than sizes")
    return measured


async def _answer(config: Mapping[str, Any], runtime: Sequence[str], deadline: float) -> Mapping[str, Any]:
    import asyncio

    python = interpreter(runtime)
    if python is None:
        return {"error": f"no Python is known that runs {runtime[0] if runtime else 'it'}"}
    request, environ = {"config": dict(config)}, bare_environment()
    async with running(PROGRAM, request, environ=environ, command=(python,), niceness=_NICENESS, grace=0) as child:
        try:
            async with asyncio.timeout(deadline):
                answer = await child.line()
        except TimeoutError:
            return {"error": f"it took longer than {deadline:g} s"}
        if answer is None:
            raise child.failed()
        return answer


def bare_environment() -> dict[str, str]:
    """The environment of a child that only looks: no network, no token, and nothing that a person set for Python."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}
    return without_tokens(kept) | _OFFLINE


def from_document(value: Mapping[str, Any]) -> Measured | None:
    """What was measured, from the program's answer or from what `as_document` has made; None where it is neither."""
    weights, listed, version = value.get("weight_bytes"), value.get("windows"), value.get("mlx_lm")
    if "weight_bytes" not in value or not isinstance(listed, list):
        return None
    try:
        return Measured(
            weight_bytes=None if weights is None else _size(weights),
            cache=CacheCost(
                per_token=_size(value["per_token"]),
                windows=tuple(Window(per_token=_size(w["per_token"]), tokens=_size(w["tokens"])) for w in listed),
                fixed=_size(value["fixed"]),
                exact=True,
            ),
            version=version if isinstance(version, str) else "",
            working_set=_size(value["working_set"]) if value.get("working_set") is not None else None,
        )
    except (KeyError, TypeError, ValueError):
        return None


def as_document(measured: Measured) -> dict[str, Any]:
    """What was measured, as JSON."""
    return {
        "weight_bytes": measured.weight_bytes,
        "per_token": measured.cache.per_token,
        "windows": [{"per_token": w.per_token, "tokens": w.tokens} for w in measured.cache.windows],
        "fixed": measured.cache.fixed,
        "mlx_lm": measured.version,
        "working_set": measured.working_set,
    }


def interpreter(runtime: Sequence[str]) -> str | None:
    """The Python that runs a server's command: its first word, that of its first line, or the one beside it."""
    program = shutil.which(runtime[0]) if runtime else None
    if program is None:
        return None
    if _PYTHON.fullmatch(os.path.basename(program)):
        return program
    try:
        with open(program, "rb", 0) as file:
            lines = file.read(_HEAD).split(b"\n")
    except OSError:
        return None
    if not lines[0].startswith(b"#!"):
        return None
    # Where the path is too long for a first line, installers write one for sh that executes it (pip, uv).
    words = lines[0][2:].split()[:1] + [found[1] for line in lines[1:3] if (found := _EXEC.search(line))]
    named = [os.fsdecode(word) for word in words]
    beside = [os.path.join(os.path.dirname(place), "python") for place in (program, os.path.realpath(program))]
    for place in (*named, *beside):
        if os.path.isabs(place) and _PYTHON.fullmatch(os.path.basename(place)) and os.access(place, os.X_OK):
            return place
    return None


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**_BITS:
        raise ValueError
    return value
