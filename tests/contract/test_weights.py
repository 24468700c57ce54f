"""What every machine promises about weights through its ports, the in-memory one and the real one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from reconciler.model.names import artifact_subject
from reconciler.model.observed import Absent, Artifact, Present
from reconciler.model.supply import FetchOrder, MoveOrder, Place, SourceCheck, VerifyOrder
from reconciler.ports.errors import ActionError
from tests.world.rules import Violated

from .weights import COLD, OFFERED, REFERENCE, REPO, WITHHELD, InMemory, OnDisk, Weights, in_memory, on_disk

NOWHERE = "org/nowhere@main"


@pytest.fixture(params=[in_memory, on_disk], ids=["world", "machine"])
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Weights]:
    make: Callable[[Path], AbstractContextManager[Weights]] = request.param
    with make(tmp_path) as made:
        yield made


def verified(weights: Weights) -> Artifact:
    """What is put there, read through."""
    weights.put()
    read(weights)
    return weights.here()


def read(weights: Weights) -> None:
    """Compare all of it with its digests; whether it is said at once that they differ is left open."""
    here = weights.here()
    order = VerifyOrder(reference=REFERENCE, path=here.path, bytes=here.unverified)
    with suppress(ActionError):
        weights.do(weights.supply.verify(order))


def move(weights: Weights, artifact: Artifact, back: bool = False) -> MoveOrder:
    """The order to move it to the volume, or back from there."""
    return MoveOrder(
        reference=REFERENCE,
        repo=REPO,
        volume=COLD,
        path=f"{weights.place}/models--org--one",
        bytes=artifact.disk_bytes,
        artifact=artifact,
        revision="main",
        back=back,
    )


def asked(weights: Weights, reference: str) -> SourceCheck:
    """What the hub says."""
    return weights.do(weights.supply.check([reference]))[reference]


# ------------------------------------------------------------------------------------------------------------ looking


def test_nothing_is_kept_where_nothing_was_brought(weights: Weights) -> None:
    storage = weights.artifacts.storage([REFERENCE, NOWHERE])
    assert (dict(storage.conversions), dict(storage.cold)) == ({}, {})
    assert storage.home.startswith("/")
    assert isinstance(storage.free, Present)
    assert storage.free.value > 0
    assert storage.converter
    assert weights.artifacts.inventory() == ()
    assert weights.found() == Absent()


def test_a_volume_is_there_while_it_is_mounted(weights: Weights) -> None:
    volume = weights.artifacts.storage([]).volumes[COLD]
    assert isinstance(volume, Present)
    assert volume.value.path == weights.place
    assert volume.value.free is not None
    assert volume.value.free > 0
    weights.mount(False)
    assert weights.artifacts.storage([]).volumes == {COLD: Absent()}
    weights.mount(True)
    assert isinstance(weights.artifacts.storage([]).volumes[COLD], Present)


def test_what_is_in_the_cache_is_listed_whether_or_not_it_is_declared(weights: Weights) -> None:
    weights.put()
    (holding,) = weights.artifacts.inventory()
    assert (holding.place, holding.name, holding.references) == (Place.CACHE, REPO, (REFERENCE,))
    assert holding.bytes > 0
    assert holding.unfinished == 0
    assert weights.here().path.startswith(holding.path.partition("/snapshots/")[0])


# ---------------------------------------------------------------------------------------------------------- verifying


def test_what_nobody_has_read_is_complete_and_not_sound(weights: Weights) -> None:
    weights.put()
    here = weights.here()
    assert (here.complete, here.sound, here.verdict) == (True, False, "not verified")
    assert here.unverified > 0


def test_what_was_verified_is_sound_and_otherwise_the_same(weights: Weights) -> None:
    weights.put()
    before = weights.here()
    read(weights)
    after = weights.here()
    assert (after.sound, after.unverified, after.corrupt, after.verdict) == (True, 0, (), "complete")
    assert (after.identity, after.path, after.disk_bytes) == (before.identity, before.path, before.disk_bytes)


def test_what_is_not_what_was_promised_is_corrupt_once_it_was_read(weights: Weights) -> None:
    weights.put()
    weights.spoil()
    assert weights.here().corrupt == ()
    read(weights)
    after = weights.here()
    assert after.corrupt == ("model.safetensors",)
    assert (after.complete, after.sound) == (False, False)


# ------------------------------------------------------------------------------------------------------- cold storage


def test_what_is_moved_away_is_in_cold_storage_and_comes_back_as_it_was(weights: Weights) -> None:
    before = verified(weights)
    weights.do(weights.supply.offload(move(weights, before)))
    assert weights.found() == Absent()
    copy = weights.artifacts.storage([REFERENCE]).cold[REFERENCE]
    assert (copy.volume, copy.path) == (COLD, f"{weights.place}/models--org--one")
    assert copy.bytes > 0
    assert (copy.artifact.identity, copy.artifact.path) == (before.identity, before.path)
    weights.do(weights.supply.restore(move(weights, copy.artifact, back=True)))
    assert weights.here() == before, "and nobody has to read it again"
    assert weights.artifacts.storage([REFERENCE]).cold == {}, "only what is not here is said to be elsewhere"


def test_a_copy_is_known_while_its_volume_is_away(weights: Weights) -> None:
    before = verified(weights)
    weights.do(weights.supply.offload(move(weights, before)))
    weights.mount(False)
    storage = weights.artifacts.storage([REFERENCE, NOWHERE])
    assert set(storage.cold) == {REFERENCE}
    assert storage.volumes == {COLD: Absent()}
    assert storage.cold[REFERENCE].artifact.identity == before.identity
    with pytest.raises(ActionError) as refused:
        weights.do(weights.supply.restore(move(weights, before, back=True)))
    assert refused.value.cause == "volume-unmounted"
    assert weights.found() == Absent()
    weights.mount(True)
    weights.do(weights.supply.restore(move(weights, before, back=True)))
    assert weights.here() == before


def test_nothing_moves_to_a_volume_that_is_not_mounted(weights: Weights) -> None:
    before = verified(weights)
    weights.mount(False)
    with pytest.raises(ActionError) as refused:
        weights.do(weights.supply.offload(move(weights, before)))
    assert refused.value.cause == "volume-unmounted"
    assert weights.here() == before
    assert weights.artifacts.storage([REFERENCE]).cold == {}
    assert not Path(weights.place).exists(), "nothing was written where it would be"


def test_what_is_not_as_it_was_promised_is_not_moved(weights: Weights) -> None:
    weights.put()
    weights.spoil()
    with pytest.raises(ActionError) as refused:
        weights.do(weights.supply.offload(move(weights, weights.here())))
    assert refused.value.permanent
    assert isinstance(weights.found(), Present)
    assert weights.artifacts.storage([REFERENCE]).cold == {}


# ------------------------------------------------------------------------------------------------------------ the hub


def test_the_hub_says_which_commit_there_is_and_of_what_it_consists(weights: Weights) -> None:
    check = asked(weights, OFFERED)
    assert (check.problem, check.commit, check.pending) == ("", weights.commit, False)
    assert {"config.json", "model.safetensors"} <= {file.name for file in check.files}
    assert check.bytes >= check.weight_bytes > 0


@pytest.mark.parametrize(("reference", "problem"), [(NOWHERE, "source-not-found"), (WITHHELD, "source-gated")])
def test_what_cannot_be_had_is_an_answer_that_time_does_not_mend(
    weights: Weights, reference: str, problem: str
) -> None:
    check = asked(weights, reference)
    assert (check.problem, check.commit, check.files, check.retry_at) == (problem, "", (), None)
    assert check.reason


def test_a_hub_that_is_not_reached_is_an_answer_that_time_may_mend(weights: Weights) -> None:
    weights.unplug()
    check = asked(weights, OFFERED)
    assert (check.problem, check.commit) == ("hub-unreachable", "")
    assert check.retry_at is not None
    assert check.retry_at > check.at


def test_all_that_is_asked_about_gets_an_answer(weights: Weights) -> None:
    references = (NOWHERE, OFFERED, WITHHELD)
    answers = weights.do(weights.supply.check(references))
    assert {reference: bool(check.problem) for reference, check in answers.items()} == {
        NOWHERE: True,
        OFFERED: False,
        WITHHELD: True,
    }


def test_nobody_asks_where_it_is_forbidden(weights: Weights) -> None:
    """The machine answers by itself; the world takes the question alone for a mistake."""
    weights.go_offline()
    if isinstance(weights, InMemory):
        with pytest.raises(Violated, match="asked-offline"):
            asked(weights, OFFERED)
        weights.world.violations.clear()
    else:
        assert isinstance(weights, OnDisk)
        check = asked(weights, OFFERED)
        assert (check.problem, check.commit, check.retry_at) == ("hub-offline", "", None)
        assert weights.hub.asked == []


def test_what_was_downloaded_is_here_and_sound(weights: Weights) -> None:
    check = asked(weights, OFFERED)
    repo = OFFERED.partition("@")[0]
    path = f"{weights.artifacts.storage([]).home}/models--org--two/snapshots/{check.commit}"
    order = FetchOrder(
        reference=OFFERED,
        repo=repo,
        revision="main",
        commit=check.commit,
        files=check.files,
        result=Artifact(identity=check.commit, path=path, weight_bytes=check.weight_bytes, disk_bytes=check.bytes),
        bytes=check.bytes,
    )
    weights.do(weights.supply.fetch(order))
    here = weights.here(OFFERED)
    assert (here.sound, here.identity, here.path) == (True, check.commit, path)
    assert (here.weight_bytes > 0, here.disk_bytes) == (True, check.bytes)
    assert [holding.name for holding in weights.artifacts.inventory()] == [repo]


def test_what_is_not_under_way_has_no_progress(weights: Weights) -> None:
    assert weights.supply.progress(artifact_subject(REFERENCE)) is None
    verified(weights)
    assert weights.supply.progress(artifact_subject(REFERENCE)) is None
