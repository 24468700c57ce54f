"""When somebody who is connected is taken to wait, and what counts as work for him."""

import pytest

from reconciler.adapters.connections import Connection
from reconciler.adapters.inquiry import MISSES, PACE
from reconciler.adapters.standstill import Sample, Standstill, worked

ASKED = Connection("a", received=100, sent=0, waits=True)
ANSWERED = Connection("a", received=100, sent=500, waits=False)
UNCOUNTED = Connection("a")


def seen(standstill: Standstill, *samples: Sample) -> list[float]:
    return [standstill.seconds(sample) for sample in samples]


def at(moment: float, *connections: Connection, cpu: float | None = 0.0, logged: int = 0, steps: int = 0) -> Sample:
    return Sample(at=moment, connections=connections, cpu=cpu, logged=logged, steps=steps)


def test_who_hangs_is_waited_for_from_the_first_look_at_him() -> None:
    assert seen(Standstill(), at(0), at(10, ASKED), at(20, ASKED), at(30, ASKED)) == [0, 0, 10, 20]


def test_nobody_waits_where_nobody_is_connected_or_can_be_seen() -> None:
    hidden = [Sample(at=moment, cpu=0.0) for moment in (20.0, 30.0)]
    assert seen(Standstill(), at(0), at(10), *hidden) == [0, 0, 0, 0]


def test_who_comes_and_goes_does_not_wait() -> None:
    others = [at(10.0 * n, Connection(f"c{n}", received=1, sent=0, waits=True)) for n in range(6)]
    assert seen(Standstill(), *others) == [0] * 6


@pytest.mark.parametrize(
    "later",
    [
        at(20, ASKED, cpu=0.2),
        at(20, ASKED, steps=1),
        at(20, ASKED, cpu=None, logged=5),
        at(20, ASKED, Connection("b", received=7, sent=9, waits=False)),
    ],
    ids=["processor", "line of work", "log where nothing else tells", "stream to somebody else"],
)
def test_work_for_anybody_is_work(later: Sample) -> None:
    other = Connection("b", received=7, sent=8, waits=False)
    standstill = Standstill()
    assert seen(standstill, at(0, ASKED, other), at(10, ASKED, other), later) == [0, 10, 0]
    assert standstill.worked_at == 20


@pytest.mark.parametrize(
    "later",
    [
        at(20, ASKED, logged=50),
        at(20, ASKED, Connection("b", received=20, sent=99, waits=False)),
        at(20, ASKED, cpu=0.05),
    ],
    ids=["a line about a look", "an answer to a new request", "the processor time of a look"],
)
def test_who_looks_at_its_health_causes_no_work(later: Sample) -> None:
    other = Connection("b", received=10, sent=50, waits=False)
    assert seen(Standstill(), at(0, ASKED, other), at(10, ASKED, other), later) == [0, 10, 20]


def test_what_was_open_while_it_answered_is_idle_until_its_client_speaks() -> None:
    standstill = Standstill()
    assert seen(standstill, at(0, ANSWERED), at(10, ANSWERED), at(20, ANSWERED)) == [0, 10, 20]
    standstill.answered()
    again = ANSWERED._replace(received=200, sent=900)
    assert seen(standstill, at(30, ANSWERED), at(40, ANSWERED), at(50, again), at(60, again)) == [0] * 4
    hangs = again._replace(received=300, waits=True)
    assert seen(standstill, at(70, hangs), at(80, hangs), at(90, hangs)) == [0, 10, 20]


def test_a_request_that_came_just_before_the_answer_is_still_waited_for() -> None:
    standstill = Standstill()
    seen(standstill, at(0, ANSWERED), at(10, ANSWERED, ASKED._replace(peer="b")))
    standstill.answered()
    young = ASKED._replace(peer="b")
    assert seen(standstill, at(20, ANSWERED, young), at(30, ANSWERED, young), at(40, ANSWERED, young)) == [0, 10, 20]


def test_a_connection_whose_bytes_nobody_counts_may_wait_again_when_the_log_has_grown() -> None:
    standstill = Standstill()
    assert seen(standstill, at(0, UNCOUNTED), at(10, UNCOUNTED)) == [0, 10]
    standstill.answered()
    quiet = [at(20, UNCOUNTED, logged=1), at(30, UNCOUNTED, logged=1), at(40, UNCOUNTED, logged=1)]
    assert seen(standstill, *quiet) == [0, 0, 0], "the line of our own question is none of his"
    assert seen(standstill, at(50, UNCOUNTED, logged=2), at(60, UNCOUNTED, logged=2)) == [0, 10]


def test_an_address_that_was_idle_and_comes_back_is_somebody_else() -> None:
    standstill = Standstill()
    seen(standstill, at(0, ANSWERED), at(10, ANSWERED))
    standstill.answered()
    assert seen(standstill, at(20, ANSWERED), at(30), at(40, ANSWERED), at(50, ANSWERED)) == [0, 0, 0, 10]


def test_log_and_processor_alone_tell_where_connections_cannot_be_seen() -> None:
    assert worked(Sample(at=0, cpu=1.0), Sample(at=10, cpu=1.2))
    assert not worked(Sample(at=0, cpu=1.0, logged=1), Sample(at=10, cpu=1.0, logged=2))
    assert worked(Sample(at=0, logged=1), Sample(at=10, logged=2))


def test_a_wedge_is_found_within_two_minutes() -> None:
    assert PACE.look + PACE.standstill + max(PACE.misses, MISSES * PACE.longest) <= 120
    assert PACE.misses >= 60
