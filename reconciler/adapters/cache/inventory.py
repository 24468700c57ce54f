"""Everything that takes room in the model cache, declared or not: for a person who looks for space."""

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

from reconciler.adapters.cold.receipts import PREFIX, parse_receipt
from reconciler.model.host import ColdVolume
from reconciler.model.supply import Holding, Place
from reconciler.ports.errors import ObservationError

from .conversion_receipt import parse_conversion
from .weights import Damaged, read_file

_REPO: Final = "models--"
_CONVERTED: Final = "converted--"


def inventory(home: str, volumes: Mapping[str, ColdVolume]) -> Iterator[Holding]:
    """What is in the cache at `home`, by name. Raises ObservationError when it cannot be listed."""
    try:
        names = sorted(os.listdir(home))
    except FileNotFoundError:
        return
    except OSError as error:
        raise ObservationError(f"{home}: {error.strerror or error}") from error
    for name in names:
        path = f"{home}/{name}"
        if name.startswith(_REPO) and os.path.isdir(path):
            yield _repository(name, path)
        elif name.startswith(_CONVERTED) and os.path.isdir(path):
            yield from _conversions(path)
        elif name.startswith(f".{_REPO}") and os.path.isdir(path):
            yield _left(Place.CACHE, name, path)
        elif name.startswith(PREFIX) and name.endswith(".json"):
            yield from _offloaded(path, name, volumes)


def _repository(name: str, path: str) -> Holding:
    repo = name.removeprefix(_REPO).replace("--", "/", 1)
    files = list(_files(path))
    revisions = sorted(_revisions(f"{path}/refs", ""))
    return Holding(
        place=Place.CACHE,
        name=repo,
        path=path,
        bytes=sum(size for _, size in files),
        references=tuple(f"{repo}@{revision}" for revision in revisions),
        unfinished=sum(size for file, size in files if file.endswith(".incomplete")),
    )


def _revisions(folder: str, prefix: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _revisions(entry.path, f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            yield f"{prefix}{entry.name}"


def _conversions(folder: str) -> Iterator[Holding]:
    for key in sorted(os.listdir(folder)):
        path = f"{folder}/{key}"
        if key.startswith(".") or not os.path.isdir(path):
            if key.endswith(".converting"):
                yield _left(Place.CONVERTED, f"{os.path.basename(folder)}/{key}", path)
            continue
        try:
            receipt = parse_conversion(read_file(f"{path}/receipt.json"))
        except (OSError, Damaged):
            receipt = None
        recipe = receipt.recipe if receipt is not None else None
        source = f"{recipe.source}@{recipe.revision}" if recipe is not None and recipe.revision else ""
        settings = f" ({', '.join(recipe.arguments)})" if recipe is not None and recipe.arguments else ""
        yield Holding(
            place=Place.CONVERTED,
            name=f"{recipe.source}{settings}" if recipe is not None else f"{os.path.basename(folder)}/{key}",
            path=path,
            bytes=sum(size for _, size in _files(path)),
            references=(source or recipe.source,) if recipe is not None else (),
            identity=f"recipe:{key}",
        )


def _left(place: Place, name: str, path: str) -> Holding:
    """What a run that was cut off has left."""
    bytes_ = sum(size for _, size in _files(path))
    return Holding(place=place, name=name, path=path, bytes=bytes_, unfinished=bytes_)


def _offloaded(path: str, name: str, volumes: Mapping[str, ColdVolume]) -> Iterator[Holding]:
    repo = name.removeprefix(PREFIX).removesuffix(".json").replace("--", "/", 1)
    try:
        receipt = parse_receipt(read_file(path))
    except (OSError, Damaged):
        receipt = None
    if receipt is None:
        return
    place = volumes.get(receipt.volume)
    folder = f"{_REPO}{repo.replace('/', '--')}"
    yield Holding(
        place=Place.COLD,
        name=repo,
        path=f"{place.path}/{folder}" if place is not None else f"{receipt.volume}: {folder}",
        bytes=receipt.bytes,
        references=tuple(f"{repo}@{revision}" for revision in sorted(receipt.refs)),
    )


def _files(folder: str) -> Iterator[tuple[str, int]]:
    """Every plain file below a folder with its size; links are not followed, so nothing counts twice."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield path, status.st_size
