"""Reads a text and tells what was said about it, one `line:column reference` each."""

from collections.abc import Callable, Mapping

from reconciler.desired.host import parse_host
from reconciler.desired.parse import Parsed, parse
from reconciler.model.bundle import REGULAR, Bundle, BundleFile
from reconciler.model.desired import DesiredState, ModelSpec
from reconciler.model.host import HostFile
from reconciler.model.problem import ExitCode, InvalidDocument, Problem

NOTHING: Mapping[str, str] = {}


def bundle(text: str | bytes, files: Mapping[str, BundleFile | str] = {}, *, tracked: bool = True) -> Bundle:
    """A bundle whose templates are plain files unless said otherwise."""
    made = {
        path: file if isinstance(file, BundleFile) else BundleFile(mode=REGULAR, content=file.encode())
        for path, file in files.items()
    }
    data = text if isinstance(text, bytes) else text.encode()
    return Bundle(name="ensemble.yaml", revision="worktree:0", text=data, files=made, tracked=tracked)


def read(
    source: str | bytes | Bundle,
    *,
    roots: Mapping[str, str] = NOTHING,
    environ: Mapping[str, str] = NOTHING,
    overrides: Mapping[str, str] = NOTHING,
) -> Parsed:
    """What the text declares; InvalidDocument where it was refused."""
    given = source if isinstance(source, Bundle) else bundle(source)
    return parse(given, roots=roots, environ=environ, overrides=overrides)


def state(text: str | bytes, **outside: Mapping[str, str]) -> DesiredState:
    """The desired state of a text that is right."""
    return read(text, **outside).desired.state


def model(text: str, label: str = "a", **outside: Mapping[str, str]) -> ModelSpec:
    """One model of a text that is right."""
    return state(text, **outside).models[label]


def problems(source: str | bytes | Bundle, **outside: Mapping[str, str]) -> tuple[Problem, ...]:
    """Every error of a text, none where it is accepted."""
    return tuple(problem for problem in _refusal(lambda: read(source, **outside)) if problem.severity == "error")


def host_problems(text: str | bytes) -> tuple[Problem, ...]:
    """Every problem of a host file."""
    return _refusal(lambda: host(text), ExitCode.ENVIRONMENT)


def _refusal(reading: Callable[[], object], code: ExitCode = ExitCode.INVALID) -> tuple[Problem, ...]:
    try:
        reading()
    except InvalidDocument as error:
        refused = error
    else:
        return ()
    assert refused.code is code
    return refused.problems


def host(text: str | bytes) -> HostFile:
    """The host file of a text that is right."""
    return parse_host(text if isinstance(text, bytes) else text.encode(), "host.yaml")


def said(found: tuple[Problem, ...]) -> list[str]:
    """`line:column reference` of each problem, after a look at its words."""
    for problem in found:
        assert problem.message.isascii(), problem
        assert problem.message.isprintable(), problem
        assert problem.where.isascii(), problem
        assert problem.where.isprintable(), problem
        assert "{0}" not in problem.message
    return [f"{p.line}:{p.column} {p.reference}" if p.line else p.reference for p in found]


def only(found: tuple[Problem, ...]) -> Problem:
    """The one problem that there is."""
    assert len(found) == 1, found
    return found[0]


def one_model(**fields: str) -> str:
    """A document with the model `a`, each field on a line of its own: the first is line 4, column 5."""
    given = {"source": "{repo: org/name}", **fields}
    return "version: 1\nmodels:\n  a:\n" + "".join(f"    {name}: {value}\n" for name, value in given.items())


def many_models(count: int) -> str:
    """A valid document with so many models."""
    lines = (f"  m{number:05}: {{source: {{repo: org/m{number}}}}}\n" for number in range(count))
    return "version: 1\nmodels:\n" + "".join(lines)
