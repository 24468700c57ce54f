"""Strict YAML: bytes to a tree in which every value knows its place, read from the parser's event stream.

No object is built from a tag, nothing is repeated by an alias, and every limit holds before the tree does: deep
nesting crashes libyaml's composer and a merge bomb runs for minutes, so neither composer nor constructor is used.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import yaml

from reconciler.model.problem import Problem

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 16
MAX_ELEMENTS: Final = 200_000
MAX_SCALAR: Final = 4_096

_CONFLICT: Final = re.compile(rb"^(?:<{7}|={7}|>{7}|\|{7})(?: |\r|$)", re.M)
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_FLOAT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,15})\.[0-9]{1,15}\Z")
_AMBIGUOUS: Final = re.compile(
    r"(?:[-+]?(?:0[0-9xob_]|\.inf|\.nan|[0-9][0-9_]*(?::[0-5]?[0-9])+\Z|[0-9.]+[eE][-+]?[0-9]+\Z|[0-9]+\.\Z|\.[0-9])"
    r"|[-+]?[0-9][0-9_]*_[0-9_]*\Z|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[-+]?[0-9]{19,}\Z)",
    re.I,
)
_WORDS: Final = frozenset(("yes", "no", "on", "off", "y", "n", "true", "false", "null"))
_SAFE: Final = re.compile(r"[\x20-\x7e\n]*\Z")

Parser: Any = getattr(yaml, "CParser", None) or yaml.SafeLoader
"""libyaml's event parser where PyYAML was built with it, twenty times faster than the one in Python."""


class Node:
    """A value and where it begins, both counted from 1. `value` is a scalar, a list of nodes, or a mapping."""

    __slots__ = ("column", "keys", "line", "value")

    def __init__(self, value: Any, line: int, column: int, keys: dict[str, tuple[int, int]] | None = None) -> None:
        self.value = value
        self.line = line
        self.column = column
        self.keys = keys
        """Places of the keys, of a mapping; None: not a mapping."""


class Refused:
    """Stands in the tree where a value was refused, so that it is reported once."""


REFUSED: Final = Refused()


class _Stop(Exception):
    """Reading cannot go on after the problem that was just reported."""


