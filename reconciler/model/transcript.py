"""What a short program has said, and how it ended."""

from .base import noun


@noun
class Transcript:
    """One run of a program."""

    code: int
    """Its exit code; negative for a signal."""
    out: str
    err: str = ""

    @property
    def complaint(self) -> str:
        """What it says about its failure, in one line: the last line of its errors, else of its output."""
        lines = [line.strip() for text in (self.err, self.out) for line in reversed(text.splitlines()) if line.strip()]
        return lines[0] if lines else f"it ended with code {self.code}"
