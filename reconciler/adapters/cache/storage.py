"""Where weights are kept beside the model cache: conversions, copies in cold storage, volumes, free space.

The cost is a few system calls per declared reference, and a listing for each that was converted.
"""

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from reconciler.model.host import ColdVolume
from reconciler.model.observed import (
    Absent,
    Artifact,
    ColdCopy,
    Conversion,
    Observation,
    Present,
    Storage,
    Unknown,
    Volume,
    conversions_folder,
)

from .conversion_receipt import RECEIPT, Converted, read_receipt
from .digests import Digests
from .drafts import Draft, of_conversion
from .found_files import Allowed, Refused, files_of, plain_file
from .hub_folder import COMMIT, Hub, repository_folder, unmounted
from .model_folder import Recall
from .weights import Damaged, read_file

if TYPE_CHECKING:
    from reconciler.adapters.cold.receipts import Receipt

IDENTITY: Final = ".reconciler-volume"
STEP: Final = 2**24
"""Bytes: free space is told in these steps, rounded down, so that a line more in some log is no news."""
_IDENTITY_BYTES: Final = 256
_KEY: Final = re.compile(r"[0-9a-f]{16}")
_BUILT_IN: Final = re.compile(r"mlx_lm-([^-]+)\.dist-info", re.IGNORECASE)

Made = tuple[Converted, Draft]


def offload_receipt(repo: str) -> str:
    """Name of the receipt that a repository leaves in the model cache when it is moved to cold storage."""
    return f"offloaded--{repo.replace('/', '--')}.json"


def conversion_at(folder: str, key: str, recall: Recall) -> Made | None:
    """What the receipt in a folder says was made there; None where it does not belong to it. Raises OSError."""
    found = plain_file(f"{folder}/{RECEIPT}")
    receipt = read_receipt(found, recall) if found is not None else None
    if receipt is None or receipt.recipe.key != key:
        return None
    return receipt, of_conversion(folder, files_of(folder, Allowed(())), receipt, recall)


def key_of(home: str, folder: str) -> str:
    """The key of the recipe whose result would be in this folder; empty where conversions are elsewhere."""
    above, _, key = folder.rpartition("/")
    above, _, source = above.rpartition("/")
    return key if above == home and source.startswith("converted--") and _KEY.fullmatch(key) else ""


class Shelves:
    """Looks at what one model cache has beside its repositories, and at the volumes of the host file."""

    def __init__(self, home: str, volumes: Mapping[str, ColdVolume], converter: Callable[[], str]) -> None:
        self._home, self._volumes, self._converter = home, volumes, converter
        self._version: str | None = None

    def look(self, references: Iterable[str], recall: Recall, digests: Digests | None) -> Storage:
        """What was made of these references or moved away, and what room there is."""
        asked = tuple(references)
        if self._version is None:
            self._version = self._converter()
        volumes = {name: volume_at(volume, self._home) for name, volume in self._volumes.items()}
        return Storage(
            conversions=self._conversions(asked, recall, digests),
            cold=dict(self._cold(asked, volumes, recall)),
            volumes=volumes,
            free=free_bytes(self._home),
            converter=self._version,
            home=self._home,
        )

    # ------------------------------------------------------------------------------------------- conversions

    def _conversions(
        self, references: Iterable[str], recall: Recall, digests: Digests | None
    ) -> dict[str, tuple[Conversion, ...]]:
        made = {reference: list(self._of(reference, recall)) for reference in references}
        paths = [promise.path for found in made.values() for _, draft in found for promise in draft.promises]
        known = digests.known(paths) if digests is not None and paths else {}
        keys = [draft.memory_key for found in made.values() for _, draft in found]
        measures = digests.measures(keys) if digests is not None and keys else {}
        return {
            reference: tuple(
                Conversion(recipe=receipt.recipe, artifact=draft.settled(known, measures), made_at=receipt.made_at)
                for receipt, draft in sorted(found, key=lambda item: (item[0].made_at, item[0].recipe.key))
            )
            for reference, found in made.items()
            if found
        }

    def _of(self, reference: str, recall: Recall) -> Iterator[Made]:
        """What was made of a reference; a folder that cannot be looked at is nothing that could be served."""
        source, revision = _parts(reference)
        folder = f"{self._home}/{conversions_folder(source)}"
        try:
            keys = sorted(name for name in os.listdir(folder) if _KEY.fullmatch(name))
        except OSError:
            return
        for key in keys:
            try:
                made = conversion_at(f"{folder}/{key}", key, recall)
            except OSError:
                continue
            if made is not None and _is_of(made[0], source, revision):
                yield made

    # ------------------------------------------------------------------------------------------ cold storage

    def _cold(
        self, references: Iterable[str], volumes: Mapping[str, Observation[Volume]], recall: Recall
    ) -> Iterator[tuple[str, ColdCopy]]:
        for reference in references:
            repo, revision = _parts(reference)
            if not revision or os.path.lexists(f"{self._home}/{repository_folder(repo)}"):
                continue
            receipt = self._moved(repo)
            if receipt is None:
                continue
            commit = receipt.refs.get(revision) or (revision if revision in receipt.commits else None)
            if commit is None:
                continue
            place = self._volumes.get(receipt.volume)
            folder = repository_folder(repo) if place is None else f"{place.path}/{repository_folder(repo)}"
            there = isinstance(volumes.get(receipt.volume), Present)
            was = Artifact(
                identity=commit,
                path=f"{self._home}/{repository_folder(repo)}/snapshots/{commit}",
                weight_bytes=receipt.bytes,
                disk_bytes=receipt.bytes,
            )
            yield (
                reference,
                ColdCopy(
                    volume=receipt.volume,
                    path=folder,
                    bytes=receipt.bytes,
                    artifact=_as_it_was(folder, was, recall) if there else was,
                    at=receipt.at,
                ),
            )

    def _moved(self, repo: str) -> "Receipt | None":
        """What a repository that was moved away has left; one that cannot be read is none."""
        path = f"{self._home}/{offload_receipt(repo)}"
        try:
            if plain_file(path) is None:
                return None
            from reconciler.adapters.cold.receipts import parse_receipt

            return parse_receipt(read_file(path))
        except (OSError, Damaged):
            return None


