"""Asks a model hub about declared weights and downloads them, by `programs/hub.py` as a child.

This process never reads a token: the child has the user's environment for that, and is the only child that does.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from reconciler.adapters.child import Child, running
from reconciler.adapters.machine import is_offline
from reconciler.adapters.memory.model_config import cache_cost, context_window
from reconciler.model.names import REPO, REVISION
from reconciler.model.supply import FetchOrder, RemoteFile, SourceCheck
from reconciler.ports.errors import ActionError
from reconciler.ports.host import Clock

from .cache import RepoFolder
from .files import LOADED, Unfit, checked, chosen
from .words import Facts, Told, told

PROGRAM: Final = "hub.py"
PATIENCE: Final = 300.0
"""Seconds without one byte after which a download is ended."""
ANSWER: Final = 90.0
"""Seconds without one answer after which the rest of a check is given up."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_KEPT: Final = "what has arrived is kept, and a download goes on from there"
_GIVEN_BACK: Final = "whole files are kept, what was begun was removed"

Report = Callable[[int, int], None]


class HubClient:
    """The hub that an environment names, and one cache."""

    def __init__(
        self,
        cache: str,
        environ: Mapping[str, str],
        clock: Clock,
        *,
        workers: int = 4,
        patience: float = PATIENCE,
        answer: float = ANSWER,
        pause: float = 1.0,
    ) -> None:
        """`cache` is absolute; `workers`: files at a time; `pause`: seconds before a second attempt."""
        self._cache = cache
        self._environ = dict(environ)
        self._clock = clock
        self._workers = workers
        self._patience = patience
        self._answer = answer
        self._pause = pause

    # ----------------------------------------------------------------------------------------------------- asking

    async def check(self, references: Sequence[str]) -> Mapping[str, SourceCheck]:
        """What the hub says about each `owner/name@revision`, all of them in one run.

        What cannot be had is an answer; what is no such reference is answered without a request. Raises ActionError
        only when the program itself fails.
        """
        found = {reference: self._before(reference) for reference in references}
        asked = [reference for reference, answer in found.items() if answer is None]
        answers = {reference: answer for reference, answer in found.items() if answer is not None}
        if asked:
            answers |= await self._ask(asked)
        return {reference: answers[reference] for reference in found}

    def _before(self, reference: str) -> SourceCheck | None:
        """The answer that needs nobody to be asked; None where there is none."""
        repo, _, revision = reference.partition("@")
        if "/" not in repo:
            return self._refused(reference, {"class": "bare-repository-name"})
        if not _asked_for(repo, revision):
            return self._refused(reference, {"class": "source-bad-syntax"})
        return self._refused(reference, {"class": "hub-offline"}) if is_offline(self._environ) else None

    async def _ask(self, references: list[str]) -> dict[str, SourceCheck]:
        pairs = [reference.partition("@") for reference in references]
        request = {"do": "check", "references": [{"repo": repo, "revision": revision} for repo, _, revision in pairs]}
        answers: dict[str, SourceCheck] = {}
        async with running(PROGRAM, request, environ=self._environ) as child:
            rest: Facts = {"class": "hub-unreachable", "names": ["TimeoutException"], "message": "no answer"}
            try:
                while "answer" in (said := await self._next(child, self._answer)):
                    reference = references[said["answer"]]
                    answers[reference] = self._answered(reference, said)
                rest = said.get("error", rest)
            except TimeoutError:
                pass
        return {each: answers[each] if each in answers else self._refused(each, rest) for each in references}

    async def _next(self, child: Child, seconds: float) -> Mapping[str, Any]:
        """What a child says next. Raises TimeoutError, and ActionError where it has ended."""
        async with asyncio.timeout(seconds):
            said = await child.line()
        if said is None:
            raise child.failed()
        return said

    def _answered(self, reference: str, said: Mapping[str, Any]) -> SourceCheck:
        if "error" in said:
            return self._refused(reference, said["error"])
        try:
            files = chosen(RemoteFile(name=name, size=size, digest=digest) for name, size, digest in said["files"])
        except Unfit as unfit:
            return self._refused(reference, {"class": unfit.problem, "message": str(unfit)})
        config: Mapping[str, Any] | None = said["config"]
        if config is None:
            return self._refused(reference, {"class": "source-wrong-format", "message": "its config.json is no object"})
        window = context_window(config)
        return SourceCheck(
            at=self._clock.now(),
            commit=said["commit"],
            files=files,
            weight_bytes=sum(file.size for file in files if LOADED.fullmatch(file.name)),
            cache=cache_cost(config),
            context_window=None if window is None else window[0],
            converted=_converted(config.get("quantization")),
        )

    def _refused(self, reference: str, facts: Facts) -> SourceCheck:
        now, said = self._clock.now(), self._told(reference, facts)
        retry_at = None if said.retry_in is None else now + said.retry_in
        return SourceCheck(at=now, problem=said.problem, reason=said.reason, hint=said.hint, retry_at=retry_at)

    def _told(self, reference: str, facts: Facts) -> Told:
        return told(facts, reference, self._environ)

    # ------------------------------------------------------------------------------------------------ downloading

    async def fetch(self, order: FetchOrder, report: Report) -> None:
        """Bring every file of the order that is not here in its length, or that is to be brought afresh.

        `report` is told the bytes that are here and that there will be, of what is brought. Files are written under
        names of ours until their digest is right; what was complete before is not asked for. Raises ActionError; when
        the task is cancelled the child is gone before it returns, and what has arrived is kept.
        """
        if not (_asked_for(order.repo, order.revision) and _COMMIT.fullmatch(order.commit)):
            raise self._error(order, {"class": "source-bad-syntax"})
        folder = RepoFolder(self._cache, order.repo, order.commit, order.revision)
        try:
            wanted = checked(order.files)
            lacking = {file.name for file in folder.lacking(wanted)} | set(order.afresh)
            if lacking:
                await self._bring(order, folder, [file for file in wanted if file.name in lacking], report)
            await asyncio.to_thread(folder.finish)
        except Unfit as unfit:
            raise self._error(order, {"class": unfit.problem, "message": str(unfit)}) from None
        except OSError as error:
            raise self._error(order, _of_this_machine(error)) from None

    async def _bring(self, order: FetchOrder, folder: RepoFolder, files: Iterable[RemoteFile], report: Report) -> None:
        if is_offline(self._environ):
            raise self._error(order, {"class": "hub-offline"})
        folder.prepare()
        request = {
            "do": "fetch",
            "repo": order.repo,
            "commit": order.commit,
            "cache": self._cache,
            "files": [{"name": file.name, "size": file.size, "digest": file.digest} for file in files],
            "afresh": list(order.afresh),
            "workers": self._workers,
            "pause": self._pause,
        }
        async with running(PROGRAM, request, environ=self._environ) as child:
            try:
                error = await self._followed(child, folder, report)
            except TimeoutError:
                error = {"class": "download-stalled", "seconds": self._patience}
        if error is not None:
            raise self._error(order, error)

    async def _followed(self, child: Child, folder: RepoFolder, report: Report) -> Facts | None:
        """Report and link what a child says it has, until its last word. Raises TimeoutError when nothing moves."""
        loop = asyncio.get_running_loop()
        moved, last = loop.time(), None
        while True:
            said = await self._next(child, moved + self._patience - loop.time())
            match said:
                case {"progress": {"done": done, "total": total, "read": read}}:
                    if (done, read) != last:
                        moved, last = loop.time(), (done, read)
                    report(done, total)
                case {"have": name, "blob": blob}:
                    moved = loop.time()
                    folder.link(name, blob)
                case {"error": error}:
                    found: Facts = error
                    return found
                case _:
                    return None

    def _error(self, order: FetchOrder, facts: Facts) -> ActionError:
        said = self._told(order.reference, facts)
        kept = _GIVEN_BACK if said.problem == "disk-full" else _KEPT
        message = f"{order.reference} was not downloaded: {said.reason}; {kept}; {said.hint}"
        return ActionError(said.problem, message, permanent=said.retry_in is None)


def _asked_for(repo: str, revision: str) -> bool:
    """Whether a hub may be asked about this: plain names, whose parts are paths in the cache too."""
    parts = {*repo.split("/"), *revision.split("/")}
    return bool(REPO.regex.fullmatch(repo) and REVISION.regex.fullmatch(revision)) and not parts & {"", ".", ".."}


def _converted(settings: object) -> bool | None:
    """Whether mlx_lm has quantised it; others name the method by which they did."""
    return True if isinstance(settings, dict) and "bits" in settings and "quant_method" not in settings else None


def _of_this_machine(error: OSError) -> Facts:
    import errno

    code = errno.errorcode.get(error.errno or 0, "")
    return {"errno": code, "message": f"{error.filename or 'the model cache'}: {error.strerror or error}"}