def escaped(text: str, limit: int = 80) -> str:
    """`text` for a message: quoted, without control characters, not longer than a line."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")


class Reader:
    """One reading of one document; every problem that it meets is in `problems`."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._known: dict[str, Any] = {}
        self._path: list[str] = []

    def read(self, data: bytes) -> Node | None:
        """The root of the tree, or None where there is none to go on with."""
        try:
            return self._tree(self._text(data))
        except _Stop:
            return None

    def _report(self, reference: str, message: str, line: int | None = None, column: int | None = None) -> None:
        where = ".".join(part for part in self._path if part)
        self.problems.append(Problem(reference=reference, message=message, where=where, line=line, column=column))

    def _text(self, data: bytes) -> str:
        if len(data) > MAX_BYTES:
            self._report("too-large", f"the file is larger than {MAX_BYTES} bytes")
            raise _Stop
        if match := _CONFLICT.search(data):
            line = data.count(b"\n", 0, match.start()) + 1
            self._report("merge-conflict", "an unresolved merge conflict begins here: resolve it and commit", line, 1)
            raise _Stop
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
            self._report(
                "not-utf-8", f"byte {data[error.start]:#04x} is not UTF-8: save the file as UTF-8", line, column
            )
            raise _Stop from error
        self._refuse_invisible(text)
        return text

    def _refuse_invisible(self, text: str) -> None:
        """Characters that a person cannot see or that reorder the line are refused before the parser meets them."""
        if text.isascii() and not re.search(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]", text):
            return
        import unicodedata

        for number, line in enumerate(text.split("\n"), 1):
            for column, char in enumerate(line, 1):
                if char not in "\t\r" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
                    self._report(
                        "invisible-character", f"invisible or control character U+{ord(char):04X}", number, column
                    )
                    raise _Stop

    def _tree(self, text: str) -> Node:
        events = self._events(text)
        root: Node | None = None
        try:
            for event in events:
                if isinstance(event, yaml.DocumentStartEvent):
                    if root is not None:
                        self._report("several-documents", "only one document is allowed in the file", *_place(event))
                        raise _Stop
                    root = self._node(next(events), events, 0)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark is not None else (None, None)
            self._report("syntax", _syntax(text, error, place[0]), *place)
            raise _Stop from error
        except yaml.YAMLError as error:
            self._report("syntax", f"this is not YAML: {escaped(str(error).splitlines()[0])}")
            raise _Stop from error
        if root is None or root.value is None:
            self._report("empty", "the file is empty; write `models: {}` to declare that nothing is served", 1, 1)
            raise _Stop
        return root

    def _events(self, text: str) -> Iterator[Any]:
        parser = Parser(text)
        try:
            for _ in range(MAX_ELEMENTS):
                event = parser.get_event()
                if event is None:
                    return
                yield event
                if isinstance(event, yaml.StreamEndEvent):
                    return
        finally:
            parser.dispose()
        self._report("too-many-elements", f"the file has more than {MAX_ELEMENTS} elements")
        raise _Stop

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        line, column = _place(event)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._report("alias", "anchors and aliases are not allowed: write the value out", line, column)
            raise _Stop
        if event.tag is not None and event.tag != "!":
            self._report("tag", f"the tag {escaped(event.tag)} is not allowed", line, column)
        if isinstance(event, yaml.ScalarEvent):
            return Node(self._scalar(event, line, column), line, column)
        if depth >= MAX_DEPTH:
            self._report("too-deep", f"values are nested more than {MAX_DEPTH} deep", line, column)
            raise _Stop
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._sequence(events, depth), line, column)
        keys: dict[str, tuple[int, int]] = {}
        return Node(self._mapping(events, depth, keys), line, column, keys)

    def _sequence(self, events: Iterator[Any], depth: int) -> list[Node]:
        items: list[Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            self._path.append(f"{len(items)}")
            items.append(self._node(event, events, depth + 1))
            self._path.pop()
        return items

    def _mapping(self, events: Iterator[Any], depth: int, keys: dict[str, tuple[int, int]]) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, events, depth)
            place = _place(event)
            self._path.append(key or "")
            value = self._node(next(events), events, depth + 1)
            if key is not None and key in entries:
                first = keys[key]
                message = f"the key {escaped(key)} stands here and in line {first[0]}: keep one"
                self._report("duplicate-key", message, *place)
            elif key is not None:
                entries[key] = value
                keys[key] = place
            self._path.pop()
        return entries

    def _key(self, event: Any, events: Iterator[Any], depth: int) -> str | None:
        """The key, or None where it was refused."""
        line, column = _place(event)
        node = self._node(event, events, depth + 1) if not isinstance(event, yaml.ScalarEvent) else None
        if node is not None:
            self._report("key-not-text", "a key must be text", line, column)
            return None
        if event.anchor is not None:
            self._report("alias", "anchors and aliases are not allowed: write the value out", line, column)
            raise _Stop
        key: str = event.value
        if key == "<<" and event.style is None:
            self._report("merge-key", "merge keys are not allowed: write the values out", line, column)
            return None
        if not key.isascii() or not _SAFE.match(key) or len(key) > MAX_SCALAR:
            self._report("key-not-ascii", f"the key {escaped(key)} must be short plain ASCII", line, column)
            return None
        if event.style is None and not isinstance(self._scalar(event, line, column), str):
            if key.lower() not in _WORDS and not _AMBIGUOUS.match(key):
                self._report("key-not-text", f"the key {escaped(key)} must be text: quote it", line, column)
            return None
        return key

    def _scalar(self, event: Any, line: int, column: int) -> Any:
        text: str = event.value
        if len(text) > MAX_SCALAR:
            self._report("too-long", f"the value is longer than {MAX_SCALAR} characters", line, column)
            return REFUSED
        if event.style is not None:
            return self._visible(text, line, column)
        value = self._known.get(text, self)
        if value is self:
            value = self._known[text] = _resolve(text)
        if value is REFUSED:
            self._report("ambiguous-scalar", f"the plain value {escaped(text)} is ambiguous: quote it", line, column)
        return value

    def _visible(self, text: str, line: int, column: int) -> Any:
        """A quoted string may bring in by an escape what may not stand in the file itself."""
        if _SAFE.match(text):
            return text
        import unicodedata

        for char in text:
            if char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
                message = f"invisible or control character U+{ord(char):04X}"
                self._report("invisible-character", message, line, column)
                return REFUSED
        return text


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _resolve(text: str) -> Any:
    """What a plain scalar means; REFUSED where two readers of YAML could differ about it."""
    first = text[:1]
    if first.isalpha() and first.isascii():
        if text in ("true", "false"):
            return text == "true"
        if text == "null":
            return None
        return REFUSED if text.lower() in _WORDS else text
    if text in ("", "~"):
        return None
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return REFUSED if _AMBIGUOUS.match(text) else text


def _syntax(text: str, error: yaml.MarkedYAMLError, line: int | None) -> str:
    """What is wrong in words of the file; tabs get theirs, because the parser's are hard to read."""
    lines: Sequence[str] = text.split("\n")
    if (
        line is not None
        and line <= len(lines)
        and "\t" in lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]
    ):
        return "a tab indents this line: use spaces"
    if "character that cannot start any token" in str(error.problem) and "\\t" in str(error.problem):
        return "a tab indents this line: use spaces"
    return f"this is not YAML: {error.problem or error.context}"
