"""The machine that the commands of these tests run on."""

from pathlib import Path

import pytest

from tests.cli.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A machine with nothing on it, not even a host file."""
    return Home(tmp_path)
