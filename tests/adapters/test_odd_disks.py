"""The model cache on a disk that cannot be written, and on one that has no links.

Real ones need file systems of their own, which only root can mount: what the kernel would refuse is refused here.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.model.observed import Present
from reconciler.ports.errors import ActionError
from tests.programs.fake_hub import Hub, Repo, serving

from .hub_parts import REFERENCE, REPO, WEIGHTS, Place, loaded, written


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub that has one repository."""
    with serving({REPO: Repo(written(tmp_path / "model"))}) as made:
        yield made


@pytest.fixture
def place(hub: Hub, tmp_path: Path) -> Place:
    """An empty cache."""
    return Place(hub, tmp_path)


def refuse(monkeypatch: pytest.MonkeyPatch, number: int, *names: str) -> None:
    """Let the system refuse these requests."""

    def call(path: Any, *arguments: Any, **more: Any) -> Any:
        raise OSError(number, os.strerror(number), path)

    for name in names:
        monkeypatch.setattr(os, name, call)


@pytest.mark.fault("H10")
def test_a_cache_that_is_read_only_keeps_what_it_has_and_takes_nothing(
    place: Place, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = place.fetch()
    hub.push(REPO, written(tmp_path / "next", seed=3))
    before, order = place.shape(), place.order()
    assert order.commit != first.commit
    with monkeypatch.context() as read_only:
        refuse(read_only, errno.EROFS, "mkdir", "makedirs", "symlink", "replace", "rename", "unlink")
        with pytest.raises(ActionError) as caught:
            place.fetch(order)
    assert (caught.value.cause, caught.value.permanent) == ("cache-not-writable", True)
    assert place.shape() == before
    here = LocalArtifacts(str(place.cache)).look([REFERENCE])[REFERENCE]
    assert isinstance(here, Present)
    assert (here.value.identity, here.value.complete) == (first.commit, True)


@pytest.mark.fault("H23")
def test_a_disk_without_links_gets_plain_files_and_loses_none(
    place: Place, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = place.order()
    refuse(monkeypatch, errno.EOPNOTSUPP, "symlink")
    place.fetch(order)
    assert place.content(order.commit) == loaded(hub.repos[REPO].folder)
    assert not any(path.is_symlink() for path in place.folder.rglob("*"))
    here = LocalArtifacts(str(place.cache)).look([REFERENCE])[REFERENCE]
    assert isinstance(here, Present)
    assert here.value.complete
    asked = len(hub.gets(WEIGHTS))
    place.fetch(order)
    assert len(hub.gets(WEIGHTS)) == asked, "nothing is brought twice"
    assert place.content(order.commit) == loaded(hub.repos[REPO].folder)
