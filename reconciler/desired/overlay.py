"""What is laid over the file: folders of this machine, sources from the environment, overrides of one command."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, Literal, NamedTuple

from reconciler.model.desired import ModelSpec, Source
from reconciler.model.names import REPO, REVISION, Port

from .findings import Findings, Steps, route, shown, similar
from .mismatch import repository
from .reader import Node
from .scalars import hidden

SET: Final = "--set"
_PORTS: Final = range(Port.__metadata__[0].ge, Port.__metadata__[1].le + 1)  # type: ignore[attr-defined]
_NO_NUMBER: Final[Mapping[str, Literal["auto", "none"]]] = {"auto": "auto", "none": "none"}
_PLACEHOLDER: Final = re.compile(r"\$\{(env|root)\.([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_NAME: Final = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|PRIVATE", re.IGNORECASE)
_FIELD: Final = re.compile(r"models\.(.+)\.(source\.repo|source\.revision|source\.path|port)", re.DOTALL)


class Outside(NamedTuple):
    """What does not stand in the file."""

    roots: Mapping[str, str]
    environ: Mapping[str, str]
    overrides: Mapping[str, str]


class Laid(NamedTuple):
    """Models as they count, and where their sources come from if not from the file."""

    models: Mapping[str, ModelSpec]
    provenance: Mapping[str, str]


def lay(models: Mapping[str, ModelSpec], tree: Node, outside: Outside, findings: Findings) -> Laid:
    """The models with everything laid over them."""
    overlay = _Overlay(models, tree, outside, findings)
    overlay.from_environment()
    overlay.from_command()
    overlay.expand()
    return Laid(overlay.models, overlay.provenance)


def variable(label: str) -> str:
    """The environment variable that overrides a label's source."""
    return f"MODEL__{re.sub('[^A-Z0-9]', '_', label.upper())}__SOURCE"


def path_problem(path: str) -> tuple[str, str] | None:
    """What keeps `path` from meaning one folder, as a reference and the rest of a sentence."""
    if path.startswith("~"):
        return "path-of-home", "begins with '~', which is another folder for every user: use ${root.NAME}"
    if not path.startswith("/"):
        return "path-not-absolute", "is not absolute: begin with ${root.NAME}, ${env.NAME} or '/'"
    if ".." in path.split("/") or path.startswith("//"):
        return "path-not-plain", "must not contain '..' or begin with '//': write the plain path"
    if any(hidden(path, file=False)) or "\n" in path or "\t" in path:
        return "path-not-plain", "has an invisible or control character: write the plain path"
    return None


