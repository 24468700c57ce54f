"""The canonical form of what a server is launched with, and its hash."""

import hashlib
from collections.abc import Mapping
from typing import Final

from reconciler.backends.base import Backend, filled
from reconciler.model.base import FieldClass, noun
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


@noun
class Place:
    """What a launch rests on beside the declaration."""

    port: int
    host: str
    template: str | None
    """Content of the chat template."""
    runtime: tuple[str, ...] | None
    """None where it was not found."""
    draft: str | None
    """Identity of the draft model; None where there is none, or where it cannot be seen."""


def canonical(spec: ModelSpec, backend: Backend, place: Place) -> dict[str, str]:
    """The restart|replace fields with defaults filled in, so that spelling a default out changes nothing.

    A field that cannot be known now (`runtime` where it was not found, a draft that cannot be seen) is left out, and
    so is never a difference.
    """
    fields = {
        "source": str(launch_reference(spec.source)),
        "backend": backend.name,
        "port": str(place.port),
        "host": place.host,
        "chat_template": "" if place.template is None else hashlib.sha256(place.template.encode()).hexdigest(),
        "tool_call_parser": spec.tool_call_parser or "",
        "reasoning_parser": spec.reasoning_parser or "",
        "draft": "" if spec.draft is None else f"{launch_reference(spec.draft)} {place.draft or ''}".strip(),
        "convert": _recipe(spec),
    }
    values = {} if _misfits(spec, backend) else filled(backend, spec)
    for name, option in backend.options.items():
        value = values.get(name, "")
        fields[f"options.{name}"] = repr(float(value)) if option.kind is float and value != "" else str(value)
    if place.runtime is not None:
        fields["runtime"] = " ".join(place.runtime)
    if spec.draft is not None and place.draft is None:
        del fields["draft"]
    return fields


def _misfits(spec: ModelSpec, backend: Backend) -> bool:
    """Whether an option has a value of another type; such a spec is refused and never launched."""
    return any(
        isinstance(value, str) and backend.options[name].kind is float
        for name, value in spec.options.items()
        if name in backend.options
    )


def _recipe(spec: ModelSpec) -> str:
    """The conversion that is declared; one that the files ask for shows in the identity of the artifact."""
    convert = spec.convert
    if isinstance(convert, Quantization):
        return f"bits={convert.bits} group_size={convert.group_size} mode={convert.mode} dtype={convert.dtype}"
    return "force" if convert == "force" or (convert == "auto" and spec.preconverted == "no") else ""


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
