"""Documents as people write them, drawn from the annotations of the nouns, and an independent judge of their form."""

import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le, MaxLen, MinLen
from hypothesis import strategies as st

from reconciler.model.base import Pattern, plain
from reconciler.model.desired import DesiredState, Source
from reconciler.model.host import HostFile, Notification

Path = tuple[str | int, ...]
LETTERS: Final = st.characters(
    categories=["L", "N"],
    include_characters=" -_./:#'\"{}[],&*!%@`",
    # Letters that look like nothing are refused in every place, which no schema can say.
    exclude_characters="\u115f\u1160",
    max_codepoint=0x2FFF,
)
ASCII: Final = st.characters(min_codepoint=32, max_codepoint=126)
EXACTLY_ONE: Final[Mapping[Any, tuple[str, str]]] = {Source: ("repo", "path"), Notification: ("command", "webhook")}
NUMBERS: Final = st.integers(-(10**6), 10**6).map(lambda thousandths: thousandths / 1000)


@cache
def hints_of(noun: Any) -> Mapping[str, Any]:
    """Field -> annotation."""
    return get_type_hints(noun, include_extras=True)


@cache
def required(noun: Any) -> frozenset[str]:
    """Fields that must be given."""
    return frozenset(f.name for f in fields(noun) if f.default is MISSING and f.default_factory is MISSING)


def is_noun(hint: Any) -> bool:
    """Whether an annotation has fields."""
    return is_dataclass(hint)


def is_union(hint: Any) -> bool:
    """Whether an annotation leaves a choice."""
    return get_origin(hint) in (Union, types.UnionType)


def is_mapping(hint: Any) -> bool:
    """Whether an annotation has names of the user's own."""
    return isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping)


# ------------------------------------------------------------------------------------------------------- valid values


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Plain data of which an annotation says that it is right."""
    if is_noun(hint):
        entries = {name: values(inner) for name, inner in hints_of(hint).items()}
        needed = {name: entry for name, entry in entries.items() if name in required(hint)}
        return st.fixed_dictionaries(needed, optional={n: e for n, e in entries.items() if n not in needed})
    if is_union(hint):
        return st.one_of([values(member) for member in get_args(hint)])
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if is_mapping(hint):
        key, item = get_args(hint)
        return st.dictionaries(values(key), values(item), max_size=3)
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0]), max_size=3)
    if get_origin(hint) is Annotated:
        return _constrained(*get_args(hint))
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(LETTERS, max_size=20),
        int: st.integers(-(10**17), 10**17),
        float: NUMBERS,
        bool: st.booleans(),
        type(None): st.none(),
    }
    return simple[hint]


def _constrained(base: Any, *constraints: Any) -> st.SearchStrategy[Any]:
    for constraint in constraints:
        if isinstance(constraint, Pattern):
            return st.from_regex(constraint.regex, fullmatch=True, alphabet=ASCII)
    low: Any = next((c.ge for c in constraints if isinstance(c, Ge)), None)
    high: Any = next((c.le for c in constraints if isinstance(c, Le)), None)
    if base is int:
        return st.integers(low, high)
    least = next((c.min_length for c in constraints if isinstance(c, MinLen)), 0)
    most = next((c.max_length for c in constraints if isinstance(c, MaxLen)), 5)
    if base is str:
        return st.text(LETTERS, min_size=least, max_size=min(most, 30))
    return st.lists(values(get_args(base)[0]), min_size=least, max_size=least + 2)


# ---------------------------------------------------------------------------------------------------------- the judge


def fits(hint: Any, value: Any) -> bool:
    """Whether a value has the form that an annotation asks for, types taken exactly."""
    if is_noun(hint):
        if type(value) is not dict or not required(hint) <= value.keys() <= hints_of(hint).keys():
            return False
        one, other = EXACTLY_ONE.get(hint, ("", ""))
        alone = not one or (value.get(one) is None) is not (value.get(other) is None)
        return alone and all(fits(hints_of(hint)[name], inner) for name, inner in value.items())
    if is_union(hint):
        return any(fits(member, value) for member in get_args(hint))
    if get_origin(hint) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if is_mapping(hint):
        key, item = get_args(hint)
        return type(value) is dict and all(fits(key, name) and fits(item, inner) for name, inner in value.items())
    if get_origin(hint) is tuple:
        return type(value) is list and all(fits(get_args(hint)[0], inner) for inner in value)
    if get_origin(hint) is Annotated:
        base, *constraints = get_args(hint)
        return fits(base, value) and all(_holds(constraint, value) for constraint in constraints)
    return type(value) is hint


def _holds(constraint: Any, value: Any) -> bool:
    match constraint:
        case Pattern():
            return constraint.regex.fullmatch(value) is not None
        case Ge(ge=low):
            return bool(value >= low)
        case Le(le=high):
            return bool(value <= high)
        case MinLen(min_length=least):
            return len(value) >= least
        case MaxLen(max_length=most):
            return len(value) <= most
        case _:
            raise AssertionError(f"a constraint that nobody checks: {constraint!r}")


# ------------------------------------------------------------------------------------------------------------- places


def places(hint: Any, value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value of a document with its annotation, the document itself included."""
    yield path, hint
    if is_union(hint):
        hint = next(member for member in get_args(hint) if fits(member, value))
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if is_noun(hint) and type(value) is dict:
        for name, inner in value.items():
            yield from places(hints_of(hint)[name], inner, (*path, name))
    elif is_mapping(hint):
        for name, inner in value.items():
            yield from places(get_args(hint)[1], inner, (*path, name))
    elif get_origin(hint) is tuple:
        for index, inner in enumerate(value):
            yield from places(get_args(hint)[0], inner, (*path, index))


