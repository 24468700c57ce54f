"""The ledger as text and back; what an older version has not written is empty."""

import json
from typing import Any

from reconciler.model.base import plain
from reconciler.model.cache_cost import CacheCost, Window
from reconciler.model.ledger import ArtifactRecord, Attempt, Ledger, ProvedSet, ServiceProof, Suspension, Wish
from reconciler.model.supply import RemoteFile, SourceCheck


def written(ledger: Ledger) -> str:
    """One line of JSON."""
    return json.dumps(plain(ledger), separators=(",", ":"))


def parsed(text: str) -> Ledger:
    """The inverse of `written`. Raises ValueError, KeyError, TypeError or AttributeError."""
    document: dict[str, Any] = json.loads(text)
    return Ledger(
        attempts={
            name: Attempt(**{**fields, "command": tuple(fields.get("command", ()))})
            for name, fields in document["attempts"].items()
        },
        suspensions={name: Suspension(**fields) for name, fields in document["suspensions"].items()},
        proved=frozenset(document["proved"]),
        # Layout 1 kept a text, which says nothing about when: such a server is asked again.
        proofs={name: ServiceProof(**p) for name, p in document["proofs"].items() if isinstance(p, dict)},
        launched=frozenset(document["launched"]),
        leases={name: int(port) for name, port in document["leases"].items()},
        sources={name: _check(fields) for name, fields in document.get("sources", {}).items()},
        artifacts={name: ArtifactRecord(**fields) for name, fields in document.get("artifacts", {}).items()},
        generations=tuple(
            ProvedSet(**{**fields, "artifacts": frozenset(fields["artifacts"])})
            for fields in document.get("generations", ())
        ),
        wishes={name: Wish(wish) for name, wish in document.get("wishes", {}).items()},
        reserved=frozenset(document.get("reserved", ())),
    )


def _check(fields: dict[str, Any]) -> SourceCheck:
    files = tuple(RemoteFile(**file) for file in fields["files"])
    return SourceCheck(**{**fields, "files": files, "cache": cache_cost(fields["cache"])})


def cache_cost(fields: dict[str, Any]) -> CacheCost:
    """What a sequence costs, from its plain form."""
    return CacheCost(**{**fields, "windows": tuple(Window(**window) for window in fields["windows"])})
