"""The port of a world that knows its platform and its runtimes, and tries things out in them."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from reconciler.model.names import server_subject
from reconciler.model.observed import Absent, HostFacts, Observation, Present
from reconciler.model.target import PreflightOrder
from reconciler.ports.errors import ActionError

from . import rules

if TYPE_CHECKING:
    from .world import World

RUNTIMES: Mapping[str, tuple[str, ...]] = {
    "mlx-lm": ("/venv/bin/python", "-m", "mlx_lm", "server"),
    "mlx-openai-server": ("/other/bin/mlx-openai-server", "launch"),
}


class Machine:
    """The facts of one world, and what would not start there."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def look(self, backends: Iterable[str]) -> HostFacts:
        truth = self._world.truth
        found: dict[str, Observation[tuple[str, ...]]] = {
            name: Present(value=RUNTIMES[name]) if name in RUNTIMES else Absent() for name in backends
        }
        return HostFacts(
            platform=truth.platform,
            memory_total=truth.memory_total,
            runtimes=found,
            accept_cpu=self._world.host_file.accept_cpu,
            offline=truth.offline,
        )

    async def preflight(self, order: PreflightOrder) -> None:
        world = self._world
        rules.before_preflight(world, order)
        async with world.request("preflight", server_subject(order.label)) as work:
            await work.start()
            if order.label in world.script.unfit:
                raise ActionError("template-broken", "its template cannot be rendered", permanent=True)
            world.passed.add(f"{order.label} {order.key}")
