"""Rules between fields of the document: what no single field can know, with every place that is concerned."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from reconciler.model.desired import AUTO_RANGE, MAX_MODELS, DesiredState
from reconciler.model.names import Port

from .findings import Findings, Steps, similar
from .reader import Node

_LOW: Final[int] = Port.__metadata__[0].ge  # type: ignore[attr-defined]
_HIGH: Final[int] = Port.__metadata__[1].le  # type: ignore[attr-defined]
_NAMED: Final = 10
"""More names than this are not listed in one message."""


class Document(NamedTuple):
    """What the rules look at. Fields that were refused are missing from `state` and present in `tree`."""

    state: DesiredState
    tree: Node
    findings: Findings
    provenance: Mapping[str, str]

    def error(self, reference: str, message: str, *steps: str | int) -> None:
        """Report at the value, or where it would be."""
        self.findings.error(reference, message, steps, self.tree.find(steps))

    def error_at_key(self, reference: str, message: str, *steps: str | int) -> None:
        """Report at the key of the value."""
        self.findings.error(reference, message, steps, self.tree.find(steps).key)

    def line(self, *steps: str | int) -> str:
        """Where something stands, for a message about something else."""
        return f"line {self.tree.find(steps).line}"

    def declared(self, *steps: str) -> list[str]:
        """The names that the text has below `steps`, those of refused values included."""
        node = self.tree.find(steps)
        reached = not steps or (type(self.tree.value) is dict and steps[0] in self.tree.value)
        return list(node.value) if reached and type(node.value) is dict else []

    def whole(self, name: str) -> bool:
        """Whether nothing of a mapping was refused."""
        return len(getattr(self.state, name)) == len(self.declared(name))


def check(document: Document) -> None:
    """Report every broken rule."""
    for rule in (_size, _ranges, _ports, _aliases, _groups, _gateways, _hosts):
        rule(document)


def _size(document: Document) -> None:
    count = len(document.declared("models"))
    if count > MAX_MODELS:
        said = f"{count} models are declared and one file may have {MAX_MODELS}: split it"
        document.error_at_key("too-many-models", said, "models")


def _bounds(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high)


def _ranges(document: Document) -> None:
    sound: list[tuple[int, int, str]] = []
    for name, text in document.state.ports.items():
        low, high = _bounds(text)
        if low > high:
            said = f"the range {name} goes down ({text}): write {high}-{low}"
            document.error("reversed-range", said, "ports", name)
        elif low < _LOW or high > _HIGH:
            said = f"the range {name} ({text}) leaves {_LOW}-{_HIGH}: stay within"
            document.error("range-out-of-range", said, "ports", name)
        else:
            sound.append((low, high, name))
    sound.sort()
    last: tuple[int, int, str] | None = None
    for low, high, name in sound:
        if last is not None and low <= last[1]:
            first, second = sorted((name, last[2]), key=lambda n: _order(document, n))
            ports = document.state.ports
            said = f"the range {second} ({ports[second]}) overlaps {first} ({ports[first]}, {{}}): move one of them"
            document.error("ranges-overlap", said.format(document.line("ports", first)), "ports", second)
        if last is None or high > last[1]:
            last = (low, high, name)


def _order(document: Document, name: str) -> tuple[int, int]:
    node = document.tree.find(("ports", name))
    return node.line, node.column


class _Allowed:
    """The ports of all ranges, without a set of them: a hostile file could declare very many."""

    def __init__(self, ranges: Mapping[str, str]) -> None:
        merged: list[list[int]] = []
        for low, high in sorted(_bounds(text) for text in ranges.values()):
            if merged and low <= merged[-1][1]:
                merged[-1][1] = max(high, merged[-1][1])
            elif low <= high:
                merged.append([low, high])
        self._lows = [low for low, _ in merged]
        self._highs = [high for _, high in merged]
        names = [f"{name} ({text})" for name, text in ranges.items()]
        self.names = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")

    def __contains__(self, port: int) -> bool:
        index = bisect_right(self._lows, port) - 1
        return index >= 0 and port <= self._highs[index]


def _hosts_of(state: DesiredState) -> Mapping[str, str]:
    """Label -> its host; empty where the document names no hosts."""
    return {label: host for host, part in state.hosts.items() for label in part.models}


def _ports(document: Document) -> None:
    state = document.state
    allowed = _Allowed(state.ports) if state.ports and document.whole("ports") else None
    front = state.gateways.front.port if state.gateways.front is not None else None
    hosts = _hosts_of(state)
    seen: dict[tuple[str, int], str] = {}
    for label, model in state.models.items():
        steps = ("models", label, "port")
        port = model.port
        if port == "auto" and AUTO_RANGE not in document.declared("ports"):
            said = f"models.{label}.port is auto, which needs a range {AUTO_RANGE}: add it to ports"
            document.error("no-auto-range", said, *steps)
        if not isinstance(port, int):
            continue
        first = seen.setdefault((hosts.get(label, ""), port), label)
        if first != label:
            where = document.line("models", first, "port")
            said = f"port {port} of {label} ({document.line(*steps)}) is also the port of {first} ({where})"
            document.error("duplicate-port", f"{said}: one port, one model", *steps)
        if allowed is not None and port not in allowed:
            said = f"port {port} of {label} is in none of the declared ranges: {allowed.names}"
            document.error("port-out-of-range", said, *steps)
        if front == port:
            where = document.line("gateways", "front", "port")
            said = f"port {port} of {label} is the port of the front door ({where}): choose another"
            document.error("port-of-front-door", said, *steps)


def _aliases(document: Document) -> None:
    labels = frozenset(document.declared("models"))
    seen: dict[str, Steps] = {}
    for label in document.state.models:
        for index, alias in _numbered(document, label):
            steps = ("models", label, "aliases", index)
            if alias == label:
                document.error("alias-is-label", f"the alias {alias} of {label} is its own label: remove it", *steps)
            elif alias in labels:
                where = f"line {document.tree.find(('models', alias)).key.line}"
                said = f"the alias {alias} of {label} is the label of another model ({where}): rename one of them"
                document.error("alias-is-label", said, *steps)
            elif alias in seen:
                first = seen[alias]
                said = f"the alias {alias} of {label} is also an alias of {first[1]} ({document.line(*first)})"
                document.error("duplicate-alias", f"{said}: keep one", *steps)
            seen.setdefault(alias, steps)


def _numbered(document: Document, label: str) -> Iterator[tuple[int, str]]:
    """The aliases of a model with their places in the text, where one that was refused keeps its number."""
    node = document.tree.find(("models", label, "aliases"))
    good = set(document.state.models[label].aliases)
    if good and type(node.value) is list:
        for index, item in enumerate(node.value):
            if isinstance(item.value, str) and item.value in good:
                yield index, item.value


def _groups(document: Document) -> None:
    state = document.state
    declared = frozenset(document.declared("groups"))
    hosts = _hosts_of(state)
    always: dict[tuple[str, str], list[str]] = {}
    for label, model in state.models.items():
        if model.group is None:
            continue
        if model.group not in declared:
            near = similar(model.group, list(declared))
            hint = f"did you mean {near}?" if near else "declare it there"
            said = f"models.{label}.group names {model.group}, which is not in groups: {hint}"
            document.error("unknown-group", said, "models", label, "group")
        elif model.activation == "always" and model.port != "none":
            always.setdefault((model.group, hosts.get(label, "")), []).append(label)
    for (name, _), labels in always.items():
        group = state.groups.get(name)
        if group is not None and len(labels) > group.resident:
            listed = ", ".join(
                f"{label} (line {document.tree.find(('models', label)).key.line})" for label in labels[:_NAMED]
            )
            said = (
                f"{len(labels)} models of the group {name} always run and {group.resident} may be in memory: {listed}"
            )
            document.error_at_key("group-too-small", f"{said}; make some on-demand, or raise resident", "groups", name)


def _gateways(document: Document) -> None:
    state = document.state
    front = state.gateways.front
    automatic = state.ports.get(AUTO_RANGE)
    if front is not None and automatic is not None and front.port in _Allowed({AUTO_RANGE: automatic}):
        said = f"the front door's port {front.port} is in the range {AUTO_RANGE} ({automatic}): choose one outside"
        document.error("front-door-in-range", said, "gateways", "front", "port")
    litellm = state.gateways.litellm
    if litellm is None:
        return
    if litellm.mode == "front" and front is None:
        said = "gateways.litellm.mode is front without a front door: declare gateways.front, or use direct"
        document.error("no-front-door", said, "gateways", "litellm", "mode")
    if litellm.optillm.enabled:
        said = "gateways.litellm.optillm is not available in this version: set enabled to false"
        document.error("optillm-unavailable", said, "gateways", "litellm", "optillm", "enabled")


def _hosts(document: Document) -> None:
    labels = document.declared("models")
    known = frozenset(labels)
    first: dict[str, Steps] = {}
    for host, part in document.state.hosts.items():
        sound = frozenset(part.models)
        node = document.tree.find(("hosts", host, "models"))
        for index, item in enumerate(node.value if sound else ()):
            label, steps = item.value, ("hosts", host, "models", index)
            if not isinstance(label, str) or label not in sound:
                continue
            if label not in known:
                near = similar(label, labels)
                hint = f"did you mean {near}?" if near else "declare it there"
                document.error("unknown-label", f"hosts.{host} names {label}, which is not in models: {hint}", *steps)
            elif label in first:
                other = first[label]
                said = f"{label} is served by {host} and by {other[1]} ({document.line(*other)}): keep one"
                document.error("label-at-two-hosts", said, *steps)
            first.setdefault(label, steps)
    if document.state.hosts and document.whole("hosts"):
        for label in labels:
            if label not in first:
                said = f"{label} is served by none of the hosts: add it to one of them"
                document.error_at_key("label-without-host", said, "models", label)
