"""Strict YAML: bytes to a tree in which every key and value knows its place, built from the parser's events.

No object is built from a tag, nothing is repeated by an alias, and every limit holds before the tree does: deep
nesting crashes libyaml's composer and a merge bomb runs for minutes, so neither composer nor constructor is used.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import yaml

from .findings import Findings, Steps, plain, shown
from .scalars import AMBIGUITY, hidden, meaning

PURE_PARSER: Final[Callable[[str], Any]] = yaml.SafeLoader
"""The parser written in Python, for a PyYAML that was built without libyaml."""
PARSER: Final[Callable[[str], Any]] = getattr(getattr(yaml, "_yaml", None), "CParser", PURE_PARSER)
"""libyaml's, twenty times faster; PyYAML does not export the name."""

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 16
MAX_ELEMENTS: Final = 200_000
MAX_SCALAR: Final = 4_096

_WORDS: Final = ("on",)
"""Names of fields that YAML 1.1 takes for a boolean. A key is never one, so they need no quotes there."""

_CONFLICT: Final = re.compile(rb"^(?:<{7}|\|{7}|={7}|>{7})(?: |\r?$)", re.MULTILINE)
_BOM: Final = "\ufeff"
_FOREIGN_LINE_END: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
"""Characters that YAML itself refuses, without saying where."""


class Refused:
    """Stands where a value was refused, so that it is reported once."""


REFUSED: Final = Refused()


class Spot:
    """A place in the text."""

    __slots__ = ("column", "line")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column


class Node:
    """A value and where it begins: a scalar, REFUSED, a list of nodes, or a mapping from text to nodes."""

    __slots__ = ("_mark", "key_mark", "value")

    def __init__(self, value: Any, mark: Any) -> None:
        self.value = value
        self._mark = mark
        self.key_mark: Any = None
        """The parser's mark of the key, where the value has one."""

    @property
    def line(self) -> int:
        """The line on which the value begins, counted from 1."""
        return int(self._mark.line) + 1

    @property
    def column(self) -> int:
        """The column at which the value begins, counted from 1."""
        return int(self._mark.column) + 1

    @property
    def key(self) -> Spot:
        """Where the key of the value begins; the value itself where there is none."""
        return _spot(self.key_mark or self._mark)

    def find(self, steps: Steps) -> "Node":
        """The node at the end of `steps`, or the deepest one on the way there that the text has."""
        node = self
        for step in steps:
            below = node.value
            if type(below) is list and isinstance(step, int):
                below = dict(enumerate(below))
            if type(below) is not dict or step not in below:
                break
            node = below[step]
        return node


class _Stop(Exception):
    """Reading cannot go on after the problem that was just reported."""


def read(data: bytes, findings: Findings, instead: str, parser: Callable[[str], Any] = PARSER) -> Node | None:
    """The root of the tree, or None where the text has no tree to go on with. Problems go into `findings`.

    `instead` says what to write into a file that is empty.
    """
    try:
        text, seen = _text(data, findings)
        root = _Builder(findings, seen).build(text, parser)
    except _Stop:
        return None
    if root is None or root.value is None:
        findings.error("empty", f"the file is empty: write {instead}", (), Spot(1, 1))
        return None
    return root


def _text(data: bytes, findings: Findings) -> tuple[str, frozenset[str]]:
    """The decoded text, and the invisible characters of it that have been reported."""
    if len(data) > MAX_BYTES:
        findings.error("too-large", f"the file is larger than {MAX_BYTES} bytes: split it or remove what is not needed")
        raise _Stop
    if conflict := _CONFLICT.search(data):
        line = data.count(b"\n", 0, conflict.start()) + 1
        findings.error("merge-conflict", "an unresolved merge conflict: resolve it and commit", (), Spot(line, 1))
        raise _Stop
    try:
        text = data.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        said = f"byte {data[error.start]:#04x} is not UTF-8: save the file as UTF-8"
        findings.error("not-utf-8", said, (), _at(before, len(before)))
        raise _Stop from error
    seen = set()
    for offset, char in hidden(text, file=True):
        seen.add(char)
        findings.error("invisible-character", _invisible(char), (), _at(text, offset))
    if seen and _FOREIGN_LINE_END.search(text):
        raise _Stop
    return text, frozenset(seen)


