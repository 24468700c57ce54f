"""Text that is safe on a terminal: whatever a file, a process or a hub has put into it."""

import unicodedata

_HARMLESS = set(range(0x20, 0x7F))


def printable(text: str) -> str:
    """`text` with control, format and bidirectional characters written as escapes; it stays one line (fault S31)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    if ord(char) in _HARMLESS or unicodedata.category(char)[0] not in "CZ" or char == " ":
        return char
    return char.encode("unicode_escape").decode()
