"""What the log of a Python program says about its end: the exceptions in it, and tables that give them a meaning.

A log is also written by strangers: a server may copy what clients send. So an exception counts only where the frames
of a traceback stand before it, and a meaning is matched at the beginning of the exception alone.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from reconciler.model.base import noun

LONGEST: Final = 200
"""Characters of a sentence for people."""
_FRAME: Final = '  File "'
_EXCEPTION: Final = re.compile(r"(?:[A-Za-z_]\w*\.)*(?P<kind>[A-Za-z_]\w*)(?:: (?P<text>.*)|:?)")
_ASKED_FOR: Final = frozenset({"KeyboardInterrupt", "SystemExit"})


@noun
class Raised:
    """An exception as the log shows it."""

    said: str
    """Class without its modules, colon, text; a second line of the text is kept."""
    frames: str = ""
    """The lines above it that name files and functions."""


@noun
class Meaning:
    """One row of a table: which exceptions it is about, and what they mean."""

    cause: str
    says: str
    """A sentence with the named groups of `text` in braces."""
    text: re.Pattern[str]
    """Matched at the beginning of `Raised.said`."""
    permanent: bool = False
    within: re.Pattern[str] | None = None
    """Searched in `Raised.frames`; None: raised anywhere."""

    def of(self, raised: Raised) -> str | None:
        """The sentence for this exception, or None where the row is about others."""
        found = self.text.match(raised.said)
        if found is None or (self.within is not None and self.within.search(raised.frames) is None):
            return None
        return sentence(self.says.format_map({name: value or "" for name, value in found.groupdict().items()}))


PROGRAM: Final = (
    Meaning(
        cause="runtime-broken",
        says="the installation of the server program is broken: {what}",
        text=re.compile(r"(?:ImportError|ModuleNotFoundError): (?P<what>.*)"),
        permanent=True,
    ),
    Meaning(
        cause="descriptor-limit",
        says="the hard limit of open files is lower than the server program asks for",
        text=re.compile(r"ValueError: not allowed to raise maximum limit"),
        permanent=True,
    ),
    Meaning(
        cause="descriptor-limit",
        says="the process has too many open files",
        text=re.compile(r"OSError: \[Errno 24\]"),
    ),
    Meaning(  # 48 on macOS, 98 on Linux
        cause="port-lost",
        says="another process took the port before the server could listen on it",
        text=re.compile(r"OSError: \[Errno (?:48|98)\]"),
    ),
    Meaning(  # 49 on macOS, 99 on Linux
        cause="address-missing",
        says="the address to listen on is none of this machine's",
        text=re.compile(r"OSError: \[Errno (?:49|99)\]"),
    ),
)
"""What means the same in every Python program that serves."""


def raised(lines: Sequence[str]) -> Raised | None:
    """The last exception whose traceback these lines hold; of a chain that is the one which was not caught."""
    found: Raised | None = None
    frames: list[str] = []
    for number, line in enumerate(lines):
        if line.startswith(_FRAME):
            frames.append(line)
        elif frames and lines[number - 1].startswith("  ") and (exception := _EXCEPTION.fullmatch(line.rstrip())):
            more = "".join(f"\n{after}" for after in lines[number + 1 : number + 2])
            said = f"{exception['kind']}: {exception['text'] or ''}{more}"
            found = None if exception["kind"] in _ASKED_FOR else Raised(said=said, frames="\n".join(frames))
            frames = []
    return found


def meaning(table: Iterable[Meaning], exception: Raised) -> tuple[Meaning, str] | None:
    """The first row that is about the exception, and its sentence."""
    return next(((row, said) for row in table if (said := row.of(exception)) is not None), None)


def sentence(text: str) -> str:
    """Text of a log in one printable line without a full stop, cut to what is read at a glance."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split())).rstrip(".: ")
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
