"""Imports a registry and tells what came of it."""

from typing import Any

import pytest

from reconciler.desired.importing import Imported, import_registry
from reconciler.desired.parse import Parsed
from reconciler.model.desired import DesiredState
from reconciler.model.problem import ExitCode, InvalidDocument, Problem

from .reading import read, said
from .registries import text


def imported(document: Any) -> Imported:
    """The registry, given as data or as bytes."""
    return import_registry(document if isinstance(document, bytes) else text(document), "registry.json")


def parsed(document: Any) -> Parsed:
    """What the strict reader makes of an imported registry."""
    return read(imported(document).text)


def state(document: Any) -> DesiredState:
    """The desired state of an imported registry."""
    return parsed(document).desired.state


def warnings(document: Any) -> list[str]:
    """The references of what was said about an accepted registry, after a look at the words."""
    found = imported(document).warnings
    assert {problem.severity for problem in found} <= {"warning"}
    said(found)
    return [problem.reference for problem in found]


def warned(document: Any, reference: str) -> Problem:
    """The one warning of this reference."""
    (found,) = [problem for problem in imported(document).warnings if problem.reference == reference]
    return found


def refused(document: Any) -> list[str]:
    """`line:column reference` of everything for which a registry is refused."""
    with pytest.raises(InvalidDocument) as caught:
        imported(document)
    assert caught.value.code is ExitCode.INVALID
    assert caught.value.message.endswith("; nothing was written")
    assert all(line.startswith("registry.json") for line in (p.located("registry.json") for p in caught.value.problems))
    return said(tuple(problem for problem in caught.value.problems if problem.severity == "error"))
