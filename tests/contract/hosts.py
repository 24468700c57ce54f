"""The same ports twice: of the in-memory world, and of this machine in a folder of the test."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler import plugins
from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.adapters.gateway_files import LocalGateways
from reconciler.adapters.listeners import LocalListeners
from reconciler.adapters.state_dir import StateDir
from reconciler.model.host import GatewayFiles, HostFile, LiteLlmFiles
from reconciler.model.observed import ServerProcess, Standing
from reconciler.ports.host import Artifacts, Gateways, Listeners, StateStore
from tests.world.script import Script
from tests.world.truth import Gateway, Record, Server, Truth
from tests.world.virtual_time import EPOCH, VirtualTime, run
from tests.world.world import World

DRAIN = 10.0


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports of one machine that need no server program, with its clock in the test's hand."""

    gateways: Gateways
    listeners: Listeners
    artifacts: Artifacts
    state: StateStore
    reopened: Callable[[], StateStore]
    """The same state, as the next run of the program finds it."""
    time: VirtualTime
    do: Callable[[Coroutine[Any, Any, None]], None]


def serving(label: str, port: int) -> Record:
    """A server of ours that was proved."""
    process = ServerProcess(label=label, port=port, standing=Standing.OURS, served_name="default_model", fields={})
    return Record(process=process, server=Server(pid=port, since=EPOCH, ready_at=EPOCH))


def in_memory(folder: Path) -> Ports:
    """The world, with a gateway that has no file yet; it lets nobody route to a server that is not there."""
    servers = {label: serving(label, port) for label, port in (("fast", 8100), ("deep", 8101))}
    truth = Truth(records=servers, gateways={"litellm": Gateway(drain=DRAIN)})
    world = World(truth, HostFile(), Script(durations=(0.0,)))
    host = world.host()
    return Ports(
        gateways=host.gateways,
        listeners=host.listeners,
        artifacts=host.artifacts,
        state=host.state,
        reopened=lambda: World(world.truth, HostFile(), Script()).host().state,
        time=world.time,
        do=lambda request: run(request, world.time),
    )


def on_disk(folder: Path) -> Ports:
    """The real adapters; only the clock is the test's."""
    time = VirtualTime(EPOCH)
    files = GatewayFiles(litellm=LiteLlmFiles(include=str(folder / "routes.yaml"), drain=f"{DRAIN:g}s"))
    host_file = HostFile(gateways=files)
    writers = plugins.installed_gateways()
    return Ports(
        gateways=LocalGateways(host_file, writers, folder / "state", lambda: time.now),
        listeners=LocalListeners(),
        artifacts=LocalArtifacts(roots=()),
        state=StateDir(folder / "state"),
        reopened=lambda: StateDir(folder / "state"),
        time=time,
        do=asyncio.run,
    )
