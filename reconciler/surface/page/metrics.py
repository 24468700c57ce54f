"""The status as Prometheus reads it: text format 0.0.4."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from reconciler.model.status_document import ServerEntry, StatusDocument
from reconciler.planning.status import HealthStatus, Sync

TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

_Sample = tuple[Mapping[str, str], float | None]
"""Labels and value; None: it is not known, and not said."""
_Value = Callable[[ServerEntry], float | None]


def metrics(document: StatusDocument, happened: Mapping[str, int], launched: Mapping[str, int]) -> str:
    """The whole text. `happened` (kind -> events) and `launched` (label -> launches) count since the watch began."""
    families = (*_loop(document), *_counters(happened, launched), *_servers(document), *_memory(document))
    return "".join(f"{line}\n" for family in families for line in family)


def _loop(document: StatusDocument) -> Iterator[Iterator[str]]:
    source, generation = document.source, str(document.generation or "")
    about = {"version": document.tool_version, "revision": source.revision, "generation": generation}
    yield _family("info", "gauge", "What runs here, and what it follows.", [({**about, "mode": source.mode}, 1)])
    yield _family("settled", "gauge", "Whether there is nothing to do or to wait for.", [({}, document.settled)])
    yield _family("source_paused", "gauge", "Whether the newest revision is not taken.", [({}, source.paused)])
    yield _family("pinned", "gauge", "Whether an earlier generation is kept.", [({}, document.pin is not None)])
    yield _family("blocked", "gauge", "What only a person can settle, but servers.", [({}, len(document.blocked))])
    yield _family("jobs", "gauge", "Actions under way.", [({}, len(document.jobs))])
    yield _family(
        "last_reconcile_timestamp_seconds", "gauge", "When the machine was last looked at.", [({}, document.at)]
    )
    yield _family("look_failed", "gauge", "Whether the look after that one failed.", [({}, bool(document.trouble))])
    gateways = [({"gateway": entry.kind}, entry.matches) for entry in document.gateways]
    yield _family("gateway_matches", "gauge", "Whether its file says what is wanted.", gateways)


def _counters(happened: Mapping[str, int], launched: Mapping[str, int]) -> Iterator[Iterator[str]]:
    events = [({"kind": kind}, number) for kind, number in sorted(happened.items())]
    yield _family("events_total", "counter", "Events since the watch began.", events)
    launches = [({"label": label}, number) for label, number in sorted(launched.items())]
    yield _family("server_launches_total", "counter", "Launches since the watch began.", launches)


def _servers(document: StatusDocument) -> Iterator[Iterator[str]]:
    names = [({"label": server.label, "port": str(server.port or "")}, server) for server in document.servers]
    yield _family(
        "server_up",
        "gauge",
        "Whether it has a process and does its work.",
        [(about, server.pid is not None and server.health == HealthStatus.HEALTHY) for about, server in names],
    )
    yield _family(
        "server_health",
        "gauge",
        "1 for the health that it has.",
        [
            ({"label": server.label, "health": str(health)}, server.health == health)
            for _, server in names
            for health in HealthStatus
        ],
    )
    yield _of_servers("server_synced", "Whether it is as declared.", document, lambda s: s.sync == Sync.SYNCED)
    yield _of_servers(
        "server_memory_bytes", "Reserved for it.", document, lambda s: s.memory if s.pid is not None else None
    )
    yield _of_servers("server_failures", "Failures in a row that count.", document, lambda s: s.failures)
    yield _of_servers("server_start_timestamp_seconds", "When it was launched.", document, lambda s: s.since)
    yield _of_servers("server_proved_timestamp_seconds", "When it last answered.", document, lambda s: s.proved_at)


def _of_servers(name: str, says: str, document: StatusDocument, value: _Value) -> Iterator[str]:
    return _family(name, "gauge", says, [({"label": server.label}, value(server)) for server in document.servers])


def _memory(document: StatusDocument) -> Iterator[Iterator[str]]:
    found = document.memory
    yield _family("memory_budget_bytes", "gauge", "What servers may use together.", [({}, found.budget)])
    yield _family("memory_reserved_bytes", "gauge", "What they have.", [({}, found.reserved)])


def _family(name: str, kind: str, says: str, samples: Iterable[_Sample]) -> Iterator[str]:
    yield f"# HELP reconciler_{name} {says}"
    yield f"# TYPE reconciler_{name} {kind}"
    for about, value in samples:
        if value is not None:
            yield f"reconciler_{name}{_labels(about)} {_number(value)}"


def _labels(about: Mapping[str, str]) -> str:
    said = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in about.items())
    return f"{{{said}}}" if said else ""


def _number(value: float) -> str:
    """Whole where it is whole: a float of many bytes would lose digits."""
    return str(int(value)) if value == int(value) else repr(value)
