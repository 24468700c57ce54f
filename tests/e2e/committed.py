"""A user's machine whose desired state is in a git repository, followed commit by commit."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconciler.programs.tiny_model import write_cached
from tests.cli.home import Home
from tests.e2e.watching import Command, Machine, until


class Committed(Machine):
    """A machine with a repository `repo` in which `ensemble.yaml` and its templates are."""

    def __init__(self, home: Home, *labels: str, more: str = "", real: bool = False) -> None:
        super().__init__(home, *labels, more=more, real=real)
        self.repo = home.root / "repo"
        self.repo.mkdir()
        self.git("init", "-q", "-b", "main")

    @property
    def file(self) -> Path:
        """The desired file."""
        return self.repo / "ensemble.yaml"

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(**{"RECONCILER_CONFIG": str(self.file), **more})

    def git(self, *args: str, code: int = 0) -> str:
        """One git command in the repository, as its owner; what it says."""
        who = {f"GIT_{role}_{what}": said for role in ("AUTHOR", "COMMITTER") for what, said in _NOBODY.items()}
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home.root), "GIT_CONFIG_NOSYSTEM": "1", **who}
        argv = ["git", "-c", "commit.gpgsign=false", *args]
        done = subprocess.run(argv, cwd=self.repo, env=env, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout.strip()

    @property
    def head(self) -> str:
        """The commit that is checked out."""
        return self.git("rev-parse", "HEAD")

    def write(self, text: str, name: str = "ensemble.yaml") -> None:
        """Save a file without committing it."""
        path = self.repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, text: str, message: str = "a change", *args: str) -> str:
        """Commit a desired state; the commit."""
        self.write(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message, *args)
        return self.head

    def declare(self, *labels: str, more: str = "") -> None:
        self.commit(self.text(*labels, more=more))

    def served_by(self, label: str, repo: str, more: str = "") -> str:
        """A desired state of one label that is served from another repository than its own."""
        write_cached(self.home.hub, repo, f"Hello from {repo}.")
        return self.text(label, more=more).replace(f"{{repo: demo/{label}}}", f"{{repo: {repo}}}")

    def status(self) -> dict[str, Any]:
        """What `status -o json` says."""
        import json

        code, said = self.run("status", "-o", "json")
        del code  # what it means is in the document
        found: dict[str, Any] = json.loads(said[said.index("{") :])
        return found

    def in_force(self, revision: str, told: Command) -> None:
        """Wait until a revision has come in force and everything of it has settled."""
        until(lambda: self._settled_at(revision), f"{revision} is in force and settled", told.said)

    def _settled_at(self, revision: str) -> bool:
        last = [event for event in self.events() if event["kind"] in ("settled", "revision")]
        return bool(last) and last[-1]["kind"] == "settled" and last[-1]["revision"] == revision


_NOBODY = {"NAME": "Nobody", "EMAIL": "nobody@example.invalid", "DATE": "2026-01-01T00:00:00Z"}


@contextmanager
def committed(home: Home, *labels: str, more: str = "", real: bool = False) -> Iterator[Committed]:
    """A machine in a repository; all that was started on it is ended."""
    made = Committed(home, *labels, more=more, real=real)
    try:
        yield made
    finally:
        made.close()
