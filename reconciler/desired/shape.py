"""One structural check for every document: the annotations of a noun against the tree that was read."""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le, MaxLen, MinLen

from reconciler.model.base import Pattern
from reconciler.model.problem import Problem

from .reader import REFUSED, Node, Refused, escaped

T = TypeVar("T")
Check = Callable[[Node, str, list[Problem]], Any]
"""Builds a value from a node, or reports why not and returns REFUSED."""


def build(noun: type[T], root: Node, problems: list[Problem]) -> T | Refused:
    """The document as `noun`; every problem is reported, REFUSED is returned when there is one."""
    return cast("T | Refused", _noun(cast("Any", noun))(root, "", problems))


def report(problems: list[Problem], node: Node, where: str, reference: str, message: str) -> Refused:
    """Report one problem at the place of `node`."""
    problems.append(Problem(reference=reference, message=message, where=where, line=node.line, column=node.column))
    return REFUSED


def below(where: str, name: str) -> str:
    """The path of a field."""
    return f"{where}.{name}" if where else name


@cache
def _noun(noun: Any) -> Check:
    hints = get_type_hints(noun, include_extras=True)
    checks = {f.name: _type(hints[f.name]) for f in fields(noun)}
    required = [f.name for f in fields(noun) if f.default is MISSING and f.default_factory is MISSING]

    def check(node: Node, where: str, problems: list[Problem]) -> Any:
        if not isinstance(node.value, dict):
            return _wrong(node, where, problems, "a mapping")
        values: dict[str, Any] = {}
        bad = False
        for name, child in node.value.items():
            inner = checks.get(name)
            if inner is None:
                bad = True
                _unknown_key(node, where, name, list(checks), problems)
                continue
            value = inner(child, below(where, name), problems)
            bad = bad or value is REFUSED
            values[name] = value
        for name in required:
            if name not in node.value:
                bad = True
                report(problems, node, where, "missing-field", f"{where or 'the document'} needs the field {name!r}")
        return REFUSED if bad else noun(**values)

    return check


def _unknown_key(node: Node, where: str, name: str, known: list[str], problems: list[Problem]) -> None:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    line, column = (node.keys or {}).get(name, (node.line, node.column))
    message = f"there is no field {escaped(name)} in {where or 'the document'}; {meant}"
    problems.append(
        Problem(reference="unknown-field", message=message, where=below(where, name), line=line, column=column)
    )


def _wrong(node: Node, where: str, problems: list[Problem], wanted: str) -> Refused:
    if isinstance(node.value, Refused):
        return node.value
    return report(problems, node, where, "wrong-type", f"{where or 'the document'} must be {wanted}, not {_is(node)}")


def _is(node: Node) -> str:
    value = node.value
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "empty"
    return f"the {_KINDS[type(value)]} {escaped(str(value)) if isinstance(value, str) else value}"


_KINDS = {str: "text", int: "number", float: "number", bool: "boolean"}


