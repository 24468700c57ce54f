"""Runs git: plumbing only, without the network, and with everything pinned that a repository could make it run.

Whoever can write `.git/config` must gain nothing by it: the command line wins over every file, no file of the user or
the system is read, and no variable of the caller reaches git (a hook exports GIT_DIR, which would then answer for
another repository). No call outlives its patience, and no process of one is left over.
"""

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from reconciler.adapters.template_files import KEPT
from reconciler.model.problem import ExitCode, ReconcilerError

if TYPE_CHECKING:
    import subprocess

PATIENCE: Final = 10.0
"""Seconds for one call."""
_REST: Final = 60.0
"""Seconds in which a git that hung is not asked again: the loop stands still while it is waited for."""
_SAID: Final = 300
"""Characters of what git printed that a message repeats."""
SETTINGS: Final = (
    "core.fsmonitor=false",  # a program, run by every look at the index
    "core.hooksPath=/dev/null",
    "core.commitGraph=false",  # a cache of who is whose parent, which is not checked
    "core.sshCommand=false",
    "credential.helper=",
    "protocol.allow=never",
    "safe.bareRepository=explicit",
)
_ENVIRONMENT: Final = {
    "GIT_ALLOW_PROTOCOL": "",  # wins over every protocol.NAME.allow of the repository
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_GRAFT_FILE": "/dev/null",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_OWN: Final = frozenset({"GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM"})
_FOREIGN_OWNER: Final = "dubious ownership"
_NO_DEVELOPER_TOOLS: Final = "xcrun: error"


class Answer(NamedTuple):
    """What one call returned and printed."""

    code: int
    out: bytes
    err: str


class Git:
    """Git in one folder of a working tree; it looks for a repository there and no further up."""

    def __init__(self, folder: str, patience: float = PATIENCE) -> None:
        self.folder = folder
        self.patience = patience
        self._hung_until = 0.0

    def run(self, *arguments: str, settings: tuple[str, ...] = ()) -> Answer:
        """One call to its end. Raises ReconcilerError when git cannot be run, hangs, or distrusts the folder."""
        return self._run(self._command(settings, arguments), environment(self.folder))

    def run_as_the_user(self, *arguments: str) -> Answer:
        """The same with the user's own settings: for a question whose answer they decide, such as where hooks are."""
        kept = {name: value for name, value in environment(self.folder).items() if name not in _OWN}
        return self._run(("git", "-C", self.folder, *arguments), kept)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """A call that is talked to; whoever starts it ends it by `end`. Raises ReconcilerError."""
        return self._start(self._command((), arguments), environment(self.folder), talk=True)

    def _command(self, settings: tuple[str, ...], arguments: tuple[str, ...]) -> tuple[str, ...]:
        pinned = (part for setting in (*SETTINGS, *settings) for part in ("-c", setting))
        return ("git", "--no-pager", *pinned, "-C", self.folder, *arguments)

    def _run(self, command: tuple[str, ...], environ: Mapping[str, str]) -> Answer:
        import subprocess

        process = self._start(command, environ)
        try:
            out, err = process.communicate(timeout=self.patience)
        except subprocess.TimeoutExpired:
            end(process)
            raise self.hung() from None
        except BaseException:
            end(process)
            raise
        answer = Answer(process.returncode, out, err.decode("utf-8", "replace"))
        if answer.code:
            self.judge(answer.err)
        return answer

    def _start(
        self, command: tuple[str, ...], environ: Mapping[str, str], *, talk: bool = False
    ) -> "subprocess.Popen[bytes]":
        import subprocess

        if time.monotonic() < self._hung_until:
            raise self.hung(again=True)
        try:
            return subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ReconcilerError(
                "git-missing",
                f"git cannot be run: {error.strerror}; {KEPT}",
                hint="install git (on a Mac: xcode-select --install), or see that it is on the PATH",
                code=ExitCode.ENVIRONMENT,
            ) from error

    def hung(self, *, again: bool = False) -> ReconcilerError:
        """It did not answer; `again`: it was not even asked, because it has just not answered."""
        if not again:
            self._hung_until = time.monotonic() + _REST
        return ReconcilerError(
            "git-hung",
            f"git did not answer within {self.patience:g} s in {self.folder}; {KEPT}",
            hint="run `git rev-parse HEAD` there and see what it waits for",
            code=ExitCode.ENVIRONMENT,
        )

    def judge(self, said: str) -> None:
        """Raises ReconcilerError for what stands against every call, whatever was asked."""
        if _FOREIGN_OWNER in said:
            raise ReconcilerError(
                "repository-foreign",
                f"the repository in {self.folder} belongs to another user, so git refuses to read it; {KEPT}",
                hint="clone it as the user that runs the reconciler, or give it to that user (chown -R); "
                "an exception in the git configuration is not asked for",
                code=ExitCode.ENVIRONMENT,
            )
        if _NO_DEVELOPER_TOOLS in said:
            raise ReconcilerError(
                "git-missing",
                f"git is not installed: {excerpt(said)}; {KEPT}",
                hint="xcode-select --install",
                code=ExitCode.ENVIRONMENT,
            )

    def failed(self, what: str, said: str) -> ReconcilerError:
        """Something that must work did not."""
        self.judge(said)
        return ReconcilerError(
            "git-failed",
            f"{what}: {excerpt(said) or 'git gave no reason'}; {KEPT}",
            hint=f"run `git -C '{self.folder}' fsck`, and mend what it finds or clone again",
            code=ExitCode.ENVIRONMENT,
        )


def environment(folder: str) -> dict[str, str]:
    """What git is started with."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**ours, **_ENVIRONMENT, "GIT_CEILING_DIRECTORIES": os.path.dirname(folder)}


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a call and everything that it has started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a call where it has not ended, and leave nothing of it."""
    kill(process)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):  # what was still to be written to it
                pipe.close()
    process.wait()


def excerpt(said: str) -> str:
    """The sentence of what git printed: its first line that is no hint."""
    lines = (line.strip() for line in said.splitlines())
    line = next((line for line in lines if line and not line.startswith(("hint:", "warning:"))), "")
    return line.removeprefix("fatal: ").removeprefix("error: ")[:_SAID]
