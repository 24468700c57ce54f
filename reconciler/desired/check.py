"""Rules between fields: what no single field can know, each problem at its place and naming the other one."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from reconciler.model.bundle import Bundle
from reconciler.model.desired import AUTO_RANGE, MAX_MODELS, DesiredState, ModelSpec, Source, launch_reference
from reconciler.model.names import port_range
from reconciler.model.problem import Problem

from .reader import Node, escaped

Found = tuple[str, str, str]
"""Path below the document, stable reference, message."""

_SECRET: Final = re.compile(r"^(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|ghp_[A-Za-z0-9]{16,})$")


def check(
    state: DesiredState, root: Node, bundle: Bundle, provenance: Mapping[str, str], problems: list[Problem]
) -> list[Problem]:
    """Report every broken rule into `problems` and return the warnings."""
    places = _Places(root)
    if len(state.models) > MAX_MODELS:
        places.report(problems, ("models", "too-many-models", f"more than {MAX_MODELS} models are declared"))
        return []
    for rules in (_ranges(state), _ports(state), _names(state), _groups(state), _gateways(state), _hosts(state)):
        for found in rules:
            places.report(problems, found.resolve(places))
    for label, model in state.models.items():
        for rule in _model(label, model, state):
            places.report(problems, rule)
    warnings: list[Problem] = []
    for rule in _machine_paths(state, bundle, provenance):
        places.report(warnings, rule, severity="warning")
    return warnings


class _Places:
    """Where a field stands in the text."""

    def __init__(self, root: Node) -> None:
        self._root = root

    def find(self, *path: str) -> Node:
        """The node at a path, or the deepest one that the text has of it."""
        node = self._root
        for name in path:
            if not isinstance(node.value, dict) or name not in node.value:
                break
            node = node.value[name]
        return node

    def line(self, *path: str) -> int:
        """The line on which a field stands."""
        return self.find(*path).line

    def report(self, into: list[Problem], found: tuple[Any, str, str], severity: str = "error") -> None:
        """Add one problem at its place."""
        path, reference, message = found
        names = (path,) if isinstance(path, str) else tuple(path)
        node = self.find(*names)
        into.append(
            Problem(
                reference=reference,
                message=message,
                where=".".join(names),
                line=node.line,
                column=node.column,
                severity=severity,
            )
        )


class _Clash:
    """A broken rule that names another place of the text."""

    def __init__(self, path: tuple[str, ...], reference: str, message: str, *others: tuple[str, ...]) -> None:
        self.path, self.reference, self.message, self.others = path, reference, message, others

    def resolve(self, places: _Places) -> tuple[tuple[str, ...], str, str]:
        """The rule with `{0}`, `{1}` ... in its message replaced by the lines of the other places."""
        lines = [f"line {places.line(*other)}" for other in self.others]
        return self.path, self.reference, self.message.format(*lines)


def _ranges(state: DesiredState) -> Iterator[_Clash]:
    known: dict[str, range] = {}
    for name, text in state.ports.items():
        ports = port_range(text)
        if not ports or ports[0] < 1024 or ports[-1] > 65535:  # noqa: PLR2004
            yield _Clash(("ports", name), "bad-range", f"the range {name} must go up, within 1024-65535, not {text}")
            continue
        for other, taken in known.items():
            if ports[0] <= taken[-1] and taken[0] <= ports[-1]:
                message = f"the range {name} ({text}) overlaps {other} ({state.ports[other]}, {{0}})"
                yield _Clash(("ports", name), "ranges-overlap", message, ("ports", other))
        known[name] = ports


def _ports(state: DesiredState) -> Iterator[_Clash]:
    ranges = [port_range(text) for text in state.ports.values()]
    seen: dict[tuple[str, int], str] = {}
    owner = {label: host for host, part in state.hosts.items() for label in part.models}
    front = state.gateways.front.port if state.gateways.front is not None else None
    for label, model in state.models.items():
        path = ("models", label, "port")
        if model.port == "auto" and AUTO_RANGE not in state.ports:
            message = f"models.{label}.port is auto, which needs a range {AUTO_RANGE} in ports"
            yield _Clash(path, "no-auto-range", message)
        if not isinstance(model.port, int):
            continue
        first = seen.setdefault((owner.get(label, ""), model.port), label)
        if first != label:
            message = f"port {model.port} of {label} is also the port of {first} ({{0}}): one port, one model"
            yield _Clash(path, "duplicate-port", message, ("models", first, "port"))
        if ranges and not any(model.port in ports for ports in ranges):
            named = ", ".join(f"{name} {text}" for name, text in state.ports.items())
            message = f"port {model.port} of {label} is in none of the ranges: {named}"
            yield _Clash(path, "port-out-of-range", message)
        if front == model.port:
            message = f"port {model.port} of {label} is the port of the front door ({{0}})"
            yield _Clash(path, "port-of-front-door", message, ("gateways", "front", "port"))


def _names(state: DesiredState) -> Iterator[_Clash]:
    seen: dict[str, str] = {}
    for label, model in state.models.items():
        for alias in model.aliases:
            path = ("models", label, "aliases")
            if alias in state.models:
                whose = "its own label" if alias == label else "the label of another model ({0})"
                yield _Clash(path, "alias-is-label", f"the alias {alias} of {label} is {whose}", ("models", alias))
                continue
            first = seen.setdefault(alias, label)
            if first != label or model.aliases.count(alias) > 1:
                message = f"the alias {alias} of {label} is also an alias of {first} ({{0}})"
                yield _Clash(path, "duplicate-alias", message, ("models", first, "aliases"))
                if first == label:
                    break


def _groups(state: DesiredState) -> Iterator[_Clash]:
    always: dict[str, list[str]] = {}
    for label, model in state.models.items():
        if model.group is None:
            continue
        if model.group not in state.groups:
            message = f"models.{label}.group names {model.group}, which is not in groups"
            yield _Clash(("models", label, "group"), "unknown-group", message)
        elif model.activation == "always" and model.port != "none":
            always.setdefault(model.group, []).append(label)
    for name, labels in always.items():
        if len(labels) > state.groups[name].resident:
            message = (
                f"the group {name} keeps {state.groups[name].resident} in memory and {len(labels)} of it run always: "
                f"{', '.join(labels)}"
            )
            yield _Clash(("groups", name), "group-too-small", message)


def _gateways(state: DesiredState) -> Iterator[_Clash]:
    litellm = state.gateways.litellm
    if litellm is not None and litellm.mode == "front" and state.gateways.front is None:
        message = "gateways.litellm.mode is front and no front door is declared: declare gateways.front, or use direct"
        yield _Clash(("gateways", "litellm", "mode"), "no-front-door", message)
    if litellm is not None and litellm.optillm.enabled:
        message = "gateways.litellm.optillm is not available in this version: set enabled: false"
        yield _Clash(("gateways", "litellm", "optillm"), "optillm-unavailable", message)


def _hosts(state: DesiredState) -> Iterator[_Clash]:
    seen: dict[str, str] = {}
    for host, part in state.hosts.items():
        path = ("hosts", host, "models")
        for label in part.models:
            if label not in state.models:
                yield _Clash(path, "unknown-label", f"hosts.{host} names {label}, which is not in models")
            first = seen.setdefault(label, host)
            if first != host:
                message = f"{label} is served by {host} and by {first} ({{0}}): one host, one label"
                yield _Clash(path, "label-at-two-hosts", message, ("hosts", first, "models"))
    if state.hosts:
        for label in state.models:
            if label not in seen:
                yield _Clash(("models", label), "label-without-host", f"{label} is served by none of the hosts")


def _model(label: str, model: ModelSpec, state: DesiredState) -> Iterator[tuple[tuple[str, ...], str, str]]:
    base = ("models", label)
    yield from _source(base, "source", model.source, state.policy.deny_sources)
    if model.draft is not None:
        yield from _source(base, "draft", model.draft, state.policy.deny_sources)
    if model.moved_from is not None and not isinstance(model.port, int):
        message = f"models.{label}.moved_from acknowledges a move to a port, and port is {model.port}"
        yield (*base, "moved_from"), "moved-without-port", message
    if model.moved_from is not None and model.moved_from == model.port:
        yield (*base, "moved_from"), "moved-nowhere", f"models.{label}.moved_from is the port itself: leave it out"
    if model.idle_ttl is not None and model.activation != "on-demand":
        message = f"models.{label}.idle_ttl needs activation: on-demand"
        yield (*base, "idle_ttl"), "idle-ttl-without-on-demand", message
    if len(set(model.requires)) != len(model.requires):
        yield (*base, "requires"), "duplicate-requirement", f"models.{label}.requires names one thing twice"
    for field in ("options", "request_params"):
        for name, value in getattr(model, field).items():
            yield from _setting((*base, field, name), name, value)


def _source(
    base: tuple[str, ...], field: str, source: Source, denied: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    path = (*base, field)
    where = ".".join(path)
    if (source.repo is None) == (source.path is None):
        said = "both repo and path" if source.repo is not None else "neither repo nor path"
        yield path, "source-not-one", f"{where} has {said}: give exactly one"
        return
    if source.path is not None and source.revision is not None:
        yield path, "revision-of-path", f"{where}.revision belongs to a repository; a path has none"
    if source.path is not None:
        parts = source.path.split("/")
        if not source.path.startswith("/"):
            yield (*path, "path"), "path-not-absolute", f"{where}.path must be absolute, or begin with ${{root.NAME}}"
        elif ".." in parts or source.path.startswith("//"):
            yield (*path, "path"), "path-not-plain", f"{where}.path must not contain '..' or begin with '//'"
    if source.repo is not None and ".." in source.repo:
        yield (*path, "repo"), "bad-value", f"{where}.repo must not contain '..'"
    reference = str(launch_reference(source))
    for pattern in denied:
        bare = source.repo or source.path or ""
        if any(fnmatchcase(text.lower(), pattern.lower()) for text in (bare, reference)):
            message = f"{where} {escaped(bare)} is denied by policy.deny_sources ({escaped(pattern)})"
            yield path, "source-denied", message


def _setting(path: tuple[str, ...], name: str, value: object) -> Iterator[tuple[tuple[str, ...], str, str]]:
    where = ".".join(path)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]*", name):
        yield path, "bad-name", f"the name {escaped(name)} in {'.'.join(path[:-1])} must be letters, digits and '_'"
    elif isinstance(value, str) and value.startswith("-"):
        yield path, "looks-like-a-flag", f"{where} must not begin with '-': it could be read as another option"
    elif isinstance(value, str) and _SECRET.match(value):
        yield path, "looks-like-a-secret", f"{where} looks like a secret, which does not belong in git"


def _machine_paths(
    state: DesiredState, bundle: Bundle, provenance: Mapping[str, str]
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """A path of one machine in a file that others share."""
    if not bundle.tracked:
        return
    for label, model in state.models.items():
        path = model.source.path
        # What came through a variable or from outside the file does not stand in it.
        if path is not None and label not in provenance and path.encode() in bundle.text:
            message = f"models.{label}.source.path is a path of one machine in a shared file: use ${{root.NAME}}"
            yield ("models", label, "source", "path"), "machine-path-in-git", message
