"""What a person is told who names a label that nobody knows."""

import difflib
from collections.abc import Iterable

from reconciler.model.problem import ExitCode, ReconcilerError


def unknown_label(label: str, known: Iterable[str], *, saved: bool = False) -> ReconcilerError:
    """The refusal; `saved`: the file has it already, and that is not in force."""
    names = list(known)
    near = difflib.get_close_matches(label, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"declared: {', '.join(names) or 'nothing'}"
    return ReconcilerError(
        "unknown-label",
        f"{label!r} is not declared in what is in force, so nothing was changed",
        hint="the file has it, say first: reconciler apply" if saved else hint,
        code=ExitCode.USAGE,
    )
