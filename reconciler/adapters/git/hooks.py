"""Installs hooks that poke the watch: a file in the state directory is touched, in the background, and that is all.

They carry nothing: what has happened is found by looking. They are a hint on top of watching the refs, for where file
events get lost. A commit neither waits for them nor fails or prints anything because of them, watch or no watch.
"""

import os
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from reconciler.model.hook import NAMES, NEEDED, Hook, HookStanding
from reconciler.model.problem import ExitCode, ReconcilerError

from .repository import Repository, find, top_of, without
from .running import Git, excerpt

POKE: Final = "poke"
"""The file that is touched."""
_LIMIT: Final = 2**16
_HEAD: Final = "#!/bin/sh\n# reconciler hook: lets the watch look at once; it is told nothing else.\n"
_TAIL: Final = "\nexit 0\n"
_COMMAND: Final = "( printf . > {} ) > /dev/null 2>&1 < /dev/null &"
"""One byte, as emptying an empty file changes nothing; in the background, as a disk may hang."""
_OURS: Final = re.compile(re.escape(_HEAD) + re.escape(_COMMAND).replace(r"\{\}", "(.+)") + re.escape(_TAIL), re.DOTALL)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class RepositoryHooks:
    """The hooks of the repository that holds a file."""

    def __init__(self, place: str, wake: Path) -> None:
        """`place`: absolute path of the desired file without links; `wake`: the folder in which a file is touched."""
        self._place, self._wake = place, wake

    @property
    def line(self) -> str:
        """What a hook of somebody else has to run, as one line of shell."""
        return _COMMAND.format(shlex.quote(str(self._wake / POKE)))

    def status(self) -> tuple[Hook, ...]:
        """Every hook that we would have, as it is now. Raises ReconcilerError."""
        return tuple(self._looked())

    def install(self) -> tuple[Hook, ...]:
        """Put ours wherever nobody has one. Raises ReconcilerError, with nothing changed, where that is refused."""
        found = self.status()
        for hook in found:
            if hook.name == NEEDED and hook.standing is HookStanding.FOREIGN:
                raise self._taken(hook.path)
        try:
            self._wake.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._wake.mkdir(mode=0o700, exist_ok=True)
            for hook in found:
                if hook.standing in (HookStanding.ABSENT, HookStanding.OUTDATED):
                    self._write(hook)
        except OSError as error:
            raise _failed(error) from error
        return self.status()

    def uninstall(self) -> tuple[Hook, ...]:
        """Remove ours and nothing else; what was removed. Raises ReconcilerError."""
        ours = [hook for hook in self._looked() if hook.standing in (HookStanding.CURRENT, HookStanding.OUTDATED)]
        try:
            for hook in ours:
                os.unlink(hook.path)
        except OSError as error:
            raise _failed(error) from error
        return tuple(ours)

    # ------------------------------------------------------------------------------------------------ inside

    def _looked(self) -> Iterator[Hook]:
        folder = self._folder()
        for name in NAMES:
            path = os.path.join(folder, name)
            try:
                standing = self._standing(path)
            except OSError as error:
                raise _failed(error) from error
            yield Hook(name=name, path=path, standing=standing)

    def _standing(self, path: str) -> HookStanding:
        """Only a plain file can be ours; a link is somebody's arrangement, whatever it leads to."""
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                return HookStanding.FOREIGN
            with open(path, "rb") as file:
                text = os.fsdecode(file.read(_LIMIT))
        except (FileNotFoundError, NotADirectoryError):
            return HookStanding.ABSENT
        if text == self._text():
            return HookStanding.CURRENT if os.access(path, os.X_OK) else HookStanding.OUTDATED
        if _OURS.fullmatch(text):
            return HookStanding.OUTDATED
        joined = self.line in (line.strip() for line in text.splitlines())
        return HookStanding.JOINED if joined else HookStanding.FOREIGN

    def _text(self) -> str:
        return f"{_HEAD}{self.line}{_TAIL}"

    def _write(self, hook: Hook) -> None:
        """In one step; a hook that somebody has made meanwhile stays. Raises OSError."""
        folder = os.path.dirname(hook.path)
        os.makedirs(folder, exist_ok=True)
        staged = os.path.join(folder, f".{hook.name}.{os.getpid()}")
        try:
            with open(os.open(staged, _CREATE, 0o755), "wb") as file:
                file.write(os.fsencode(self._text()))
                os.fchmod(file.fileno(), 0o755)
            if hook.standing is HookStanding.OUTDATED:
                os.replace(staged, hook.path)
            else:
                os.link(staged, hook.path)
        finally:
            if os.path.lexists(staged):
                os.unlink(staged)

    def _folder(self) -> str:
        """Where git looks for hooks, as the user's own settings have it. Raises ReconcilerError."""
        top = top_of(self._place)
        if top is None:
            raise without(self._place)
        git = Git(top)
        found = find(self._place, git)
        answer = git.run_as_the_user("rev-parse", "--git-path", "hooks")
        path = os.fsdecode(answer.out).removesuffix("\n")
        if answer.code or not path:
            raise git.failed(f"where the hooks of {top} are cannot be seen", answer.err)
        folder = os.path.join(top, path)
        if not _is_inside(folder, found):
            raise ReconcilerError(
                "hooks-elsewhere",
                f"git runs the hooks of {folder}, which is not in the repository {top} but may serve others as well; "
                "nothing was changed",
                hint=f"add this line to its {NEEDED}, if you want it for all of them: {self.line}",
                code=ExitCode.BLOCKED,
            )
        return folder

    def _taken(self, path: str) -> ReconcilerError:
        return ReconcilerError(
            "hook-foreign",
            f"{path} is somebody else's hook; nothing was installed",
            hint=f"add this line to it: {self.line}",
            code=ExitCode.BLOCKED,
        )


def _is_inside(folder: str, repository: Repository) -> bool:
    place = f"{os.path.realpath(folder)}/"
    return any(place.startswith(f"{os.path.realpath(inside)}/") for inside in repository.places)


def _failed(error: OSError) -> ReconcilerError:
    return ReconcilerError(
        "hook-not-written",
        f"{error.filename or 'the hooks'}: {excerpt(error.strerror or str(error))}",
        hint="mend its permissions, and run the command again",
        code=ExitCode.ENVIRONMENT,
    )
