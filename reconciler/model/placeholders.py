"""The placeholders of a converter's command: which there are, and what a command with them becomes."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

PLACEHOLDERS: Final = ("repo", "src", "dest")
"""The source's name (`owner/name`, or its folder), the folder that is read, and the folder that is written."""
_MARK: Final = re.compile(r"\{([\w.:!-]*)\}")
"""Braces around at most a name; what else is in braces, such as JSON, is an ordinary argument."""


def check_command(words: Sequence[str]) -> str | None:
    """What is wrong with the words of a converter's command, in one sentence; None: nothing."""
    if not words or not words[0]:
        return "it names no program"
    if _MARK.search(words[0]):
        return f"its program is {words[0]!r}: what is run cannot depend on what is converted"
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    names = [name for word in words for name in _MARK.findall(word)]
    for name in names:
        if name not in PLACEHOLDERS:
            return f"{{{name}}} is none of its placeholders {known}"
    if "dest" not in names:
        return "it does not say {dest}, the folder that it has to write"
    return None


def filled(words: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """The command with a value for each placeholder; a word stays one word, whatever is in the value.

    A value is not searched for placeholders again. Raises KeyError for a placeholder without a value.
    """
    return tuple(_MARK.sub(lambda mark: values[mark[1]], word) for word in words)
