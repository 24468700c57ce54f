"""A hub, a cache and a client of it, for the tests that download."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.hub.cache import MARK
from reconciler.adapters.hub.client import HubClient
from reconciler.model.observed import Artifact
from reconciler.model.supply import FetchOrder, SourceCheck
from reconciler.ports.errors import ActionError
from tests.programs.fake_hub import Hub
from tests.programs.tiny_cache import model_files, write_folder

DEADLINE: Final = 30.0
TOKEN: Final = "hf_" + "LetMeInHereIAmTheGoodOne" * 2
"""What a token of the real hub looks like."""
REPO: Final = "acme/tiny"
REFERENCE: Final = f"{REPO}@main"
WEIGHTS: Final = "model.safetensors"
LENGTH: Final = 300_000
"""Bytes of weights."""


def environment(hub: Hub | None, home: Path) -> dict[str, str]:
    """A user's environment without a token, in which the hub is that of the test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSF"))}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    return kept | {"HF_HOME": str(home), "HF_ENDPOINT": hub.endpoint if hub else "http://127.0.0.1:9"}


def written(folder: Path, seed: int = 1, shards: int = 1) -> Path:
    """A repository with weights that differ from byte to byte, and by seed."""
    files = model_files(shards=shards, length=LENGTH // 4)
    write_folder(folder, files)
    for path in folder.glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-LENGTH:] = bytes((number * seed * 7919 >> 3) & 255 for number in range(LENGTH))
        path.write_bytes(content)
    return folder


def loaded(folder: Path) -> dict[str, bytes]:
    """The files of a repository that a server needs."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in {".json", ".safetensors", ".jinja"}}


class Place:
    """One cache and how it is filled from one hub."""

    def __init__(self, hub: Hub | None, root: Path, environ: Mapping[str, str] | None = None, **how: Any) -> None:
        self.hub = hub
        self.cache = root / "hub"
        self.clock = SystemClock()
        self.environ = environment(hub, root / "home") | dict(environ or {})
        self.client = HubClient(str(self.cache), self.environ, self.clock, **({"pause": 0.01} | how))
        self.reported: list[tuple[int, int]] = []

    def check(self, *references: str) -> list[SourceCheck]:
        """What is said about each."""
        found = asyncio.run(self.client.check(references))
        assert list(found) == list(references)
        return list(found.values())

    def order(self, check: SourceCheck | None = None, *, afresh: tuple[str, ...] = ()) -> FetchOrder:
        """What would be ordered after a check."""
        check = check or self.check(REFERENCE)[0]
        assert not check.problem, check.reason
        result = Artifact(identity=check.commit, path=str(self.snapshot(check.commit)))
        return FetchOrder(
            reference=REFERENCE,
            repo=REPO,
            revision="main",
            commit=check.commit,
            files=check.files,
            afresh=afresh,
            result=result,
            bytes=check.bytes,
        )

    async def bring(self, order: FetchOrder) -> None:
        """Carry it out, and keep what is reported."""
        await self.client.fetch(order, lambda done, total: self.reported.append((done, total)))

    def fetch(self, order: FetchOrder | None = None) -> FetchOrder:
        """Carry it out to its end."""
        order = order or self.order()
        asyncio.run(self.bring(order))
        return order

    # ------------------------------------------------------------------------------------------------- the cache

    @property
    def folder(self) -> Path:
        """The folder of the repository in the cache."""
        return self.cache / f"models--{REPO.replace('/', '--')}"

    def snapshot(self, commit: str) -> Path:
        """The folder of one commit."""
        return self.folder / "snapshots" / commit

    def content(self, commit: str) -> dict[str, bytes]:
        """What a server would read of a commit."""
        base = self.snapshot(commit)
        return {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*") if path.is_file()}

    def ref(self) -> str | None:
        """The commit that `main` is here."""
        path = self.folder / "refs" / "main"
        return path.read_text() if path.exists() else None

    def begun(self) -> list[Path]:
        """Partial files of ours."""
        return sorted((self.folder / "blobs").glob(f"*{MARK}"))

    def shape(self) -> dict[str, str]:
        """Every file and link of the repository's folder, with its text or where it leads."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_symlink() or path.is_file())
        return {
            str(path.relative_to(self.folder)): os.readlink(path) if path.is_symlink() else path.read_bytes().hex()
            for path in found
        }


def children() -> list[psutil.Process]:
    """Programs of ours that were started by this process and run."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(word.endswith("programs/hub.py") for word in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


async def until(condition: Callable[[], object], what: str) -> None:
    """Return once a condition holds; fail with its name when that takes too long."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        await asyncio.sleep(0.003)


def refused(place: Place, order: FetchOrder) -> ActionError:
    """The error of a download that cannot be done."""
    with pytest.raises(ActionError) as error:
        place.fetch(order)
    assert children() == []
    return error.value
