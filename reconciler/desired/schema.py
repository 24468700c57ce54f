"""JSON Schemas, generated from the same annotations that the strict reader follows."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from reconciler.model.desired import DesiredState
from reconciler.model.document import PlanDocument
from reconciler.model.host import HostFile

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema(noun: type[Any], title: str, description: str) -> dict[str, Any]:
    """The schema of a document noun, with the documentation and the class of every field."""
    from pydantic import TypeAdapter

    schema: dict[str, Any] = TypeAdapter(noun).json_schema(mode="validation")
    definitions: dict[str, Any] = schema.get("$defs", {})
    by_name = {cls.__name__: cls for cls in _nouns(noun)}
    _document(schema, noun)
    for name, definition in definitions.items():
        if name in by_name:
            _document(definition, by_name[name])
    _tighten(schema)
    return {"$schema": DIALECT, **schema, "title": title, "description": description}


def _nouns(noun: type[Any]) -> set[type[Any]]:
    """`noun` and every noun that its fields mention."""
    from typing import get_args, get_type_hints

    found: set[type[Any]] = set()
    pending: list[Any] = [noun]
    while pending:
        hint = pending.pop()
        if isinstance(hint, type) and is_dataclass(hint):
            if hint not in found:
                found.add(hint)
                pending += get_type_hints(hint, include_extras=True).values()
        else:
            pending += get_args(hint)
    return found


def _document(schema: dict[str, Any], noun: type[Any]) -> None:
    if noun.__doc__ and not noun.__doc__.startswith(f"{noun.__name__}("):
        schema["description"] = " ".join(noun.__doc__.split())
    for field in fields(noun):
        entry = schema.get("properties", {}).get(field.name)
        if entry is not None and "doc" in field.metadata:
            entry["description"] = field.metadata["doc"]
            entry["x-change-class"] = str(field.metadata["class"])


def _tighten(schema: Any) -> None:
    """Close what pydantic leaves open: names outside a mapping's pattern, and titles that say nothing."""
    if isinstance(schema, list):
        for item in schema:
            _tighten(item)
    elif isinstance(schema, dict):
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for item in schema.values():
            _tighten(item)


def render(schema: Mapping[str, Any]) -> str:
    """The bytes of a schema file; equal schemas give equal bytes."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


SCHEMAS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "desired-state.v1.json": lambda: json_schema(
        DesiredState, "reconciler desired state, version 1", "What a person declares in the git-tracked file."
    ),
    "host.v1.json": lambda: json_schema(
        HostFile, "reconciler host file, version 1", "What is allowed on this machine; owner-only, not in git."
    ),
    "plan.v1.json": lambda: json_schema(
        PlanDocument, "reconciler plan, version 1", "What `plan -o json` prints and `plan -o FILE` keeps."
    ),
}
"""File name -> how its schema is made."""
