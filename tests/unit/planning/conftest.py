"""Small stories told inside a test."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.planning.forecast import Forecast
from tests.golden.story import Story

Tell = Callable[[str, str], Forecast]


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    """The forecast for a desired state and an observation, written as in tests/golden."""

    def forecast_of(desired: str, observed: str) -> Forecast:
        (tmp_path / "desired.yaml").write_text(desired)
        (tmp_path / "observed.yaml").write_text(observed)
        return Story(tmp_path).forecast()

    return forecast_of
