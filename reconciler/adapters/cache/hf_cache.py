"""The declared models in the Hugging Face cache, in plain folders and in other programs' folders.

Nothing else of a cache is read: the cost is a few system calls per file of the named repositories, and one question
for all remembered digests. Paths are text and not `pathlib`, which costs more than the calls.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from reconciler.adapters.steady import steady
from reconciler.model.host import ColdVolume
from reconciler.model.observed import Absent, Artifact, Observation, Present, Storage, Unknown
from reconciler.model.supply import Holding
from reconciler.ports.errors import ObservationError

from .digests import Digests, Known
from .drafts import Draft, Looked, Measures, of_folder
from .found_files import Allowed, Refused, files_of
from .hub_folder import Hub, unmounted
from .model_folder import CONFIG, Memo, Recall
from .promises import Promise
from .storage import Shelves, built_in_converter, conversion_at, key_of

_REPO: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")
_SNAPSHOT: Final = re.compile(r"((/.*)/models--[^/]+)/snapshots/([0-9a-f]{40})")
_DEFAULT: Final = "main"


def cache_root(environ: Mapping[str, str]) -> str:
    """HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub, as huggingface_hub/constants.py has it.

    Its other two names are honoured too: HUGGINGFACE_HUB_CACHE behind HF_HUB_CACHE, XDG_CACHE_HOME for ~/.cache.
    """
    home = environ.get("HF_HOME") or os.path.join(
        environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "huggingface"
    )
    chosen = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return os.path.abspath(os.path.expandvars(os.path.expanduser(chosen)))


class LocalArtifacts:
    """Looks at launch references: `owner/name@revision` in one cache, or an absolute folder.

    `roots` are folders of the host file into which links of a model may lead besides the cache. `folders` are
    those of other programs: what is not in the cache is looked for there, and nothing is ever written. `memo` is
    what an earlier look remembered (`memory`): headers and documents of files that have not changed are not read
    again. `digests` is what is remembered of whole files; without it everything that was promised is unverified.
    `converter` says program and version of the converter; it is asked once.
    """

    def __init__(
        self,
        cache: str | None = None,
        *,
        roots: Iterable[str] = (),
        folders: Iterable[str] = (),
        volumes: Mapping[str, ColdVolume] | None = None,
        memo: Memo | None = None,
        digests: Digests | None = None,
        converter: Callable[[], str] = built_in_converter,
    ) -> None:
        # One spelling of every path: what is remembered of a file is looked up by it.
        self.home = os.path.realpath(cache_root(os.environ) if cache is None else cache)
        self._roots = tuple(roots)
        self._folders = tuple(folder.rstrip("/") for folder in folders)
        self._recall = Recall(memo)
        self._digests = digests
        self._volumes = volumes or {}
        self._shelves = Shelves(self.home, self._volumes, converter)
        self._seen: Mapping[str, Observation[Artifact]] = {}
        self._stored = Storage()

    @property
    def memory(self) -> Memo:
        """What the last look read, for the next one."""
        return self._recall.memo

    def look(self, references: Iterable[str]) -> Mapping[str, Observation[Artifact]]:
        """One answer per reference; a failure to look is unknown, never absence."""
        found = self._look(references)
        self._recall.turn()
        self._seen = found
        return found

    def look_again(self, references: Iterable[str]) -> Mapping[str, Observation[Artifact]]:
        """As `look`; what that remembers of others for the next one stays remembered."""
        found = self._look(references)
        self._recall.keep()
        self._seen = {**self._seen, **found}
        return found

    def _look(self, references: Iterable[str]) -> dict[str, Observation[Artifact]]:
        allowed = Allowed((self.home, *self._roots))
        found = {reference: self._one(reference, allowed) for reference in references}
        drafts = [one for one in found.values() if isinstance(one, Draft)]
        known = self._known(promise.path for one in drafts for promise in one.promises)
        measures = self._measures(one.memory_key for one in drafts)
        return steady(self._seen, {name: _settled(one, known, measures) for name, one in found.items()})

    def storage(self, references: Iterable[str]) -> Storage:
        """What was converted from or moved away of these references, and what room there is."""
        found = self._shelves.look(references, self._recall, self._digests)
        self._stored = self._stored if self._stored == found else found
        return self._stored

    def inventory(self) -> tuple[Holding, ...]:
        """Everything in the cache, declared or not. Raises ObservationError."""
        from .inventory import inventory

        return tuple(inventory(self.home, self._volumes))

    def promises(self, reference: str) -> tuple[Promise, ...]:
        """What is promised about the files of a reference as they are now: what there is to verify.

        The absolute path of a snapshot counts as that commit, the one of a conversion as its receipt says. Empty
        where it is not there. Raises ObservationError when it cannot be looked at.
        """
        allowed = Allowed((self.home, *self._roots))
        match = _SNAPSHOT.fullmatch(reference)
        try:
            snapshot = Hub(match[2], allowed, self._recall).snapshot(match[1], match[3]) if match else None
        except (Refused, OSError) as error:
            raise ObservationError(f"{reference}: {error}") from error
        found = snapshot or self._one(reference, allowed)
        if isinstance(found, Unknown):
            raise ObservationError(found.reason)
        return found.promises if isinstance(found, Draft) else ()

    def _known(self, paths: Iterable[str]) -> Mapping[str, Known]:
        return self._digests.known(paths) if self._digests is not None else {}

    def _measures(self, keys: Iterable[str]) -> Measures:
        return self._digests.measures(keys) if self._digests is not None else {}

    def _one(self, reference: str, allowed: Allowed) -> Looked:
        try:
            if reference.startswith("/"):
                return self._folder(reference, allowed)
            repo, _, revision = reference.partition("@")
            if not (_REPO.fullmatch(repo) and revision) or {"", ".", ".."} & set(revision.split("/")):
                return Unknown(reason=f"{reference!r} is no reference of the form owner/name@revision")
            found = Hub(self.home, allowed, self._recall).look(repo, revision)
        except Refused as error:
            return Unknown(reason=str(error))
        except OSError as error:
            return _failed(reference, error)
        return self._elsewhere(repo, revision) if isinstance(found, Absent) else found

    def _folder(self, path: str, allowed: Allowed) -> Looked:
        real = os.path.realpath(path)
        try:
            files = files_of(real, allowed)
        except FileNotFoundError:
            return unmounted(real) or Absent()
        except NotADirectoryError:
            return Draft(Artifact(identity="no folder", path=real, missing=(CONFIG,)))
        key = key_of(self.home, real)
        made = conversion_at(real, key, self._recall) if key else None
        return made[1] if made is not None else of_folder(real, files, self._recall)

    def _elsewhere(self, repo: str, revision: str) -> Looked:
        """The first complete copy in another program's folder; a partial one there cannot be completed by us."""
        failed: Unknown | None = None
        for folder in self._folders:
            try:
                found = _in_folder(folder, repo, revision, self._recall)
            except Refused:
                continue  # nothing that could be served, and it is not ours to mend
            except OSError as error:
                found = _failed(f"{folder}/{repo}", error)
            if isinstance(found, Draft) and found.artifact.complete:
                return found
            if isinstance(found, Unknown):
                failed = failed or found
        return failed or Absent()


