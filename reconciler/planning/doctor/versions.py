"""Installs of programs: which there are, and which have a known fault."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from reconciler.model.base import noun
from reconciler.model.doctor import Finding, Install, Opinion

from .said import ok, quoted, unknown, warning

BACKENDS: Final = ("mlx-lm", "mlx-openai-server")
"""Packages of which one install is what servers run from."""
_USED: Final = ("the host file", "this environment")
"""Who decides which install of a backend is used, the first one first."""
_NUMBERS: Final = re.compile(r"\d+(?:\.\d+)*")
_EARLY: Final = re.compile(r"(?:a|b|rc|dev|alpha|beta)\.?\d*")


@noun
class Fault:
    """Versions of a package that are known to be bad."""

    package: str
    reference: str
    opinion: Opinion
    text: str
    fix: str
    below: str = ""
    """The first version without it."""
    exactly: tuple[str, ...] = ()


FAULTS: Final = (
    Fault(
        package="litellm",
        exactly=("1.82.7", "1.82.8"),
        opinion=Opinion.PROBLEM,
        reference="litellm-compromised",
        text="this release stole keys and variables of the environment, 1.82.8 at every start of that Python",
        fix="remove the environment {prefix} without starting anything in it, and renew every key that it could read",
    ),
    Fault(
        package="litellm",
        below="1.84.0",
        opinion=Opinion.WARNING,
        reference="litellm-outdated",
        text="a forged Host header passes its authentication (CVE-2026-49468), and below 1.83.7 there is worse",
        fix="{python} -m pip install 'litellm[proxy]>=1.84.0'",
    ),
    Fault(
        package="mlx-lm",
        below="0.32",
        opinion=Opinion.PROBLEM,
        reference="mlx-lm-runs-model-code",
        text="a request that names a folder with a model_file runs its Python (CVE-2026-5843)",
        fix="{python} -m pip install 'mlx-lm>=0.32'",
    ),
    Fault(
        package="psutil",
        below="7.1",
        opinion=Opinion.PROBLEM,
        reference="psutil-start-times",
        text="start times of processes move with the clock, so that servers of ours look like strangers",
        fix="{python} -m pip install 'psutil>=7.1'",
    ),
    Fault(
        package="mlx-vlm",
        below="0.5",
        opinion=Opinion.WARNING,
        reference="mlx-vlm-hangs",
        text="behind mlx-openai-server every request to a multimodal model hangs while it answers to /health",
        fix="serve multimodal models from another environment, with mlx-vlm 0.5 or newer",
    ),
)


def faults(installs: Sequence[Install]) -> Iterator[Finding]:
    """Every install that has a known fault; one without a version may have it."""
    judged = {fault.package for fault in FAULTS}
    sound: dict[str, None] = {}
    for install in installs:
        if install.package not in judged:
            continue
        if not install.version:
            yield unknown(f"the version of {_named(install)} cannot be read")
            continue
        fault = next((fault for fault in FAULTS if fault.package == install.package and _has(install, fault)), None)
        if fault is None:
            sound[f"{install.package} {install.version}"] = None
            continue
        fix = fault.fix.format(prefix=quoted(install.prefix), python=quoted(f"{install.prefix}/bin/python"))
        text = f"{_named(install)}: {fault.text}"
        yield Finding(opinion=fault.opinion, text=text, fix=fix, reference=fault.reference)
    if sound:
        yield ok(f"no known fault: {', '.join(sound)}")


def several(installs: Sequence[Install]) -> Iterator[Finding]:
    """A backend that is there in two versions: who starts it by hand may run another one than the reconciler."""
    twice = [finding for package in BACKENDS for finding in _twice(package, installs)]
    yield from twice or [ok("no backend is there in two versions")]


def _twice(package: str, installs: Sequence[Install]) -> Iterator[Finding]:
    found = [install for install in installs if install.package == package]
    used = next((install for who in _USED for install in found if who in install.found), None)
    if used is None:
        return
    others = [i for i in found if i is not used and (not i.version or i.version != used.version)]
    if others:
        text = f"servers run {_named(used)}, and there is another one: {'; '.join(map(_named, others))}"
        fix = f"remove one, or name the one you mean under runtimes.{package} in the host file"
        yield warning("backend-twice", text, fix)


def is_below(version: str, bound: str) -> bool:
    """Whether a version is older; a release candidate is older than its release."""
    return _key(version) < _key(bound)


def _has(install: Install, fault: Fault) -> bool:
    return install.version in fault.exactly or bool(fault.below and is_below(install.version, fault.below))


def _key(version: str) -> tuple[tuple[int, ...], bool]:
    match = _NUMBERS.match(version)
    numbers = [int(part) for part in match[0].split(".")] if match is not None else [0]
    while numbers and not numbers[-1]:
        numbers.pop()
    rest = version[match.end() :] if match is not None else version
    return tuple(numbers), not _EARLY.match(rest.lstrip(".-_"))


def _named(install: Install) -> str:
    version = f" {install.version}" if install.version else ""
    where = f" in {install.prefix}" if install.prefix else ""
    return f"{install.package}{version}{where} ({', '.join(install.found)})"
