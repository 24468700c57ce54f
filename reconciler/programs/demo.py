"""The main job on real input: two tiny models served by real mlx_lm.server processes, from nothing to nothing.

Everything lives in one temporary folder, and every step is the command that a user would type.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
MODELS = {"alpha": "Hello from alpha, a tiny model.", "beta": "Greetings from beta, another one."}


class Demo:
    """One run of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repo = root / "repo"
        self.published = root / "litellm" / "models.yaml"
        self.ports = free_ports(len(MODELS))
        keep = {name: os.environ[name] for name in ("PATH", "LANG", "TERM", "NO_COLOR") if name in os.environ}
        self.env = keep | {
            "HOME": str(root),
            "HF_HOME": str(root / "hf"),
            "RECONCILER_STATE": str(root / "state"),
            "RECONCILER_HOST_FILE": str(root / "host.yaml"),
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def prepare(self) -> None:
        """Two models in a real Hugging Face cache, a host file, and a git repository with a desired state."""
        say("Two tiny models in a Hugging Face cache, and a git repository that declares them")
        for name, reply in MODELS.items():
            maker = [sys.executable, str(HERE / "tiny_model.py")]
            self.quietly([*maker, "cache", str(self.root / "hf" / "hub"), f"demo/{name}", "--reply", reply])
        self.published.parent.mkdir()
        host = self.root / "host.yaml"
        host.write_text(
            "version: 1\naccept_cpu: true\nmemory: {budget: 16GiB}\n"
            f"gateways: {{litellm: {{include: {self.published}, drain: 500ms}}}}\n"
        )
        host.chmod(0o600)
        (self.repo / "desired-state").mkdir(parents=True)
        self.quietly(["git", "init", "--quiet", "--initial-branch=main", str(self.repo)])
        self.declare("Declare two models", self.models(self.ports))
        print((self.repo / "desired-state" / "ensemble.yaml").read_text())

    def models(self, ports: Sequence[int], moved: bool = False) -> str:
        """The models part of the desired state, on these ports."""
        lines = ["models:"]
        for (name, _), port, old in zip(MODELS.items(), ports, reversed(ports), strict=True):
            lines += [f"  {name}:", f"    source: {{repo: demo/{name}}}", f"    port: {port}"]
            lines += [f"    moved_from: {old}"] if moved else []
            lines += ["    context_length: 512"]
        return "\n".join(lines) + "\n"

    def declare(self, why: str, models: str) -> None:
        """Write the desired state and commit it."""
        path = self.repo / "desired-state" / "ensemble.yaml"
        path.write_text(f"version: 1\ngateways: {{litellm: {{mode: direct}}}}\n{models}")
        author = ["-c", "user.name=demo", "-c", "user.email=demo@localhost"]
        self.quietly(["git", "-C", str(self.repo), "add", "-A"])
        self.quietly(["git", "-C", str(self.repo), *author, "commit", "--quiet", "--message", why])

    def quietly(self, argv: Sequence[str]) -> None:
        """Run a step of the preparation; its output is shown only when it fails."""
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"demo: {' '.join(argv)} failed: {done.stdout}{done.stderr}")

    def command(self, *args: str) -> str:
        """Run one command of reconciler where a user would, showing both."""
        print(f"$ reconciler {' '.join(args)}", flush=True)
        argv = [sys.executable, "-m", "reconciler", *args]
        done = subprocess.run(argv, env=self.env, cwd=self.repo, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout, flush=True)
        if done.returncode:
            raise SystemExit(f"demo: reconciler {' '.join(args)} returned {done.returncode}")
        return done.stdout

    def pid(self, name: str) -> int:
        """The process of a server, from its run record."""
        return int(json.loads((self.root / "state" / "run" / f"{name}.json").read_text())["pid"])

    def run(self) -> None:
        """All steps, each checked."""
        self.prepare()
        say("What would be done")
        self.command("plan")
        say("Do it: launched, proved by two completions each, then published")
        self.command("apply", "--yes")
        say(f"What LiteLLM reads ({self.published.name})")
        print(self.published.read_text())
        self.ask(self.ports)
        say("Again: nothing to do")
        expect("Nothing to do." in self.command("apply", "--yes"), "the second apply found something to do")
        say("One server is killed; the next apply starts it again and touches nothing else")
        survivor, victim = self.pid("beta"), self.pid("alpha")
        os.kill(victim, signal.SIGKILL)
        self.command("apply", "--yes")
        expect(self.pid("alpha") != victim and self.pid("beta") == survivor, "the wrong server was restarted")
        self.ask(self.ports)
        say("A commit swaps the two ports: drained and stopped before either starts on the other's port")
        self.declare("Swap the ports", self.models(self.ports[::-1], moved=True))
        self.command("apply", "--yes")
        self.ask(self.ports[::-1])

    def ask(self, ports: Sequence[int]) -> None:
        """A question to every server, and its real answer."""
        for (name, reply), port in zip(MODELS.items(), ports, strict=True):
            answer = complete(port)
            print(f'{name}, port {port}, says: "{answer}"')
            expect(answer == reply, f"{name} should have said: {reply}")
        print()

    def finish(self) -> None:
        """Nothing is declared any more, so everything is stopped."""
        say("Nothing is declared any more: everything stops")
        self.declare("Serve nothing", "models: {}\n")
        self.command("apply", "--yes")
        expect(not [port for port in self.ports if listening(port)], "a port is still in use")


def say(text: str) -> None:
    """A heading."""
    print(f"\n--- {text}\n", flush=True)


def expect(holds: bool, otherwise: str) -> None:
    """A demo that shows something else than it says has failed."""
    if not holds:
        raise SystemExit(f"demo: {otherwise}")


def free_ports(count: int) -> list[int]:
    """Ports that nothing uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


def listening(port: int) -> bool:
    """Whether something accepts connections."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def complete(port: int) -> str:
    """One chat completion."""
    body = {"model": "default_model", "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 64}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    return str(answer["choices"][0]["message"]["content"]).strip()


def main() -> None:
    """Run the demo in a temporary folder and leave nothing behind, whatever happens."""
    root = Path(tempfile.mkdtemp(prefix="reconciler-demo-"))
    demo = Demo(root)
    try:
        demo.run()
    finally:
        if (root / "state" / "run").is_dir():
            demo.finish()
        shutil.rmtree(root)
    say("Done: every step was checked, and nothing was left behind")


if __name__ == "__main__":
    main()
