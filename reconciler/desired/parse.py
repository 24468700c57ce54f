"""From a bundle to a `Desired`, or to every problem of the text at once."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from reconciler.model.base import noun
from reconciler.model.bundle import Bundle
from reconciler.model.desired import Desired, DesiredState
from reconciler.model.problem import InvalidDocument, Problem

from .check import Document, check
from .check_models import check_models
from .findings import Findings, Full
from .mismatch import EXPLAIN
from .overlay import Outside, lay
from .reader import Node, read
from .shape import Context, salvage
from .templates import templates

KEPT: Final = "the last good state stays in force"
VERSION: Final = 1
INSTEAD_OF_NOTHING: Final = "`version: 1` and `models: {}` to declare that nothing is served"


@noun
class Parsed:
    """A desired state that may be used, and what a person might still want to mend."""

    desired: Desired
    warnings: tuple[Problem, ...]


def parse(
    bundle: Bundle, *, roots: Mapping[str, str], environ: Mapping[str, str], overrides: Mapping[str, str]
) -> Parsed:
    """Read, check, expand and override.

    Of `environ` only `${env.NAME}` in a path and `MODEL__<LABEL>__SOURCE` are looked at. Raises InvalidDocument with
    every problem, in the order of the text.
    """
    outside = Outside(roots, environ, overrides)
    findings = Findings()
    desired = collected(findings, lambda: _desired(bundle, outside, findings))
    if desired is None or findings.refused:
        raise InvalidDocument(bundle.name, findings.sorted(), kept=KEPT)
    return Parsed(desired=desired, warnings=findings.sorted())


def collected(findings: Findings, work: Callable[[], Any]) -> Any:
    """What `work` returns, or None where it found more problems than anybody reads."""
    try:
        with _no_collections():
            return work()
    except Full:
        return None


@contextmanager
def _no_collections() -> Iterator[None]:
    """Without the garbage collector, which would look at the whole growing tree again and again and find nothing."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def fitting_version(tree: Node, newest: int, findings: Findings) -> bool:
    """Whether this program knows the format. Where it does not, nothing else is said about the text."""
    version = tree.value.get("version") if isinstance(tree.value, dict) else None
    if version is None or type(version.value) is not int or version.value <= newest:
        return True
    said = f"version {version.value} needs a newer reconciler: this one reads up to version {newest}"
    findings.error("newer-version", said, ("version",), version)
    return False


def _desired(bundle: Bundle, outside: Outside, findings: Findings) -> Desired | None:
    tree = read(bundle.text, findings, INSTEAD_OF_NOTHING)
    if tree is None or not fitting_version(tree, VERSION, findings):
        return None
    # What one model gets wrong must not hide what others do: rules between fields look at all that could be built.
    fields = salvage(DesiredState, tree, Context(findings, EXPLAIN))
    laid = lay(fields.get("models", {}), tree, outside, findings)
    state = DesiredState(**{"version": VERSION, **fields, "models": laid.models})
    document = Document(state, tree, findings, laid.provenance)
    check(document)
    check_models(document, bundle)
    texts = templates(state.models, bundle, tree, findings)
    return Desired(state=state, revision=bundle.revision, templates=texts, provenance=laid.provenance)
