"""Converts weights by a recipe: runs the converter, judges what it has left, and publishes it whole or not at all.

The converter writes into the staging folder `.KEY.converting` beside its place in the model cache. Two locks belong
to a recipe and are never unlinked: `.KEY.lock` is held here from the first look to the publication, so that two
reconcilers with one cache do not work on the same result; `.KEY.converter.lock` is held by the converter itself, and
so by one that outlived whoever had started it. While either is taken, nothing is removed and nothing is started.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from reconciler.adapters.cache.hub_folder import unmounted
from reconciler.adapters.child import PYTHON, Child, running
from reconciler.adapters.durable.copying import Watch, remove_tree, told
from reconciler.adapters.durable.files import LocalFiles
from reconciler.adapters.durable.locks import alone
from reconciler.adapters.durable.threads import in_thread
from reconciler.model.base import plain
from reconciler.model.observed import Recipe
from reconciler.model.supply import ConvertOrder
from reconciler.model.units import human
from reconciler.ports.errors import ActionError

from .command import KEPT, converter_command, converter_environment, failure
from .publishing import prepare, publish, staging_folder
from .result import flaw

T = TypeVar("T")
Report = Callable[[int, int], None]
"""Is told the bytes done and to do: every byte is written, read, and read back from the disk."""

RUNNER: Final = "convert_run.py"
CHECKER: Final = "load_check.py"
_PASSES: Final = {"writing": 0, "reading": 1, "checking": 2}
"""What is done with every byte, one after the other."""
_TOLD: Final = 400


async def convert(
    order: ConvertOrder,
    *,
    hub: str,
    report: Report,
    now: Callable[[], float],
    environ: Mapping[str, str] = os.environ,
    loader: Sequence[str] = PYTHON,
) -> None:
    """Make what the order asks for in the model cache `hub`; nothing where it is there and verifies.

    `now` gives seconds since the epoch, for the receipt; `loader` is the Python of an environment with mlx_lm, in
    which the result is loaded before it is published. When this is cancelled, the converter is ended and what it
    has written removed before it returns.

    Raises ActionError. Permanent: `converter-placeholder`, `converter-setting`, `converter-missing`,
    `conversion-wrong` (the result is not what was asked for), `conversion-place`, `conversion-failed` where the same
    would fail again, and what publication refuses. Passing: `conversion-busy`, `converter-changed`, `cache-missing`,
    `conversion-failed`, `disk-full`, `source-changed`, `source-unreadable`.
    """
    recipe = order.recipe
    try:
        staging = staging_folder(recipe.folder)
    except ValueError:
        message = f"{recipe.folder} cannot be a folder of the model cache; {KEPT}"
        raise ActionError("conversion-place", message, permanent=True) from None
    command = converter_command(recipe, order.source, f"{hub}/{staging}", environ)
    with told(f"converting {recipe.source}"), _opened(hub) as files, _alone(files, hub, recipe):
        if await in_thread(lambda watch: _is_there(files, recipe, watch), _silent):
            return
        try:
            await _Conversion(order, hub, files, report, converter_environment(environ)).run(command, loader, now)
        finally:
            with contextlib.suppress(OSError):  # what cannot be removed now is removed by the next run
                remove_tree(files, staging)


class _Conversion:
    """One run of the converter and what follows from it."""

    def __init__(
        self, order: ConvertOrder, hub: str, files: LocalFiles, report: Report, environ: Mapping[str, str]
    ) -> None:
        self._order, self._files, self._environ = order, files, environ
        self._recipe = order.recipe
        self._staging = f"{hub}/{staging_folder(order.recipe.folder)}"
        self._lock = f"{hub}/{_lock_of_converter(order.recipe)}"
        self._hub = hub
        self._report = report
        self._size = order.result.artifact.weight_bytes or order.disk
        self._done = 0

    async def run(self, command: Sequence[str], loader: Sequence[str], now: Callable[[], float]) -> None:
        self._check_room()
        before = await asyncio.to_thread(_contents, self._order.source)
        ended = await self._converted(command)
        if ended["exit"] != 0:
            raise failure(self._recipe.source, ended["exit"], ended["log"])
        if await asyncio.to_thread(_contents, self._order.source) != before:
            message = f"{self._order.source} changed while it was converted; {KEPT}"
            raise ActionError("source-changed", message)
        wrong = await asyncio.to_thread(flaw, self._staging, self._recipe.arguments, self._order.source)
        if wrong:
            raise self._wrong(wrong, ended["log"])
        facts = {
            "recipe": plain(self._recipe),
            "made_at": now(),
            "seconds": ended["seconds"],
            "peak_memory": ended["peak_memory"],
            "loaded_by": f"mlx-lm {await self._loaded(loader)}",
        }
        await in_thread(lambda watch: self._publish(facts, watch), self._advance)

    def _check_room(self) -> None:
        room = os.statvfs(self._hub)
        free = room.f_bavail * room.f_frsize
        if free < self._order.disk:
            raise ActionError(
                "disk-full",
                f"converting {self._recipe.source} may need {human(self._order.disk)} of disk, and {human(free)} are "
                "free; nothing was started",
            )

    async def _converted(self, command: Sequence[str]) -> Mapping[str, Any]:
        """The last word about the converter; afterwards nothing runs any more that it has started."""
        request = {"command": command, "dest": self._staging, "lock": self._lock}
        async with running(RUNNER, request, environ=self._environ) as child:
            said = await self._followed(child)
        if said is None:
            raise ActionError("conversion-failed", f"converting {self._recipe.source} was cut off; {KEPT}")
        if "error" in said:
            missing = said["kind"] == "missing"
            cause = "converter-missing" if missing else "conversion-busy"
            message = f"{self._recipe.source} was not converted: {said['error']}; {KEPT}"
            raise ActionError(cause, message, permanent=missing)
        return said

    async def _followed(self, child: Child) -> Mapping[str, Any] | None:
        while (said := await child.line()) is not None and "progress" in said:
            self._advance("writing", int(said["progress"]["bytes"]))
        return said

    async def _loaded(self, loader: Sequence[str]) -> str:
        """Load what was made, no weight read; the version of mlx_lm that could."""
        request = {"path": self._staging}
        async with running(CHECKER, request, environ=self._environ, command=loader) as child:
            said = await child.line() or {"error": child.complaint() or "it crashed", "kind": "not-loadable"}
        if "error" not in said:
            return str(said["mlx_lm"])
        if said["kind"] == "no-runtime":
            message = f"whether {self._recipe.source} was converted well cannot be checked: {said['error']}; {KEPT}"
            raise ActionError("converter-missing", message, permanent=True)
        raise self._wrong(f"mlx_lm cannot load it: {said['error'][:_TOLD]}", ())

    def _publish(self, facts: Mapping[str, Any], watch: Watch) -> None:
        publish(self._files, self._recipe.folder, facts, watch)
        self._files.sync("")  # the folder of all conversions of this source may be new

    def _wrong(self, what: str, log: Sequence[str]) -> ActionError:
        """A result that was left by an exit with 0; a full disk may be behind it all the same."""
        said = failure(self._recipe.source, 0, log)
        if said.cause == "disk-full":
            return said
        message = f"what the converter made of {self._recipe.source} cannot be used: {what}; {KEPT}"
        return ActionError("conversion-wrong", message, permanent=True)

    def _advance(self, what: str, done: int) -> None:
        """Tell how far it is; the size is an estimate, and nobody is ever told less than before."""
        reached = _PASSES.get(what, 0) * self._size + min(done, self._size)
        self._done = max(self._done, reached)
        self._report(self._done, len(_PASSES) * self._size)


def _is_there(files: LocalFiles, recipe: Recipe, watch: Watch) -> bool:
    """Whether the result is published already; otherwise its place is ready. Raises ActionError."""
    receipt = prepare(files, recipe.folder, watch)
    if receipt is not None and _recipe_of(receipt) != recipe.key:
        message = f"{recipe.folder} in the model cache is of another recipe than its name says; move it away"
        raise ActionError("destination-foreign", message, permanent=True)
    return receipt is not None


def _recipe_of(receipt: Mapping[str, Any]) -> str:
    """The key of the recipe in a receipt; empty where there is none."""
    try:
        said = dict(receipt["recipe"])
        said |= {name: tuple(said[name]) for name in ("arguments", "command")}
        return Recipe(**said).key
    except (LookupError, TypeError, ValueError):
        return ""


# -------------------------------------------------------------------------------------------------- places and locks


@contextlib.contextmanager
def _opened(hub: str) -> Iterator[LocalFiles]:
    """The model cache, made where it is absent; a volume that is not mounted is not replaced by a folder."""
    if gone := unmounted(hub):
        raise ActionError("cache-missing", f"{gone.reason} nothing was started")
    os.makedirs(hub, exist_ok=True)
    with LocalFiles(hub) as files:
        yield files


@contextlib.contextmanager
def _alone(files: LocalFiles, hub: str, recipe: Recipe) -> Iterator[None]:
    """Nobody else works on the result of this recipe, and no converter that was left behind does."""
    parent = os.path.dirname(recipe.folder)
    if files.look(parent) is None:
        files.make_folder(parent)
    message = f"{recipe.source} is being converted by the same recipe already; nothing was changed"
    busy = ActionError("conversion-busy", message)
    with alone(f"{hub}/{parent}/.{recipe.key}.lock", busy):
        with alone(f"{hub}/{_lock_of_converter(recipe)}", busy):
            pass  # free, and only who holds the first lock starts another converter
        yield


def _lock_of_converter(recipe: Recipe) -> str:
    return f"{os.path.dirname(recipe.folder)}/.{recipe.key}.converter.lock"


def _contents(folder: str) -> Mapping[str, tuple[int, int, int]]:
    """Inode, size and mtime of every file in a source, links followed (C11). Raises ActionError."""

    def refuse(error: OSError) -> None:
        raise error

    found = {}
    try:
        for place, _, names in os.walk(folder, onerror=refuse):
            for name in names:
                path = os.path.join(place, name)
                status = os.stat(path)
                if stat.S_ISREG(status.st_mode):
                    found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        said = f"{error.filename or folder} cannot be read: {error.strerror}; {KEPT}"
        raise ActionError("source-unreadable", said) from None
    return found


# ------------------------------------------------------------------------------------------------------------ threads


def _silent(what: str, done: int) -> None:
    """Nobody wants to know."""
