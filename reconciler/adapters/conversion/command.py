"""What is run to convert weights, in which environment, and what it means when it fails."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from reconciler.adapters.cache.storage import built_in_converter
from reconciler.adapters.machine import package_is_here
from reconciler.adapters.process_table import TOKEN_VARIABLE
from reconciler.adapters.spawn import environment, executable
from reconciler.model.observed import Recipe
from reconciler.model.placeholders import check_command, filled
from reconciler.model.secret import redacted
from reconciler.ports.errors import ActionError

PACKAGE: Final = "mlx_lm"
BUILT_IN: Final = ("-m", PACKAGE, "convert", "--hf-path", "{src}", "--mlx-path", "{dest}")
_SWITCHES: Final = {"bits": "--q-bits", "group_size": "--q-group-size", "mode": "--q-mode", "dtype": "--dtype"}
_QUANTIZING: Final = frozenset({"bits", "group_size", "mode"})
_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
}
"""What is added to a converter's environment: what it prints is there when it is killed, and it asks no network."""
_TOLD: Final = 400
_ERROR: Final = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b|\S+: error: ")
"""How the line begins that says why a Python program ended."""
_FOR_EVER: Final = re.compile(
    r"(?:\w+\.)*(?:Value|Type|Key|Index|NotImplemented|Attribute|Import|ModuleNotFound|Assertion)Error\b"
    r"|\S+: error: (?:argument|unrecognized|the following|ambiguous)"
)
"""Errors that depend on the source and the settings alone."""
_FULL: Final = re.compile(
    r"No space left on device|Disk quota exceeded|os error 28\b|\bENOSPC\b|\[write\] Unable to write \d+ bytes"
)
"""The last is how mlx 0.32 says it (measured on a full tmpfs)."""
_NO_PACKAGE: Final = re.compile(rf"No module named '?{PACKAGE}'?$", re.MULTILINE)
"""The package itself: that it has no module for a model type is no sign of its absence."""
KEPT: Final = "nothing was published and the base weights were kept"


def converter_command(recipe: Recipe, source: str, dest: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The words to run, the first an absolute path; no shell reads them.

    A command of the host file is used as it is: the settings of the recipe are not appended, because nobody knows
    how another program wants them; its result is judged by them all the same. Raises ActionError, always permanent:
    `converter-placeholder`, `converter-missing`, `converter-setting`; and `converter-changed`, which is not.
    """
    words = recipe.command or (*_built_in(recipe), *_switches(recipe.arguments))
    if problem := check_command(words):
        raise ActionError(
            "converter-placeholder",
            f"the converter's command in the host file cannot be used: {problem}; nothing was started",
            permanent=True,
        )
    try:
        program = executable(words[0], environ.get("PATH", os.defpath))
    except ActionError as error:
        message = f"the converter cannot be started: {error.message}; the base weights were kept"
        raise ActionError("converter-missing", message, permanent=True) from None
    values = {"repo": recipe.source, "src": source, "dest": dest}
    return (program, *filled(words[1:], values))


def converter_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a converter gets: as little as a server, no token of a hub, and nothing by which it would run foreign code.

    Variables that steer an interpreter (`PYTHONPATH`) are not handed on: what is run is what the command says.
    """
    return {name: value for name, value in environment(environ, _OFFLINE, "").items() if name != TOKEN_VARIABLE}


def failure(source: str, status: int, log: Sequence[str]) -> ActionError:
    """The error of a converter that ended with `status`, negative for a signal."""
    text = redacted("\n".join(log))
    if _FULL.search(text):
        return ActionError("disk-full", f"converting {source} has filled the disk; {KEPT}")
    if _NO_PACKAGE.search(text):
        return ActionError("converter-missing", f"{PACKAGE} cannot be found by its Python; {KEPT}", permanent=True)
    reason = _reason(text)
    if status < 0:
        said = f"converting {source} was ended by signal {-status}, which is what happens when memory runs out; {KEPT}"
        return ActionError("conversion-failed", said)
    said = f"converting {source} failed: {reason or f'exit code {status}, and nothing was said'}; {KEPT}"
    return ActionError("conversion-failed", said, permanent=_FOR_EVER.match(reason) is not None)


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines or [""])[-1][:_TOLD]


def _built_in(recipe: Recipe) -> tuple[str, ...]:
    version = built_in_converter()
    if not sys.executable or not package_is_here(PACKAGE):
        message = f"{PACKAGE} is not installed in the environment of this program; the base weights were kept"
        raise ActionError("converter-missing", message, permanent=True)
    if recipe.converter and version != recipe.converter:
        message = f"{version or 'no converter'} is here, and {recipe.converter} was planned; nothing was started"
        raise ActionError("converter-changed", message)
    return (sys.executable, *BUILT_IN)


def _switches(settings: Sequence[str]) -> tuple[str, ...]:
    """Switches of mlx_lm.convert 0.32; without `-q` it would take the others and quantise nothing (measured)."""
    words: list[str] = []
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in _SWITCHES or not value:
            raise ActionError("converter-setting", f"mlx_lm.convert has no setting {setting!r}", permanent=True)
        words += [_SWITCHES[name], value]
    quantizes = any(setting.partition("=")[0] in _QUANTIZING for setting in settings)
    return ("-q", *words) if quantizes else tuple(words)