def _as_it_was(folder: str, was: Artifact, recall: Recall) -> Artifact:
    """What the copy on a volume says that it will be in the cache; `was` where it cannot be looked at."""
    try:
        draft = Hub(os.path.dirname(folder), Allowed((folder,)), recall).snapshot(folder, was.identity)
    except (Refused, OSError):
        return was
    return replace(draft.artifact, path=was.path, missing=())


def volume_at(volume: ColdVolume, home: str) -> Observation[Volume]:
    """Whether a volume of this machine is there, by its identity; another host is not asked by looking."""
    if volume.host is not None:
        return Unknown(reason=f"{volume.path} is on {volume.host}, which is only asked when something is moved")
    if inside(volume.path, home):
        return Unknown(reason=f"{volume.path} is in the model cache itself, which is no cold storage")
    try:
        handle = os.open(f"{volume.path}/{IDENTITY}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return Absent()
    except OSError as error:
        return Unknown(reason=f"{volume.path}/{IDENTITY}: {error.strerror}")
    try:
        if volume.separate and os.fstat(handle).st_dev == _existing(home)[1].st_dev:
            return Absent()  # its mount point, which is a folder of the cache's disk (O06)
        identity = os.read(handle, _IDENTITY_BYTES).decode("ascii", "replace").strip()
        room = os.fstatvfs(handle)
    except OSError as error:
        return Unknown(reason=f"{volume.path}/{IDENTITY}: {error.strerror}")
    finally:
        os.close(handle)
    if identity != volume.id:
        return Unknown(reason=f"another volume is mounted at {volume.path}: its {IDENTITY} has another id")
    return Present(value=Volume(path=volume.path, free=_in_steps(room)))


def inside(path: str, home: str) -> bool:
    """Whether a folder is the model cache or in it."""
    real, cache = os.path.realpath(path), os.path.realpath(home)
    return real == cache or real.startswith(f"{cache}/")


def same_disk(path: str, home: str) -> bool:
    """Whether a folder is on the file system where the model cache is or will be. Raises OSError."""
    return os.stat(path).st_dev == _existing(home)[1].st_dev


def free_bytes(home: str) -> Observation[int]:
    """Bytes free where the model cache is or will be."""
    gone = unmounted(home)
    if gone is not None:
        return gone
    try:
        room = os.statvfs(_existing(home)[0])
    except OSError as error:
        return Unknown(reason=f"{home}: {error.strerror}")
    return Present(value=_in_steps(room))


def _in_steps(room: os.statvfs_result) -> int:
    return room.f_bavail * room.f_frsize // STEP * STEP


def built_in_converter() -> str:
    """`mlx-lm VERSION` of this environment, by the name of its metadata; empty where there is none.

    `importlib.metadata` finds the same and costs 10 ms to import.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if match := _BUILT_IN.fullmatch(name):
                return f"mlx-lm {match[1]}"
    return ""


def _existing(path: str) -> tuple[str, os.stat_result]:
    """The nearest folder that is there, at or above a path."""
    while True:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            path = os.path.dirname(path)
        else:
            return path if stat.S_ISDIR(status.st_mode) else os.path.dirname(path), status


def _parts(reference: str) -> tuple[str, str]:
    """Source and revision of a launch reference; a folder has no revision."""
    if reference.startswith("/"):
        return reference, ""
    source, _, revision = reference.partition("@")
    return source, revision


def _is_of(receipt: Converted, source: str, revision: str) -> bool:
    recipe = receipt.recipe
    if recipe.source != source:
        return False
    return recipe.revision == revision or (COMMIT.fullmatch(revision) is not None and recipe.commit == revision)