class _Overlay:
    """The models on their way from what the file says to what counts."""

    def __init__(self, models: Mapping[str, ModelSpec], tree: Node, outside: Outside, findings: Findings) -> None:
        self.models = dict(models)
        self.provenance: dict[str, str] = {}
        self._tree = tree
        self._outside = outside
        self._findings = findings

    def from_environment(self) -> None:
        """`MODEL__<LABEL>__SOURCE`, empty counting as not set. No other variable is looked at here."""
        meant: dict[str, list[str]] = {}
        for label in self.models:
            meant.setdefault(variable(label), []).append(label)
        for name, labels in meant.items():
            text = self._outside.environ.get(name)
            if not text:
                continue
            if len(labels) > 1:
                said = f"the environment variable {name} could mean {' and '.join(labels[:5])}: rename one of them"
                place = self._tree.find(("models", labels[1])).key
                self._findings.error("ambiguous-override", said, ("models", labels[1]), place)
                continue
            source = self._source(text, f"the environment variable {name}", ("models", labels[0], "source"))
            if source is not None:
                self._replace(labels[0], source, f"env {name}")

    def from_command(self) -> None:
        """`--set models.<label>.<field>=value`, in an order that does not depend on how they were given."""
        given: dict[str, dict[str, str]] = {}
        for field, value in sorted(self._outside.overrides.items()):
            match = _FIELD.fullmatch(field)
            if match is None:
                said = "use models.<label>.source.repo, .source.revision, .source.path or .port"
                self._findings.error("bad-override", f"{SET} {shown(field)} cannot be set: {said}")
            elif match[1] not in self.models:
                near = similar(match[1], list(self.models))
                said = f"did you mean {near}?" if near else "name a declared label"
                self._findings.error("bad-override", f"{SET} names {shown(match[1])}, which is not declared: {said}")
            else:
                given.setdefault(match[1], {})[match[2]] = value
        for label, values in given.items():
            self._set_port(label, values.pop("port", None))
            self._set_source(label, {field.removeprefix("source."): value for field, value in values.items()})

    def _set_port(self, label: str, text: str | None) -> None:
        if text is None:
            return
        if text in _NO_NUMBER:
            self.models[label] = replace(self.models[label], port=_NO_NUMBER[text])
        elif re.fullmatch(r"[1-9][0-9]{0,5}", text) and int(text) in _PORTS:
            self.models[label] = replace(self.models[label], port=int(text))
        else:
            said = f"a port from {_PORTS[0]} to {_PORTS[-1]}, auto or none"
            self._findings.error("bad-override", f"{SET} models.{label}.port must be {said}; it is {shown(text)}")

    def _set_source(self, label: str, values: dict[str, str]) -> None:
        """A repository clears a path and the revision of the one before it; a path clears both."""
        if not values:
            return
        steps: Steps = ("models", label, "source")
        source: Source | None = self.models[label].source
        if "repo" in values and "path" in values:
            self._findings.error("source-not-one", f"{SET} gives {route(steps)} both repo and path: give one", steps)
            return
        for field in ("repo", "path"):
            if field in values:
                source = self._source(values[field], f"{SET} {route(steps)}.{field}", steps, only=field)
        revision = values.get("revision")
        if revision is not None and source is not None:
            if not REVISION.regex.fullmatch(revision) or source.repo is None:
                said = f"{SET} {route(steps)}.revision must be {REVISION.says} of a repository; it is {shown(revision)}"
                self._findings.error("bad-override", said, (*steps, "revision"))
                return
            source = replace(source, revision=revision)
        if source is not None:
            self._replace(label, source, SET)

    def _replace(self, label: str, source: Source, origin: str) -> None:
        self.models[label] = replace(self.models[label], source=source)
        self.provenance[label] = origin

    def _source(self, text: str, name: str, steps: Steps, only: str = "") -> Source | None:
        """A source in one word: `owner/name`, `owner/name@revision` or an absolute path."""
        if only == "path" or (text.startswith("/") and only != "repo"):
            problem = path_problem(text)
            if problem is not None:
                self._findings.error(problem[0], f"{name} {problem[1]}", steps)
            return Source(path=text) if problem is None else None
        repo, at, revision = text.partition("@")
        if REPO.regex.fullmatch(repo) and (REVISION.regex.fullmatch(revision) if at else True):
            return Source(repo=repo, revision=revision or None)
        told = repository(repo) if not at else None
        expected = "owner/name, owner/name@revision or an absolute path"
        reference, said = told or ("bad-override", f"is {shown(text)}: write {expected}")
        self._findings.error(reference, f"{name} {said}", steps)
        return None

    def expand(self) -> None:
        """`${env.NAME}` and `${root.NAME}` in the paths that the file gives."""
        for label, model in self.models.items():
            changed: dict[str, Source] = {}
            if model.source.path is not None and label not in self.provenance:
                changed["source"] = self._expanded(model.source, ("models", label, "source", "path"))
            if model.draft is not None and model.draft.path is not None:
                changed["draft"] = self._expanded(model.draft, ("models", label, "draft", "path"))
            if changed:
                self.models[label] = replace(model, **changed)  # type: ignore[arg-type]

    def _expanded(self, source: Source, steps: Steps) -> Source:
        text = source.path or ""
        place = self._tree.find(steps)
        problems = list(self._unknown(text, steps))
        path = _PLACEHOLDER.sub(lambda match: self._value(match[1], match[2]) or "", text)
        if not problems and (told := path_problem(path)) is not None:
            # The value of a variable is not repeated: it may be anything.
            problems.append((told[0], f"{route(steps)} {told[1]}"))
        for reference, message in problems:
            self._findings.error(reference, message, steps, place)
        return replace(source, path=path)

    def _value(self, kind: str, name: str) -> str | None:
        values = self._outside.environ if kind == "env" else self._outside.roots
        return values.get(name)

    def _unknown(self, text: str, steps: Steps) -> Iterator[tuple[str, str]]:
        """Reference and message of each placeholder that has no value or is none."""
        where = route(steps)
        for kind, name in dict.fromkeys(_PLACEHOLDER.findall(text)):
            if kind == "env" and _SECRET_NAME.search(name):
                said = f"{where} names the environment variable {name}, which sounds secret: paths are printed"
                yield "secret-in-path", f"{said}, so use another name"
            elif not self._value(kind, name):
                what = f"the environment variable {name}" if kind == "env" else f"the root {name}"
                mend = "set it" if kind == "env" else "add it to roots in the host file"
                said = f"{where} names {what}, which is not set: {mend}"
                yield f"unset-{kind}", said
        if "$" in _PLACEHOLDER.sub("", text):
            said = f"{where} has a '$' that begins neither ${{env.NAME}} nor ${{root.NAME}}: use one of these"
            yield "bad-placeholder", said