def _settled(found: Looked, known: Mapping[str, Known], measures: Measures) -> Observation[Artifact]:
    if not isinstance(found, Draft):
        return found
    artifact = found.settled(known, measures)
    return Absent() if artifact.read_only and not artifact.complete else Present(value=artifact)


def _failed(reference: str, error: OSError) -> Unknown:
    return Unknown(reason=f"{error.filename or reference}: {error.strerror or error}")


def _in_folder(folder: str, repo: str, revision: str, recall: Recall) -> Looked:
    """A model in another program's folder, as a hub cache or as OWNER/NAME/files. Raises OSError and Refused."""
    allowed = Allowed((folder,))
    found = Hub(folder, allowed, recall, read_only=True).look(repo, revision)
    if not isinstance(found, Absent) or revision != _DEFAULT:
        return found
    path = os.path.realpath(f"{folder}/{repo}")
    try:
        if not (allowed.holds(path) and os.path.isdir(path) and _spelled(folder, repo)):
            return Absent()
        files = files_of(path, allowed)
    except FileNotFoundError:
        return Absent()
    return of_folder(path, files, recall, read_only=True)


def _spelled(folder: str, repo: str) -> bool:
    """Whether owner and name are there in exactly these letters: some file systems take any case."""
    owner, _, name = repo.partition("/")
    return owner in os.listdir(folder) and name in os.listdir(f"{folder}/{owner}")
