"""The machine that every command of these tests runs on."""

from pathlib import Path

import pytest

from tests.cli.home import HOST, Home
from tests.ports import free_port


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A machine on which models may start, with nothing on it."""
    (tmp_path / "host.yaml").write_text(HOST)
    (tmp_path / "host.yaml").chmod(0o600)
    return Home(tmp_path)


@pytest.fixture
def port() -> int:
    """A port that nothing listens on."""
    return free_port()
