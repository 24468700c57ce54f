"""However people push, rewrite, spoil, pause and go back: only what may be in force is, and in the end it converges."""

from hypothesis import given

from tests.world.drive import Scenario

from . import checks
from .following import Loops, Step, stories
from .profile import worlds


@worlds(150)
@given(stories())
def test_only_what_may_be_in_force_is_and_it_converges(story: tuple[Scenario, list[Step]]) -> None:
    loops = Loops(*story)
    ending = loops.play()
    assert ending.settled, ending.decision.plan.waiting
    assert loops.world.ledger.pin is None
    assert ending.decision.view.facts.desired.revision == loops.repository.revision
    checks.unserved_is_explained(ending.decision)


@worlds(60)
@given(stories())
def test_a_second_loop_finds_nothing_to_do(story: tuple[Scenario, list[Step]]) -> None:
    loops = Loops(*story)
    loops.play()
    writes, requests = loops.world.writes, len(loops.world.requests)
    again = Loops(loops.scenario, [])
    again.world, again.repository = loops.world, loops.repository
    again.in_force, again.released = [loops.repository.revision], {loops.repository.revision}
    from tests.world.drive import PATIENCE
    from tests.world.virtual_time import run

    engine = again.engine()
    ending = run(engine.settle(again.world.now + PATIENCE), again.world.time)
    assert ending.settled
    assert loops.world.requests[requests:] == []
    assert loops.world.writes == writes
