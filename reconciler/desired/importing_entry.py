"""One entry of an mlxctl registry as one model: what is carried over, what becomes a remark, what is refused."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from reconciler.model.base import noun
from reconciler.model.desired import Scalar, Source
from reconciler.model.names import LABEL, OPTION, REPO, WORD
from reconciler.model.secret import SECRET

from .findings import Findings, Step, route, shown
from .importing_registry import known_fields
from .importing_text import ImportedModel, is_outside, scalar
from .mismatch import repository
from .overlay import path_problem
from .reader import Node

_WORDS: Final = ("backend", "tool_call_parser", "reasoning_parser")
_NUMBERS: Final = ("context_length", "max_output_tokens")
_FAMILIES: Final = ("gpt-oss", "qwen3", "qwen-3")
"""For these mlxctl fills in the parsers by itself."""
_USUAL_FORMAT: Final = "mlx"
_SNAPSHOT: Final = re.compile(r".*/models--(?P<repo>[^/]+)/snapshots/(?P<commit>[^/]+)")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
TEMPLATES: Final = "templates"
_NAMED: Final = 20
"""More names than this are not listed in one message; the comment in the text has them all."""


@noun
class Entry:
    """An entry whose label is settled."""

    key: str
    handle: str
    """How mlxctl's clients call the model."""
    label: str
    fields: Mapping[str, Any]
    """Those that are not null and fit the schema."""
    node: Node

    @property
    def port(self) -> int | None:
        """The port; None: nothing is served, or the port has been refused."""
        port = self.fields.get("port")
        return None if port is None else int(port)

    def aliases(self) -> Iterator[tuple[int, str]]:
        """The aliases that are labels, with their places in the list; the entry's own label is none."""
        for index, alias in enumerate(self.fields.get("aliases", ())):
            if LABEL.regex.fullmatch(alias) and alias != self.label:
                yield index, alias

    def steps(self, *below: Step) -> tuple[Step, ...]:
        """The way from the root."""
        return ("models", self.key, *below)


def imported(entry: Entry, findings: Findings) -> ImportedModel | None:
    """The model; None where its source was refused, which has been reported then."""
    reading = _Reading(entry, findings)
    source = reading.source()
    words = reading.words()
    numbers = {name: int(entry.fields[name]) for name in _NUMBERS if name in entry.fields}
    template = reading.template()
    parameters = reading.parameters()
    aliases = reading.aliases()
    reading.port()
    if source is None:
        return None
    remarks = tuple(reading.remarks(source))
    return ImportedModel(
        label=entry.label,
        repo=source.repo,
        path=source.path,
        port=entry.port,
        fields=words | numbers,
        aliases=aliases,
        request_params=parameters,
        template=template,
        remarks=remarks,
    )


