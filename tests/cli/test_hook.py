"""`hook` on the command line: what is installed, what is refused, and what is said."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home


@pytest.fixture
def repo(home: Home) -> Path:
    """A repository with a desired file, in which nothing is committed."""
    home.write("version: 1\nmodels: {}\n", "repo/ensemble.yaml")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(("git", "init", "-q", "-b", "main"), cwd=home.root / "repo", env=clean, check=True)
    return home.root / "repo"


def test_install_status_uninstall(home: Home, repo: Path) -> None:
    installed = home.run("hook", "install", cwd=repo)
    assert (installed.code, installed.err) == (ExitCode.OK, "")
    assert "post-commit" in installed.out
    found = json.loads(home.run("hook", "status", "-o", "json", cwd=repo).out)
    assert {hook["name"]: hook["tells"] for hook in found["hooks"]} == dict.fromkeys(
        ("post-commit", "post-merge", "post-rewrite", "post-checkout"), True
    )
    assert (home.root / "state" / "wake").is_dir()
    removed = home.run("hook", "uninstall", cwd=repo)
    assert (removed.code, removed.out.count("removed ")) == (ExitCode.OK, 4)
    assert home.run("hook", "uninstall", cwd=repo).out == "no hook of ours is installed\n"


def test_a_foreign_hook(home: Home, repo: Path) -> None:
    theirs = repo / ".git" / "hooks" / "post-commit"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("#!/bin/sh\n")
    result = home.run("hook", "install", cwd=repo)
    assert result.code == ExitCode.BLOCKED
    assert "[hook-foreign]" in result.err
    assert "wake/poke" in result.err
    assert theirs.read_text() == "#!/bin/sh\n"
    theirs.rename(theirs.with_name("post-merge"))
    assert "A foreign hook was left alone" in home.run("hook", "install", cwd=repo).out


def test_outside_of_a_repository(home: Home) -> None:
    home.write("version: 1\nmodels: {}\n")
    result = home.run("hook", "status")
    assert (result.code, result.out) == (ExitCode.ENVIRONMENT, "")
    assert "[repository-missing]" in result.err
