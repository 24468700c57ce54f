"""Chat templates: text of the same revision, referenced by a path that cannot leave the bundle."""

from typing import Final

from reconciler.model.bundle import REGULAR, Bundle
from reconciler.model.desired import DesiredState
from reconciler.model.problem import Problem

from .reader import Node

MAX_TEMPLATE: Final = 1 << 20
_LFS: Final = b"version https://git-lfs.github.com/spec/"
_MODES: Final = {0o100755: "executable", 0o120000: "a link", 0o160000: "a submodule"}


def templates(state: DesiredState, root: Node, bundle: Bundle, problems: list[Problem]) -> dict[str, str]:
    """path -> text of every referenced template; what stands against one is reported at its reference.

    The grammar of the field has already refused `..`, absolute paths, `~`, backslashes and control characters.
    """
    texts: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for label, model in state.models.items():
        path = model.chat_template
        if path is None:
            continue
        problem = _twin(path, spelled) or _refusal(path, bundle)
        if problem is None:
            texts[path] = bundle.files[path].content.decode()
            continue
        node = root.value["models"].value[label].value.get("chat_template")
        reference, message = problem
        problems.append(
            Problem(
                reference=reference,
                message=message,
                where=f"models.{label}.chat_template",
                line=node.line if node is not None else None,
                column=node.column if node is not None else None,
            )
        )
    return texts


def _twin(path: str, spelled: dict[str, str]) -> tuple[str, str] | None:
    """Two spellings that are one file where case does not count, as on a Mac (fault D30)."""
    other = spelled.setdefault(path.lower(), path)
    if other == path:
        return None
    return "template-case", f"{path} and {other} differ in case only and are one file on a Mac: rename one"


def _refusal(path: str, bundle: Bundle) -> tuple[str, str] | None:
    file = bundle.files.get(path)
    if file is None:
        return "template-missing", f"there is no file {path} beside {bundle.name}"
    if file.mode != REGULAR:
        what = _MODES.get(file.mode, "not a regular file")
        return "template-mode", f"{path} is {what}; a template must be a plain file (mode 100644)"
    if len(file.content) > MAX_TEMPLATE:
        return "template-too-large", f"{path} is larger than {MAX_TEMPLATE} bytes"
    if file.content.startswith(_LFS):
        return "template-lfs", f"{path} is a pointer of Git LFS, not the template: fetch it, or keep it out of LFS"
    try:
        text = file.content.decode()
    except UnicodeDecodeError as error:
        return "template-not-utf-8", f"{path} is not UTF-8 at byte {error.start}"
    if "\0" in text:
        return "template-not-text", f"{path} contains a NUL character"
    return None
