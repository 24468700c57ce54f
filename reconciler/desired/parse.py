"""From a bundle to a `Desired`, or to every problem of the text at once."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from reconciler.model.base import noun
from reconciler.model.bundle import Bundle
from reconciler.model.desired import Desired, DesiredState, ModelSpec, Source
from reconciler.model.names import REPO, REVISION
from reconciler.model.problem import InvalidDocument, Problem

from .check import check
from .reader import Node, Reader, Refused, escaped
from .shape import below, build
from .templates import templates

KEPT: Final = "the last good state stays in force"
_VARIABLE: Final = re.compile(r"\$\{(env|root)\.([A-Za-z_][A-Za-z0-9_]*)\}")


@noun
class Parsed:
    """A desired state that may be used, and what a person might still want to mend."""

    desired: Desired
    warnings: tuple[Problem, ...]


def parse(
    bundle: Bundle, *, roots: Mapping[str, str], environ: Mapping[str, str], overrides: Mapping[str, str]
) -> Parsed:
    """Read, check, expand and override.

    Of `environ` only `${env.NAME}` in a path and `MODEL__<LABEL>__SOURCE` are looked at, nothing that an API client
    uses. Raises InvalidDocument with every problem, in the order of the text.
    """
    reader = Reader()
    root = reader.read(bundle.text)
    problems = list(reader.problems)
    if root is None:
        raise InvalidDocument(bundle.name, _sorted(problems), kept=KEPT)
    _check_version(root, problems)
    state = build(DesiredState, root, problems)
    problems = [_telling(problem, root) for problem in problems]
    if isinstance(state, Refused) or problems:
        raise InvalidDocument(bundle.name, _sorted(problems), kept=KEPT)
    overlay = Overlay(root, roots, environ, problems)
    state = overlay.apply(state, overrides)
    warnings = check(state, root, bundle, overlay.provenance, problems)
    texts = templates(state, root, bundle, problems)
    if problems:
        raise InvalidDocument(bundle.name, _sorted(problems), kept=KEPT)
    desired = Desired(state=state, revision=bundle.revision, templates=texts, provenance=overlay.provenance)
    return Parsed(desired=desired, warnings=_sorted(warnings))


def _sorted(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda p: (p.line or 0, p.column or 0)))


def _check_version(root: Node, problems: list[Problem]) -> None:
    """A newer format gets its own sentence, whatever else this version cannot read of it."""
    version = root.value.get("version") if isinstance(root.value, dict) else None
    if version is not None and type(version.value) is int and version.value > 1:
        problems.append(
            Problem(
                reference="newer-version",
                message=f"version {version.value} needs a newer reconciler; this one reads version 1",
                where="version",
                line=version.line,
                column=version.column,
            )
        )


def _telling(problem: Problem, root: Node) -> Problem:
    """The one mistake that everybody makes gets the sentence that tells it: an API label where a repository belongs."""
    if problem.reference == "bad-value" and problem.where.endswith((".source.repo", ".draft.repo")):
        value = _at(root, problem.where)
        if isinstance(value, str) and value and "/" not in value:
            return replace(
                problem,
                reference="bare-repository-name",
                message=f"{problem.where} {escaped(value)} looks like an API label, not a repository: "
                f"write owner/name, such as mlx-community/{value if value.isascii() else 'name'}, "
                "or use source.path for a local folder",
            )
    return problem


def _at(root: Node, where: str) -> object:
    """The value at a path; a label may contain dots, so the tree decides where one ends."""
    node, rest = root, where
    while rest:
        if not isinstance(node.value, dict):
            return None
        name = max((n for n in node.value if rest == n or rest.startswith(n + ".")), key=len, default=None)
        if name is None:
            return None
        node, rest = node.value[name], rest[len(name) + 1 :]
    return node.value


class Overlay:
    """What is laid over the file: paths of this machine, sources from the environment, overrides of a command."""

    def __init__(
        self, root: Node, roots: Mapping[str, str], environ: Mapping[str, str], problems: list[Problem]
    ) -> None:
        self._models = root.value["models"].value if "models" in root.value else {}
        self._values = {"env": environ, "root": roots}
        self._environ = environ
        self._problems = problems
        self.provenance: dict[str, str] = {}

    def apply(self, state: DesiredState, overrides: Mapping[str, str]) -> DesiredState:
        """The state with everything laid over it; `provenance` says from where."""
        models = {label: self._expanded(label, model) for label, model in (state.models or {}).items()}
        self._from_environment(models)
        for field, value in overrides.items():
            self._override(models, field, value)
        return replace(state, models=models)

    def _report(self, label: str, reference: str, message: str, where: str) -> None:
        node = self._models.get(label)
        self._problems.append(
            Problem(
                reference=reference,
                message=message,
                where=where,
                line=node.line if node is not None else None,
                column=node.column if node is not None else None,
            )
        )

    def _expanded(self, label: str, model: ModelSpec) -> ModelSpec:
        source = self._source(label, model.source, "source")
        draft = self._source(label, model.draft, "draft") if model.draft is not None else None
        return model if source is model.source and draft is model.draft else replace(model, source=source, draft=draft)

    def _source(self, label: str, source: Source, field: str) -> Source:
        if source.path is None or "${" not in source.path:
            return source
        where = f"models.{label}.{field}.path"

        def value(match: re.Match[str]) -> str:
            kind, name = match.groups()
            found = self._values[kind].get(name)
            if not found:
                what = f"the environment variable {name}" if kind == "env" else f"the root {name} of the host file"
                self._report(label, f"unset-{kind}", f"{where} names {what}, which is not set", where)
            return found or ""

        path = _VARIABLE.sub(value, source.path)
        if "${" in path:
            self._report(label, "bad-variable", f"{where} may use ${{env.NAME}} and ${{root.NAME}} only", where)
        return replace(source, path=path)

    def _from_environment(self, models: dict[str, ModelSpec]) -> None:
        """`MODEL__<LABEL>__SOURCE`, empty counting as not set."""
        names: dict[str, list[str]] = {}
        given = {n for n, v in self._environ.items() if n.startswith("MODEL__") and n.endswith("__SOURCE") and v}
        if not given:
            return
        for label in models:
            names.setdefault(f"MODEL__{re.sub('[^A-Z0-9]', '_', label.upper())}__SOURCE", []).append(label)
        for name in sorted(given & names.keys()):
            if len(names[name]) > 1:
                both = " and ".join(names[name])
                self._report(names[name][0], "ambiguous-override", f"{name} could mean {both}: rename one", "models")
                continue
            label = names[name][0]
            source = self._written(label, self._environ[name], name)
            if source is not None:
                models[label] = replace(models[label], source=source)
                self.provenance[label] = f"env {name}"

    def _written(self, label: str, text: str, name: str) -> Source | None:
        """A source in one word: `owner/name`, `owner/name@revision` or an absolute path."""
        if text.startswith("/"):
            return Source(path=text)
        repo, _, revision = text.partition("@")
        if not REPO.regex.fullmatch(repo) or (revision and not REVISION.regex.fullmatch(revision)):
            said = "looks like an API label, not a repository" if "/" not in text else "is not a source"
            message = f"{name} is {escaped(text)}, which {said}: write owner/name, owner/name@revision or a path"
            reference = "bare-repository-name" if "/" not in text else "bad-override"
            self._report(label, reference, message, f"models.{label}.source")
            return None
        return Source(repo=repo, revision=revision or None)

    def _override(self, models: dict[str, ModelSpec], field: str, value: str) -> None:
        """One `--set models.<label>.<field>=value` of a command."""
        for suffix in (".source.repo", ".source.revision", ".source.path", ".port"):
            label = field.removeprefix("models.").removesuffix(suffix)
            if field == f"models.{label}{suffix}" and label in models:
                changed = self._changed(models[label], label, suffix, value)
                if changed is not None:
                    models[label] = changed
                    if suffix != ".port":
                        self.provenance[label] = "--set"
                return
        self._problems.append(
            Problem(
                reference="bad-override",
                message=f"--set {escaped(field)} cannot be overridden: use models.<label>.source.repo, "
                ".source.revision, .source.path or .port of a declared label",
                where=field if field.isascii() else "",
            )
        )

    def _changed(self, model: ModelSpec, label: str, suffix: str, value: str) -> ModelSpec | None:
        where = below(f"models.{label}", suffix[1:])
        if suffix == ".port":
            if value in ("auto", "none"):
                return replace(model, port=value)  # type: ignore[arg-type]
            if value.isascii() and value.isdigit() and 1024 <= int(value) <= 65535:  # noqa: PLR2004
                return replace(model, port=int(value))
        elif suffix == ".source.repo" and (source := self._written(label, value, f"--set {where}")) is not None:
            return replace(model, source=source)
        elif suffix == ".source.revision" and model.source.repo is not None and REVISION.regex.fullmatch(value):
            return replace(model, source=replace(model.source, revision=value))
        elif suffix == ".source.path":
            return replace(model, source=Source(path=value))
        if suffix != ".source.repo":
            self._report(label, "bad-override", f"--set {where} cannot be {escaped(value)}", where)
        return None
