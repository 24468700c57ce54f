"""What was as declared and is no longer, although nobody here has changed it: files of gateways, servers, weights.

Only said of a world that was at rest under the same declaration, and never of what has a reason of its own: a server
that failed, one that was suspended, anything that a person was told about already.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from reconciler.model.change import Change, Verdict
from reconciler.model.desired import launch_reference
from reconciler.model.names import Subject, artifact_subject, gateway_subject
from reconciler.model.observed import Absent, Artifact, Observation, Present, Unknown
from reconciler.model.routes import Route
from reconciler.model.target import Target
from reconciler.model.view import View

Drift = tuple[Subject, str, str]
"""Subject, sentence, reference."""
WEIGHTS: Final = "weights-changed"
_GONE: Final = (Verdict.MISSING, Verdict.OCCUPIED)


def drifted(view: View, excused: Collection[Subject] = ()) -> Iterator[Drift]:
    """Everything that differs from what is declared; `excused` are subjects for which there is another reason."""
    changes = {change.label: change for change in view.changes}
    weights = dict(_weights(view, excused))
    for reference, said in weights.items():
        yield artifact_subject(reference), said, WEIGHTS
    for change in view.changes:
        if change.subject in excused or change.target is None:
            continue
        if change.verdict is Verdict.OUTDATED:
            yield change.subject, f"it runs, and not as declared any more: {change.reason}", change.reference
        elif change.verdict in _GONE and change.live is None and change.target.always:
            yield change.subject, "it was running, and its run record is gone", "record-gone"
    calm = {label: c for label, c in changes.items() if _is_calm(c, weights) and c.subject not in excused}
    for kind, routes in view.wanted.items():
        subject = gateway_subject(kind)
        said = "" if subject in excused else _file(view, kind, routes, changes, calm)
        if said:
            yield subject, said, "file-changed"


def _is_calm(change: Change, weights: Mapping[str, str]) -> bool:
    """Whether nothing about the label itself could have changed its route."""
    target = change.target
    return change.verdict is Verdict.MATCHES and target is not None and target.reference not in weights


def _weights(view: View, excused: Collection[Subject]) -> Iterator[tuple[str, str]]:
    """Launch reference -> what is wrong with weights that labels need."""
    for target in view.targets.values():
        for reference in _references(target):
            found = view.facts.observed.artifact(reference)
            said = _damage(target.artifact if reference == target.reference else found)
            if said and artifact_subject(reference) not in excused:
                # What a server would load is not there; what there is of its source says more.
                yield reference, _damage(found) or said


def _references(target: Target) -> tuple[str, ...]:
    draft = target.spec.draft
    return (target.reference,) if draft is None else (target.reference, str(launch_reference(draft)))


def _damage(found: Observation[Artifact]) -> str:
    match found:
        case Absent():
            return "its files are gone"
        case Present(value=artifact) if not artifact.sound:
            return f"its files have changed: {artifact.verdict}"
        case Present() | Unknown():
            return ""


def _file(
    view: View,
    kind: str,
    wanted: tuple[Route, ...],
    changes: Mapping[str, Change],
    calm: Mapping[str, Change],
) -> str:
    """Which routes of a gateway's file are not what was written; empty: none, or it cannot be said."""
    state = view.facts.observed.gateways.get(kind)
    if isinstance(state, Absent) and wanted:
        return "its file is gone"
    if not isinstance(state, Present):
        return ""
    there, should = {r.label: r for r in state.value.routes}, {r.label: r for r in wanted}
    parts = (
        ("is gone", sorted(label for label in should.keys() - there.keys() if label in calm)),
        ("was added", sorted(label for label in there.keys() - should.keys() if label not in changes)),
        ("was changed", sorted(n for n in should.keys() & there.keys() if n in calm and should[n] != there[n])),
    )
    said = "; ".join(f"the route of {', '.join(labels)} {what}" for what, labels in parts if labels)
    return f"its file is not as it was written: {said}" if said else ""
