"""What a look found, as the objects of the look before wherever nothing has changed.

The planner concludes nothing twice from the very same objects (`planning/resolve.py`), and in a watch nearly every look
finds what the one before has found.
"""

from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def steady(before: Mapping[K, V], found: Mapping[K, V]) -> dict[K, V]:
    """What was found; of two equal values the old one."""
    return {key: before[key] if key in before and before[key] == value else value for key, value in found.items()}
