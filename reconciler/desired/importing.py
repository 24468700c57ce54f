"""From an mlxctl registry to the text of a desired state, or to every problem of the registry at once."""

import re
from collections.abc import Mapping
from typing import Any, Final

from reconciler.model.base import noun
from reconciler.model.bundle import Bundle
from reconciler.model.names import LABEL
from reconciler.model.problem import InvalidDocument, Problem

from .findings import Findings, Steps, shown
from .importing_entry import Entry, imported
from .importing_json import data_of, read_json
from .importing_registry import misfits, version_of
from .importing_text import written
from .parse import collected, parse
from .reader import Node

KEPT: Final = "nothing was written"
_STRANGE: Final = re.compile(r"[^a-z0-9._-]+")
_PARSERS: Final = ("tool_call_parser", "reasoning_parser")
_LANE_PARTS: Final = (
    "desired_target",
    "actual_serving_target",
    "last_known_good_target",
    "actual_served_model_identity",
    "last_failure",
)
"""What of a lane says anything: mlxctl writes an empty lane for each of its 40 ports."""
_NAMED: Final = 8
"""More names than this are not listed in one message."""


@noun
class Imported:
    """A desired state that `reconciler validate` accepts, and what a person should look at."""

    text: str
    warnings: tuple[Problem, ...]


def import_registry(data: bytes, name: str) -> Imported:
    """The registry, version 1 or 2, as a desired state; `name` is how messages call it.

    What has an equivalent is carried over as it stands, what has none is named in a warning and in a comment, and
    what mlxctl would have inferred is left to be inferred: written down, a guess would become a decision.
    Raises InvalidDocument with every problem.
    """
    findings = Findings()
    text = collected(findings, lambda: _text(data, findings))
    if text is None or findings.refused:
        raise InvalidDocument(name, findings.sorted(), kept=KEPT)
    _check(text, name)
    return Imported(text=text, warnings=findings.sorted())


def _text(data: bytes, findings: Findings) -> str | None:
    tree = read_json(data, findings)
    version = None if tree is None else version_of(tree, findings)
    if tree is None or version is None:
        return None
    document = data_of(tree)
    wrong = misfits(document, version, tree, findings)
    if type(document.get("models")) is not dict:
        return None
    _other_parts(document, version, tree, wrong, findings)
    entries = _entries(document["models"], tree, wrong, findings)
    models = tuple(model for entry in entries if (model := imported(entry, findings)) is not None)
    _twice(entries, tree, findings)
    named = [m.label for m in models if "backend" not in m.fields and any(field in m.fields for field in _PARSERS)]
    if named:
        said = f"mlxctl does not record which server program it starts, and {_listed(named)} name parsers of one"
        hint = "write the backend that they belong to, or remove them: mlx-lm takes none"
        findings.warning("backend-not-recorded", f"{said}: {hint}", ("models",), tree.find(("models",)).key)
    return None if findings.refused else written(version, models, backend_unknown=bool(named))


