"""How many worlds a property is tried on: the same ones in every run, more where the environment asks for it."""

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, settings

FACTOR: Final = int(os.environ.get("RECONCILER_EXAMPLES", "1"))
"""Multiplies every number of examples; other worlds are drawn as soon as it is not 1."""

F = TypeVar("F", bound=Callable[..., Any])


def worlds(count: int) -> Callable[[F], F]:
    """Try a property on `count` drawn worlds, times `RECONCILER_EXAMPLES`."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(
        max_examples=count * FACTOR, derandomize=FACTOR == 1, deadline=None, database=None, suppress_health_check=slow
    )
