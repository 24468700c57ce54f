"""All scenarios: those of worlds.py, and two in which something older makes room."""

from collections.abc import Mapping
from functools import cache
from typing import Final

from . import worlds
from .worlds import HUB, OTHER, REPO, REPOSITORY, Scenario, World, holds, plant

NEWER: Final[Mapping[str, bytes | str]] = {**REPOSITORY, **OTHER}
"""Both commits, of which the ref names the second."""
LASTING: Final = {path: content for path, content in REPOSITORY.items() if not path.startswith("refs/")}
"""What of the first commit must never be gone."""


@cache
def superseded() -> World:
    """The volume has the first commit, the cache both."""
    world = worlds.cold().clone(0)
    for path, content in NEWER.items():
        plant(world.internal.root, f"{HUB}/{REPO}/{path}", content)
    return World(world.internal.root.clone(), world.external.root.clone(), 0, "external")


def _both_commits(world: World) -> list[str]:
    inside, outside = world.internal.root, world.external.root
    places = ((inside, f"{HUB}/{REPO}"), (inside, f"{HUB}/{worlds.GRAVE}"), (outside, REPO))
    bad = [] if any(holds(root, path, NEWER) for root, path in places) else ["I2: there is no complete copy any more"]
    if not any(holds(root, path, LASTING) for root, path in (*places, (outside, f".{REPO}.old"))):
        bad.append("I2: the first commit is gone")
    hub = world.internal.root.entries[HUB]
    if REPO in hub.entries and not holds(inside, f"{HUB}/{REPO}", NEWER):
        bad.append("I6: the cache shows a folder that is not complete")
    if REPO in outside.entries and not world.rotten and not holds(outside, REPO, LASTING):
        bad.append("I6: the volume shows a copy that is not complete")
    return bad + [f"I7: written under the mount point: {name}" for name in world.under_the_mount_point()]


def _replaced(world: World) -> list[str]:
    bad = [] if holds(world.external.root, REPO, NEWER) else ["I5: the volume has not got both commits"]
    if REPO in world.internal.root.entries[HUB].entries:
        bad.append("I5: the folder is still in the cache")
    return bad + [f"I8: litter: {name}" for name in world.litter()]


@cache
def partial() -> World:
    """The volume has all of the repository, the cache a part of it, as an interrupted download leaves one."""
    world = worlds.cold().clone(0)
    for path, content in REPOSITORY.items():
        if not path.endswith("model.safetensors"):
            plant(world.internal.root, f"{HUB}/{REPO}/{path}", content)
    return world.clone(0)


def _kept_cold(world: World) -> list[str]:
    bad = [] if holds(world.external.root, REPO, REPOSITORY) else ["I2: the copy on the volume is gone"]
    return bad + [f"I7: written under the mount point: {name}" for name in world.under_the_mount_point()]


SUPERSEDED: Final = Scenario("superseded", superseded, worlds.offloading, _both_commits, _replaced, fragile_copy=True)
PARTIAL: Final = Scenario("partial", partial, worlds.restoring, _kept_cold, worlds.is_back)
SCENARIOS: Final = (
    worlds.OFFLOAD,
    worlds.TURNED_BACK,
    worlds.RESTORE,
    worlds.PUBLICATION,
    worlds.OCCUPIED,
    worlds.INCOMPLETE,
    SUPERSEDED,
    PARTIAL,
)


def scenario_of(name: str) -> Scenario:
    """The scenario of a name."""
    return next(scenario for scenario in SCENARIOS if scenario.name == name)
