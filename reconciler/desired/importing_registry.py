"""The form of mlxctl's registry.json, versions 1 and 2: schemas for editors, and what they say against a document.

mlxctl is the tool that this project replaces. Its registry is described by its own document (version 1) and by what
its last release writes (version 2: the same entries, and the state of every port under `lanes`).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from reconciler.model.desired import Tokens
from reconciler.model.names import Port

from .findings import Findings, Steps, route, shown
from .reader import REFUSED, Node

NEWEST: Final = 2
MAX_TEXT: Final = 4096
_ENTRY_DEPTH: Final = 3
"""Steps to a field of an entry: `models`, the key, the field."""
_PORT_LOW: Final[int] = Port.__metadata__[0].ge  # type: ignore[attr-defined]
_PORT_HIGH: Final[int] = Port.__metadata__[1].le  # type: ignore[attr-defined]
_MOST_TOKENS: Final[int] = Tokens.__metadata__[1].le  # type: ignore[attr-defined]
_TYPES: Final = {
    "string": "text",
    "integer": "a whole number",
    "object": "a mapping",
    "array": "a list",
    "boolean": "true or false",
    "null": "null",
}


def _text(doc: str) -> dict[str, Any]:
    return {"type": ["string", "null"], "maxLength": MAX_TEXT, "description": doc}


def _number(low: int, high: int, doc: str) -> dict[str, Any]:
    return {"type": ["integer", "null"], "minimum": low, "maximum": high, "description": doc}


_ENTRY: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "One model. Fields that are not listed here are allowed, and named when they are left out.",
    "properties": {
        "repo_id": _text("Repository 'owner/name': becomes source.repo."),
        "model_id": _text("The handle that clients use: becomes the label, even where the key of the entry differs."),
        "cache_path": _text("The folder that is served: a snapshot in the model cache, or a converted copy."),
        "source_path": _text("Where the weights came from; the first cache_path."),
        "og_path": _text("Folder of the base weights of a converted model."),
        "format": _text("'mlx' or 'gguf', guessed from the name of the repository."),
        "port": _number(_PORT_LOW, _PORT_HIGH, "The port; null: nothing is served."),
        "backend": _text("The server program. mlxctl never wrote it; people do."),
        "chat_template": _text("Path of a chat template on the machine of the registry."),
        "tool_call_parser": _text("The server's parser of tool calls."),
        "reasoning_parser": _text("The server's parser of reasoning."),
        "context_length": _number(1, _MOST_TOKENS, "Tokens of context."),
        "max_output_tokens": _number(1, _MOST_TOKENS, "Tokens that one answer may have."),
        "request_params": {"type": ["object", "null"], "description": "Defaults that the gateway adds to a request."},
        "aliases": {
            "type": ["array", "null"],
            "items": {"type": "string", "maxLength": MAX_TEXT},
            "description": "Other names of the model. mlxctl never wrote it; people do.",
        },
    },
}
_TARGET: Final[Mapping[str, Any]] = {
    "type": ["object", "null"],
    "description": "A model as mlxctl names it for a port.",
    "properties": {"target_slug": _text("Key of the model in `models`.")},
}
_LANE: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "What mlxctl remembers of one port.",
    "properties": {
        "desired_target": {"$ref": "#/$defs/Target", "description": "The model that was wanted."},
        "actual_serving_target": {"$ref": "#/$defs/Target", "description": "The model that was believed to serve."},
        "last_known_good_target": {"$ref": "#/$defs/Target", "description": "The model that once served."},
        "health_state": _text("What was seen last."),
    },
}


def registry_schema(version: int) -> dict[str, Any]:
    """The JSON Schema of one version."""
    properties: dict[str, Any] = {
        "version": {"const": version, "type": "integer", "description": "Version of the registry's format."},
        "models": {
            "type": "object",
            "additionalProperties": {"$ref": "#/$defs/Entry"},
            "description": "Key -> model.",
        },
    }
    definitions: dict[str, Any] = {"Entry": _ENTRY}
    if version >= NEWEST:
        properties["lanes"] = {
            "type": ["object", "null"],
            "additionalProperties": {"$ref": "#/$defs/Lane"},
            "description": "Port -> what mlxctl remembers of it.",
        }
        definitions |= {"Lane": _LANE, "Target": _TARGET}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"registry.v{version}.json",
        "title": f"mlxctl registry, version {version}",
        "description": "A registry.json of mlxctl, as `reconciler import` reads it.",
        "type": "object",
        "required": ["version", "models"],
        "properties": properties,
        "$defs": definitions,
    }


def known_fields() -> frozenset[str]:
    """The fields of an entry that the import knows."""
    return frozenset(_ENTRY["properties"])


def version_of(tree: Node, findings: Findings) -> int | None:
    """1 or 2; None, with a finding, of anything else. Then nothing else is said about the text."""
    if type(tree.value) is not dict:
        findings.error("wrong-type", "a registry is a mapping with `version` and `models`", (), tree)
        return None
    node = tree.value.get("version")
    if node is None:
        said = f"the document needs the field 'version': write 1, or {NEWEST} where it has `lanes`"
        findings.error("missing-field", said, ("version",), tree)
        return None
    version = node.value
    if version is REFUSED:
        return None
    if type(version) is int and 1 <= version <= NEWEST:
        return version
    if type(version) is int and version > NEWEST:
        said = f"version {version} needs a newer reconciler: this one reads registries up to version {NEWEST}"
        findings.error("newer-version", said, ("version",), node)
    else:
        findings.error("wrong-type", f"version must be a whole number from 1 to {NEWEST}", ("version",), node)
    return None


def misfits(document: Any, version: int, tree: Node, findings: Findings) -> frozenset[Steps]:
    """Report what does not fit the schema; the fields, entries or parts that nothing more can be said about."""
    from jsonschema import Draft202012Validator  # a tenth of a second that only an import needs

    wrong: set[Steps] = set()
    for error in Draft202012Validator(registry_schema(version)).iter_errors(document):
        steps: Steps = tuple(error.absolute_path)
        wrong.add(steps[:_ENTRY_DEPTH])
        for below, reference, said in _said(error):
            place = (*steps, below) if below else steps
            findings.error(reference, f"{route(steps) or 'the document'} {said}", place, tree.find(place))
    return frozenset(wrong)


def _said(error: Any) -> Iterator[tuple[str, str, str]]:
    """Field below the place, stable reference, and the sentence after the field's name.

    The library's own sentences quote the document, which may hold secrets and characters that a terminal obeys.
    """
    wanted, value = error.validator_value, error.instance
    match error.validator:
        case "type":
            names = [_TYPES[name] for name in ([wanted] if isinstance(wanted, str) else wanted)]
            yield "", "wrong-type", f"must be {' or '.join(names)}; it is {_is(value)}"
        case "required":
            for name in wanted:
                # The library tells each missing field on its own.
                if name not in value and error.message.startswith(repr(name)):
                    yield name, "missing-field", f"needs the field {shown(name)}"
        case "minimum" | "maximum":
            bound = "at least" if error.validator == "minimum" else "at most"
            yield "", "out-of-range", f"must be {bound} {wanted}; it is {_is(value)}"
        case "maxLength":
            yield "", "too-long", f"must be at most {wanted} characters long; it has {len(value)}"
        case other:
            yield "", "bad-value", f"does not fit the schema of a registry ({other})"


def _is(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {shown(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"the number {shown(str(value))[1:-1]}"
