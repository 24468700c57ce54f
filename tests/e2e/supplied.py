"""A machine whose weights come from a hub: what is offered there, what was asked for, and what became of it here."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from reconciler.adapters.state_dir import StateDir
from reconciler.model.ledger import ArtifactRecord, Ledger
from reconciler.programs.tiny_model import write_model
from tests.cli.home import Home
from tests.programs.fake_hub import Fault, Hub, Kind, Repo, Trouble, commit, serving
from tests.programs.tiny_base import write_base

from .ensemble import Ensemble

WEIGHTS: Final = "model.safetensors"
INDEX: Final = f"{WEIGHTS}.index.json"
"""Not offered: there is one file of weights, and what its name is a part of would meet its faults."""
BITS: Final[Mapping[str, object]] = {"bits": 4, "group_size": 32}
QUICK: Final = Path(__file__).resolve().parents[1] / "programs" / "quick_server.py"


class Supplied(Ensemble):
    """An ensemble, the hub that its weights come from, and a volume that they may go to."""

    def __init__(self, home: Home, hub: Hub) -> None:
        super().__init__(home)
        self.hub = hub
        self.env["HF_ENDPOINT"] = hub.endpoint
        self.volume = home.root / "cold"

    # --------------------------------------------------------------------------------------------------- preparing

    def offers(self, repo: str, reply: str = "", *, base: bool = False, kind: Kind = Kind.OPEN, seed: int = 0) -> str:
        """Put a model on the hub, one that has not been written for MLX where it is a base; its commit."""
        folder = self.home.root / "offered" / repo.replace("/", "--") / str(seed)
        write = write_base if base else write_model
        write(folder, reply or f"I am {repo}.", seed=seed)
        (folder / INDEX).unlink(missing_ok=True)
        self.hub.repos[repo] = Repo(folder, kind)
        return commit(folder)

    def gate(self, repo: str, name: str = WEIGHTS) -> Fault:
        """Let the next download of a file stop at 60 % until the test opens the gate."""
        return self.fails(Trouble.GATE, repo, name)

    def fails(self, trouble: Trouble, repo: str, name: str = WEIGHTS) -> Fault:
        """Let the next download of a file go wrong at 60 %."""
        folder = self.hub.repos[repo].folder
        after = (folder / name).stat().st_size * 6 // 10
        return self.hub.fail(trouble, on=f"{commit(folder)}/{name}", after=after)

    def quick(self) -> None:
        """Serve with a program that starts in milliseconds, for tests that are not about what a server loads."""
        self.runtime = (sys.executable, "-S", str(QUICK), str(self.home.root))

    def has_volume(self) -> None:
        """Mark a folder as cold storage, and name it in the host file."""
        self.volume.mkdir()
        said = self.home.run("volume", "init", str(self.volume)).out
        (line,) = [line.strip() for line in said.splitlines() if line.strip().startswith("id: ")]
        place = {"path": str(self.volume), "id": line.removeprefix("id: ").strip("'"), "separate": False}
        self.host |= {"volumes": {"cold": place}, "offload_to": "cold"}

    # ----------------------------------------------------------------------------------------------------- looking

    def cached(self, repo: str) -> Path:
        """The folder of a repository in the model cache."""
        return self.home.hub / f"models--{repo.replace('/', '--')}"

    def moved(self, repo: str) -> Path:
        """The folder of a repository on the volume."""
        return self.volume / f"models--{repo.replace('/', '--')}"

    def on_volume(self) -> list[str]:
        """What the folder of the volume holds."""
        return sorted(path.name for path in self.volume.iterdir())

    def blob(self, repo: str, name: str = WEIGHTS) -> Path:
        """The file behind a link of the only snapshot of a repository."""
        (snapshot,) = (self.cached(repo) / "snapshots").iterdir()
        return (snapshot / name).resolve()

    def conversions(self, repo: str) -> list[Path]:
        """What was made of a repository, published or not."""
        folder = self.home.hub / f"converted--{repo.replace('/', '--')}"
        return sorted(path for path in folder.glob("*") if path.is_dir())

    def ledger(self) -> Ledger:
        """What is remembered."""
        return StateDir(self.home.root / "state").ledger()

    def recorded(self, label: str) -> ArtifactRecord:
        """What is remembered of the artifact of a label."""
        return self.ledger().artifacts[label]

    def argv(self, label: str) -> list[str]:
        """The command line of the server of a label."""
        return psutil.Process(self.pid(label)).cmdline()

    def plan(self, *args: str) -> dict[str, Any]:
        """`plan -o json`."""
        document: dict[str, Any] = json.loads(self.run("plan", "-o", "json", *args).out)
        return document

    def planned(self, *args: str) -> list[tuple[str, str]]:
        """Kind and subject of everything that would be done, in its order."""
        return [(action["kind"], action["subject"]) for action in self.plan(*args)["actions"]]

    def blocked(self, *args: str) -> dict[str, str]:
        """subject -> reference of what is blocked in a plan."""
        return {entry["subject"]: entry["reference"] for entry in self.plan(*args)["blocked"]}

    def artifacts(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(place, name) -> one line of `artifacts -o json`."""
        document = json.loads(self.run("artifacts", "-o", "json").out)
        return {(entry["place"], entry["name"]): entry for entry in document["artifacts"]}

    def done(self) -> list[tuple[str, str]]:
        """Kind and subject of everything that was done, in the order of its end."""
        return [(e["action"], e["subject"]) for e in self.events() if e["kind"] == "done"]

    def asked(self) -> list[str]:
        """The paths of all requests that the hub has seen."""
        return [asked.path for asked in self.hub.asked]

    def children(self) -> list[psutil.Process]:
        """Every live process of this machine that is neither a server nor the hub: commands and what they started."""
        servers, root = set(self.running()), str(self.home.root)
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("HOME") == root or any(root in word for word in process.cmdline())
                alive = process.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            if ours and alive and process.pid not in (*servers, os.getpid()):
                found.append(process)
        return found


def flip(path: Path, at: int = -1) -> None:
    """Change one bit of a file where it lies."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def digests(folder: Path) -> dict[str, str]:
    """What is in a folder: where links lead, and the digests of files."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@contextmanager
def supplied(home: Home, token: str = "hf_good") -> Iterator[Supplied]:
    """Whatever a test leaves running is stopped as a user would, and must then be gone."""
    with serving({}, token) as hub:
        made = Supplied(home, hub)
        try:
            yield made
            made.clear()
            assert made.children() == []
        finally:
            for fault in hub.faults:
                fault.gate.set()
            made.end()
