"""The ledger as text and back; what an older version has not written is empty."""

import json
from dataclasses import fields as fields_of
from typing import Any

from reconciler.model.base import plain
from reconciler.model.cache_cost import CacheCost, Window
from reconciler.model.generation import Generation, Pin, ProvedServer
from reconciler.model.ledger import ArtifactRecord, Attempt, Ledger, ServiceProof, Suspension, Wish
from reconciler.model.source import Mode, SourceRecord
from reconciler.model.supply import RemoteFile, SourceCheck


def written(ledger: Ledger) -> str:
    """One line of JSON."""
    return json.dumps(plain(ledger), separators=(",", ":"))


def parsed(text: str) -> Ledger:
    """The inverse of `written`. Raises ValueError, KeyError, TypeError or AttributeError."""
    document: dict[str, Any] = json.loads(text)
    pin, source = document.get("pin"), document.get("source")
    return Ledger(
        attempts={
            name: Attempt(**_known(Attempt, {**fields, "command": tuple(fields.get("command", ()))}))
            for name, fields in document["attempts"].items()
        },
        suspensions={
            name: Suspension(**_known(Suspension, fields)) for name, fields in document["suspensions"].items()
        },
        proved=frozenset(document["proved"]),
        # Layout 1 kept a text, which says nothing about when: such a server is asked again.
        proofs={
            name: ServiceProof(**_known(ServiceProof, p))
            for name, p in document["proofs"].items()
            if isinstance(p, dict)
        },
        launched=frozenset(document["launched"]),
        leases={name: int(port) for name, port in document["leases"].items()},
        sources={name: _check(fields) for name, fields in document.get("sources", {}).items()},
        artifacts={
            name: ArtifactRecord(**_known(ArtifactRecord, fields))
            for name, fields in document.get("artifacts", {}).items()
        },
        # Layout 2 kept sets of artifacts without a number, from which nothing could be brought back.
        generations=tuple(_generation(fields) for fields in document.get("generations", ()) if "number" in fields),
        current=int(document.get("current", 0)),
        pin=None if pin is None else Pin(**_known(Pin, {**pin, "left": tuple(pin.get("left", ()))})),
        source=None if source is None else _source(source),
        rules=str(document.get("rules", "")),
        preflights={name: str(passed) for name, passed in document.get("preflights", {}).items()},
        wishes={name: Wish(wish) for name, wish in document.get("wishes", {}).items()},
        reserved=frozenset(document.get("reserved", ())),
    )


def _each(noun: type[Any], written: dict[str, Any]) -> dict[str, Any]:
    return {name: noun(**_known(noun, fields)) for name, fields in written.items()}


def _known(noun: type[Any], written: dict[str, Any]) -> dict[str, Any]:
    """Without what another version of the same layout has written beside it."""
    names = {field.name for field in fields_of(noun)}
    return {name: value for name, value in written.items() if name in names}


def _generation(fields: dict[str, Any]) -> Generation:
    servers = _each(ProvedServer, fields["servers"])
    tuples = {name: tuple(fields.get(name, ())) for name in ("labels", "revisions")}
    return Generation(**_known(Generation, {**fields, **tuples, "servers": servers}))


def _source(fields: dict[str, Any]) -> SourceRecord:
    read = {"mode": Mode(fields["mode"]), "uncommitted": tuple(fields.get("uncommitted", ()))}
    return SourceRecord(**_known(SourceRecord, {**fields, **read}))


def _check(fields: dict[str, Any]) -> SourceCheck:
    files = tuple(RemoteFile(**file) for file in fields["files"])
    return SourceCheck(**{**fields, "files": files, "cache": cache_cost(fields["cache"])})


def cache_cost(fields: dict[str, Any]) -> CacheCost:
    """What a sequence costs, from its plain form."""
    return CacheCost(**{**fields, "windows": tuple(Window(**window) for window in fields["windows"])})
