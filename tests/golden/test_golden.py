"""Every story folder is told again and compared with what it said when a person last read it."""

import os
from pathlib import Path

import pytest

from tests.golden.story import Story

STORIES = sorted(path.parent for path in Path(__file__).parent.glob("*/desired.yaml"))


@pytest.mark.parametrize("folder", STORIES, ids=lambda folder: folder.name)
def test_story(folder: Path) -> None:
    told = dict(zip(("plan.txt", "routes.txt"), Story(folder).tell(), strict=True))
    if os.environ.get("UPDATE_GOLDEN"):
        for name, text in told.items():
            (folder / name).write_text(text)
    for name, text in told.items():
        assert text == (folder / name).read_text(), f"{folder.name}/{name}: read the difference, then make golden"


def test_there_are_stories_enough() -> None:
    assert len(STORIES) >= 25
