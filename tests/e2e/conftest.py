"""The machine that every command of these tests runs on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.home import HOST, Home
from tests.e2e.ensemble import Ensemble


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A machine on which models may start, with nothing on it."""
    (tmp_path / "host.yaml").write_text(HOST)
    (tmp_path / "host.yaml").chmod(0o600)
    return Home(tmp_path)


@pytest.fixture
def ensemble(home: Home) -> Iterator[Ensemble]:
    """Whatever a test leaves running is stopped as a user would, and must then be gone."""
    made = Ensemble(home)
    try:
        yield made
        made.clear()
    finally:
        made.end()
