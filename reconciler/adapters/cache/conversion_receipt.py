"""What a conversion wrote about itself, in the folder that it made."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from reconciler.model.observed import Recipe

from .model_folder import FoundFile, Recall
from .weights import Damaged, read_file

RECEIPT: Final = "receipt.json"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Converted(NamedTuple):
    """Receipt of a conversion."""

    recipe: Recipe
    made_at: float
    """Seconds since the epoch."""
    files: Mapping[str, tuple[int, str]]
    """File -> size and SHA-256."""


def read_receipt(found: FoundFile, recall: Recall) -> Converted | None:
    """The receipt in a file; None where it is not one. Raises OSError."""
    try:
        return recall("converted", found, _converted)
    except Damaged:
        return None


def _converted(found: FoundFile) -> Converted:
    return parse_conversion(read_file(found.path))


def parse_conversion(text: bytes) -> Converted:
    """What a receipt says. Raises Damaged."""
    try:
        document = json.loads(text)
        files = {
            _inner(name): (_size(said["size"]), _sha256(said["sha256"])) for name, said in document["files"].items()
        }
        receipt = Converted(_recipe(document["recipe"]), float(document["made_at"]), files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"no receipt of a conversion ({type(error).__name__})") from None
    if not files:
        raise Damaged("names no file")
    return receipt


def _recipe(said: Mapping[str, Any]) -> Recipe:
    return Recipe(
        source=_text(said["source"]),
        revision=_text(said["revision"]),
        commit=_text(said["commit"]),
        arguments=tuple(_text(item) for item in said["arguments"]),
        command=tuple(_text(item) for item in said["command"]),
        converter=_text(said["converter"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _inner(path: str) -> str:
    """A path below the folder."""
    if {"", ".", ".."} & set(path.split("/")):
        raise ValueError
    return path


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _sha256(value: object) -> str:
    if not _SHA256.fullmatch(_text(value)):
        raise ValueError
    return _text(value)
