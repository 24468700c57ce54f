"""Whatever happens at whatever step, one complete copy is left, and asking again ends where it should."""

import pytest

from reconciler.adapters.durable.files import Files
from reconciler.ports.errors import ActionError

from . import worlds
from .mistakes import MISTAKES, Mistake, after_the_copy
from .run import main
from .scenarios import scenario_of
from .schedules import ROT, Schedule, faults, length, randoms, run, singles
from .worlds import Scenario

CASES = (
    pytest.param("offload", marks=pytest.mark.fault("O01", "O02", "O07", "O09")),
    pytest.param("turned-back", marks=pytest.mark.fault("O02", "O18")),
    pytest.param("restore", marks=pytest.mark.fault("O18")),
    pytest.param("publication", marks=pytest.mark.fault("C01", "C02", "C03", "C04", "C08")),
    pytest.param("superseded", marks=pytest.mark.fault("O02", "O10")),
    pytest.param("partial", marks=pytest.mark.fault("O18")),
    pytest.param("occupied", marks=pytest.mark.fault("O10")),
    pytest.param("incomplete", marks=pytest.mark.fault("O11")),
)


def findings(scenario: Scenario, count: int, seed: int) -> list[str]:
    return [finding for schedule in randoms(scenario, count, seed) for finding in run(scenario, schedule)]


@pytest.mark.parametrize("name", CASES)
def test_every_fault_at_every_step(name: str) -> None:
    scenario = scenario_of(name)
    assert [finding for schedule in singles(scenario) for finding in run(scenario, schedule)] == []


@pytest.mark.heavy
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("offload", 1_700),
        ("turned-back", 700),
        ("restore", 1_200),
        ("publication", 1_000),
        ("superseded", 500),
        ("partial", 300),
        ("occupied", 100),
    ],
)
def test_random_schedules(name: str, count: int, seed: int) -> None:
    assert findings(scenario_of(name), count, seed) == []


@pytest.mark.heavy
@pytest.mark.fault("O02")
@pytest.mark.parametrize("name", ["offload", "restore"])
def test_two_crashes_about_the_switch(name: str) -> None:
    scenario = scenario_of(name)
    assert [finding for schedule in after_the_copy(scenario) for finding in run(scenario, schedule)] == []


@pytest.mark.fault("O09")
def test_a_copy_that_rots_between_two_runs() -> None:
    steps = length(worlds.OFFLOAD).steps
    schedules = [Schedule(seed, f"power@{step}+{ROT}") for step in range(1, steps + 1) for seed in range(2)]
    assert [finding for schedule in schedules for finding in run(worlds.OFFLOAD, schedule)] == []


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_seeded_mistake_is_found(mistake: Mistake) -> None:
    assert mistake.looks_right() is bool(mistake.fault), "without a fault nobody would notice, or all would"
    assert mistake.found() is not None


def test_there_are_enough_seeded_mistakes() -> None:
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) >= 12


@pytest.mark.parametrize("kind", ["eio", "enospc", "unmount", "corrupt", "unreadable"])
def test_a_fault_is_felt(kind: str) -> None:
    """The harness is well: what it says it does to a run, the run notices, and not without it."""
    refusals = []
    for step in range(length(worlds.OFFLOAD).steps + 1):
        world = worlds.warm().clone(0)
        world.machine.begin(faults(f"{kind}@{step}"))
        try:
            worlds.offloading(world)
        except ActionError as error:
            refusals.append((step, error.cause))
    assert len(refusals) >= 5
    assert min(refusals)[0] > 0


@pytest.mark.fault("O01")
def test_a_full_volume_keeps_no_part() -> None:
    world = worlds.warm().clone(0)
    world.machine.begin(faults("enospc@20"))
    with pytest.raises(ActionError) as refusal:
        worlds.offloading(world)
    assert refusal.value.cause == "disk-full"
    assert world.copies() == [f"{worlds.HUB}/{worlds.REPO}"]
    assert list(world.external.root.entries) == [".reconciler-volume"]


@pytest.mark.fault("O09")
def test_two_damaged_copies_are_left_to_a_person() -> None:
    world = worlds.warm().clone(0)
    world.machine.begin(faults(f"kill@{length(worlds.OFFLOAD).steps - 8}"))
    with pytest.raises(BaseException, match="models--a--m"):
        worlds.offloading(world)
    world.machine.crashed(power=False)
    assert world.copies() == [worlds.REPO], "the grave is half removed"
    weights = next(path for path, content in worlds.REPOSITORY.items() if content == worlds.WEIGHTS)
    worlds.plant(world.external.root, f"{worlds.REPO}/{weights}", b"rotten")
    before = (_tree(world.hub, ""), _tree(world.volume(), ""))
    for ask in (worlds.offloading, worlds.restoring):
        with pytest.raises(ActionError) as refusal:
            ask(world)
        assert (refusal.value.cause, refusal.value.permanent) == ("both-copies-bad", True)
    assert (_tree(world.hub, ""), _tree(world.volume(), "")) == before


def _tree(files: Files, root: str) -> list[str]:
    paths = [f"{root}/{name}".lstrip("/") for name in files.names(root)]
    inner = [_tree(files, path) for path in paths if (entry := files.look(path)) and entry.kind == "folder"]
    return paths + [path for some in inner for path in some]


def test_a_finding_can_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["offload", "3", "kill@44+eio@2", "power@13"]) == 0
    assert capsys.readouterr().out == "0 findings\n"
    broken = next(mistake for mistake in MISTAKES if mistake.name == "rsync")
    finding = broken.found()
    assert finding is not None
    head, _, _ = finding.partition(": ")
    name, seed, *texts = head.split()
    assert name == broken.scenario.name
    assert finding in run(broken.scenario, Schedule(int(seed), *texts))


def test_a_fault_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="not like kill@12"):
        faults("kill12")
    with pytest.raises(ValueError, match="no fault 'flood'"):
        faults("flood@3")
