"""What is wrong with a document or a request, and how it reaches a person or a script."""

from enum import IntEnum

from .base import noun


class ExitCode(IntEnum):
    """Every way in which a command can end; README and tests are checked against this table."""

    OK = 0
    INTERNAL = 1
    CHANGES = 2
    INVALID = 3
    BLOCKED = 4
    UNSETTLED = 5
    LOCKED = 6
    TRUST = 7
    ENVIRONMENT = 8
    STALE = 9
    USAGE = 64
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        """One phrase for help and documentation."""
        return _MEANING[self]


_MEANING = {
    ExitCode.OK: "in sync, or done",
    ExitCode.INTERNAL: "internal error: a bug",
    ExitCode.CHANGES: "changes are pending (`plan --detailed-exitcode`)",
    ExitCode.INVALID: "the desired state is invalid; the last good one stays in force",
    ExitCode.BLOCKED: "refused or blocked: a person decides",
    ExitCode.UNSETTLED: "not converged; a retry is planned",
    ExitCode.LOCKED: "another reconciler holds the lock",
    ExitCode.TRUST: "trust gate: signature or rewritten history",
    ExitCode.ENVIRONMENT: "environment: a tool, volume, disk or permission",
    ExitCode.STALE: "the saved plan is stale",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.INTERRUPTED: "interrupted (SIGINT)",
    ExitCode.TERMINATED: "terminated (SIGTERM)",
}

PRECEDENCE = (
    ExitCode.INTERNAL,
    ExitCode.INVALID,
    ExitCode.TRUST,
    ExitCode.ENVIRONMENT,
    ExitCode.BLOCKED,
    ExitCode.UNSETTLED,
    ExitCode.CHANGES,
    ExitCode.OK,
)
"""Of several reasons to end, the first one of this list counts."""


def worst(codes: "set[ExitCode]") -> ExitCode:
    """The code that counts when a run has several reasons to end."""
    return next((code for code in PRECEDENCE if code in codes), ExitCode.OK)


@noun
class Problem:
    """One thing that is wrong with a document, at one place."""

    reference: str
    """Stable kebab-case name, for scripts and for searching the documentation."""
    message: str
    """One sentence: what is wrong and what would be right."""
    where: str
    """The field, as `models.fast.port`; empty for the document as a whole."""
    line: int | None = None
    """Line, counted from 1; None where the problem has no place in the text."""
    column: int | None = None
    severity: str = "error"
    """`error`, or `warning` where the document is accepted all the same."""

    def located(self, file: str) -> str:
        """`file:line:column: message [reference]`, as editors understand it."""
        place = file if self.line is None else f"{file}:{self.line}:{self.column}"
        kind = "" if self.severity == "error" else "warning: "
        return f"{place}: {kind}{self.message} [{self.reference}]"


class ReconcilerError(Exception):
    """A failure that a person can act on; never shown with a traceback."""

    def __init__(self, reference: str, message: str, *, hint: str, code: ExitCode) -> None:
        super().__init__(message)
        self.reference = reference
        self.message = message
        self.hint = hint
        self.code = code


class InvalidDocument(ReconcilerError):
    """A document was refused; `problems` says every reason, in the order of the text."""

    def __init__(
        self, file: str, problems: tuple[Problem, ...], *, kept: str, code: ExitCode = ExitCode.INVALID
    ) -> None:
        count = sum(p.severity == "error" for p in problems)
        noun_ = "problem" if count == 1 else "problems"
        super().__init__(
            "invalid-document",
            f"{file} has {count} {noun_}; {kept}",
            hint="mend the file",
            code=code,
        )
        self.file = file
        self.problems = problems
