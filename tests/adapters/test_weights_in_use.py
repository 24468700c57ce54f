"""Weights that some process was started with stay where they are, and one file has one name."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.adapters.cache.digests import Digests
from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.cold.volume import initialise
from reconciler.adapters.supply import LocalSupply
from reconciler.model.host import ColdVolume, HostFile
from reconciler.model.observed import Present
from reconciler.model.supply import MoveOrder, VerifyOrder
from reconciler.ports.errors import ActionError
from tests.adapters.verifying import write_conversion
from tests.programs.tiny_cache import TinyCache, model_files

BASE = "some/Base@main"


def test_a_cache_behind_a_link_is_verified_once(cache: TinyCache, tmp_path: Path) -> None:
    """What was read was remembered under one path and looked up under another."""
    write_conversion(cache.root, model_files(), made_at=42.5)
    link = tmp_path / "link"
    link.symlink_to(cache.root, target_is_directory=True)
    digests = Digests(tmp_path / "state")
    (tmp_path / "state").mkdir(mode=0o700)
    local = LocalArtifacts(str(link), digests=digests)
    (made,) = local.storage([BASE]).conversions[BASE]
    assert made.artifact.unverified
    supply = LocalSupply(local, digests, HostFile(), tmp_path / "state", SystemClock(), {})
    asyncio.run(supply.verify(VerifyOrder(reference=BASE, path=made.artifact.path, bytes=made.artifact.unverified)))
    (made,) = local.storage([BASE]).conversions[BASE]
    assert made.artifact.sound


@pytest.mark.fault("O03")
def test_weights_that_a_server_of_another_state_directory_was_started_with_stay(
    cache: TinyCache, tmp_path: Path
) -> None:
    cache.add("some/Base", model_files())
    local = LocalArtifacts(str(cache.root))
    found = local.look([BASE])[BASE]
    assert isinstance(found, Present)
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    place = ColdVolume(path=str(shelf), id=initialise(str(shelf)), separate=False)
    host = HostFile(volumes={"cold": place}, offload_to="cold")
    (tmp_path / "state").mkdir(mode=0o700)
    supply = LocalSupply(local, Digests(tmp_path / "state"), host, tmp_path / "state", SystemClock(), {})
    order = MoveOrder(
        reference=BASE,
        repo="some/Base",
        volume="cold",
        path=str(shelf),
        bytes=found.value.disk_bytes,
        artifact=found.value,
        revision="main",
    )
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()", f"--model={found.value.path}"]
    with subprocess.Popen(waits, stdin=subprocess.PIPE) as server:
        with pytest.raises(ActionError) as caught:
            asyncio.run(supply.offload(order))
        assert caught.value.cause == "source-in-use"
        assert str(server.pid) in caught.value.message
        assert local.look([BASE])[BASE] == found
        server.communicate()
    asyncio.run(supply.offload(order))
    assert not cache.folder("some/Base").exists()
