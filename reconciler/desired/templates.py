"""Chat templates: text of the same revision, referenced by a path that cannot leave the bundle."""

from collections.abc import Mapping
from typing import Final

from reconciler.model.bundle import REGULAR, Bundle
from reconciler.model.desired import ModelSpec

from .findings import Findings, similar
from .reader import Node

MAX_TEMPLATE: Final = 1 << 20
_LFS: Final = b"version https://git-lfs.github.com/spec/"
_MODES: Final = {
    0o100755: ("template-executable", "an executable file"),
    0o120000: ("template-link", "a symbolic link"),
    0o160000: ("template-submodule", "a submodule"),
    0o040000: ("template-folder", "a folder"),
}


def templates(models: Mapping[str, ModelSpec], bundle: Bundle, tree: Node, findings: Findings) -> dict[str, str]:
    """Path -> text of every referenced template; what stands against one is reported at its reference.

    The grammar of the field has refused `..`, absolute paths, `~`, backslashes and control characters before.
    """
    texts: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for label, model in models.items():
        path = model.chat_template
        if path is None:
            continue
        steps = ("models", label, "chat_template")
        problem = None
        twin = spelled.setdefault(path.casefold(), path)
        if twin != path:
            said = f"the templates {path} and {twin} differ in case only, which a Mac takes for one file: rename one"
            problem = "template-case", said
        elif path not in texts:
            problem = _refusal(path, bundle)
        if problem is not None:
            findings.error(*problem, steps, tree.find(steps))
        elif path not in texts:
            texts[path] = bundle.files[path].content.decode("utf-8")
    return texts


def _refusal(path: str, bundle: Bundle) -> tuple[str, str] | None:
    """Why the file cannot be a template; the first reason is enough."""
    file = bundle.files.get(path)
    if file is None:
        near = similar(path, list(bundle.files))
        hint = f"did you mean {near}?" if near else "add it in the same commit"
        return "template-missing", f"there is no template {path} beside {bundle.name}: {hint}"
    if file.mode != REGULAR:
        reference, what = _MODES.get(file.mode, ("template-mode", f"of mode {file.mode:o}"))
        return reference, f"the template {path} is {what}: it must be a plain file (mode 100644)"
    if len(file.content) > MAX_TEMPLATE:
        return "template-too-large", f"the template {path} is larger than {MAX_TEMPLATE} bytes: shorten it"
    if file.content.startswith(_LFS):
        return "template-lfs", f"the template {path} is a pointer of Git LFS, not the text: keep it out of LFS"
    try:
        text = file.content.decode("utf-8")
    except UnicodeDecodeError as error:
        return "template-not-utf-8", f"the template {path} is not UTF-8 at byte {error.start}: save it as UTF-8"
    if "\0" in text:
        return "template-not-text", f"the template {path} contains a NUL character: remove it"
    return None
