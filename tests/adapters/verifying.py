"""Model caches whose files are verified for real, and what is then remembered."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.adapters.cache.digests import Digests
from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.adapters.cache.promises import Promise, stamp_of
from reconciler.adapters.cache.verification import verify
from reconciler.model.observed import Artifact, Present, Recipe
from tests.adapters.looking import REFERENCE
from tests.programs.tiny_cache import write_folder


class Checked:
    """One cache beside one memory of digests."""

    def __init__(self, hub: Path, state: Path, **more: Any) -> None:
        self.digests = Digests(state)
        self.local = LocalArtifacts(str(hub), digests=self.digests, **more)
        self.told: list[tuple[int, int]] = []
        """What the last verification reported."""

    def artifact(self, reference: str = REFERENCE) -> Artifact:
        answer = self.local.look([reference])[reference]
        assert isinstance(answer, Present), answer
        return answer.value

    def verify(self, reference: str = REFERENCE) -> tuple[str, ...]:
        """Read what is not remembered; the bad files are returned."""
        self.told = []
        promises = self.local.promises(reference)
        return asyncio.run(verify(promises, self.digests, lambda done, total: self.told.append((done, total))))


def promise_of(path: Path, digest: str | None = None) -> Promise:
    """A promise for a file as it is now; its own digest, where no other one is given."""
    expected = hashlib.sha256(path.read_bytes()).hexdigest() if digest is None else digest
    return Promise(path.name, str(path), stamp_of(path.stat()), expected)


def run(promises: list[Promise], digests: Digests, told: list[tuple[int, int]] | None = None) -> tuple[str, ...]:
    """Verify; `told` takes what is reported."""
    report = [] if told is None else told
    return asyncio.run(verify(promises, digests, lambda done, total: report.append((done, total))))


def git_name(content: bytes) -> str:
    """What git calls a file, and the hub a small one."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def flip(path: Path, at: int = -1) -> None:
    """Change one bit of one byte, the length stays."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


RECIPE = Recipe(source="some/Base", revision="main", commit="c" * 40, arguments=("bits=4",), converter="mlx-lm 0.32.2")


def write_conversion(
    hub: Path, files: Mapping[str, bytes], recipe: Recipe = RECIPE, *, made_at: float = 1_000.0
) -> Path:
    """What a finished conversion leaves; its folder is returned."""
    folder = hub / recipe.folder
    write_folder(folder, files)
    (folder / "receipt.json").write_text(json.dumps(receipt(files, recipe, made_at=made_at)))
    return folder


def receipt(files: Mapping[str, bytes], recipe: Recipe = RECIPE, *, made_at: float = 1_000.0) -> dict[str, Any]:
    """The receipt of a conversion."""
    return {
        "recipe": {
            "source": recipe.source,
            "revision": recipe.revision,
            "commit": recipe.commit,
            "arguments": list(recipe.arguments),
            "command": list(recipe.command),
            "converter": recipe.converter,
        },
        "made_at": made_at,
        "files": {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