@cache
def _type(hint: Any) -> Check:
    origin = get_origin(hint)
    if origin is Annotated:
        base, *constraints = get_args(hint)
        return _constrained(_type(base), tuple(constraints))
    if origin is Literal:
        return _literal(get_args(hint))
    if origin in (Union, types.UnionType):
        return _union(get_args(hint))
    if origin is tuple:
        return _list(_type(get_args(hint)[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(get_args(hint)[0], _type(get_args(hint)[1]))
    if is_dataclass(hint):
        return _noun(cast("Any", hint))
    return _plain(hint)


def _plain(kind: type) -> Check:
    wanted = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "empty"}[kind]

    def check(node: Node, where: str, problems: list[Problem]) -> Any:
        # `True` is an int to Python and `1` is no text to a person: types are taken exactly.
        return node.value if type(node.value) is kind else _wrong(node, where, problems, wanted)

    return check


def _literal(allowed: tuple[Any, ...]) -> Check:
    said = " or ".join(repr(value) for value in allowed)

    def check(node: Node, where: str, problems: list[Problem]) -> Any:
        for value in allowed:
            if type(value) is type(node.value) and value == node.value:
                return value
        return _wrong(node, where, problems, said)

    return check


def _list(item: Check) -> Check:
    def check(node: Node, where: str, problems: list[Problem]) -> Any:
        if not isinstance(node.value, list):
            return _wrong(node, where, problems, "a list")
        values = [item(child, f"{where}.{index}", problems) for index, child in enumerate(node.value)]
        return REFUSED if any(value is REFUSED for value in values) else tuple(values)

    return check


def _mapping(key: Any, item: Check) -> Check:
    patterns = [c for c in get_args(key)[1:] if isinstance(c, Pattern)] if get_origin(key) is Annotated else []
    longest = next((c.max_length for c in get_args(key)[1:] if isinstance(c, MaxLen)), None)

    def check(node: Node, where: str, problems: list[Problem]) -> Any:
        if not isinstance(node.value, dict):
            return _wrong(node, where, problems, "a mapping")
        values: dict[str, Any] = {}
        bad = False
        for name, child in node.value.items():
            misfit = next((p.says for p in patterns if not p.regex.fullmatch(name)), None)
            if misfit is None and longest is not None and len(name) > longest:
                misfit = f"at most {longest} characters long"
            if misfit is not None:
                bad = True
                line, column = (node.keys or {}).get(name, (node.line, node.column))
                message = f"the name {escaped(name)} in {where or 'the document'} must be {misfit}"
                at = below(where, escaped(name))
                problems.append(Problem(reference="bad-name", message=message, where=at, line=line, column=column))
                continue
            value = item(child, below(where, name), problems)
            bad = bad or value is REFUSED
            values[name] = value
        return REFUSED if bad else values

    return check


def _union(members: tuple[Any, ...]) -> Check:
    """The first member that fits; where none does, the problem of the only one that could have been meant."""
    optional = type(None) in members
    rest = [member for member in members if member is not type(None)]
    checks = [_type(member) for member in rest]
    structured = [_type(m) for m in rest if is_dataclass(m) or get_origin(m) in (tuple, dict)]

    def check(node: Node, where: str, problems: list[Problem]) -> Any:
        if node.value is REFUSED or (optional and node.value is None):
            return node.value
        if isinstance(node.value, dict | list) and len(structured) == 1:
            return structured[0](node, where, problems)
        attempts: list[list[Problem]] = []
        for inner in checks:
            found: list[Problem] = []
            value = inner(node, where, found)
            if value is not REFUSED:
                return value
            attempts.append(found)
        if len(attempts) == 1 or all(a[0].reference != "wrong-type" for a in attempts if a):
            problems.extend(attempts[0])
            return REFUSED
        near = [a for a in attempts if a and a[0].reference != "wrong-type"]
        if len(near) == 1:
            problems.extend(near[0])
            return REFUSED
        return _wrong(node, where, problems, " or ".join(_says(member) for member in rest))

    return check


def _says(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Annotated:
        inner = get_args(hint)[1:]
        pattern = next((c.says for c in inner if isinstance(c, Pattern)), None)
        low = next((c.ge for c in inner if isinstance(c, Ge)), None)
        high = next((c.le for c in inner if isinstance(c, Le)), None)
        if low is not None and high is not None:
            return f"a number from {low} to {high}"
        return pattern or _says(get_args(hint)[0])
    if origin is Literal:
        return " or ".join(repr(value) for value in get_args(hint))
    if is_dataclass(hint):
        return "a mapping"
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false"}.get(hint, "something else")


def _constrained(inner: Check, constraints: tuple[Any, ...]) -> Check:
    tests = tuple(test for constraint in constraints if (test := _test(constraint)) is not None)

    def check(node: Node, where: str, problems: list[Problem]) -> Any:
        value = inner(node, where, problems)
        if value is REFUSED:
            return value
        for fits, says, reference in tests:
            if not fits(value):
                said = escaped(str(value)) if isinstance(value, str) else "it is not"
                return report(problems, node, where, reference, f"{where} must be {says}: {said}")
        return value

    return check


def _test(constraint: Any) -> tuple[Callable[[Any], bool], str, str] | None:
    match constraint:
        case Ge(ge=low):
            return lambda v: bool(v >= low), f"at least {low}", "out-of-range"
        case Le(le=high):
            return lambda v: bool(v <= high), f"at most {high}", "out-of-range"
        case MaxLen(max_length=most):
            return lambda v: len(v) <= most, f"at most {most} long", "too-long"
        case MinLen(min_length=least):
            return lambda v: len(v) >= least, f"at least {least} long", "too-short"
        case Pattern():
            return lambda v: constraint.regex.fullmatch(v) is not None, constraint.says, "bad-value"
        case _:
            return None
