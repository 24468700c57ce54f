"""An artifact as one look finds it, until all that is remembered of its content is asked for in one question."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from reconciler.model.cache_cost import CacheCost
from reconciler.model.observed import Absent, Artifact, Unknown

from .conversion_receipt import Converted
from .digests import Known
from .found_files import Found, plain_file
from .model_folder import WEIGHTS, FoundFile, Recall, judge
from .promises import Promise, compared, is_loaded, of_snapshot, promise

_STAMP_DIGITS: Final = 16
Measures = Mapping[str, Mapping[str, Any]]
"""memory key -> what was measured, or that it could not be."""


class Draft(NamedTuple):
    """What a folder holds and what was promised about it."""

    artifact: Artifact
    promises: tuple[Promise, ...] = ()
    memory_key: str = ""
    """Under what it is remembered how much memory it takes."""

    def settled(self, known: Mapping[str, Known], measures: Measures) -> Artifact:
        """With the verdict on the content, and with exact memory where that was measured."""
        corrupt, unverified = compared(self.promises, known) if self.promises else ((), 0)
        value = measures.get(self.memory_key)
        exact = measured_cache(value) if value is not None else None
        return replace(
            self.artifact,
            corrupt=corrupt,
            unverified=unverified,
            cache=exact or self.artifact.cache,
            measurable=value is None and bool(self.memory_key),
        )


def measured_cache(value: Mapping[str, Any]) -> CacheCost | None:
    """The cache that was read off the built model; None where that could not be done."""
    from reconciler.adapters.memory.model_memory import from_document

    measured = from_document(value)
    return measured.cache if measured is not None else None


Looked = Draft | Absent | Unknown


def of_commit(
    commit: str, path: str, found: Found, listing: FoundFile | None, recall: Recall, *, read_only: bool
) -> Draft:
    """A snapshot of the model cache. Raises OSError."""

    def make() -> Draft:
        promises = of_snapshot(found.files, found.blobs, listing, recall)
        return _draft(_artifact(commit, path, found, listing, recall, read_only), promises)

    return recall.made(path, (found, listing, read_only), make)


def of_folder(path: str, found: Found, recall: Recall, *, read_only: bool = False) -> Draft:
    """A plain folder, about which nobody has promised anything. Raises OSError."""
    return _draft(_artifact(_content_stamp(found), path, found, None, recall, read_only))


def of_conversion(path: str, found: Found, receipt: Converted, recall: Recall) -> Draft:
    """A folder that a conversion has made: its receipt says what belongs to it. Raises OSError."""
    wrong: dict[str, str] = {}
    promises: list[Promise] = []
    for name, (size, digest) in receipt.files.items():
        there = found.files.get(name) if "/" not in name else plain_file(f"{path}/{name}")
        if there is None:
            wrong[name] = ""
        elif there.size != size:
            wrong[name] = f"{there.size} of {size} bytes"
        elif is_loaded(name) and "/" not in name:
            promises.append(promise(name, there, digest))
    complete = found._replace(broken=wrong | found.broken)
    identity = f"recipe:{receipt.recipe.key}"
    return _draft(_artifact(identity, path, complete, None, recall, False), tuple(promises))


def _draft(made: tuple[Artifact, str], promises: tuple[Promise, ...] = ()) -> Draft:
    return Draft(made[0], promises, made[1])


def _artifact(
    identity: str, path: str, found: Found, listing: FoundFile | None, recall: Recall, read_only: bool
) -> tuple[Artifact, str]:
    """What its files say, and under what its exact memory is remembered."""
    judged = judge(found.files, listing, recall)
    judged.missing |= found.broken
    if any(name.startswith("model") and name.endswith(".safetensors") for name in found.broken):
        judged.missing.pop(WEIGHTS, None)  # the files are known by name
    artifact = Artifact(
        identity=identity,
        path=path,
        missing=judged.wrong(),
        foreign=judged.foreign,
        code=judged.code,
        shards=judged.shards,
        weight_bytes=judged.weight_bytes,
        disk_bytes=found.disk_bytes,
        cache=judged.cache,
        context_window=judged.context_window,
        converted=judged.converted,
        read_only=read_only,
        has_tool_template=judged.has_tool_template,
    )
    return artifact, judged.memory_key


def _content_stamp(found: Found) -> str:
    """What distinguishes the content of a plain folder from what it held before: names, sizes and times."""
    import hashlib

    loaded = sorted((name, *file.stamp[2:]) for name, file in found.files.items() if is_loaded(name))
    return f"files:{hashlib.sha256(repr(loaded).encode()).hexdigest()[:_STAMP_DIGITS]}"
