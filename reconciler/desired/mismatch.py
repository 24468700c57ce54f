"""Why a name does not fit its grammar, for the mistakes that people make and the tricks that they try."""

from collections.abc import Callable, Mapping
from typing import Final

from reconciler.model.base import Pattern
from reconciler.model.names import OPTION, REPO, TEMPLATE

from .findings import plain, shown

EXAMPLE_OWNER: Final = "mlx-community"


def repository(text: str) -> tuple[str, str] | None:
    """The one mistake that everybody makes: an API label where a repository belongs."""
    if text.startswith(("/", "~", ".")):
        return "path-as-repository", f"is {shown(text)}, which is a path: use source.path for a folder"
    if "://" in text:
        return "url-as-repository", f"is {shown(text)}, which is a URL: write owner/name only"
    if "@" in text:
        return "revision-in-repository", f"is {shown(text)}: write the part after '@' into source.revision"
    if text and "/" not in text:
        like = f", such as {EXAMPLE_OWNER}/{text}" if REPO.regex.fullmatch(f"{EXAMPLE_OWNER}/{text}") else ""
        said = f"is {shown(text)}, which looks like an API label, not a repository: write owner/name{like}"
        return "bare-repository-name", f"{said}, or use source.path for a folder"
    return None


def template(text: str) -> tuple[str, str] | None:
    """What would let a template be something else than a file beside the desired state."""
    for refused, reference, why in (
        (text.startswith("/"), "template-absolute", "is an absolute path"),
        (text.startswith("~"), "template-home", "names a home folder"),
        ("\\" in text, "template-backslash", "has a backslash"),
        (".." in text.split("/"), "template-traversal", "leaves its folder"),
    ):
        if refused:
            return reference, f"{why} ({shown(text)}): write a path below the folder of the desired state"
    return None


def option(text: str) -> tuple[str, str] | None:
    """A name that a command line would take for a flag."""
    if text.startswith("-"):
        return "looks-like-a-flag", f"begins with '-': write the option's name, such as {plain(text.strip('-')[:40])!r}"
    return None


EXPLAIN: Final[Mapping[Pattern, Callable[[str], tuple[str, str] | None]]] = {
    REPO: repository,
    TEMPLATE: template,
    OPTION: option,
}
"""For `shape.Context`."""
