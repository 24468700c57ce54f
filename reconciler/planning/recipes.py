"""Whether a model is converted, and by which recipe."""

from collections.abc import Iterable
from typing import Final

from reconciler.model.desired import ModelSpec, Quantization
from reconciler.model.host import Converter
from reconciler.model.names import LaunchRef, RepoRef
from reconciler.model.observed import Conversion, Recipe

_BITS: Final = {"affine": 4, "mxfp4": 4, "nvfp4": 4, "mxfp8": 8}
"""Bits per weight of each mode where none are given (`defaults_for_mode`, mlx-lm 0.32.2)."""
_HALF: Final = 16
"""Bits of a weight that is not quantised."""
_PER_GROUP: Final = 32
"""Bits of a group's scale and bias (affine; the other modes have less)."""
_GROUP: Final = 64
SLACK: Final = 1.1
"""How much larger than estimated a result may be: layers that cannot be quantised stay as they are."""


def arguments(
    model: ModelSpec, reference: LaunchRef, converted: bool | None, host: Converter
) -> tuple[str, ...] | None:
    """The settings of the conversion that the model asks for, in canonical order; None: it is served as it is.

    `converted` is what its files say about themselves; they go before the name of the repository.
    """
    if isinstance(model.convert, Quantization):
        values = {name: getattr(model.convert, name) for name in ("bits", "group_size", "mode", "dtype")}
        if values["bits"] is None and (values["group_size"] or values["mode"]):
            values["bits"] = _BITS.get(values["mode"] or "affine")  # what the converter takes then
        return tuple(f"{name}={value}" for name, value in values.items() if value is not None)
    if model.convert == "force":
        return ()
    if model.convert == "skip" or is_converted(model, reference, converted, host):
        return None
    return ()


def is_converted(model: ModelSpec, reference: LaunchRef, converted: bool | None, host: Converter) -> bool:
    """Whether the weights are taken for converted: what is declared, else what the files say, else the name."""
    if model.preconverted != "auto":
        return model.preconverted == "yes"
    if converted is not None or not isinstance(reference, RepoRef):
        return converted is not False
    repo = reference.repo.casefold()
    owner = repo.partition("/")[0]
    orgs = {org.casefold() for org in host.preconverted_orgs}
    return owner in orgs or any(hint.casefold() in repo for hint in host.preconverted_hints)


def recipe(reference: LaunchRef, commit: str, settings: tuple[str, ...], host: Converter, converter: str) -> Recipe:
    """How the conversion of a source at this commit is made here."""
    repo = isinstance(reference, RepoRef)
    return Recipe(
        source=reference.repo if isinstance(reference, RepoRef) else reference.path,
        revision=reference.revision if repo and isinstance(reference, RepoRef) else "",
        commit=commit,
        arguments=settings,
        command=host.command or (),
        converter=converter if host.command is None else "",
    )


def made_by(
    conversions: Iterable[Conversion], settings: tuple[str, ...], host: Converter, commit: str | None
) -> Conversion | None:
    """The conversion that is asked for; the last one made where several versions of the converter made one.

    `commit` None: the source is not here to say which one is meant, so the last one made of this revision counts.
    """
    fitting = [
        c
        for c in conversions
        if c.recipe.arguments == settings
        and c.recipe.command == (host.command or ())
        and (commit is None or c.recipe.commit == commit)
    ]
    return max(fitting, key=lambda c: (c.made_at, c.recipe.key), default=None)


def result_bytes(weights: int, settings: tuple[str, ...]) -> int:
    """An estimate of the weights that a conversion leaves."""
    values = dict(setting.split("=", 1) for setting in settings)
    bits = values.get("bits")
    if bits is None and values.get("mode") is None:
        return weights * 2 if values.get("dtype") == "float32" else weights
    group = int(values.get("group_size", _GROUP))
    return int(weights * (int(bits or 4) + _PER_GROUP / group) / _HALF)
