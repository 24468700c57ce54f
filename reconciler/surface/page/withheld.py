"""What a page must not show, taken out of every text of it: home folders, secrets, arguments of commands (S13, S31)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, TypeVar

from reconciler.model.secret import HIDDEN, redacted
from reconciler.model.view import View
from reconciler.surface.render.text import printable

T = TypeVar("T")

_ARGUMENT: Final = re.compile(
    r"(?i)(?P<name>(?<![\w-])--?[\w-]*(?:api-?key|token(?!s|iz)|secret|passw(?:or)?d|credential)[\w-]*(?:=|\s+))"
    r"(?P<value>'[^']*'|\"[^\"]*\"|[^\s,;)]+)"
)
_VARIABLE: Final = re.compile(
    r"(?P<name>\b[A-Z0-9_]*(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)[A-Z0-9_]*=)(?P<value>[^\s,;)]+)"
)


class Withheld:
    """What is taken out of the texts of one page.

    `homes` are the home folder's names, absolute; `commands` says what is shown in the place of a whole command line.
    """

    def __init__(self, homes: Sequence[str], commands: Mapping[str, str] | None = None) -> None:
        names = sorted({home.rstrip("/") for home in homes} - {""}, key=len, reverse=True)
        either = "|".join(map(re.escape, names))
        self._home = (
            re.compile(rf"(?P<quote>')?(?<![\w.~-])(?:{either})(?P<after>/(?=\S)|(?![\w.-]))") if names else None
        )
        self._commands = sorted((commands or {}).items(), key=lambda item: -len(item[0]))

    def of(self, value: T) -> T:
        """The same noun with every text in it, at any depth, as it may be shown."""
        return self._of(value)  # type: ignore[no-any-return]

    def _of(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value) if type(value) is str else value
        if isinstance(value, tuple):
            return tuple(map(self._of, value))
        if isinstance(value, Mapping):
            return {self._of(key): self._of(entry) for key, entry in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{f.name: self._of(getattr(value, f.name)) for f in fields(value)})
        return value

    def text(self, text: str) -> str:
        """One text, of one line or many."""
        for command, shown in self._commands:
            text = text.replace(command, shown)
        text = _ARGUMENT.sub(rf"\g<name>{HIDDEN}", _VARIABLE.sub(rf"\g<name>{HIDDEN}", redacted(text)))
        if self._home is not None:
            text = self._home.sub(_tilde, text)
        return "\n".join(map(printable, text.split("\n")))


def _tilde(found: re.Match[str]) -> str:
    """`~` in the place of a home folder; in front of a quote, inside of which a shell would not know it."""
    quote, after = found["quote"] or "", found["after"]
    return f"~{after}{quote}" if quote and after else f"{quote}~{after}"


def commands(view: View) -> Mapping[str, str]:
    """Command lines that a reason may quote -> what is shown of them; everybody else's are cut where they are read."""
    runtimes = [server.fields.get("runtime", "") for server in view.facts.observed.servers.values()]
    runtimes += [target.fields.get("runtime", "") for target in view.targets.values()]
    return {command: f"{command.partition(' ')[0]} ..." for command in runtimes if " " in command}
