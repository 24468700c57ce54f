"""JSON Schemas, generated from the same annotations that the strict reader follows."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, Final

from reconciler.model.desired import DesiredState, Source
from reconciler.model.document import PlanDocument
from reconciler.model.host import HostFile, Notification
from reconciler.model.status_document import StatusDocument

from .importing_registry import NEWEST, registry_schema

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema(noun: type[Any], schema_id: str, title: str) -> dict[str, Any]:
    """The schema of a document noun, with the documentation and the class of every field.

    `schema_id` is the name of the file: a relative reference, resolved against wherever the file is found.
    """
    from pydantic import TypeAdapter  # a tenth of a second that only this needs

    schema: dict[str, Any] = TypeAdapter(noun).json_schema(mode="validation")
    definitions: dict[str, Any] = schema.pop("$defs", {})
    _close(schema)
    _close(definitions)
    _document(schema, noun)
    for cls in _nouns(noun) - {noun}:
        if cls.__name__ in definitions:
            _document(definitions[cls.__name__], cls)
    head = {"$schema": DIALECT, "$id": schema_id, "title": title}
    tail = {"$defs": {name: definitions[name] for name in sorted(definitions)}} if definitions else {}
    return {**head, **schema, **tail}


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
    """Add what pydantic does not know: what the fields mean, what a change of them costs, rules between them."""
    schema["description"] = " ".join((noun.__doc__ or "").split())
    for field in fields(noun):
        entry = schema["properties"][field.name]
        if "doc" in field.metadata:
            entry["description"] = field.metadata["doc"]
            entry["x-change-class"] = str(field.metadata["class"])
    schema.update(_BETWEEN_FIELDS.get(noun, {}))


def _close(schema: Any) -> None:
    """Refuse what pydantic leaves open, names outside a mapping's pattern, and drop titles that say nothing."""
    if isinstance(schema, list):
        for item in schema:
            _close(item)
    elif isinstance(schema, dict):
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for item in schema.values():
            _close(item)


def _exactly_one(**kinds: str) -> dict[str, Any]:
    """One of these fields, each of its type of JSON, and none of the others."""
    others = {name: {other: {"type": "null"} for other in kinds if other != name} for name in kinds}
    return {
        "oneOf": [
            {"required": [name], "properties": {name: {"type": kind}, **others[name]}} for name, kind in kinds.items()
        ]
    }


_BETWEEN_FIELDS: Final[Mapping[type[Any], dict[str, Any]]] = {
    Source: _exactly_one(repo="string", path="string"),
    Notification: _exactly_one(command="array", webhook="string"),
}
"""Rules that a schema can say although they concern several fields."""


def render(schema: Mapping[str, Any]) -> str:
    """The bytes of a schema file; equal schemas give equal bytes."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _made(noun: type[Any], schema_id: str, title: str) -> Callable[[], dict[str, Any]]:
    return lambda: json_schema(noun, schema_id, title)


_NOUNS: Final = (
    (DesiredState, "desired-state.v1.json", "reconciler desired state, version 1"),
    (HostFile, "host.v1.json", "reconciler host file, version 1"),
    (PlanDocument, "plan.v1.json", "reconciler plan, version 1"),
    (StatusDocument, "status.v1.json", "reconciler status, version 1"),
)
SCHEMAS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    **{schema_id: _made(noun, schema_id, title) for noun, schema_id, title in _NOUNS},
    **{f"registry.v{version}.json": partial(registry_schema, version) for version in range(1, NEWEST + 1)},
}
"""File name -> how its schema is made: of our own documents, and of the foreign ones that are checked by theirs."""
