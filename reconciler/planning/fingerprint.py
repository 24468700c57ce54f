"""Digests of the facts that a plan rests on, so that a saved plan can name the one that moved."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from reconciler.model.base import plain
from reconciler.model.observed import Present
from reconciler.model.view import Facts

_PASSING: Final[Mapping[str, Any]] = {"since": 0.0, "detail": "", "cause": "", "proved_at": None, "asked_since": None}


def fingerprint(facts: Facts) -> dict[str, str]:
    """name of a fact -> digest of what was found. Times and passing states such as draining are left out."""
    observed = facts.observed
    digests = {
        "desired": _digest([facts.desired.revision, facts.desired.state, facts.desired.templates]),
        "host": _digest([facts.host, observed.host]),
        "suspensions": _digest(facts.ledger.suspensions),
    }
    for label, server in observed.servers.items():
        digests[f"server/{label}"] = _digest(replace(server, **_PASSING))
    for port, listener in observed.listeners.items():
        digests[f"port/{port}"] = _digest([type(listener).__name__, listener])
    for reference, artifact in observed.artifacts.items():
        digests[f"artifact/{reference}"] = _digest([type(artifact).__name__, artifact])
    for reference, check in facts.ledger.sources.items():
        digests[f"source/{reference}"] = _digest([check.commit, check.problem, check.files])
    for kind, state in observed.gateways.items():
        content = state.value.routes if isinstance(state, Present) else state
        digests[f"gateway/{kind}"] = _digest([type(state).__name__, content])
    if observed.blind is not None:
        digests["run-records"] = _digest(observed.blind)
    return digests


def _digest(value: object) -> str:
    return hashlib.sha256(repr(plain(value)).encode()).hexdigest()[:16]
