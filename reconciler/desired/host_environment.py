"""The settings of the host file that may also stand in the environment; where the file says something, it counts.

The names are those of `mlxctl`, whose users have them in their profiles. A variable that is empty says nothing.
"""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from reconciler.model.host import ColdVolume, Converter, HostFile
from reconciler.model.names import HOST_NAME, WORD
from reconciler.model.placeholders import check_command
from reconciler.model.problem import ExitCode, ReconcilerError

from .findings import shown

OFFLOAD_HOST: Final = "MLX_OFFLOAD_HOST"
CONVERT_COMMAND: Final = "MLX_CONVERT_CMD"
ORGANISATIONS: Final = "MLX_PRECONVERTED_ORGS"
HINTS: Final = "MLX_PRECONVERTED_HINTS"
VARIABLES: Final = (OFFLOAD_HOST, CONVERT_COMMAND, ORGANISATIONS, HINTS)


def with_environment(host: HostFile, environ: Mapping[str, str]) -> HostFile:
    """The host file with what the environment adds. Raises ReconcilerError `bad-variable`; nothing has been done then.

    MLX_OFFLOAD_HOST is the host of the volume `offload_to` where the file names none; MLX_CONVERT_CMD is split into
    words once, as a shell does it, and no shell reads them; MLX_PRECONVERTED_ORGS and MLX_PRECONVERTED_HINTS are
    separated by commas and count where the file has the defaults.
    """
    return replace(host, volumes=_volumes(host, environ), converter=_converter(host.converter, environ))


def _volumes(host: HostFile, environ: Mapping[str, str]) -> Mapping[str, ColdVolume]:
    name = environ.get(OFFLOAD_HOST, "").strip()
    if name and not HOST_NAME.regex.fullmatch(name):
        raise _refused(OFFLOAD_HOST, f"must be {HOST_NAME.says}; it is {shown(name)}")
    place = host.volumes.get(host.offload_to or "")
    if not name or place is None or place.host is not None:
        return host.volumes
    return {**host.volumes, str(host.offload_to): replace(place, host=name)}


def _converter(converter: Converter, environ: Mapping[str, str]) -> Converter:
    usual = Converter()
    command = _command(environ.get(CONVERT_COMMAND, ""))
    organisations, hints = _words(ORGANISATIONS, environ), _words(HINTS, environ)
    if converter.command is None:
        converter = replace(converter, command=command)
    if organisations and converter.preconverted_orgs == usual.preconverted_orgs:
        converter = replace(converter, preconverted_orgs=organisations)
    if hints and converter.preconverted_hints == usual.preconverted_hints:
        converter = replace(converter, preconverted_hints=hints)
    return converter


def _command(text: str) -> tuple[str, ...] | None:
    if not text.strip():
        return None
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise _refused(CONVERT_COMMAND, f"cannot be split into words: {str(error).lower()}") from None
    if wrong := check_command(words):
        raise _refused(CONVERT_COMMAND, f"is no command for a conversion: {wrong}")
    return words


def _words(variable: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    words = tuple(word for part in environ.get(variable, "").split(",") if (word := part.strip()))
    for word in words:
        if not WORD.regex.fullmatch(word):
            raise _refused(variable, f"has {shown(word)}, and each of its words must be {WORD.says}")
    return words


def _refused(variable: str, what: str) -> ReconcilerError:
    return ReconcilerError(
        "bad-variable",
        f"the environment variable {variable} {what}; nothing was changed",
        hint=f"mend or unset {variable}",
        code=ExitCode.ENVIRONMENT,
    )