def put(document: Any, path: Path, value: Any) -> Any:
    """The document with another value at one place."""
    if not path:
        return value
    if isinstance(document, list):
        return [put(item, path[1:], value) if index == path[0] else item for index, item in enumerate(document)]
    return {name: put(item, path[1:], value) if name == path[0] else item for name, item in document.items()}


def at(document: Any, path: Path) -> Any:
    """The value at one place."""
    return at(document[path[0]], path[1:]) if path else document


# ------------------------------------------------------------------------------------------------------------ desired


def mended(document: dict[str, Any]) -> dict[str, Any]:
    """A desired state of the right form, changed so that it keeps the rules between fields as well."""
    made = {**document, "ports": {"team": "8100-8199", "experimental": "8200-8299"}, "hosts": {}, "groups": {}}
    made["gateways"] = {"front": {"port": 1234}, "litellm": {"mode": "front"}} if document.get("gateways") else {}
    made["policy"] = {**document.get("policy", {}), "deny_sources": ["*denied*"]}
    made["models"] = {label: _mended_model(n, m) for n, (label, m) in enumerate(document.get("models", {}).items())}
    made["models"] = dict(sorted(made["models"].items()))
    made["groups"] = {m["group"]: {"resident": 3} for m in made["models"].values() if m.get("group")}
    return made


def _mended_model(number: int, model: dict[str, Any]) -> dict[str, Any]:
    made = {name: value for name, value in model.items() if name not in ("chat_template", "moved_from", "idle_ttl")}
    made["source"] = {"repo": f"org/Name-{number}"} if number % 2 else {"path": f"/opt/models/{number}"}
    if made.get("draft") is not None:
        made["draft"] = {"repo": "org/Draft", "revision": "v1"}
    if isinstance(made.get("port"), int):
        made["port"] = 8100 + number
    made["aliases"] = [f"alias-{number}-{index}" for index, _ in enumerate(made.get("aliases", ()))]
    made["requires"] = sorted(set(made.get("requires", ())))
    if isinstance(made.get("convert"), dict):
        # Of the other modes each has one number of bits and one size of a group.
        made["convert"] = {name: value for name, value in made["convert"].items() if name in ("bits", "dtype")}
    for field in ("options", "request_params"):
        if field in made:
            made[field] = {f"name_{n}": _tame(value) for n, value in enumerate(made[field].values())}
    return made


