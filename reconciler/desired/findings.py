"""What was found wrong with a document: collected with its places, bounded in number, sorted as the text is."""

from typing import Final, Literal, Protocol

from reconciler.model.problem import Problem

MAX_PROBLEMS: Final = 100
"""More problems than this in one file are noise, and a hostile file could make a million."""
MAX_SHOWN: Final = 80
MAX_NEIGHBOURS: Final = 200
"""Among more names than this no similar one is looked for: it would take longer than reading the file."""

Step = str | int
Steps = tuple[Step, ...]
"""The way from the root to a value: keys of mappings and indices of lists."""


class Place(Protocol):
    """Where something begins in the text, both counted from 1."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


class Full(Exception):
    """There are so many problems that looking for more of them helps nobody."""


def shown(text: str) -> str:
    """`text` in quotes for a message: on one line, without characters that a terminal would obey, not too long."""
    cut = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
    return f"'{plain(cut)}'"


def plain(text: str) -> str:
    """`text` with everything that is not ordinary ASCII written as an escape: homoglyphs show themselves, too."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text)


def route(steps: Steps) -> str:
    """The field as messages call it: `models.fast.aliases[0]`."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = plain(step if len(step) <= MAX_SHOWN else step[:MAX_SHOWN] + "...")
            text += f".{name}" if text else name
    return text


def similar(name: str, known: "tuple[str, ...] | list[str]") -> str | None:
    """The known name that was probably meant."""
    if len(known) > MAX_NEIGHBOURS or len(name) > MAX_SHOWN:
        return None
    import difflib  # only a mistake needs it

    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


class Findings:
    """Every problem of one document, errors and warnings."""

    def __init__(self) -> None:
        self._errors: list[Problem] = []
        self._warnings: list[Problem] = []

    def error(self, reference: str, message: str, steps: Steps = (), place: Place | None = None) -> None:
        """Something for which the document is refused."""
        if len(self._errors) >= MAX_PROBLEMS:
            said = f"there are more than {MAX_PROBLEMS} problems: mend these first"
            self._errors.append(Problem(reference="too-many-problems", message=said, where=""))
            raise Full
        self._errors.append(_problem(reference, message, steps, place, "error"))

    def warning(self, reference: str, message: str, steps: Steps = (), place: Place | None = None) -> None:
        """Something that a person should see, in a document that is accepted however many of them there are."""
        if len(self._warnings) < MAX_PROBLEMS:
            self._warnings.append(_problem(reference, message, steps, place, "warning"))
        elif len(self._warnings) == MAX_PROBLEMS:
            said = f"there are more than {MAX_PROBLEMS} warnings; the others are left out"
            self._warnings.append(Problem(reference="too-many-warnings", message=said, where="", severity="warning"))

    @property
    def refused(self) -> bool:
        """Whether there is an error among them."""
        return bool(self._errors)

    def sorted(self) -> tuple[Problem, ...]:
        """In the order of the text; what has no place there comes last."""
        return tuple(sorted((*self._errors, *self._warnings), key=_order))


def _problem(
    reference: str, message: str, steps: Steps, place: Place | None, severity: Literal["error", "warning"]
) -> Problem:
    return Problem(
        reference=reference,
        message=message,
        where=route(steps),
        line=None if place is None else place.line,
        column=None if place is None else place.column,
        severity=severity,
    )


def _order(problem: Problem) -> tuple[int, int, int, str, str]:
    placeless = problem.line is None
    return placeless, problem.line or 0, problem.column or 0, problem.where, problem.reference
