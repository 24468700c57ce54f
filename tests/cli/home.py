"""A user's machine in a temporary folder: a cache, a host file, a state directory, and the console script."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "version: 1\naccept_cpu: true\nmemory: {budget: 64GiB}\nstatus_page: {port: none}\n"


@dataclass(frozen=True)
class Result:
    """What one command said and returned."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Home:
    """Everything that a command may find, and nothing of the person who runs the tests."""

    root: Path

    @property
    def hub(self) -> Path:
        """The Hugging Face cache."""
        return self.root / "hf" / "hub"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a command: without a hub, unless a test names its own by HF_ENDPOINT."""
        offline = {} if "HF_ENDPOINT" in more else {"HF_HUB_OFFLINE": "1"}
        keep = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        return keep | {
            "HOME": str(self.root),
            "HF_HOME": str(self.root / "hf"),
            "RECONCILER_STATE": str(self.root / "state"),
            "RECONCILER_HOST_FILE": str(self.root / "host.yaml"),
            **offline,
            **more,
        }

    def run(
        self, *args: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 60
    ) -> Result:
        """Run the command line as a user would, in a process of its own."""
        return run([sys.executable, "-m", "reconciler", *args], cwd or self.root, env or self.environment(), timeout)

    def write(self, text: str, name: str = "ensemble.yaml") -> Path:
        """Write a desired state."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def run(argv: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float = 60) -> Result:
    """Run one process to its end."""
    done = subprocess.run(argv, cwd=cwd, env=dict(env), capture_output=True, text=True, timeout=timeout, check=False)
    return Result(code=done.returncode, out=done.stdout, err=done.stderr)


def state(port: int, repo: str = "acme/fast", more: str = "") -> str:
    """A desired state of one model."""
    return f"version: 1\nmodels:\n  fast:\n    source: {{repo: {repo}}}\n    port: {port}\n{more}"
