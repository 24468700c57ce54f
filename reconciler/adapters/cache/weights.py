"""What a weight file and its index declare, from their first bytes; no tensor is read.

A safetensors file is eight bytes of header length, the header as JSON, then the tensors, "entirely indexed, and
cannot contain holes" (README of huggingface/safetensors). So the last tensor of a whole file ends where the file
ends, and the bytes behind the header are what MLX holds after a load, to the byte (facts/backends.md 9). No
library notices a short file before it loads it (facts/faults.md H04).
"""

import json
import os
import re
from typing import Final, NamedTuple

LENGTH_BYTES: Final = 8
MAX_HEADER: Final = 100_000_000
"""The limit of the format's own reader."""
MAX_DOCUMENT: Final = 64 * 2**20
_FIRST_READ: Final = 65_536

_RANGE: Final = re.compile(rb'"data_offsets"\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*\]')
_KEY: Final = b'"data_offsets"'
_BEFORE_START: Final = re.compile(rb"\s*:\s*\[\s*")
_BEFORE_END: Final = re.compile(rb"\s*:\s*\[\s*\d+\s*,\s*")
_CONTEXT: Final = 64
_METADATA: Final = re.compile(rb'"__metadata__"\s*:\s*(\{(?:[^{}"]|"(?:[^"\\]|\\.)*+")*+\})')
_NUMBERED: Final = re.compile(r"(model.*)-(\d{5})-of-(\d{5})\.safetensors")


class Damaged(Exception):
    """A file contradicts itself; the text says how, in a few words."""


def read_file(path: str, limit: int = MAX_DOCUMENT) -> bytes:
    """The whole file, by as few calls as it takes. Raises OSError, and Damaged when it is longer than `limit`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        parts: list[bytes] = []
        total = 0
        while part := os.read(handle, _FIRST_READ if not parts else 1 << 20):
            parts.append(part)
            total += len(part)
            if total > limit:
                raise Damaged(f"longer than {limit} bytes")
    finally:
        os.close(handle)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Declared(NamedTuple):
    """What the header of one weight file says."""

    tensor_bytes: int
    format: str
    """For which library it was written, such as `mlx` or `pt`; empty where it does not say."""


def declared(path: str, size: int) -> Declared:
    """The header of a file of `size` bytes. Raises OSError, and Damaged when header and size disagree."""
    header = _header(path, size)
    return Declared(_tensor_bytes(header, size), _format(header))


def _tensor_bytes(header: bytes, size: int) -> int:
    payload = size - LENGTH_BYTES - len(header)
    if _covers(header, payload):
        return payload
    ranges = [(int(start), int(end)) for start, end in _RANGE.findall(header)]
    if not ranges:
        raise Damaged("its header names no tensor")
    end = max(end for _, end in ranges)
    if end != payload:
        raise Damaged(f"{size} of {LENGTH_BYTES + len(header) + end} bytes")
    return sum(end - start for start, end in ranges)


def _format(header: bytes) -> str:
    """`format` of the metadata, which every writer puts there: `mlx` by mlx, `pt` by transformers."""
    found = _METADATA.search(header)
    try:
        value = json.loads(found[1])["format"] if found else ""
    except (ValueError, KeyError):
        return ""
    return value if isinstance(value, str) else ""


def _header(path: str, size: int) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        first = os.pread(handle, _FIRST_READ, 0)
        length = int.from_bytes(first[:LENGTH_BYTES], "little")
        if len(first) < LENGTH_BYTES or length > min(MAX_HEADER, size - LENGTH_BYTES):
            raise Damaged("cut off within its header, or no safetensors file")
        header = first[LENGTH_BYTES : LENGTH_BYTES + length]
        while len(header) < length:
            more = os.pread(handle, length - len(header), LENGTH_BYTES + len(header))
            if not more:
                raise Damaged("cut off within its header")
            header += more
    finally:
        os.close(handle)
    if not (header.startswith(b"{") and header.rstrip().endswith(b"}")):
        raise Damaged("its header is no JSON object")
    return header


def _covers(header: bytes, payload: int) -> bool:
    """Whether a tensor ends exactly at `payload` and none begins there; by the format, none then ends later.

    Two searches for a number instead of a parse of every range: 50 us instead of 400 for 1,000 tensors.
    """
    number = b"%d" % payload
    return _named(header, number + b"]", _BEFORE_END) and not _named(header, number + b",", _BEFORE_START)


def _named(header: bytes, number: bytes, before: re.Pattern[bytes]) -> bool:
    at = header.rfind(number)
    while at >= 0:
        key = header.rfind(_KEY, max(0, at - _CONTEXT), at)
        if key >= 0 and before.fullmatch(header, key + len(_KEY), at):
            return True
        at = header.rfind(number, 0, at)
    return False


def indexed_files(path: str) -> frozenset[str]:
    """The weight files that a model.safetensors.index.json names. Raises OSError, and Damaged.

    The names are compared with what is there and never opened.
    """
    try:
        names = frozenset(json.loads(read_file(path))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Damaged("no index of weights") from None
    if not names or not all(isinstance(name, str) for name in names):
        raise Damaged("names no weight file")
    return names


def numbered_siblings(names: frozenset[str]) -> frozenset[str]:
    """All files of a series such as model-00001-of-00003.safetensors of which at least one is there."""
    series = {(m[1], int(m[3])) for name in names if (m := _NUMBERED.fullmatch(name))}
    return frozenset(
        f"{stem}-{number:05d}-of-{count:05d}.safetensors" for stem, count in series for number in range(1, count + 1)
    )
