"""A Mac whose programs say what was recorded.

A file is one run: `$ ` and the words, then what went to standard output, lines of standard error behind `! `, and at
the end `= ` and the exit code.
"""

from pathlib import Path
from typing import Final

from reconciler.model.observed import Observation, Present, Unknown
from reconciler.model.transcript import Transcript

FOLDER: Final = Path(__file__).parent / "macos15"


def recorded(name: str) -> tuple[tuple[str, ...], Transcript]:
    """The words and the transcript of a file."""
    first, *lines, last = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    out = [line for line in lines if not line.startswith("! ")]
    err = [line.removeprefix("! ") for line in lines if line.startswith("! ")]
    said = Transcript(
        code=int(last.removeprefix("= ")),
        out="".join(f"{line}\n" for line in out),
        err="".join(f"{line}\n" for line in err),
    )
    return tuple(first.removeprefix("$ ").split()), said


def transcript(name: str) -> Transcript:
    """The transcript of a file."""
    return recorded(name)[1]


class RecordedMac:
    """Answers each command with one recorded run of it; what was not recorded is unknown."""

    def __init__(self, *names: str) -> None:
        self._said = dict(recorded(name) for name in names)

    def ask(self, *words: str) -> Observation[Transcript]:
        """What was recorded."""
        said = self._said.get(words)
        return Unknown(reason=f"{words[0]} gave no answer in 10 s") if said is None else Present(value=said)
