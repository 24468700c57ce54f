"""Reads docs/requirements.csv and the list of waived rows beside it."""

import csv
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
WAIVED_ROW = re.compile(r"^\|\s*(S\d+-\d+)\s*\|\s*(.*?)\s*\|\s*$", re.MULTILINE)


def requirement_ids(path: Path = DOCS / "requirements.csv") -> tuple[str, ...]:
    """The id of every row, in the order of the file."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(row["id"] for row in csv.DictReader(file))


def waived(path: Path = DOCS / "requirements-waived.md") -> tuple[tuple[str, str], ...]:
    """Every waived row as (id, reason)."""
    return tuple(WAIVED_ROW.findall(path.read_text(encoding="utf-8")))


def seed_of(requirement: str) -> str:
    """The document that a row comes from: "S1" for "S1-44"."""
    return requirement.partition("-")[0]
