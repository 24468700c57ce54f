"""The canonical form of what a server is launched with, and its hash."""

import hashlib
from collections.abc import Mapping
from typing import Final

from reconciler.backends.base import Backend, filled
from reconciler.model.base import FieldClass
from reconciler.model.desired import ModelSpec, Quantization, launch_reference

COST: Final[Mapping[str, FieldClass]] = {
    "source": FieldClass.REPLACE,
    "backend": FieldClass.REPLACE,
    "port": FieldClass.REPLACE,
    "convert": FieldClass.REPLACE,
    "host": FieldClass.RESTART,
    "chat_template": FieldClass.RESTART,
    "tool_call_parser": FieldClass.RESTART,
    "reasoning_parser": FieldClass.RESTART,
    "options": FieldClass.RESTART,
    "draft": FieldClass.RESTART,
    "runtime": FieldClass.RESTART,
    "artifact": FieldClass.REPLACE,
}
"""Class of every canonical field; `options.<name>` counts as `options`."""


def canonical(
    spec: ModelSpec,
    backend: Backend,
    port: int,
    host: str,
    template: str | None,
    runtime: tuple[str, ...] | None,
) -> dict[str, str]:
    """The restart|replace fields with defaults filled in, so that spelling a default out changes nothing.

    A field that cannot be known now (`runtime` where it was not found) is left out, and so is never a difference.
    """
    fields = {
        "source": str(launch_reference(spec.source)),
        "backend": backend.name,
        "port": str(port),
        "host": host,
        "chat_template": "" if template is None else hashlib.sha256(template.encode()).hexdigest(),
        "tool_call_parser": spec.tool_call_parser or "",
        "reasoning_parser": spec.reasoning_parser or "",
        "draft": "" if spec.draft is None else str(launch_reference(spec.draft)),
        "convert": _recipe(spec.convert),
    }
    for name, value in filled(backend, spec).items() if not _misfits(spec, backend) else ():
        fields[f"options.{name}"] = repr(float(value)) if backend.options[name].kind is float else str(value)
    if runtime is not None:
        fields["runtime"] = " ".join(runtime)
    return fields


def _misfits(spec: ModelSpec, backend: Backend) -> bool:
    """Whether an option has a value of another type; such a spec is refused and never launched."""
    return any(
        isinstance(value, str) and backend.options[name].kind is float
        for name, value in spec.options.items()
        if name in backend.options
    )


def _recipe(convert: str | Quantization) -> str:
    if isinstance(convert, str):
        return convert
    return f"bits={convert.bits} group_size={convert.group_size} mode={convert.mode} dtype={convert.dtype}"


def spec_hash(fields: Mapping[str, str]) -> str:
    """Twelve hex digits that are equal exactly when the canonical fields are."""
    text = "\n".join(f"{name}={fields[name]!r}" for name in sorted(fields))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(wanted: Mapping[str, str], live: Mapping[str, str]) -> tuple[str, ...]:
    """The fields in which a running server is not what is wanted."""
    return tuple(sorted(name for name, value in wanted.items() if live.get(name, value) != value))


def heaviest(names: tuple[str, ...]) -> FieldClass:
    """The class that counts when several fields differ."""
    classes = {COST[name.partition(".")[0]] for name in names}
    return FieldClass.REPLACE if FieldClass.REPLACE in classes else FieldClass.RESTART
