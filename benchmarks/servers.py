"""A machine of its own with children that answer at once: what is left to measure is what reconciler adds."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.worlds import remember, write_cache
from tests.ports import free_ports

HERE: Final = Path(__file__).parent
_QUESTION: Final = json.dumps(
    {"model": "default_model", "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}
).encode()


class Machine:
    """A home with a cache, a host file and a desired state; commands run in it as a user would."""

    def __init__(self, root: Path, command: Sequence[str], models: int) -> None:
        self.root = root
        self.command = tuple(command)
        root.mkdir(parents=True)
        write_cache(root / "hf" / "hub", models)
        remember(root / "hf" / "hub", models, self.state)
        self.published = root / "litellm.yaml"
        host = root / "host.yaml"
        host.write_text(
            f"version: 1\naccept_cpu: true\nmax_launches: 64\nmemory: {{budget: 4TiB}}\n"
            f"runtimes: {{mlx-lm: {{command: {json.dumps(list(command))}}}}}\n"
            f"gateways: {{litellm: {{include: {self.published}, drain: 0s}}}}\n"
            f"status_page: {{port: {free_ports(1)[0]}}}\n"
        )
        host.chmod(0o600)
        self.ports = free_ports(models)
        self.declare(models)

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def env(self) -> dict[str, str]:
        keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return keep | {
            "HOME": str(self.root),
            "HF_HOME": str(self.root / "hf"),
            "HF_HUB_OFFLINE": "1",
            "RECONCILER_STATE": str(self.state),
            "RECONCILER_HOST_FILE": str(self.root / "host.yaml"),
        }

    def declare(self, models: int, options: Mapping[int, int] | None = None) -> None:
        """Write down the first so many models; `options` are what some ports have for max_tokens."""
        lines = ["version: 1", "gateways: {litellm: {mode: direct}}", "models:" if models else "models: {}"]
        for number, port in enumerate(self.ports[:models]):
            tokens = (options or {}).get(port)
            more = "" if tokens is None else f", options: {{max_tokens: {tokens}}}"
            lines.append(f"  model-{number:05d}: {{source: {{repo: bench/synth-{number:05d}}}, port: {port}{more}}}")
        (self.root / "ensemble.yaml").write_text("\n".join(lines) + "\n")

    def argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "reconciler", *args, "-c", str(self.root / "ensemble.yaml")]

    def run(self, *args: str) -> None:
        """One command. Raises SystemExit with its output when it fails."""
        done = subprocess.run(self.argv(*args), env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"bench: reconciler {' '.join(args)} returned {done.returncode}\n{done.stdout}{done.stderr}"
            )

    def pid(self, number: int) -> int:
        return int(json.loads((self.state / "run" / f"model-{number:05d}.json").read_text())["pid"])

    def end(self) -> None:
        """Stop everything that runs, as a user would."""
        if (self.state / "run").is_dir():
            self.declare(0)
            self.run("apply", "--yes")


@contextmanager
def machine(root: Path, command: Sequence[str], models: int) -> Iterator[Machine]:
    """A machine whose servers are gone afterwards."""
    made = Machine(root, command, models)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(root)


def child(folder: Path) -> list[str]:
    """The command of a child that answers at once: compiled where there is a compiler, else in Python."""
    compiler = shutil.which("cc")
    if compiler is None:
        return [sys.executable, str(HERE / "child.py")]
    program = folder / "child"
    subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / "child.c")], check=True)
    return [str(program)]


def spawn(argv: Sequence[str], env: Mapping[str, str], log: Path) -> int:
    """A process of its own session that writes to `log`: the least that a launch can be."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
        return os.posix_spawn(argv[0], list(argv), dict(env), file_actions=actions, setsid=True)
    finally:
        os.close(output)


def answers(port: int) -> bool:
    """Whether a completion comes back."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    request = urllib.request.Request(url, data=_QUESTION, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return bool(json.load(response)["choices"])
    except (urllib.error.URLError, OSError, KeyError, ValueError):
        return False


def until_all_answer(ports: Sequence[int]) -> float:
    """The moment at which every port has answered a completion, on the monotonic clock."""
    for port in ports:
        while not answers(port):
            time.sleep(0.002)
    return time.monotonic()


def until_open(port: int) -> float:
    """The moment at which something listens, on the monotonic clock."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return time.monotonic()
        time.sleep(0.0005)


def began(log: Path) -> float:
    """When the last child began that wrote to this log, on the monotonic clock; waits for it."""
    while True:
        lines = [line for line in log.read_text().splitlines() if line.startswith("began ")] if log.exists() else []
        if lines:
            return int(lines[-1].split()[1]) / 1e9
        time.sleep(0.0005)


def end(pids: Sequence[int]) -> None:
    """End children of ours."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
