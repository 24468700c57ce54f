"""Contents of the desired state on their way into the state directory."""

from collections.abc import Mapping

from reconciler.desired.canonical import canonical, digest
from reconciler.model.desired import Desired
from reconciler.model.problem import ReconcilerError
from reconciler.ports.host import StateStore


class Contents:
    """What has been in force and is not kept yet; every content is made once."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._last: tuple[Desired, str] | None = None
        self._pending: dict[str, bytes] = {}

    @property
    def pending(self) -> Mapping[str, bytes]:
        """What the next save must keep, by digest."""
        return self._pending

    def of(self, desired: Desired) -> str:
        """The digest of its canonical content, which is kept from the next save on."""
        if self._last is None or self._last[0] is not desired:
            self._last = desired, self.keep(canonical(desired))
        return self._last[1]

    def keep(self, content: bytes) -> str:
        """The digest of a content, which is kept from the next save on."""
        name = digest(content)
        if name not in self._pending and not self._is_kept(name):
            self._pending[name] = content
        return name

    def assure(self, desired: Desired) -> None:
        """Have what is in force kept by the next save, also where somebody has taken the database away since."""
        if self._last is not None and self._last[0] is desired and not self._is_kept(self._last[1]):
            self.keep(canonical(desired))

    def _is_kept(self, name: str) -> bool:
        """Whether it can be read; where nothing can, the save that comes next mends that or says what is wrong."""
        try:
            return self._state.content(name) is not None
        except ReconcilerError:
            return False

    def saved(self) -> None:
        """The save succeeded."""
        self._pending = {}
