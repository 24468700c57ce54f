"""From the text of the host file to a `HostFile`."""

from reconciler.model.host import HostFile
from reconciler.model.problem import InvalidDocument, Problem

from .reader import Reader, Refused
from .shape import build


def parse_host(text: bytes, name: str) -> HostFile:
    """The host file. Raises InvalidDocument with every problem; nothing has been done then."""
    reader = Reader()
    root = reader.read(text)
    problems = reader.problems
    host = build(HostFile, root, problems) if root is not None else None
    if host is None or isinstance(host, Refused) or problems:
        raise InvalidDocument(name, tuple(sorted(problems, key=_place)), kept="nothing was changed")
    problems += _relative_paths(host)
    if problems:
        raise InvalidDocument(name, tuple(problems), kept="nothing was changed")
    return host


def _place(problem: Problem) -> tuple[int, int]:
    return problem.line or 0, problem.column or 0


def _relative_paths(host: HostFile) -> list[Problem]:
    """Paths mean the same wherever the command is run from, so none of them is relative."""
    litellm = host.gateways.litellm
    paths = {f"roots.{name}": path for name, path in host.roots.items()}
    if litellm is not None:
        paths["gateways.litellm.include"] = litellm.include
    return [
        Problem(reference="path-not-absolute", message=f"{where} must be an absolute path", where=where)
        for where, path in paths.items()
        if not path.startswith("/") or ".." in path.split("/")
    ]
