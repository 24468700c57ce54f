"""What a plain scalar means, and which characters and spellings are refused because two readers could differ."""

import re
from collections.abc import Iterator
from typing import Final

INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")
FLOAT: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,15})\.[0-9]{1,17}")
AMBIGUOUS: Final = re.compile(
    r"""
      y|yes|n|no|on|off|true|false|null          # words that YAML 1.1 or other letter cases make booleans
    | [-+]?\.(?:inf|nan)
    | [-+]?0(?:x[0-9a-f_]+|o[0-7_]+|b[01_]+)      # 0x1, 0o17, 0b1
    | [-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:e[-+]?[0-9]+)?   # 017640, 1_000, 1., +1, 1e3, 20 digits
    | [-+]?\.[0-9][0-9_]*(?:e[-+]?[0-9]+)?        # .5
    | [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?   # 81:00, in base sixty
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[t\ \t].*)?       # dates
    | =
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
_HIDDEN: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"))
_LOOKS_EMPTY: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks, as Unicode counts them, that draw nothing."""
_NONCHARACTER: Final = 0xFFFE


class Ambiguous:
    """Stands for a plain scalar that has no one meaning."""


AMBIGUITY: Final = Ambiguous()
Scalar = str | int | float | bool | None
_WORDS: Final[dict[str, Scalar]] = {"true": True, "false": False, "null": None, "~": None, "": None}


def meaning(text: str) -> Scalar | Ambiguous:
    """The value of a plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    return AMBIGUITY if AMBIGUOUS.fullmatch(text) else text


def hidden(text: str, *, file: bool) -> Iterator[tuple[int, str]]:
    """Offset and character of what a person cannot see, or what reorders or ends a line.

    `file`: of a whole file, in which CRLF ends lines; otherwise of one value, in which only `\\n` and `\\t` remain.
    """
    if text.isascii():
        if file or not text.isprintable():
            for match in _CONTROL.finditer(text if file else text.replace("\r", "\x00")):
                yield match.start(), text[match.start()]
        return
    import unicodedata  # most files are ASCII and never need its tables

    bad = {c for c in set(text) if c not in " \t\n\r" and _is_hidden(c, unicodedata.category(c))}
    for offset, char in enumerate(text):
        if char in bad or (char == "\r" and not (file and text[offset + 1 : offset + 2] == "\n")):
            yield offset, char


def _is_hidden(char: str, category: str) -> bool:
    """Unassigned characters pass: which ones are assigned differs from one Python to the next."""
    return category in _HIDDEN or char in _LOOKS_EMPTY or ord(char) & 0xFFFF >= _NONCHARACTER