def _tame(value: Any) -> Any:
    return f"x{value}" if isinstance(value, str) else value


def spelled_out(hint: Any, value: Any) -> Any:
    """The same value with every default written down."""
    if is_union(hint):
        hint = next(member for member in get_args(hint) if fits(member, value))
    if is_mapping(hint):
        return {name: spelled_out(get_args(hint)[1], inner) for name, inner in value.items()}
    if not is_noun(hint):
        return value
    made = {name: spelled_out(hints_of(hint)[name], inner) for name, inner in value.items()}
    for field in fields(hint):
        if field.name not in made:
            factory: Any = field.default_factory
            made[field.name] = plain(field.default if factory is MISSING else factory())
    return made


def desired_documents() -> st.SearchStrategy[dict[str, Any]]:
    """Desired states that keep every rule."""
    return values(DesiredState).map(mended)


def host_files() -> st.SearchStrategy[dict[str, Any]]:
    """Host files that keep every rule."""
    return values(HostFile).map(_mended_host)


def _mended_host(document: dict[str, Any]) -> dict[str, Any]:
    made = {**document, "roots": {f"ROOT_{n}": "/opt/a b" for n, _ in enumerate(document.get("roots", ()))}}
    if "bind" in made:
        made["bind"] = "::1"
    if "start_timeout" in made:
        made["start_timeout"] = "90s"
    if made.get("memory", {}).get("budget") is not None:
        made["memory"] = {**made["memory"], "budget": "9.5GiB"}
    if made.get("gateways", {}).get("litellm") is not None:
        made["gateways"] = {"litellm": {"include": "/opt/include.yaml"}}
    if made.get("converter", {}).get("command") is not None:
        made["converter"] = {**made["converter"], "command": ["/opt/convert", "{src}", "{dest}"]}
    made["volumes"] = {name: {**v, "path": "/opt/cold"} for name, v in made.get("volumes", {}).items()}
    if made.get("offload_to") is not None:
        made["offload_to"] = min(made["volumes"], default=None)
    made["model_folders"] = [f"/opt/models-{n}" for n, _ in enumerate(made.get("model_folders", ()))]
    runtimes = made.get("runtimes", {})
    made["runtimes"] = {name: {"command": ["/opt/server", *entry["command"]]} for name, entry in runtimes.items()}
    made["notify"] = [_mended_wish(wish) for wish in made.get("notify", ())]
    return made


def _mended_wish(wish: dict[str, Any]) -> dict[str, Any]:
    made = {**wish, "timeout": "5s"}
    if made.get("command") is not None:
        return {**made, "command": ["/opt/tell", *made["command"]], "webhook": None}
    return {**made, "command": None, "webhook": "https://chat.example:8443/hooks/abc?x=y"}


# --------------------------------------------------------------------------------------------------------------- text

SAFE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")


def as_flow(document: Any) -> bytes:
    """As JSON, which is YAML."""
    return json.dumps(document, ensure_ascii=False).encode()


def as_block(value: Any, data: st.DataObject, depth: int = 0) -> str:
    """As block YAML: keys in any order, comments, quotes and blank lines where they change nothing."""
    indent = "  " * depth
    if isinstance(value, dict) and value:
        lines = []
        for name in data.draw(st.permutations(sorted(value))):
            comment = data.draw(st.sampled_from(["", "", "# a comment: [not data\n", "\n", f"{indent}# more\n"]))
            key = name if set(name) <= SAFE and data.draw(st.booleans()) and len(name) > 3 else json.dumps(name)
            inner = value[name]
            own_lines = isinstance(inner, dict | list) and inner
            lines.append(f"{comment}{indent}{key}:{chr(10) if own_lines else ' '}{as_block(inner, data, depth + 1)}")
        return "".join(lines)
    if isinstance(value, list) and value:
        return "".join(f"{indent}- {json.dumps(item, ensure_ascii=False)}\n" for item in value)
    return json.dumps(value, ensure_ascii=False) + data.draw(st.sampled_from(["\n", "  # said\n", "\n\n"]))
