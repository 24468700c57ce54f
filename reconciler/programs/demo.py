"""The main job on real input: two models served by real mlx_lm.server processes, from nothing to nothing.

    python demo.py [--model tiny|smollm2]

Everything lives in one temporary folder, and every step is the command that a user would type. Only a model that was
downloaded is kept elsewhere, as smollm2.py says.
"""

import argparse
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PORTS = range(20_000, 32_000)
"""Below those that Linux (from 32768 on) and macOS (from 49152 on) give to whoever asks for any."""
ENVIRONMENT = 8
"""The exit code for what the machine lacks, as in the table of `reconciler --exit-codes`."""


class Model(NamedTuple):
    """A model of the demo: how it gets into the cache, and what it is asked."""

    label: str
    repo: str
    script: str
    """The program beside this one that puts it there; it prints the commit, and on stderr progress and errors."""
    options: tuple[str, ...]
    context: int
    question: str
    answer: str
    whole: bool
    """Whether `answer` is all that it says, word for word, or has to be a part of it."""

    def says(self, text: str) -> bool:
        """Whether that is the answer."""
        return text == self.answer if self.whole else self.answer in text


def tiny(label: str, reply: str) -> Model:
    """A model that says the same to everybody."""
    return Model(label, f"demo/{label}", "tiny_model.py", ("--reply", reply), 512, "Who are you?", reply, whole=True)


SMOLLM2 = Model(
    label="smollm2",
    repo="demo/SmolLM2-135M-Instruct",
    script="smollm2.py",
    options=(),
    context=2048,
    question="What is the capital of France?",
    answer="Paris",
    whole=False,
)
BETA = tiny("beta", "Greetings from beta, another one.")
VARIANTS = {
    "tiny": ("Two tiny models", (tiny("alpha", "Hello from alpha, a tiny model."), BETA)),
    "smollm2": ("SmolLM2-135M-Instruct and a tiny model", (SMOLLM2, BETA)),
}
"""What `--model` names -> how a heading calls them, and the two models. The first one is killed on the way."""


class Demo:
    """One run of it."""

    def __init__(self, root: Path, variant: str) -> None:
        self.root = root
        self.title, self.models = VARIANTS[variant]
        self.repo = root / "repo"
        self.published = root / "litellm" / "models.yaml"
        self.ports = free_ports(len(self.models))
        kept = ("PATH", "LANG", "TERM", "NO_COLOR", "HF_HUB_OFFLINE")
        keep = {name: os.environ[name] for name in kept if name in os.environ}
        self.env = keep | {
            "HOME": str(root),
            "HF_HOME": str(root / "hf"),
            "RECONCILER_STATE": str(root / "state"),
            "RECONCILER_HOST_FILE": str(root / "host.yaml"),
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def prepare(self) -> None:
        """Two models in a real Hugging Face cache, a host file, and a git repository with a desired state."""
        say(f"{self.title} in a Hugging Face cache, and a git repository that declares them")
        for model in self.models:
            self.make(model)
        self.published.parent.mkdir()
        host = self.root / "host.yaml"
        host.write_text(
            "version: 1\naccept_cpu: true\nmemory: {budget: 16GiB}\n"
            f"gateways: {{litellm: {{include: {self.published}, drain: 500ms}}}}\n"
        )
        host.chmod(0o600)
        (self.repo / "desired-state").mkdir(parents=True)
        self.quietly(["git", "init", "--quiet", "--initial-branch=main", str(self.repo)])
        self.declare("Declare two models", self.declared(self.ports))
        print((self.repo / "desired-state" / "ensemble.yaml").read_text())

    def make(self, model: Model) -> None:
        """Put a model into the cache, in the user's environment: pip needs its index, and a download is kept there."""
        argv = [sys.executable, str(HERE / model.script), "cache", str(self.root / "hf" / "hub"), model.repo]
        done = subprocess.run([*argv, *model.options], stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise SystemExit(done.returncode)  # the reason was said

    def declared(self, ports: Sequence[int], moved: bool = False) -> str:
        """The models part of the desired state, on these ports."""
        lines = ["models:"]
        for model, port, old in zip(self.models, ports, reversed(ports), strict=True):
            lines += [f"  {model.label}:", f"    source: {{repo: {model.repo}}}", f"    port: {port}"]
            lines += [f"    moved_from: {old}"] if moved else []
            lines += [f"    context_length: {model.context}"]
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
        first, second = (model.label for model in self.models)
        victim, survivor = self.pid(first), self.pid(second)
        os.kill(victim, signal.SIGKILL)
        self.command("apply", "--yes")
        expect(self.pid(first) != victim and self.pid(second) == survivor, "the wrong server was restarted")
        self.ask(self.ports)
        say("A commit swaps the two ports: drained and stopped before either starts on the other's port")
        self.declare("Swap the ports", self.declared(self.ports[::-1], moved=True))
        self.command("apply", "--yes")
        self.ask(self.ports[::-1])

    def ask(self, ports: Sequence[int]) -> None:
        """A question to every server, and its real answer."""
        for model, port in zip(self.models, ports, strict=True):
            answer = complete(port, model.question)
            print(f'{model.label}, port {port}, asked "{model.question}", says: "{answer}"')
            expect(model.says(answer), f"{model.label} should have said: {model.answer}")
        print()

    def finish(self) -> None:
        """Nothing is declared any more, so everything is stopped."""
        say("Nothing is declared any more: everything stops")
        self.declare("Serve nothing", "models: {}\n")
        self.command("apply", "--yes")
        expect(not [port for port in self.ports if listening(port)], "a port is still in use")

    def sweep(self) -> None:
        """End what reconciler has left running, which is a bug of its own: without the folder nobody would find it.

        A server holds the lock beside its record; where nobody does, its number may be another process by now.
        """
        for record in (self.root / "state" / "run").glob("*.json"):
            with record.with_suffix(".lock").open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.kill(self.pid(record.stem), signal.SIGKILL)


def say(text: str) -> None:
    """A heading."""
    print(f"\n--- {text}\n", flush=True)


def expect(holds: bool, otherwise: str) -> None:
    """A demo that shows something else than it says has failed."""
    if not holds:
        raise SystemExit(f"demo: {otherwise}")


def free_ports(count: int) -> list[int]:
    """Ports that nothing uses now, and that no kernel gives to somebody else before the servers have them."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


def listening(port: int) -> bool:
    """Whether something accepts connections."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def complete(port: int, question: str) -> str:
    """One chat completion, the most probable one."""
    messages = [{"role": "user", "content": question}]
    body = {"model": "default_model", "messages": messages, "max_tokens": 64, "temperature": 0}
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(VARIANTS), default="tiny", help="default: %(default)s")
    variant = parser.parse_args().model
    if shutil.which("git") is None:
        print("error: the demo commits to a git repository, and there is no git: install it.", file=sys.stderr)
        raise SystemExit(ENVIRONMENT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `finally` is reached
    root = Path(tempfile.mkdtemp(prefix="reconciler-demo-"))
    demo = Demo(root, variant)
    try:
        demo.run()
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        try:
            if (root / "state" / "run").is_dir():
                demo.finish()
        finally:
            demo.sweep()
            shutil.rmtree(root)
    say("Done: every step was checked, and nothing was left behind")


if __name__ == "__main__":
    main()
