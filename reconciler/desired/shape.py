"""One structural check for every document: the annotations of a noun against the tree that was read.

The nouns that a file can hold are described once, by their types; this turns a description into functions that build
the noun or say what is wrong, in words and with a place. Types are taken exactly: `True` is no number, `"1"` neither.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le, MaxLen, MinLen

from reconciler.model.base import Pattern

from .findings import Findings, Steps, route, shown, similar
from .reader import REFUSED, Node, Refused

Told = tuple[str, str]
"""Stable reference, and what follows the name of the field in the message."""
Explain = Mapping[Pattern, Callable[[str], Told | None]]
"""For some patterns, who can say more about a text that does not match than what would."""


class Context(NamedTuple):
    """What every check has at hand."""

    findings: Findings
    explain: Explain


Build = Callable[[Node, Steps, Context], Any]
"""Builds a value from a node; reports and returns REFUSED where that cannot be done."""


class Rule(NamedTuple):
    """How one annotation is checked."""

    build: Build
    kinds: frozenset[type]
    """Types of what the reader found that may fit."""
    phrases: tuple[str, ...]
    """What is expected, after "must be", as a list of possibilities."""

    @property
    def says(self) -> str:
        """The possibilities in one phrase."""
        return _either(self.phrases)


_KINDS: Final[dict[type, str]] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_MAPPING: Final = ("a mapping", frozenset[type]((dict,)))
_LIST: Final = ("a list", frozenset[type]((list,)))
_UNKNOWN_SHOWN: Final = 30


def build(noun: Any, root: Node, context: Context) -> Any:
    """The document as `noun`, or REFUSED."""
    return _rule(noun).build(root, (), context)


def salvage(noun: Any, root: Node, context: Context) -> dict[str, Any]:
    """The fields of the document that could be built, so that rules between them can be checked all the same."""
    if type(root.value) is not dict:
        _mistyped(root, (), context, _MAPPING)
        return {}
    return _fields(noun).values(root, (), context)


class _Fields:
    """The fields of one noun."""

    def __init__(self, noun: type[Any]) -> None:
        hints = get_type_hints(noun, include_extras=True)
        self.builds = {field.name: _rule(hints[field.name]).build for field in fields(noun)}
        self.required = tuple(
            field.name for field in fields(noun) if field.default is MISSING and field.default_factory is MISSING
        )

    def values(self, node: Node, steps: Steps, context: Context) -> dict[str, Any]:
        """The fields that are there and right."""
        made: dict[str, Any] = {}
        meant: set[str | None] = set()
        for name, child in node.value.items():
            known = self.builds.get(name)
            if known is None:
                meant.add(self._unknown(name, child, steps, context))
                continue
            value = known(child, (*steps, name), context)
            if value is not REFUSED:
                made[name] = value
        for name in self.required:
            # A field that was misspelled has been reported already.
            if name not in node.value and name not in meant:
                place = node.key if steps else node
                said = f"{_called(steps)} needs the field {shown(name)}"
                context.findings.error("missing-field", said, (*steps, name), place)
        return made

    def _unknown(self, name: str, node: Node, steps: Steps, context: Context) -> str | None:
        """Report it, and return the field that was probably meant."""
        known = list(self.builds)
        near = similar(name, known)
        hint = f"did you mean {shown(near)}?" if near else f"known here: {', '.join(known[:_UNKNOWN_SHOWN])}"
        said = f"there is no field {shown(name)} in {_called(steps)}: {hint}"
        context.findings.error("unknown-field", said, (*steps, name), node.key)
        return near


@cache
def _fields(noun: type[Any]) -> _Fields:
    return _Fields(noun)


def _either(phrases: tuple[str, ...]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} or {phrases[-1]}"


def _called(steps: Steps) -> str:
    return route(steps) or "the document"


def _mistyped(
    node: Node, steps: Steps, context: Context, rule: tuple[str, frozenset[type]], reference: str = "wrong-type"
) -> Refused:
    """Report that something else was expected: what, and of which types."""
    value = node.value
    if isinstance(value, Refused):
        return value
    says, kinds = rule
    said = f"{_called(steps)} must be {says}; it is {_is(value)}"
    if type(value) is str and int in kinds and value.isascii() and value.isdigit():
        said += ": write it without quotes"
    elif type(value) in (int, float, bool) and str in kinds and int not in kinds:
        said += ": quote it"
    context.findings.error(reference, said, steps, node)
    return REFUSED


def _is(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return f"the text {shown(value)}"
    return str(value).lower() if isinstance(value, bool) else f"the number {value}"


@cache
def _rule(hint: Any) -> Rule:
    """The rule of an annotation, worked out once."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _constrained(*get_args(hint))
    if origin is Literal:
        return _literal(get_args(hint))
    if origin in (Union, types.UnionType):
        return _union(tuple(_rule(arm) for arm in get_args(hint)))
    if origin is tuple:
        return _list(_rule(get_args(hint)[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(*get_args(hint))
    if is_dataclass(hint):
        return _noun(hint)
    return _plain(hint)


def _noun(noun: Any) -> Rule:
    def made(node: Node, steps: Steps, context: Context) -> Any:
        if type(node.value) is not dict:
            return _mistyped(node, steps, context, _MAPPING)
        table = _fields(noun)
        values = table.values(node, steps, context)
        return noun(**values) if len(values) == len(node.value) and values.keys() >= required else REFUSED

    required = frozenset(_fields(noun).required)
    return Rule(made, _MAPPING[1], _MAPPING[:1])


def _plain(kind: type) -> Rule:
    if kind is type(None):
        return Rule(lambda node, steps, context: None, frozenset((kind,)), ("left out",))
    says = _KINDS[kind]

    def made(node: Node, steps: Steps, context: Context) -> Any:
        return node.value if type(node.value) is kind else _mistyped(node, steps, context, wanted)

    wanted = (says, frozenset((kind,)))
    return Rule(made, wanted[1], (says,))


def _literal(allowed: tuple[Any, ...]) -> Rule:
    phrases = tuple(f"'{value}'" if isinstance(value, str) else str(value) for value in allowed)
    says = _either(phrases)
    exact = frozenset((type(value), value) for value in allowed)

    def made(node: Node, steps: Steps, context: Context) -> Any:
        value = node.value
        if type(value) not in kinds:
            return _mistyped(node, steps, context, (says, kinds))
        if (type(value), value) in exact:
            return value
        near = similar(value, [v for v in allowed if isinstance(v, str)]) if isinstance(value, str) else None
        said = f"{_called(steps)} must be {says}; it is {_is(value)}" + (f": did you mean '{near}'?" if near else "")
        context.findings.error("unknown-choice", said, steps, node)
        return REFUSED

    kinds = frozenset(type(value) for value in allowed)
    return Rule(made, kinds, phrases)


def _union(arms: tuple[Rule, ...]) -> Rule:
    """One of several: what the reader found decides which, so that its own message is given where one fits."""
    offered = [arm.phrases for arm in arms if type(None) not in arm.kinds]
    phrases = tuple(phrase for arm in offered for phrase in arm)
    says = _either(phrases)
    by_kind: dict[type, list[Build]] = {}
    for arm in arms:
        for kind in arm.kinds:
            by_kind.setdefault(kind, []).append(arm.build)
    first = {kind: builds[0] for kind, builds in by_kind.items()}
    ambiguous = [kind for kind, builds in by_kind.items() if len(builds) > 1]
    if ambiguous:
        raise TypeError(f"two arms of a union take {ambiguous[0].__name__}: {says}")
    alone = len(offered) == 1
    wanted = (says, frozenset(by_kind))

    def made(node: Node, steps: Steps, context: Context) -> Any:
        arm = first.get(type(node.value))
        if arm is None:
            return _mistyped(node, steps, context, wanted)
        if alone or type(node.value) is not str:
            return arm(node, steps, context)
        aside = Context(Findings(), context.explain)
        value = arm(node, steps, aside)
        if value is not REFUSED:
            return value
        return _mistyped(node, steps, context, wanted, aside.findings.sorted()[0].reference)

    return Rule(made, frozenset(by_kind), phrases)


def _list(item: Rule) -> Rule:
    def made(node: Node, steps: Steps, context: Context) -> Any:
        if type(node.value) is not list:
            return _mistyped(node, steps, context, _LIST)
        values = [item.build(child, (*steps, index), context) for index, child in enumerate(node.value)]
        return tuple(value for value in values if value is not REFUSED)

    return Rule(made, _LIST[1], _LIST[:1])


def _mapping(key: Any, item_hint: Any) -> Rule:
    """Entries that were refused are left out; the findings say that they were there."""
    item = _rule(item_hint)
    tests = _tests(get_args(key)[1:]) if get_origin(key) is Annotated else ()

    def made(node: Node, steps: Steps, context: Context) -> Any:
        if type(node.value) is not dict:
            return _mistyped(node, steps, context, _MAPPING)
        values: dict[str, Any] = {}
        for name, child in node.value.items():
            below = (*steps, name)
            misfit = next((test for test in tests if not test.fits(name)), None)
            if misfit is not None:
                told = _told(misfit, name, context) or ("bad-name", f"must be {misfit.says}")
                said = f"the name {shown(name)} in {_called(steps)} {told[1]}"
                context.findings.error(told[0], said, below, child.key)
                continue
            value = item.build(child, below, context)
            if value is not REFUSED:
                values[name] = value
        return values

    return Rule(made, _MAPPING[1], _MAPPING[:1])


class _Test(NamedTuple):
    """One constraint of an annotation."""

    fits: Callable[[Any], bool]
    says: str
    reference: str
    pattern: Pattern | None = None


def _told(test: _Test, text: str, context: Context) -> Told | None:
    explain = context.explain.get(test.pattern) if test.pattern is not None else None
    return explain(text) if explain is not None else None


def _constrained(base: Any, *constraints: Any) -> Rule:
    inner = _rule(base)
    tests = _tests(constraints, "characters" if inner.kinds == {str} else "entries")
    low, high = (
        next((getattr(c, name) for c in constraints if isinstance(c, kind)), None)
        for name, kind in (("ge", Ge), ("le", Le))
    )
    pattern = next((c.says for c in constraints if isinstance(c, Pattern)), None)
    says = f"{inner.says} from {low} to {high}" if low is not None and high is not None else pattern or inner.says

    def made(node: Node, steps: Steps, context: Context) -> Any:
        if type(node.value) not in inner.kinds:
            return _mistyped(node, steps, context, (says, inner.kinds))
        value = inner.build(node, steps, context)
        if value is REFUSED:
            return value
        for test in tests:
            if not test.fits(value):
                named = value if isinstance(value, str) else ""
                expected = f"must be {says if test.reference == 'out-of-range' else test.says}"
                told = _told(test, named, context) or (test.reference, f"{expected}; it is {_size(node.value)}")
                context.findings.error(told[0], f"{_called(steps)} {told[1]}", steps, node)
                return REFUSED
        return value

    return Rule(made, inner.kinds, (says,))


def _size(value: Any) -> str:
    return f"{len(value)}" if isinstance(value, dict | list) else _is(value)


@cache
def _tests(constraints: tuple[Any, ...], counted: str = "characters") -> tuple[_Test, ...]:
    return tuple(_test(constraint, counted) for constraint in constraints)


def _test(constraint: Any, counted: str) -> _Test:
    match constraint:
        case Ge(ge=low):
            return _Test(lambda v: bool(v >= low), f"at least {low}", "out-of-range")
        case Le(le=high):
            return _Test(lambda v: bool(v <= high), f"at most {high}", "out-of-range")
        case MaxLen(max_length=most):
            return _Test(lambda v: len(v) <= most, f"at most {most} {counted} long", "too-long")
        case MinLen(min_length=least):
            return _Test(lambda v: len(v) >= least, f"at least {least} {counted} long", "too-short")
        case Pattern(regex=regex, says=says):
            return _Test(lambda v: regex.fullmatch(v) is not None, says, "bad-value", constraint)
        case _:
            raise TypeError(f"the reader does not know the constraint {constraint!r}")
