"""Durations, sizes and numbers of things as people write them."""

from typing import Annotated, Final

from .base import Pattern

DURATION = Pattern(r"[0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h|d)", "a duration such as 30s, 15m or 2h")
SIZE = Pattern(r"[0-9]{1,15}(\.[0-9]{1,3})?(B|KiB|MiB|GiB|TiB)", "a size such as 512MiB or 96GiB")

Duration = Annotated[str, DURATION]
Size = Annotated[str, SIZE]

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_STEP: Final = 1024
_MINUTES: Final = 100.0
_HOURS: Final = 6000.0
_DAYS: Final = 172_800.0


def seconds(text: str) -> float:
    """The seconds that `text` means; `text` has been checked against `DURATION`."""
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * _SECONDS[unit]


def size(text: str) -> int:
    """The bytes that `text` means; `text` has been checked against `SIZE`."""
    unit = text.lstrip("0123456789.")
    return int(float(text.removesuffix(unit)) * _BYTES[unit])


def spoken(moment: float) -> str:
    """So many seconds for people, such as `50 s`, `12 min`, `3.5 h` or `2.5 d`."""
    if moment < _MINUTES:
        return f"{moment:.0f} s"
    if moment >= _DAYS:
        return f"{moment / 86400:.1f} d"
    return f"{moment / 60:.0f} min" if moment < _HOURS else f"{moment / 3600:.1f} h"


def human(count: int) -> str:
    """`count` bytes for people, in binary units with one decimal."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < _STEP:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= _STEP
    return f"{value:.1f} TiB"


def count(number: int, singular: str, plural: str = "") -> str:
    """`1 server`, `2 servers`."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
