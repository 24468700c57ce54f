"""A managed file of LiteLLM on a real file system, with a state directory and a clock."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.adapters.gateway_files import LocalGateways
from reconciler.gateways.litellm import LiteLlm
from reconciler.model.host import GatewayFiles, HostFile, LiteLlmFiles
from reconciler.model.observed import GatewayState, Observation, Present, Unknown
from reconciler.model.routes import Route, Upstream
from reconciler.ports.errors import ActionError

DRAIN = 10.0


def route(label: str, port: int) -> Route:
    upstream = Upstream(host="127.0.0.1", port=port, served_name="default_model")
    return Route(label=label, upstream=upstream, request_params={})


A, B = route("a", 8101), route("b", 8102)


@dataclass
class Place:
    """A managed file, a state directory and a clock."""

    root: Path
    now: float = 1000.0
    gateways: LocalGateways = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.restart()

    @property
    def folder(self) -> Path:
        return self.root / "litellm"

    @property
    def file(self) -> Path:
        return self.folder / "managed.yaml"

    @property
    def memory(self) -> Path:
        return self.root / "state" / "gateways" / "litellm.json"

    def clock(self) -> float:
        return self.now

    def restart(self, writer: LiteLlm | None = None, include: Path | None = None) -> None:
        files = LiteLlmFiles(include=str(include or self.file), drain=f"{DRAIN:.0f}s")
        writers = {"litellm": writer or LiteLlm()}
        host_file = HostFile(gateways=GatewayFiles(litellm=files))
        self.gateways = LocalGateways(host_file, writers, self.root / "state", self.clock)

    def look(self) -> Observation[GatewayState]:
        answer = self.gateways.look()
        assert set(answer) == {"litellm"}
        return answer["litellm"]

    def state(self) -> GatewayState:
        answer = self.look()
        assert isinstance(answer, Present)
        return answer.value

    def unknown(self) -> str:
        answer = self.look()
        assert isinstance(answer, Unknown)
        return answer.reason

    def publish(self, *routes: Route) -> None:
        asyncio.run(self.gateways.publish("litellm", routes))

    def refused(self, *routes: Route) -> ActionError:
        before = self.tree()
        with pytest.raises(ActionError) as caught:
            self.publish(*routes)
        assert self.tree() == before
        return caught.value

    def tree(self) -> dict[str, tuple[int, int, int]]:
        """Every file and folder, but the times of folders, in which a temporary file may have been."""
        found = {str(path): path.lstat() for path in sorted(self.folder.rglob("*"))}
        return {path: (s.st_ino, s.st_mode, s.st_mtime_ns) for path, s in found.items()}
