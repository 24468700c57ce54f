"""A model cache here, and its volume on another host."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.adapters.cold.remote_volume import connected
from reconciler.adapters.durable.files import Files
from reconciler.model.host import ColdVolume
from reconciler.ports.errors import ActionError

from .real_move import Place, refusal, tree
from .ssh_host import ID, Cut, SshHost


def fresh(host: SshHost) -> SshHost:
    """A host on which nothing has happened yet."""
    shutil.rmtree(host.volume)
    host.volume.mkdir()
    (host.volume / ".reconciler-volume").write_text(ID)
    host.commands.clear()
    (host.folder / "calls").unlink(missing_ok=True)
    host.connections, host.cut, host.serve = 0, Cut(), None
    return host


@dataclass
class RemotePlace(Place):
    """A place whose volume is on the other host."""

    host: SshHost = field(kw_only=True)
    cold_place: ColdVolume | None = None
    silence: float = 60.0
    standstill: float = 60.0

    @property
    def volume(self) -> Path:
        return self.host.volume

    def __post_init__(self) -> None:
        for folder in (self.hub, self.state):
            folder.mkdir(parents=True)

    def open_volume(self) -> AbstractContextManager[Files]:
        self.opened += 1
        self.between(self.opened)
        place = self.cold_place or self.host.place()
        return connected(place, self.host.environ, silence=self.silence, standstill=self.standstill)


def kept(place: RemotePlace, ask: Callable[[], object] | None = None) -> ActionError:
    """Why it was refused; neither side has changed."""
    whole, far = tree(place.hub), tree(place.host.volume)
    error = refusal(ask or place.offload)
    assert (tree(place.hub), tree(place.host.volume)) == (whole, far)
    return error
