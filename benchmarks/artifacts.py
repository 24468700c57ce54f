"""What declared models cost to look at and to verify, beside a cache of others and beside sha256sum."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.launching import pairs
from benchmarks.worlds import write_cache
from reconciler.adapters.cache.digests import Digests
from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.adapters.cache.promises import Promise, stamp_of
from reconciler.adapters.cache.verification import verify

REFERENCES = tuple(f"bench/synth-{number:05d}@main" for number in range(3))
SHARD = 128 * 2**20
SHARDS = 4
LOOKS = 50
"""Looks of one measurement: one alone takes less than the clock's noise."""


def artifacts(root: Path, rounds: int) -> None:
    """Print every table of this module."""
    small, large = root / "ten", root / "five-thousand"
    write_cache(small, 10)
    write_cache(large, 5_000)
    digests = Digests(root / "cache-state")
    for hub in (small, large):
        local = LocalArtifacts(str(hub), digests=digests)
        for reference in REFERENCES:
            asyncio.run(verify(local.promises(reference), digests, _untold))
    _looks(small, large, digests, rounds)
    _nothing_to_do(large, digests, rounds)
    _throughput(root / "shards", rounds)


def _untold(_done: int, _total: int) -> None:
    """Nobody watches."""


def _looks(small: Path, large: Path, digests: Digests, rounds: int) -> None:
    def first(hub: Path) -> float:
        return _timed(lambda: LocalArtifacts(str(hub), digests=digests).look(REFERENCES))

    def storage(hub: Path) -> float:
        return _timed(lambda: LocalArtifacts(str(hub), digests=digests, converter=str).storage(REFERENCES))

    names = ("in a cache of 10", "in a cache of 5,000")
    title = f"3 declared models, {LOOKS} first looks with their digests: ~ 1"
    pairs(title, names, rounds, lambda: (first(small), first(large)))
    pairs(f"{LOOKS} looks for their conversions: ~ 1", names, rounds, lambda: (storage(small), storage(large)))


def _nothing_to_do(hub: Path, digests: Digests, rounds: int) -> None:
    """A look of the loop at what was verified, against the system calls that it cannot do without."""
    local = LocalArtifacts(str(hub), digests=digests)
    local.look(REFERENCES)
    snapshots = [next((hub / f"models--bench--synth-{number:05d}" / "snapshots").iterdir()) for number in range(3)]

    def floor() -> None:
        for snapshot in snapshots:
            with os.scandir(snapshot) as entries:
                for entry in entries:
                    os.stat(entry.path)

    pairs(
        f"{LOOKS} looks that find nothing new, 3 models",
        ("scandir and stat", "look"),
        rounds,
        lambda: (_timed(floor), _timed(lambda: local.look(REFERENCES))),
    )
    known = local.promises(REFERENCES[0]) + local.promises(REFERENCES[1]) + local.promises(REFERENCES[2])
    paths = [promise.path for promise in known]
    pairs(
        f"{LOOKS} questions about their {len(paths)} digests",
        ("stat of cache.db", "known"),
        rounds,
        lambda: (_timed(lambda: os.stat(digests.path)), _timed(lambda: digests.known(paths))),
    )
    told: list[int] = []
    for reference in REFERENCES:
        asyncio.run(verify(local.promises(reference), digests, lambda done, _total: told.append(done)))
    print(f"verified again: {sum(told)} bytes were read", flush=True)


def _throughput(folder: Path, rounds: int) -> None:
    folder.mkdir()
    paths = [folder / f"{number}" for number in range(SHARDS)]
    block = os.urandom(2**20)
    for path in paths:
        with path.open("wb") as file:
            for _ in range(SHARD // len(block)):
                file.write(block)
    expected = subprocess.run(["sha256sum", paths[0]], check=True, capture_output=True, text=True).stdout.split()[0]
    for count in (1, SHARDS):
        some = paths[:count]
        amount = f"{count * SHARD // 2**20} MiB in {count} file{'s' if count > 1 else ''}"
        pairs(
            f"verification of {amount}, in memory: ~ 1 a file, {min(count, 2)} at a time",
            ("sha256sum", "verify"),
            max(3, rounds // 5),
            partial(_both, some, expected),
        )
    for path in paths:
        path.unlink()


def _both(paths: list[Path], expected: str) -> tuple[float, float]:
    return _sha256sum(paths), _verified(paths, expected)


def _sha256sum(paths: list[Path]) -> float:
    _warm(paths)
    start = time.perf_counter()
    subprocess.run(["sha256sum", *paths], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _verified(paths: list[Path], expected: str) -> float:
    _warm(paths)
    promises = [Promise(path.name, str(path), stamp_of(path.stat()), expected) for path in paths]
    digests = Digests(paths[0].parent / "state")
    start = time.perf_counter()
    bad = asyncio.run(verify(promises, digests, _untold))
    taken = time.perf_counter() - start
    digests.path.unlink()
    if bad:
        print(f"WRONG: {bad}")
    return taken


def _warm(paths: list[Path]) -> None:
    """Both read from memory: verification drops what it has read from the page cache."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(2**22):
                pass


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(LOOKS):
        work()
    return time.perf_counter() - start