def _listed(names: list[str]) -> str:
    """Some of them, and that there are more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def label_of(text: str) -> str | None:
    """`text` as a label, changed no more than the grammar asks for; None where nothing is left of it."""
    if LABEL.regex.fullmatch(text):
        return text
    mapped = _STRANGE.sub("-", text.lower()).lstrip("._-").rstrip("-")
    return mapped if LABEL.regex.fullmatch(mapped) else None


def _entries(models: Mapping[str, Any], tree: Node, wrong: frozenset[Steps], findings: Findings) -> tuple[Entry, ...]:
    """The entries under the labels that they get; each label goes to one."""
    found: dict[str, Entry] = {}
    for key, fields in models.items():
        steps = ("models", key)
        if type(fields) is not dict:
            continue
        sound = {field: value for field, value in fields.items() if (*steps, field) not in wrong and value is not None}
        handle = sound.get("model_id") or key
        at = (*steps, "model_id") if handle != key else steps
        place = tree.find(at) if handle != key else tree.find(at).key
        label = label_of(handle)
        if label is None:
            said = f"{shown(handle)} cannot become a label, which is {LABEL.says}: give the entry another model_id"
            findings.error("bad-name", said, at, place)
            continue
        if (first := found.get(label)) is not None:
            other = tree.find(("models", first.key)).key
            said = f"{shown(key)} would get the label {label}, as {shown(first.key)} (line {other.line}) does"
            findings.error("label-taken", f"{said}: give one of them another model_id", at, place)
            continue
        if handle != key:
            said = f"the entry {shown(key)} calls itself {shown(handle)} in model_id, which becomes its label"
            findings.warning("label-differs-from-key", f"{said}: clients know this name", at, place)
        if label != handle:
            said = f"{shown(handle)} is no label, so it becomes {label}: tell its clients, or choose another"
            findings.warning("label-changed", said, at, place)
        found[label] = Entry(key=key, handle=handle, label=label, fields=sound, node=tree.find(steps))
    return tuple(found.values())


def _twice(entries: tuple[Entry, ...], tree: Node, findings: Findings) -> None:
    """One port, one model; one name, one model."""
    ports: dict[int, Entry] = {}
    for entry in entries:
        port = entry.port
        if port is None:
            continue
        first = ports.setdefault(port, entry)
        if first is not entry:
            steps = ("models", entry.key, "port")
            there = tree.find(("models", first.key, "port")).line
            said = f"port {port} of {shown(entry.key)} is also the port of {shown(first.key)} (line {there})"
            findings.error("duplicate-port", f"{said}: one port, one model", steps, tree.find(steps))
    names = {entry.label: entry for entry in entries}
    for entry in entries:
        for index, alias in entry.aliases():
            first = names.setdefault(alias, entry)
            if first is not entry:
                steps_of = ("models", entry.key, "aliases", index)
                said = f"the alias {alias} of {shown(entry.key)} is a name of {shown(first.key)} as well"
                findings.error("duplicate-alias", f"{said}: keep one", steps_of, tree.find(steps_of))


def _other_parts(
    document: Mapping[str, Any], version: int, tree: Node, wrong: frozenset[Steps], findings: Findings
) -> None:
    """What stands beside the models."""
    lanes = document.get("lanes")
    known = {"version", "models"}
    if version > 1 and type(lanes) is dict:
        known.add("lanes")
        _lanes({port: lane for port, lane in lanes.items() if type(lane) is dict}, document["models"], tree, findings)
    for part, value in document.items():
        if part not in known and value not in (None, {}, []) and (part,) not in wrong:
            said = f"{shown(part)} has no equivalent and was left out"
            findings.warning("no-equivalent", said, (part,), tree.find((part,)).key)


def _lanes(lanes: Mapping[str, Any], models: Mapping[str, Any], tree: Node, findings: Findings) -> None:
    """What mlxctl remembers of its ports: of two wishes for one port that of the entries counts, as it does for mlxctl.

    The rest is what it believed to be true, and version 2 was made from version 1 without looking. Here the machine
    is looked at instead.
    """
    for port, lane in lanes.items():
        target = lane.get("desired_target")
        slug = target.get("target_slug") if type(target) is dict else None
        if type(slug) is not str:
            continue
        entry = models.get(slug)
        has = entry.get("port") if type(entry) is dict else None
        if not isinstance(has, int | float) or str(int(has)) != port:
            steps = ("lanes", port, "desired_target")
            said = f"lane {shown(port)} wants {shown(slug)}, whose entry says something else: the entry was imported"
            findings.warning("lane-disagrees", said, steps, tree.find(steps).key)
    remembered = sorted({part for lane in lanes.values() for part in _LANE_PARTS if lane.get(part)})
    if remembered:
        said = f"what mlxctl believed of its ports was left out ({', '.join(remembered)}): the machine is looked at"
        findings.warning("lanes-left-out", said, ("lanes",), tree.find(("lanes",)).key)


def _check(text: str, name: str) -> None:
    """Nothing is handed out that the reader of desired states would refuse; this is the last word on every rule."""
    bundle = Bundle(name=name, revision="import", text=text.encode(), files={})
    try:
        parse(bundle, roots={}, environ={}, overrides={})
    except InvalidDocument as refused:
        problems = tuple(
            Problem(reference=p.reference, message=f"as a desired state: {p.message}", where=p.where)
            for p in refused.problems
            if p.severity == "error"
        )
        raise InvalidDocument(name, problems, kept=KEPT) from refused
