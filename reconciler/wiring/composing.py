"""One command's composition: the parts of one machine and one desired state, each made when it is first asked for."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reconciler import plugins
from reconciler.adapters.host_file import find_host_file
from reconciler.adapters.worktree import WorktreeSource
from reconciler.desired.host import parse_host
from reconciler.desired.host_environment import VARIABLES, with_environment
from reconciler.desired.parse import parse
from reconciler.desired.slice import select
from reconciler.model.bundle import Bundle
from reconciler.model.desired import Desired
from reconciler.model.host import HostFile
from reconciler.model.observed import Inspection
from reconciler.model.plan import Blocked
from reconciler.model.problem import ExitCode, Problem, ReconcilerError
from reconciler.model.source import Mode, SourceRecord, standing_against
from reconciler.planning.plan import Planner
from reconciler.ports.errors import ActionError
from reconciler.ports.host import Host
from reconciler.surface.composition import Settings

from .machine import LocalHost

if TYPE_CHECKING:
    from reconciler.adapters.git.source import GitSource
    from reconciler.engine.doctor import Case
    from reconciler.model.service import Service
    from reconciler.ports.hooks import Hooks
    from reconciler.ports.service import ServiceManager
    from reconciler.surface.notifying import Notifier

_READ_FROM_ENVIRONMENT: Final = ("MODEL__", "HF_HOME", "HF_HUB_CACHE", *VARIABLES)
WAKE: Final = "wake"
"""Folder of the state directory in which a hook of the repository touches a file."""
_NAMES: Final = ("desired-state/ensemble.yaml", "ensemble.yaml")


class Wired:
    """One machine and one desired state; every part is made when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._uncommitted: tuple[str, ...] = ()
        """Edits that a reading of the newest commit has ignored."""
        self._parsed: tuple[str, tuple[Desired, tuple[Problem, ...]]] | None = None

    @cached_property
    def _path(self) -> Path:
        if self._settings.config is not None:
            return self._settings.config
        try:
            return _find_desired_file()
        except ReconcilerError:
            # It may have been deleted while a watch keeps what was good last: there is something to be said of that.
            record = self._remembered()
            if record is None:
                raise
            return Path(record.place)

    @property
    def file(self) -> str:
        return str(self._path)

    @cached_property
    def host_file(self) -> HostFile:
        found = find_host_file(self._settings.host_file)
        return with_environment(HostFile() if found is None else parse_host(found[1], found[0]), os.environ)

    @cached_property
    def planner(self) -> Planner:
        return Planner(plugins.installed_backends(), plugins.installed_verbs())

    @cached_property
    def _machine(self) -> "LocalHost":
        return LocalHost(self.host_file, self.planner.backends)

    @property
    def host(self) -> Host:
        return self._machine.ports

    @contextmanager
    def exclusively(self, doing: str) -> Iterator[None]:
        from reconciler.adapters.lock import held

        with held(self._machine.root, doing), self._machine.state.kept_open():
            yield

    def recover(self) -> str:
        state = self._machine.state
        if not state.damage():
            return ""
        with self.exclusively("recovering its state"):
            lost = state.recover()
        return lost.text if lost is not None else ""

    def busy(self) -> bool:
        from reconciler.adapters.lock import is_held

        return is_held(self._machine.root)

    @property
    def place(self) -> str:
        return os.path.realpath(self._path)

    @property
    def rules(self) -> str:
        import hashlib

        found = find_host_file(self._settings.host_file)
        environ = {name: value for name, value in os.environ.items() if name.startswith(_READ_FROM_ENVIRONMENT)}
        parts = (found and found[1], sorted(self._settings.overrides.items()), sorted(environ.items()))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    @property
    def state(self) -> Path:
        return self._machine.root

    def log(self, label: str) -> Path:
        return self._machine.root / "logs" / f"{Path(label).name}.log"

    def tail(self, log: str, start: int, lines: int) -> tuple[str, ...]:
        from reconciler.adapters.server_log import tail

        return tail(log, start, lines) if log else ()

    def inspect(self, pid: int) -> Inspection | None:
        from reconciler.adapters.inspection import inspect

        return inspect(pid)

    def mark_volume(self, path: str) -> tuple[str, str, bool]:
        from reconciler.adapters.cache.hf_cache import cache_root
        from reconciler.adapters.cache.storage import inside, same_disk
        from reconciler.adapters.cold.volume import initialise

        place = os.path.abspath(os.path.expanduser(path))
        if inside(place, cache_root(os.environ)):
            raise ReconcilerError(
                "volume-in-cache",
                f"{place} is in the model cache itself; nothing was written",
                hint="name a folder of another disk",
                code=ExitCode.ENVIRONMENT,
            )
        try:
            return initialise(place), place, not same_disk(place, cache_root(os.environ))
        except ActionError as error:
            raise ReconcilerError(
                error.cause, error.message, hint="mount it, or name another folder", code=ExitCode.ENVIRONMENT
            ) from error

    def service(self, words: Sequence[str]) -> "Service":
        from .service import described, told

        said = told(words)
        followed = said if said.source is not None else replace(said, source=str(Wired(said).mode))
        return described(words, Wired(followed).bundle().text)

    def service_manager(self, name: str | None) -> "ServiceManager":
        from .service import service_manager

        return service_manager(name)

    @property
    def hooks(self) -> "Hooks":
        from reconciler.adapters.git.hooks import RepositoryHooks

        return RepositoryHooks(self.place, self.state / WAKE)

    def case(self) -> "Case":
        from .doctor import case

        named = self._settings.host_file
        return case(
            lambda: self.place,
            None if named is None else str(named),
            lambda: self.host_file,
            lambda: self.desired()[0],
            self.service_manager(None),
            self.service,
            lambda: self.hooks,
        )

    def ask(self) -> None:
        self._machine.asks = True

    def follow(self) -> None:
        from reconciler.adapters.watching import EditWatch

        source, wake = self.source, str(self.state / WAKE)
        for folder in (self.state, wake):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        files = self.host_file.gateways
        # Somebody else's edit of a gateway's file is noticed like one of ours.
        gateways = [os.path.dirname(files.litellm.include)] if files.litellm is not None else []
        found = find_host_file(self._settings.host_file)
        rules = [os.path.dirname(os.path.abspath(found[0]))] if found is not None else []
        self._machine.follow(EditWatch(lambda: (*source.folders(), wake, *gateways, *rules)))

    async def close(self) -> None:
        await self._machine.close()

    def notifier(self) -> "Notifier":
        from .telling import notifier

        return notifier(self.host_file, self.host)

    # ---------------------------------------------------------------------------------------------- the source

    @cached_property
    def mode(self) -> Mode:
        rules = self.host_file.source
        said = self._settings.source or rules.mode
        if said != "auto":
            return Mode(said)
        record = self.host.state.ledger().source
        # What commits were followed for stays that, whatever branch is checked out now.
        followed = record is not None and (record.mode, record.place) == (Mode.COMMIT, self.place)
        if self._settings.ref or rules.ref or followed:
            return Mode.COMMIT
        from reconciler.adapters.git.source import repository

        return Mode.WORKTREE if repository(self.place) is None else Mode.COMMIT

    @property
    def unfollowed(self) -> str:
        from reconciler.adapters.git.repository import top_of

        said = self._settings.source or self.host_file.source.mode
        top = top_of(self.place) if self.mode is Mode.WORKTREE and said == "auto" else None
        return f" as it is saved, because the repository {top} has no commit of it yet" if top is not None else ""

    @cached_property
    def source(self) -> "GitSource | WorktreeSource":
        return self._source_of(self.mode)

    def _source_of(self, mode: Mode) -> "GitSource | WorktreeSource":
        if mode is Mode.WORKTREE:
            return self._worktree
        from reconciler.adapters.git.source import GitSource

        record = self.host.state.ledger().source
        known = record.ref if record is not None and record.place == self.place else ""
        ref = self._settings.ref or self.host_file.source.ref or known or None
        if ref is not None and not ref.startswith("refs/"):
            ref = f"refs/heads/{ref}"
        return GitSource(self._path, ref, self.host_file.source.signers)

    @cached_property
    def _worktree(self) -> WorktreeSource:
        return WorktreeSource(self._path)

    def bundle(self) -> Bundle:
        if self._settings.source != Mode.COMMIT:
            return self._worktree.bundle()
        return self._newest(self.source)

    def _newest(self, source: "GitSource | WorktreeSource") -> Bundle:
        """The newest revision. Raises ReconcilerError where nothing is taken from there without a person."""
        position, record = source.position(), self.host.state.ledger().source
        if position.reference:
            said = f"{position.reason}; nothing was changed"
            raise ReconcilerError(position.reference, said, hint=position.hint, code=ExitCode.BLOCKED)
        known = record if record is not None and record.place == self.place else None
        if known is None or known.accepted != position.revision:
            doubt = source.doubt(known.commit if known is not None else "", position.revision)
            if doubt is not None:
                said = f"{doubt.reason}; nothing was changed"
                raise ReconcilerError(doubt.reference, said, hint=doubt.hint, code=ExitCode.TRUST)
        self._uncommitted = position.uncommitted
        return source.read(position.revision)

    def parse(self, bundle: Bundle) -> tuple[Desired, tuple[Problem, ...]]:
        if self._parsed is None or self._parsed[0] != bundle.revision:
            parsed = parse(
                bundle,
                roots=self.host_file.roots,
                environ=os.environ,
                overrides=self._settings.overrides,
            )
            self._parsed = bundle.revision, (select(parsed.desired, self.host_file.name), parsed.warnings)
        return self._parsed[1]

    def desired(self) -> tuple[Desired, tuple[Problem, ...]]:
        return self.parse(self.bundle())

    def followed(self) -> tuple[Desired, tuple[Problem, ...]]:
        record = self._watched()
        if record is not None and self._settings.source not in (None, record.mode):
            followed = f"the commits of {record.ref}" if record.mode is Mode.COMMIT else "the file as it is saved"
            raise ReconcilerError(
                "other-source",
                f"the running watch follows {followed}; nothing was changed",
                hint="commit the edit, or end the watch",
                code=ExitCode.LOCKED,
            )
        if record is None or record.mode is Mode.WORKTREE:
            return self.desired()
        desired, warnings = self.parse(self._newest(self._source_of(record.mode)))
        if not self._uncommitted:
            return desired, warnings
        said = f"edits of {', '.join(self._uncommitted)} are not committed, so they are ignored"
        ignored = Problem(reference="uncommitted", message=said, where="", severity="warning")
        return desired, (*warnings, ignored)

    def record(self, desired: Desired) -> SourceRecord:
        from reconciler.desired.canonical import canonical, digest

        mode = Mode.WORKTREE if desired.revision.startswith(Mode.WORKTREE) else Mode.COMMIT
        before = self.host.state.ledger().source
        before = before if before is not None and before.place == self.place else None
        taken = before.commit if before is not None else ""
        branch = before.ref if before is not None else ""
        return SourceRecord(
            mode=mode,
            place=self.place,
            ref=branch if mode is Mode.WORKTREE else self._source_of(mode).position().ref,
            revision=desired.revision,
            content=digest(canonical(desired)),
            commit=desired.revision if mode is Mode.COMMIT else taken,
            rules=self.rules,
        )

    def in_force(self) -> tuple[Desired, Blocked | None] | None:
        from reconciler.desired.canonical import restored

        state = self.host.state
        ledger = state.ledger()
        record = self._watched()
        if record is None and ledger.pin is not None and ledger.source is not None:
            record = ledger.source if ledger.source.place == self.place else None
        if record is None:
            return None
        numbers = {generation.number: generation for generation in ledger.generations}
        content, revision = record.content, record.revision
        if ledger.pin is not None and ledger.pin.number in numbers:
            content, revision = ledger.pin.content, numbers[ledger.pin.number].latest
        text = state.content(content)
        try:
            found = None if text is None else restored(text, revision)
        except ValueError:
            found = None
        return None if found is None else (found, standing_against(record))

    def _watched(self) -> SourceRecord | None:
        """What the running watch follows, where that is this file; None: none runs, or it has just begun."""
        record = self._remembered()
        return record if record is not None and record.place == self.place else None

    def _remembered(self) -> SourceRecord | None:
        """What a watch of this state directory follows; None where none runs."""
        from reconciler.surface.control.asking import connect

        watch = connect(self.state)
        if watch is None:
            return None
        watch.close()
        return self.host.state.ledger().source


def compose(settings: Settings) -> Wired:
    """What one command works with."""
    return Wired(settings)


def _find_desired_file() -> Path:
    """RECONCILER_CONFIG, else the file in this folder or above up to the git root, else in the config directory."""
    if named := os.environ.get("RECONCILER_CONFIG"):
        return Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        for name in _NAMES:
            if (folder / name).exists():
                return Path(os.path.relpath(folder / name, here))
        if (folder / ".git").exists():
            break
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    candidate = base / "reconciler" / "ensemble.yaml"
    if candidate.exists():
        return candidate
    raise ReconcilerError(
        "desired-file-not-found",
        f"there is no {_NAMES[0]} or {_NAMES[1]} in {here} or above, and no {candidate}",
        hint="name the file with -c FILE or RECONCILER_CONFIG",
        code=ExitCode.INVALID,
    )