def _invisible(char: str) -> str:
    return f"the invisible or control character U+{ord(char):04X} is not allowed: remove it"


def _at(text: str, offset: int) -> Spot:
    return Spot(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def _spot(mark: Any) -> Spot:
    return Spot(int(mark.line) + 1, int(mark.column) + 1)


class _Frame:
    """A list or mapping that has begun and not ended."""

    __slots__ = ("expects_key", "into", "key", "key_mark")

    def __init__(self, into: Any) -> None:
        self.into = into
        self.expects_key = type(into) is dict
        self.key: str | None = None
        self.key_mark: Any = None


class _Builder:
    """Puts one tree together from events, with a stack of its own instead of recursion."""

    def __init__(self, findings: Findings, seen: frozenset[str]) -> None:
        self._findings = findings
        self._seen = seen
        self._stack: list[_Frame] = []
        self._meanings: dict[str, Any] = {}
        self._documents = 0
        self._root: Node | None = None

    def build(self, text: str, make: Callable[[str], Any]) -> Node | None:
        """The root, or None of a text without any value."""
        parser = make(text)
        handlers: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._opening,
            yaml.SequenceStartEvent: self._opening,
            yaml.MappingEndEvent: self._closing,
            yaml.SequenceEndEvent: self._closing,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
        }
        try:
            for _ in range(MAX_ELEMENTS):
                event = parser.get_event()
                handle = handlers.get(type(event))
                if handle is not None:
                    handle(event)
                elif event is None or type(event) is yaml.StreamEndEvent:
                    return self._root
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._error("syntax", _syntax(text, error, mark), mark)
            raise _Stop from error
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            self._error("syntax", f"this is not YAML: {plain(str(error).partition(chr(10))[0])}", None)
            raise _Stop from error
        finally:
            parser.dispose()
        self._error(
            "too-many-elements", f"the file has more than {MAX_ELEMENTS} elements: declare less in one file", None
        )
        raise _Stop

    def _error(self, reference: str, message: str, mark: Any, *below: str) -> None:
        self._findings.error(reference, message, (*self._steps(), *below), None if mark is None else _spot(mark))

    def _steps(self) -> Steps:
        """Where reading is, for messages."""
        steps: list[str | int] = []
        for frame in self._stack:
            if type(frame.into) is list:
                # A list that another frame stands in has been put into its place already.
                steps.append(len(frame.into) - (frame is not self._stack[-1]))
            elif frame.key is not None:
                steps.append(frame.key)
        return tuple(steps)

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._error("several-documents", "a second document begins here: keep one in the file", event.start_mark)
            raise _Stop
        if event.version or event.tags:
            self._error("directive", "YAML directives are not allowed: remove the line with '%'", event.start_mark)

    def _put(self, node: Node) -> None:
        """The node goes where the text has it: at the root, into the list, or under the key that came before."""
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        if type(frame.into) is list:
            frame.into.append(node)
            return
        if frame.key is not None:
            node.key_mark = frame.key_mark
            frame.into[frame.key] = node
        frame.expects_key = True

    def _refuse_additions(self, event: Any) -> None:
        if event.anchor is not None:
            self._error("alias", "anchors and aliases are not allowed: write the value out", event.start_mark)
        if event.tag is not None:
            self._error("tag", f"the tag {shown(event.tag)} is not allowed: remove it", event.start_mark)

    def _alias(self, event: Any) -> None:
        self._error("alias", "anchors and aliases are not allowed: write the value out", event.start_mark)
        if not self._skip_key():
            self._put(Node(REFUSED, event.start_mark))

    def _skip_key(self) -> bool:
        """If a key is due, take what is here for a key that was refused: its value will be dropped."""
        if self._stack and self._stack[-1].expects_key:
            self._stack[-1].expects_key = False
            self._stack[-1].key = None
            return True
        return False

    def _opening(self, event: Any) -> None:
        if len(self._stack) >= MAX_DEPTH:
            self._error("too-deep", f"values are nested more than {MAX_DEPTH} deep: flatten them", event.start_mark)
            raise _Stop
        if event.anchor is not None or event.tag is not None:
            self._refuse_additions(event)
        node = Node({} if type(event) is yaml.MappingStartEvent else [], event.start_mark)
        if self._skip_key():
            self._error("key-not-text", "a key must be text, not a list or a mapping", event.start_mark)
        else:
            self._put(node)
        self._stack.append(_Frame(node.value))

    def _closing(self, event: Any) -> None:
        self._stack.pop()

    def _scalar(self, event: Any) -> None:
        if event.anchor is not None or event.tag is not None:
            self._refuse_additions(event)
        if self._stack and self._stack[-1].expects_key:
            frame = self._stack[-1]
            frame.key = None
            frame.key = self._key(event, frame)
            frame.key_mark = event.start_mark
            frame.expects_key = False
            return
        self._put(Node(self._value(event), event.start_mark))

    def _value(self, event: Any) -> Any:
        text: str = event.value
        if len(text) > MAX_SCALAR:
            self._error("too-long", f"the value is longer than {MAX_SCALAR} characters: shorten it", event.start_mark)
            return REFUSED
        if not event.style and text.isascii():
            return self._plain(event, text)
        bad = next((char for _, char in hidden(text, file=False)), None)
        if bad is None:
            return text
        if bad not in self._seen:  # it came in by an escape
            self._error("invisible-character", _invisible(bad), event.start_mark)
        return REFUSED

    def _plain(self, event: Any, text: str) -> Any:
        """The meaning of a plain scalar, worked out once for each spelling."""
        if text in self._meanings:
            value = self._meanings[text]
        else:
            value = self._meanings[text] = meaning(text)
        if value is not AMBIGUITY:
            return value
        hint = "write true or false, or quote it" if text.isalpha() else "quote it"
        self._error("ambiguous-scalar", f"the plain value {shown(text)} is ambiguous: {hint}", event.start_mark)
        return REFUSED

    def _key(self, event: Any, frame: _Frame) -> str | None:
        """The key, or None where it was refused."""
        key: str = event.value
        if not event.style and key == "<<":
            self._error("merge-key", "merge keys are not allowed: write the values out", event.start_mark)
        elif len(key) > MAX_SCALAR:
            self._error("too-long", f"the key is longer than {MAX_SCALAR} characters: shorten it", event.start_mark)
        elif not (key.isascii() and key.isprintable()):
            if not self._seen.intersection(key):
                said = f"the key {shown(key)} has the character {_first_strange(key)}: keys are plain ASCII"
                self._error("key-not-ascii", said, event.start_mark, key)
        elif not event.style and key not in _WORDS and not isinstance(value := self._plain(event, key), str):
            if value is not REFUSED:
                self._error("key-not-text", f"the key {shown(key)} must be text: quote it", event.start_mark, key)
        elif key in frame.into:
            first = frame.into[key].key
            said = f"the key {shown(key)} stands here and in line {first.line}, column {first.column}: keep one"
            self._error("duplicate-key", said, event.start_mark, key)
        else:
            return key
        return None


def _first_strange(key: str) -> str:
    return f"U+{ord(next(char for char in key if not ' ' <= char <= '~')):04X}"


def _syntax(text: str, error: yaml.MarkedYAMLError, mark: Any) -> str:
    """What is wrong in words of the file; a tab gets its own, because the parser's are hard to read."""
    lines = text.split("\n")
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent or line[mark.column : mark.column + 1] == "\t":
        return "a tab stands where YAML wants spaces: indent with spaces"
    return f"this is not YAML ({plain(str(error.problem or error.context))}): mend the text here or just before"
