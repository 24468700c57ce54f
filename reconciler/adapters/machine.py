"""Memory, platform and runtimes of this machine, without importing or starting any of them."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from reconciler.backends.base import Backend
from reconciler.model.host import HostFile
from reconciler.model.observed import Absent, HostFacts, Observation, Present, Unknown
from reconciler.model.target import PreflightOrder

if TYPE_CHECKING:
    from reconciler.adapters.cache.digests import Digests

NO_BACKENDS: Final[Mapping[str, Backend]] = {}
_OWN_BACKEND: Final = "mlx-lm"
_OWN_PACKAGE: Final = "mlx_lm"
_OWN_MODULE: Final = ("-m", "mlx_lm", "server")
_CGROUP_LIMITS: Final = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
"""What a container may use, version 2 and 1; the first file does not exist outside of one, or says `max`."""
WORKING_SET: Final = "working-set"
"""Under what it is remembered how much Metal recommends to keep resident."""
_TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})
_GIB: Final = 2**30
_SMALL_MAC: Final = 36 * _GIB


class LocalMachine:
    """This machine, with what the host file allows on it."""

    def __init__(
        self,
        host_file: HostFile,
        state_root: str | os.PathLike[str],
        working_set: Callable[[], int | None] = lambda: None,
        backends: Mapping[str, Backend] = NO_BACKENDS,
    ) -> None:
        """`working_set` says what Metal once recommended on this machine; None: nobody has asked it yet.

        `backends` say what it means that a preflight fails.
        """
        self._host_file, self._working_set, self._backends = host_file, working_set, backends
        self._seen: HostFacts | None = None
        self._templates = os.path.join(os.path.abspath(state_root), "templates")

    def look(self, backends: Iterable[str]) -> HostFacts:
        """The facts that planning needs, with the command of each asked backend."""
        found = HostFacts(
            platform=sys.platform,
            memory_total=memory_total(self._working_set),
            runtimes={name: self._runtime(name) for name in backends},
            accept_cpu=self._host_file.accept_cpu,
            template_folder=self._templates,
            offline=is_offline(os.environ),
        )
        # The very same object while nothing has changed, as `steady` has it.
        self._seen = found if self._seen != found else self._seen
        return self._seen

    async def preflight(self, order: PreflightOrder) -> None:
        """Find out what stands against a launch. Raises ActionError with what does."""
        from .preflight import preflight

        await preflight(order, self._backends)

    def _runtime(self, backend: str) -> Observation[tuple[str, ...]]:
        named = self._host_file.runtimes.get(backend)
        if named is not None:
            program = named.command[0]
            if not os.path.isabs(program):
                return Unknown(reason=f"runtimes.{backend}.command names {program!r}, which is no absolute path")
            usable = os.path.isfile(program) and os.access(program, os.X_OK)
            return Present(value=tuple(named.command)) if usable else Absent()
        if backend != _OWN_BACKEND:
            return Absent()
        if not sys.executable:
            return Unknown(reason="this Python does not know its own path")
        found = package_is_here(_OWN_PACKAGE)
        return Present(value=(sys.executable, *_OWN_MODULE)) if found else Absent()


def working_set(digests: "Digests") -> int | None:
    """What Metal once recommended here; None where nobody has asked it."""
    value = (digests.measure(WORKING_SET) or {}).get("bytes")
    return value if isinstance(value, int) else None


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether the environment forbids to ask a hub, by the rule of huggingface_hub 2.4 (`constants.py`)."""
    said = environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or ""
    return said.upper() in _TRUE


def package_is_here(name: str) -> bool:
    """Whether a package could be imported, without doing so.

    A look at the folders of `sys.path` costs 20 us; `importlib.util.find_spec`, which also knows editable
    installations and zip files, is asked only when it fails.
    """
    if any(os.path.isfile(os.path.join(folder, name, "__init__.py")) for folder in sys.path):
        return True
    import importlib.util

    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def memory_total(working_set: Callable[[], int | None] = lambda: None) -> Observation[int]:
    """Bytes that all servers could use at most, before what the host file reserves."""
    if sys.platform == "darwin":
        from .darwin import sysctl_number

        total, wired = sysctl_number("hw.memsize"), sysctl_number("iogpu.wired_limit_mb")
        if not total:
            return Unknown(reason="sysctl hw.memsize gives no number")
        return Present(value=metal_limit(total, wired or 0, working_set()))
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError) as error:
        return Unknown(reason=f"the size of memory is not known here: {error}")
    return Present(value=min([total, *container_limits()]))


def container_limits(files: Iterable[str] = _CGROUP_LIMITS) -> list[int]:
    """Limits of the container that we run in, in bytes; none outside of one."""
    limits = []
    for file in files:
        try:
            with open(file, "rb", 0) as handle:
                text = handle.read(32).strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    return limits


def metal_limit(total: int, wired_limit_mb: int, working_set: int | None = None) -> int:
    """Bytes that Metal will keep resident on a Mac with `total` bytes of memory.

    `iogpu.wired_limit_mb` where somebody set it (0 means the default), else what Metal itself recommends
    (`max_recommended_working_set_size` of `mx.device_info()`), once a model was measured here. Before that, what the
    default is commonly given as: two thirds of the memory up to 36 GB and three quarters above (not verified on a
    Mac). `memory.budget` in the host file replaces all of it.
    """
    if wired_limit_mb > 0:
        return min(total, wired_limit_mb * 2**20)
    if working_set is not None:
        return min(total, working_set)
    return total * 2 // 3 if total <= _SMALL_MAC else total * 3 // 4
