"""The weights of a story: what is in the cache, what was converted or moved away, and what the hub has said."""

from collections.abc import Mapping
from typing import Any

from reconciler.model.cache_cost import CacheCost
from reconciler.model.observed import (
    Absent,
    Artifact,
    ColdCopy,
    Conversion,
    Observation,
    Present,
    Recipe,
    Storage,
    Unknown,
    Volume,
)
from reconciler.model.supply import RemoteFile, SourceCheck
from reconciler.model.units import size


def artifact(told: Mapping[str, Any] | None) -> Observation[Artifact]:
    """One launch reference; converted for MLX, complete and verified where the story says nothing else."""
    if told is None:
        return Absent()
    if "unknown" in told:
        return Unknown(reason=told["unknown"])
    return Present(value=made(told))


def made(told: Mapping[str, Any]) -> Artifact:
    """Weights of a story."""
    commit, weights = str(told.get("commit", "c0ffee")), size(told.get("weights", "10GiB"))
    return Artifact(
        identity=commit,
        path=f"/hub/{commit}",
        missing=tuple(told.get("missing", ())),
        corrupt=tuple(told.get("corrupt", ())),
        unverified=weights if told.get("unverified") else 0,
        shards=told.get("shards", 1),
        weight_bytes=weights,
        disk_bytes=weights,
        cache=CacheCost(per_token=told.get("kv", 65_536), exact=told.get("exact", False)),
        measurable=told.get("measurable", False),
        context_window=told.get("window"),
        converted=told.get("converted", True),
        has_tool_template=told.get("tools"),
    )


def storage(told: Mapping[str, Any]) -> Storage:
    """Beside the cache."""
    volumes: dict[str, Observation[Volume]] = {
        name: Present(value=Volume(path=f"/Volumes/{name}", free=size(free))) if free is not None else Absent()
        for name, free in told.get("volumes", {}).items()
    }
    return Storage(
        conversions={r: tuple(_conversion(r, entry) for entry in e) for r, e in told.get("conversions", {}).items()},
        cold={reference: _cold(reference, entry) for reference, entry in told.get("cold", {}).items()},
        volumes=volumes,
        free=Present(value=size(told.get("free", "500GiB"))),
        converter="mlx-lm 0.32.2",
    )


def _conversion(reference: str, told: Mapping[str, Any]) -> Conversion:
    source, _, revision = reference.partition("@")
    recipe = Recipe(
        source=source,
        revision=revision,
        commit=str(told.get("of", "c0ffee")),
        arguments=tuple(told.get("settings", ())),
        converter="mlx-lm 0.32.2",
    )
    return Conversion(recipe=recipe, artifact=made({"commit": f"recipe:{recipe.key}", "weights": "3GiB", **told}))


def _cold(reference: str, told: Mapping[str, Any]) -> ColdCopy:
    volume, repo = told["volume"], reference.partition("@")[0].replace("/", "--")
    weights = made({"converted": False, **told})
    return ColdCopy(volume=volume, path=f"/Volumes/{volume}/models--{repo}", bytes=weights.disk_bytes, artifact=weights)


def sources(told: Mapping[str, Any], now: float) -> dict[str, SourceCheck]:
    """What the hub has said, a minute ago."""
    return {reference: _check(entry, now) for reference, entry in told.items()}


def _check(told: Mapping[str, Any], now: float) -> SourceCheck:
    if "problem" in told:
        retry = told.get("retry_in")
        return SourceCheck(
            at=now - 60,
            problem=told["problem"],
            reason=told.get("reason", "the hub says no"),
            hint=told.get("hint", "mend it"),
            retry_at=now + retry if retry is not None else None,
        )
    weights = size(told.get("weights", "10GiB"))
    return SourceCheck(
        at=now - 60,
        commit=str(told.get("commit", "c0ffee")),
        files=(RemoteFile(name="config.json", size=1024), RemoteFile(name="model.safetensors", size=weights)),
        weight_bytes=weights,
        cache=CacheCost(per_token=told.get("kv", 65_536)),
        converted=told.get("converted", True),
    )
