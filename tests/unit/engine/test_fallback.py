"""Going back by itself: from a commit whose server cannot be proved, once, and never at the price of what serves."""

from dataclasses import replace

from reconciler.engine.loop import Engine
from reconciler.engine.requests import Asked, Request
from reconciler.model.desired import Desired, ModelSpec, Source
from reconciler.model.observed import Artifact, Present
from tests.world.drive import PATIENCE, eyes, followed, planner
from tests.world.repository import Repository
from tests.world.script import Script
from tests.world.virtual_time import run
from tests.world.world import World

from .test_journal import scenario

BROKEN = Source(repo="org/broken")
LABELS = ("deep", "fast", "slow", "vl")


class Place:
    """One machine under a loop that follows a branch; weights named `org/broken` die wherever they are loaded."""

    def __init__(self) -> None:
        duds = {f"{label} org/broken@main": 0.5 for label in LABELS}
        self.given = scenario(LABELS, Script(duds=duds, jitters=(0.5,)))
        broken = Artifact(identity="broken", path="/hub/broken", converted=True)
        self.given.truth.artifacts["org/broken@main"] = Present(value=broken)
        self.repository = Repository(ref="refs/heads/main")
        self.world: World = self.given.world()

    def of(self, **models: ModelSpec) -> Desired:
        """What declares these models."""
        return replace(self.given.desired, state=replace(self.given.desired.state, models=models))

    def model(self, label: str) -> ModelSpec:
        """A model that can be served."""
        return self.given.desired.state.models[label]

    def commit(self, content: Desired) -> None:
        """What comes of the next commit, when all has settled."""
        self.repository.commit(f"{len(self.repository.contents) + 1:040x}", content)
        self.settle()

    def settle(self, *requests: Request) -> None:
        """A loop of its own, until there is nothing to do."""
        host = self.world.host()
        engine = Engine(eyes(host, self.given.host_file), planner(), followed(self.repository, host))
        for request in requests:
            engine.ask(request)
        run(engine.settle(self.world.now + PATIENCE), self.world.time)
        self.world.verify()

    def serving(self) -> dict[str, int]:
        """label -> the port on which it lives."""
        records = self.world.truth.records
        return {label: r.process.port for label, r in sorted(records.items()) if r.live(self.world.now)}


def test_a_server_that_cannot_be_proved_brings_the_generation_before_it_back() -> None:
    place = Place()
    place.commit(place.of(fast=place.model("fast")))
    place.commit(place.of(fast=replace(place.model("fast"), source=BROKEN)))
    assert place.serving() == {"fast": place.model("fast").port}
    pin = place.world.ledger.pin
    assert pin is not None
    assert (pin.number, pin.automatic, pin.bad) == (1, True, place.repository.revision)
    assert pin.proved_at is not None


def test_a_return_by_itself_takes_away_nothing_that_a_guard_would_keep() -> None:
    """One broken model in a commit that also adds three good ones: all three were withdrawn and stopped."""
    place = Place()
    place.commit(place.of(fast=place.model("fast")))
    good = {label: place.model(label) for label in ("deep", "slow", "vl")}
    place.commit(place.of(fast=replace(place.model("fast"), source=BROKEN), **good))
    assert place.serving() == {label: model.port for label, model in good.items()}
    ledger = place.world.ledger
    assert ledger.pin is None
    assert "generation 1 does not fit: 3 of" in ledger.generations[0].failed


def test_a_return_across_a_move_of_a_port_needs_no_acknowledgement() -> None:
    """Nobody can write `moved_from` into what was declared once."""
    place = Place()
    old = place.model("fast")
    place.commit(place.of(fast=old))
    assert isinstance(old.port, int)
    place.commit(place.of(fast=replace(old, port=8150, moved_from=old.port)))
    assert place.serving() == {"fast": 8150}
    place.settle(Request(do=Asked.ROLLBACK, number=1, reason="the firewall does not know the new one"))
    assert place.serving() == {"fast": old.port}


def test_a_generation_that_is_proved_after_all_is_none_that_failed() -> None:
    place = Place()
    place.commit(place.of(fast=place.model("fast")))
    good = {label: place.model(label) for label in ("deep", "slow", "vl")}
    place.commit(place.of(fast=replace(place.model("fast"), source=BROKEN), **good))
    assert place.world.ledger.generations[0].failed
    place.world.script = replace(place.world.script, duds={})
    ledger = place.world.ledger
    place.world.truth.ledger = replace(ledger, attempts={})  # as `retry` does
    place.commit(place.of(fast=replace(place.model("fast"), source=BROKEN), **good))
    newest = place.world.ledger.generations[0]
    assert (newest.failed, newest.proved_at is not None) == ("", True)
