"""Which files of a repository are downloaded: weights as safetensors, configuration, tokenizer and templates.

Nothing that is code or a pickle, and no name that a file system could take for another (facts/faults.md S27, H20).
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from reconciler.model.supply import RemoteFile

_WEIGHTS: Final = re.compile(r"(?!consolidated)[^/]*\.safetensors")
"""Beside its shards a repository of Mistral holds all weights once more as `consolidated*.safetensors`; weights in
folders belong to other programs. No server loads either (mlx-lm 0.32, mlx-vlm 0.7)."""
LOADED: Final = re.compile(r"model[^/]*\.safetensors")
"""What mlx_lm.server loads."""
_SMALL: Final = re.compile(
    r"(?:[^/]+/)*(?:[^/]+\.(?:json|jsonl|jinja|tiktoken|model)|(?:vocab|merges|tokenizer)[^/]*\.txt|tokenizer)"
)
_FOREIGN: Final = ("gguf", "bin", "pt", "pth", "ckpt", "onnx", "h5", "msgpack", "npz")
_CONFIG: Final = "config.json"


class Unfit(Exception):
    """A repository that no server here could load, or whose names are not safe; `problem` is the reference."""

    def __init__(self, problem: str, message: str) -> None:
        super().__init__(message)
        self.problem = problem


def chosen(listed: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """What a download brings, by name. Raises Unfit."""
    listed = tuple(listed)
    _check_paths(file.name for file in listed)
    files = sorted((file for file in listed if _wanted(file.name)), key=lambda file: file.name)
    _check_twins(file.name for file in files)
    names = {file.name for file in files}
    if not any(LOADED.fullmatch(name) for name in names):
        endings = {file.name.rpartition(".")[2].lower() for file in listed}
        found = next((ending for ending in _FOREIGN if ending in endings), "")
        said = f"its weights are {found}" if found else "it holds no model*.safetensors"
        raise Unfit("source-wrong-format", f"{said}, and servers here load safetensors")
    if _CONFIG not in names:
        raise Unfit("source-wrong-format", "it holds no config.json, so it is not a model that can be served by itself")
    return tuple(files)


def checked(files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Files that are to be downloaded, after a look at their names: an order may come from anywhere. Raises Unfit."""
    files = tuple(files)
    _check_paths(file.name for file in files)
    _check_twins(file.name for file in files)
    refused = next((file.name for file in files if not _wanted(file.name)), None)
    if refused is not None:
        raise Unfit("source-wrong-format", f"{refused} is not among what is downloaded: weights, settings, templates")
    return files


def _wanted(name: str) -> bool:
    hidden = name.startswith(".") or "/." in name
    return not hidden and bool(_WEIGHTS.fullmatch(name) or _SMALL.fullmatch(name))


def _check_paths(names: Iterable[str]) -> None:
    """Every name stays in its folder."""
    for name in names:
        if {"", ".", ".."} & set(name.split("/")) or "\\" in name or not name.isprintable():
            raise Unfit("source-unsafe-names", f"it lists {name!a}, which is no plain path below its folder")


def _check_twins(names: Iterable[str]) -> None:
    """Two names are two files on every file system: APFS takes upper and lower case, and both forms of an umlaut, for
    the same."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            said = f"it lists {other} and {name}, which are one file where upper and lower case are the same"
            raise Unfit("source-unsafe-names", said)
