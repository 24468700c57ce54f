"""Finds plug-ins: every module of a plug-in room exports one object under an agreed name."""

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from reconciler import actions, backends, gateways
from reconciler.actions.base import Verb
from reconciler.backends.base import Backend
from reconciler.gateways.base import GatewayWriter


def collect(room: ModuleType, attribute: str) -> list[Any]:
    """The exported object of every module of `room` but its `base`, by module name; packages are no plug-ins."""
    modules = pkgutil.iter_modules(room.__path__)
    names = sorted(info.name for info in modules if info.name != "base" and not info.ispkg)
    return [getattr(importlib.import_module(f"{room.__name__}.{name}"), attribute) for name in names]


def installed_backends() -> dict[str, Backend]:
    """name -> backend."""
    return {backend.name: backend for backend in collect(backends, "BACKEND")}


def installed_gateways() -> dict[str, GatewayWriter]:
    """kind -> writer of its files, for servers that are reached directly."""
    return {made.kind: made() for made in collect(gateways, "GATEWAY")}


def installed_verbs() -> tuple[type[Verb], ...]:
    """Every verb, in the order in which they propose."""
    found: list[type[Verb]] = collect(actions, "VERB")
    return tuple(sorted(found, key=lambda verb: (verb.rank, verb.kind)))
