"""Foreign JSON: bytes to the tree that the reader of YAML makes, in which every key and value knows its place."""

import json
import re
from bisect import bisect_right
from math import isfinite
from typing import Any, Final, NamedTuple

from .findings import Findings, Steps, plain, shown
from .reader import MAX_BYTES, MAX_DEPTH, REFUSED, Node, Spot

MAX_DIGITS: Final = 300
"""More than any number that is meant; Python itself refuses 4,300."""
_TOKEN: Final = re.compile(r'[{}\[\],:]|"[^"\\]*(?:\\.[^"\\]*)*"|[^\s{}\[\],:"]+', re.DOTALL)
_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None}
_WHOLE: Final = re.compile(r"-?[0-9]+")
_BOM: Final = "\ufeff"


class _Stop(Exception):
    """Reading cannot go on after the problem that was just reported."""


class _Mark(NamedTuple):
    """A place as parsers count it: both from 0."""

    line: int
    column: int


class _Frame:
    """A list or mapping that has begun and not ended."""

    __slots__ = ("into", "key", "key_mark")

    def __init__(self, into: Any) -> None:
        self.into = into
        self.key: str | None = None
        """The key whose value is due; None where a key is."""
        self.key_mark = _Mark(0, 0)


def read_json(data: bytes, findings: Findings) -> Node | None:
    """The root, or None where the text has no tree to go on with. Problems go into `findings`.

    JSON lets a key stand twice and readers take one of the two; here it is an error with both places, as in YAML.
    """
    try:
        text = _text(data, findings)
        _well_formed(text, findings)
        return _Builder(text, findings).root()
    except _Stop:
        return None


def data_of(node: Node) -> Any:
    """The tree as plain data; None where a value was refused."""
    value = node.value
    if type(value) is dict:
        return {key: data_of(child) for key, child in value.items()}
    if type(value) is list:
        return [data_of(child) for child in value]
    return None if value is REFUSED else value


def _text(data: bytes, findings: Findings) -> str:
    if len(data) > MAX_BYTES:
        findings.error("too-large", f"the file is larger than {MAX_BYTES} bytes, which no registry is")
        raise _Stop
    try:
        return data.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        place = Spot(before.count("\n") + 1, len(before) - before.rfind("\n"))
        findings.error("not-utf-8", f"byte {data[error.start]:#04x} is not UTF-8: save the file as UTF-8", (), place)
        raise _Stop from error


def _well_formed(text: str, findings: Findings) -> None:
    """The standard parser says whether it is JSON at all; after that, tokens are enough to build from.

    Numbers are not made here: Python refuses those of more than 4,300 digits without saying where.
    """
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        said = f"this is not JSON ({plain(error.msg)}): mend the text here or just before"
        findings.error("syntax", said, (), Spot(error.lineno, error.colno))
        raise _Stop from error
    except RecursionError as error:
        findings.error("too-deep", f"values are nested more than {MAX_DEPTH} deep, which no registry is")
        raise _Stop from error


class _Builder:
    """Puts the tree of a well-formed text together, with a stack of its own instead of recursion."""

    def __init__(self, text: str, findings: Findings) -> None:
        self._text = text
        self._findings = findings
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._stack: list[_Frame] = []
        self._root: Node | None = None

    def root(self) -> Node | None:
        """The root."""
        for match in _TOKEN.finditer(self._text):
            token = match[0]
            if token in "{[":
                self._open(token, self._mark(match.start()))
            elif token in "}]":
                self._stack.pop()
                self._complete()
            elif token not in ",:":
                self._leaf(token, self._mark(match.start()))
        return self._root

    def _mark(self, offset: int) -> _Mark:
        line = bisect_right(self._lines, offset) - 1
        return _Mark(line, offset - self._lines[line])

    def _error(self, reference: str, message: str, mark: _Mark, *below: str) -> None:
        self._findings.error(reference, message, (*self._steps(), *below), Spot(mark.line + 1, mark.column + 1))

    def _steps(self) -> Steps:
        """Where reading is, for messages."""
        steps: list[str | int] = []
        for frame in self._stack:
            if type(frame.into) is list:
                steps.append(len(frame.into) - (frame is not self._stack[-1]))
            elif frame.key is not None:
                steps.append(frame.key)
        return tuple(steps)

    def _open(self, token: str, mark: _Mark) -> None:
        if len(self._stack) >= MAX_DEPTH:
            self._error("too-deep", f"values are nested more than {MAX_DEPTH} deep, which no registry is", mark)
            raise _Stop
        node = Node({} if token == "{" else [], mark)
        self._put(node)
        self._stack.append(_Frame(node.value))

    def _leaf(self, token: str, mark: _Mark) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame is not None and type(frame.into) is dict and frame.key is None:
            self._key(json.loads(token), frame, mark)
            return
        self._put(Node(json.loads(token) if token[0] == '"' else self._bare(token, mark), mark))
        self._complete()

    def _key(self, key: str, frame: _Frame, mark: _Mark) -> None:
        """A second one of a name is reported, and the first one counts in what else is said."""
        if key in frame.into:
            first = frame.into[key].key
            said = f"the key {shown(key)} stands here and in line {first.line}, column {first.column}: keep one"
            self._error("duplicate-key", said, mark, key)
        frame.key, frame.key_mark = key, mark

    def _put(self, node: Node) -> None:
        """The node goes where the text has it: at the root, into the list, or under the key that came before."""
        frame = self._stack[-1] if self._stack else None
        if frame is None:
            self._root = node
        elif type(frame.into) is list:
            frame.into.append(node)
        else:
            node.key_mark = frame.key_mark
            frame.into.setdefault(frame.key, node)

    def _complete(self) -> None:
        """A value has ended; in a mapping a key is due."""
        if self._stack:
            self._stack[-1].key = None

    def _bare(self, token: str, mark: _Mark) -> Any:
        """A word or a number; what cannot be counted with is refused."""
        if token in _WORDS:
            return _WORDS[token]
        if _WHOLE.fullmatch(token):
            if len(token) <= MAX_DIGITS:
                return int(token)
        elif isfinite(value := float(token)):
            return value
        self._error("bad-number", f"{shown(token)} is no number that a registry may have: write an ordinary one", mark)
        return REFUSED
