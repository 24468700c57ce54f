"""The text of an imported desired state: YAML that the strict reader takes as it is meant, with remarks as comments."""

import re
import textwrap
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

from reconciler.model.base import noun
from reconciler.model.desired import AUTO_RANGE, Scalar

from .findings import plain
from .reader import MAX_SCALAR
from .scalars import FLOAT, INTEGER, hidden, meaning

MODELINE: Final = "# yaml-language-server: $schema=../schemas/desired-state.v1.json"
TEAM_RANGE: Final = "team"
RANGES: Final[Mapping[str, tuple[int, int]]] = {TEAM_RANGE: (8100, 8119), AUTO_RANGE: (8120, 8139)}
"""mlxctl's own ranges of ports, which its registry does not repeat."""
_SAFE: Final = re.compile(r"[A-Za-z0-9/][A-Za-z0-9._/@-]*")
"""Text that needs no quotes unless it means something else."""
_WIDTH: Final = 112
_HEAD: Final = """\
{modeline}
#
# Imported from an mlxctl registry, version {version}. Read the comments, mend what they name, look at `reconciler
# plan`, commit. A registry says nothing about gateways: declare them under `gateways`.
version: 1
"""
_BACKEND: Final = """
# mlxctl does not record which server program it starts. Parsers by name belong to mlx-openai-server, whose command the
# host file names; mlx-lm finds them in the model's own template and refuses names. Take the '#' away, or remove them:
# defaults:
#   backend: mlx-openai-server
"""


@noun
class ImportedModel:
    """One model on its way into the text. Everything in it fits the grammar of its field."""

    label: str
    repo: str | None
    """None: `path` is given."""
    path: str | None
    port: int | None
    fields: Mapping[str, Scalar]
    """Other fields that are one value, in the order of the text."""
    aliases: tuple[str, ...]
    request_params: Mapping[str, Scalar]
    template: str | None
    """Path of the chat template once a person has copied it; written as a comment."""
    remarks: tuple[str, ...]
    """What a person should know, one sentence each."""


def written(version: int, models: tuple[ImportedModel, ...], *, backend_unknown: bool) -> str:
    """The whole text. Equal models give equal bytes, in whatever order the registry had them.

    `backend_unknown`: parsers are named, and not the server program that they belong to.
    """
    lines = [_HEAD.format(modeline=MODELINE, version=version)]
    lines.append("ports:")
    lines += [f"  {name}: {low}-{high}" for name, (low, high) in ranges(models).items()]
    if backend_unknown:
        lines.append(_BACKEND.rstrip("\n"))
    lines += ["", "models:" if models else "models: {}"]
    for number, model in enumerate(sorted(models, key=_order)):
        lines += [""] * (number > 0)
        lines += _model(model)
    return "\n".join(lines) + "\n"


def ranges(models: tuple[ImportedModel, ...]) -> dict[str, tuple[int, int]]:
    """mlxctl's ranges, and one for each port that lies in none of them."""
    found = dict(RANGES)
    for port in sorted({model.port for model in models if model.port is not None}):
        if is_outside(port):
            found[f"port-{port}"] = (port, port)
    return found


def is_outside(port: int) -> bool:
    """Whether a port is in none of mlxctl's ranges."""
    return not any(low <= port <= high for low, high in RANGES.values())


def scalar(value: Scalar) -> str | None:
    """`value` as the strict reader takes it for the same value; None where YAML has no text that it would take."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if INTEGER.fullmatch(str(value)) else None
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f")
        text = text if "." in text else f"{text}.0"
        return text if FLOAT.fullmatch(text) and float(text) == value else None
    if len(value) > MAX_SCALAR or any(hidden(value, file=False)):
        return None
    if _SAFE.fullmatch(value) and meaning(value) == value:
        return value
    import json  # a JSON text without hidden characters is a double-quoted YAML text

    return json.dumps(value, ensure_ascii=False)


def _order(model: ImportedModel) -> tuple[bool, int, str]:
    """By port, and what is only kept in the cache at the end."""
    return model.port is None, model.port or 0, model.label


def _model(model: ImportedModel) -> Iterator[str]:
    for remark in model.remarks:
        yield from textwrap.wrap(
            plain(remark),
            width=_WIDTH,
            initial_indent="  # ",
            subsequent_indent="  # ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    yield f"  {scalar(model.label)}:"
    yield "    source:"
    yield f"      repo: {scalar(model.repo)}" if model.repo is not None else f"      path: {scalar(model.path or '')}"
    yield f"    port: {model.port or 'none'}"
    if model.template is not None:
        yield f"    # chat_template: {model.template}"
    for name, value in model.fields.items():
        yield f"    {name}: {scalar(value)}"
    if model.aliases:
        yield f"    aliases: [{', '.join(str(scalar(alias)) for alias in model.aliases)}]"
    if model.request_params:
        yield "    request_params:"
        for name in sorted(model.request_params):
            yield f"      {scalar(name)}: {scalar(model.request_params[name])}"
