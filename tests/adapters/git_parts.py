"""Real repositories, made by the real git without anything of the person who runs the tests."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from reconciler.adapters.git.source import GitSource
from reconciler.model.problem import ReconcilerError
from reconciler.model.source import Doubt, Position

TEXT: Final = "version: 1\nmodels: {}\n"
MAIN: Final = "refs/heads/main"


@dataclass(frozen=True)
class Repo:
    """A repository whose desired file is in a folder with a space and a letter that is not ASCII."""

    root: Path
    inside: str = "Müller & co"
    more: dict[str, str] = field(default_factory=dict)
    """Variables of every git."""

    @property
    def desired(self) -> Path:
        """The desired file."""
        return self.root / self.inside / "ensemble.yaml"

    @property
    def git_dir(self) -> Path:
        """What git keeps for this working tree."""
        return Path(self.git("rev-parse", "--absolute-git-dir"))

    def git(self, *arguments: str, ok: bool = True, stdin: str = "") -> str:
        """Run git here; what it printed, without the last line end."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        person = {f"GIT_{who}_{what}": f"{who}@example.org" for who in ("AUTHOR", "COMMITTER") for what in PERSON}
        isolated = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
        settings = ("-c", "protocol.file.allow=always", "-c", "advice.detachedHead=false")
        done = subprocess.run(
            ("git", *settings, *arguments),
            cwd=self.root,
            env={**clean, **person, **isolated, "GIT_EDITOR": "true", **self.more},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not ok, done.stderr
        return done.stdout.rstrip("\n")

    def head(self, name: str = "HEAD") -> str:
        """The commit of a name."""
        return self.git("rev-parse", f"{name}^{{commit}}")

    def write(self, text: str | bytes, name: str = "ensemble.yaml") -> Path:
        """Save a file of the folder, without committing it."""
        path = self.desired.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def commit(self, text: str | bytes, name: str = "ensemble.yaml", *options: str) -> str:
        """Save a file and commit everything; the commit."""
        self.write(text, name)
        self.git("add", "--all")
        self.git("commit", "-q", "-m", f"write {name}", *options)
        return self.head()

    def source(self, ref: str | None = None, signers: Path | None = None) -> GitSource:
        """What follows it."""
        return GitSource(self.desired, ref, None if signers is None else str(signers))

    def position(self, ref: str | None = None) -> Position:
        """What a new source says of it."""
        return self.source(ref).position()


PERSON: Final = ("NAME", "EMAIL")


def made(root: Path, *options: str) -> Repo:
    """A repository with one commit of a desired file."""
    root.mkdir(parents=True)
    repo = Repo(root)
    repo.git("init", "-q", "-b", "main", *options)
    repo.commit(TEXT)
    return repo


def error_of(source: GitSource, revision: str) -> ReconcilerError:
    """How reading a revision is refused."""
    with pytest.raises(ReconcilerError) as caught:
        source.read(revision)
    assert caught.value.hint
    return caught.value


def reference(doubt: Doubt | None) -> str:
    """The name of a doubt; empty for none."""
    return "" if doubt is None else doubt.reference