class _Reading:
    """The fields of one entry, each looked at once."""

    def __init__(self, entry: Entry, findings: Findings) -> None:
        self._entry = entry
        self._fields = entry.fields
        self._findings = findings
        self._left_out: list[str] = []
        """Request parameters that cannot be declared."""

    def _error(self, reference: str, message: str, *below: Step) -> None:
        steps = self._entry.steps(*below)
        self._findings.error(reference, f"{route(steps)} {message}", steps, self._entry.node.find(below))

    def _warn(self, reference: str, message: str, *below: Step) -> None:
        steps = self._entry.steps(*below)
        self._findings.warning(reference, f"{route(steps)} {message}", steps, self._entry.node.find(below))

    def source(self) -> Source | None:
        """The repository; the folder where there is none that is one."""
        repo = self._fields.get("repo_id") or ""
        if REPO.regex.fullmatch(repo) and ".." not in repo:
            return Source(repo=repo)
        for field in ("cache_path", "source_path"):
            path = self._fields.get(field)
            if path and path_problem(path) is None and "$" not in path and scalar(path) is not None:
                why = f"the repo_id {shown(repo)} is no repository 'owner/name'" if repo else "there is no repo_id"
                hint = "it is a path of one machine: begin it with ${root.NAME}"
                self._warn("machine-path-in-git", f"becomes source.path, as {why}; {hint}", field)
                return Source(path=path)
        if not repo:
            self._error("source-missing", "has neither a repo_id 'owner/name' nor the path of a folder: give one")
            return None
        reference, said = repository(repo) or ("bad-value", f"must be {REPO.says}; it is the text {shown(repo)}")
        self._error(reference, said, "repo_id")
        return None

    def words(self) -> dict[str, Scalar]:
        """Names of the server program and of its parsers."""
        found: dict[str, Scalar] = {}
        for field in _WORDS:
            text = self._fields.get(field)
            if not text:
                continue
            if WORD.regex.fullmatch(text):
                found[field] = text
            else:
                self._error("bad-value", f"must be {WORD.says}; it is the text {shown(text)}", field)
        return found

    def template(self) -> str | None:
        """Where the chat template belongs once it lies beside the desired file; it is not read here."""
        path = self._fields.get("chat_template")
        if not path:
            return None
        target = f"{TEMPLATES}/{self._entry.label}.jinja"
        said = f"is a file of one machine: copy {shown(path)} to {target} beside the desired file"
        self._warn("template-not-imported", f"{said} and take the '#' before chat_template away", "chat_template")
        return target

    def parameters(self) -> dict[str, Scalar]:
        """Request parameters that are one value each."""
        found: dict[str, Scalar] = {}
        for name, value in self._fields.get("request_params", {}).items():
            if (why := _unfit(name, value)) is None:
                found[name] = value
            else:
                self._left_out.append(shown(f"request_params.{name}")[1:-1])
                self._warn("parameter-left-out", f"was left out: {why}", "request_params", name)
        return found

    def aliases(self) -> tuple[str, ...]:
        """Other names, once each."""
        for index, alias in enumerate(self._fields.get("aliases", ())):
            if not LABEL.regex.fullmatch(alias):
                self._error("bad-value", f"must be {LABEL.says}; it is the text {shown(alias)}", "aliases", index)
        return tuple(dict.fromkeys(alias for _, alias in self._entry.aliases()))

    def port(self) -> None:
        """Say so where mlxctl's ranges do not have it."""
        port = self._entry.port
        if port is not None and is_outside(port):
            said = f"is {port}, which is in neither of mlxctl's ranges: it got a range of its own, port-{port}"
            self._warn("port-outside-ranges", said, "port")

    def remarks(self, source: Source) -> Iterator[str]:
        """What a person should know about the model, for comments; the warnings say it with places."""
        entry = self._entry
        names = [name for name in dict.fromkeys((entry.key, entry.handle)) if name != entry.label]
        if names:
            yield f"mlxctl's registry calls it {' and '.join(shown(name) for name in names)}."
        if source.repo is not None:
            yield from self._weights(source.repo)
        if inferred := self._inferred():
            yield f"Inferred by mlxctl and so not written: {', '.join(inferred)}."
        if left_out := self._without_equivalent():
            yield f"Without an equivalent and so left out: {', '.join(left_out)}."

    def _weights(self, repo: str) -> Iterator[str]:
        """Which weights of the repository mlxctl served, if they were the repository's at all."""
        path = self._fields.get("cache_path")
        if not path:
            return
        match = _SNAPSHOT.fullmatch(path.rstrip("/"))
        if match is None or match["repo"] != repo.replace("/", "--"):
            said = f"is the folder that was served, and it is no snapshot of {repo}: the repository was imported"
            self._warn("weights-elsewhere", f"{said}; write source.path to serve the folder", "cache_path")
            yield "mlxctl served a folder (cache_path) that is no snapshot of the repository: it was not taken over."
        elif _COMMIT.fullmatch(match["commit"]):
            yield f"mlxctl served commit {match['commit']}: as source.revision it would be kept for ever."

    def _inferred(self) -> list[str]:
        """What mlxctl fills in by itself where it is missing, and what it always guesses."""
        fields = self._fields
        identity = " ".join(str(fields.get(name, "")) for name in ("model_id", "repo_id", "cache_path")).lower()
        filled = [*_NUMBERS]
        if any(family in identity for family in _FAMILIES):
            filled += [name for name in _WORDS if name != "backend"]
        guessed = [f"format ({_USUAL_FORMAT})"] if fields.get("format") == _USUAL_FORMAT else []
        return guessed + [name for name in filled if name not in fields]

    def _without_equivalent(self) -> list[str]:
        """Everything that was not looked at, by its name; warned of as one."""
        fields = self._fields
        names: list[str] = []
        for name, value in fields.items():
            if name not in known_fields() and value not in ("", {}, []):
                names += [f"{name}.{part}" for part in value] if isinstance(value, dict) else [name]
        if fields.get("format", _USUAL_FORMAT) != _USUAL_FORMAT:
            names.append("format")
        served = fields.get("cache_path")
        names += [name for name in ("source_path", "og_path") if fields.get(name, served) != served]
        names = sorted(shown(name)[1:-1] for name in names)
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            said = f"has fields without an equivalent, which were left out: {', '.join(names[:_NAMED])}{more}"
            self._warn("no-equivalent", said)
        return sorted(self._left_out) + names


def _unfit(name: str, value: Any) -> str | None:
    """Why a request parameter cannot be declared. The value is never quoted: it may be a secret."""
    if not OPTION.regex.fullmatch(name):
        return f"a name must be {OPTION.says}"
    if not isinstance(value, str | int | float):
        return "a value must be text, a number or true or false"
    if scalar(value) is None:
        return "the value is too long or too exact, or has a character that cannot be seen"
    if isinstance(value, str):
        if SECRET.search(value):
            return "it looks like a secret, which does not belong in git; revoke it"
        if value.startswith("-"):
            return "it begins with '-' and could be read as a flag"
        if "${" in value:
            return "it has a '${' that nothing would fill in"
    return None
