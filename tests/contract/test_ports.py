"""What every machine promises through its ports, the in-memory one and the real one."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from reconciler.model.event import Event, EventKind
from reconciler.model.generation import Generation, Pin, ProvedServer
from reconciler.model.ledger import EMPTY, Attempt, Ledger, ServiceProof, Suspension
from reconciler.model.names import ENSEMBLE, server_subject
from reconciler.model.observed import Absent, GatewayState, Present
from reconciler.model.routes import Route, Upstream
from reconciler.model.source import Mode, SourceRecord
from tests.ports import free_port

from .hosts import DRAIN, Ports, in_memory, on_disk

FULL = Ledger(
    attempts={"fast": Attempt(spec_hash="a" * 12, cause="crashed", count=2, first=1.0, last=2.5, retry_at=3.25)},
    suspensions={"deep": Suspension(since=1.0, reason="a person said stop", until=None)},
    proved=frozenset({"fast", "deep"}),
    proofs={"fast": ServiceProof(instance="4711:5:1.0:abc", at=2.0)},
    launched=frozenset({"fast"}),
    leases={"fast": 8120},
    reserved=frozenset({"deep"}),
)


@pytest.fixture(params=[in_memory, on_disk], ids=["world", "machine"])
def ports(request: pytest.FixtureRequest, tmp_path: Path) -> Ports:
    make: Callable[[Path], Ports] = request.param
    return make(tmp_path)


def route(label: str, port: int | None) -> Route:
    """A route of one label; None: without upstream."""
    upstream = Upstream(host="127.0.0.1", port=port, served_name="default_model") if port is not None else None
    return Route(label=label, aliases=(f"{label}-alias",), upstream=upstream, request_params={})


def seen(ports: Ports) -> GatewayState:
    """What is known of the one gateway."""
    state = ports.gateways.look()["litellm"]
    assert isinstance(state, Present)
    return state.value


def test_an_empty_ledger_is_found_where_none_was_saved(ports: Ports) -> None:
    assert ports.state.ledger() == EMPTY


def test_a_saved_ledger_is_found_by_the_next_run(ports: Ports) -> None:
    ports.state.save(FULL)
    assert ports.state.ledger() == FULL
    assert ports.reopened().ledger() == FULL


PROVED = Event(
    at=2.5,
    kind=EventKind.PROVED,
    subject=server_subject("fast"),
    text="pid 4711 answers on port 8120",
    reference="proved",
    revision="worktree:0123456789ab",
)
STARTED = replace(PROVED, kind=EventKind.STARTED, text="route fast", action="publish", reference="routes-differ")
SETTLED = Event(at=3.0, kind=EventKind.SETTLED, subject=ENSEMBLE, text="1 serving, 0 blocked")


def test_no_events_are_found_where_none_were_saved(ports: Ports) -> None:
    assert ports.state.events() == ()
    ports.state.save(FULL)
    assert ports.state.events() == ()
    assert ports.state.events(after=7) == ()


def test_a_ledger_and_its_events_are_found_together(ports: Ports) -> None:
    ports.state.save(FULL, (PROVED, STARTED))
    assert ports.state.ledger() == FULL
    assert ports.state.events() == (replace(PROVED, number=1), replace(STARTED, number=2))


def test_the_store_numbers_events_in_the_order_in_which_they_are_saved(ports: Ports) -> None:
    ports.state.save(FULL, [PROVED])
    ports.state.save(EMPTY)
    ports.state.save(EMPTY, [replace(STARTED, number=99), SETTLED])
    assert [(event.number, event.kind) for event in ports.state.events()] == [
        (1, EventKind.PROVED),
        (2, EventKind.STARTED),
        (3, EventKind.SETTLED),
    ]
    assert ports.state.ledger() == EMPTY


@pytest.mark.parametrize(("after", "left"), [(0, [1, 2, 3]), (1, [2, 3]), (2, [3]), (3, []), (4, [])])
def test_events_are_given_after_a_number(ports: Ports, after: int, left: list[int]) -> None:
    ports.state.save(FULL, [PROVED, STARTED, SETTLED])
    assert [event.number for event in ports.state.events(after)] == left
    assert [event.number for event in ports.state.events(after=after)] == left


def test_the_same_event_twice_is_two_events(ports: Ports) -> None:
    ports.state.save(FULL, [SETTLED])
    ports.state.save(FULL, [SETTLED])
    assert ports.state.events() == (replace(SETTLED, number=1), replace(SETTLED, number=2))


def digest(content: bytes) -> str:
    """The name of a content."""
    return sha256(content).hexdigest()


FIRST, SECOND, THIRD = b'{"n":1}', '{"n":"zwölf"}'.encode(), bytes(range(256)) * 4000


def generation(number: int, content: bytes, **more: object) -> Generation:
    """What was in force once."""
    fields: dict[str, object] = {"at": 1.5, "revision": f"{number:040x}", "rules": "r", "labels": ("fast", "deep")}
    return Generation(number=number, content=digest(content), **{**fields, **more})  # type: ignore[arg-type]


PROVED_SERVER = ProvedServer(
    reference="org/fast@main", artifact="c0ffee", draft="org/tiny@main f00", spec_hash="a" * 12, port=8120, at=2.5
)
PIN = Pin(number=1, content=digest(FIRST), bad="b" * 40, left=(digest(SECOND),), at=3.0, reason="it was slow")
SOURCE = SourceRecord(
    mode=Mode.COMMIT,
    place="/home/someone/ünder/ensemble.yaml",
    ref="refs/heads/main",
    revision="b" * 40,
    content=digest(SECOND),
    refused="c" * 40,
    reference="history-rewritten",
    reason="it is not a successor",
    hint="accept it",
    accepted="d" * 40,
    accepted_because="I did it",
    uncommitted=("ensemble.yaml", "templates/a.jinja"),
)
ENTERED = replace(
    FULL,
    generations=(
        generation(2, SECOND, failed="fast: it crashed"),
        generation(1, FIRST, servers={"fast": PROVED_SERVER}, proved_at=2.75),
    ),
    current=1,
    pin=PIN,
    source=SOURCE,
    preflights={"fast": "aaaaaaaaaaaa c0ffee"},
)


def test_what_was_in_force_is_remembered_with_its_content(ports: Ports) -> None:
    ports.state.save(ENTERED, [PROVED], {digest(FIRST): FIRST, digest(SECOND): SECOND})
    for store in (ports.state, ports.reopened()):
        assert store.ledger() == ENTERED
        assert (store.content(digest(FIRST)), store.content(digest(SECOND))) == (FIRST, SECOND)


def test_a_content_stays_without_being_given_again(ports: Ports) -> None:
    ports.state.save(ENTERED, contents={digest(FIRST): FIRST, digest(SECOND): SECOND})
    ports.state.save(replace(ENTERED, leases={}), [SETTLED])
    assert ports.state.content(digest(FIRST)) == FIRST


@pytest.mark.parametrize(
    "named",
    [
        replace(FULL, generations=(generation(1, FIRST),)),
        replace(FULL, pin=PIN),
        replace(FULL, source=replace(SOURCE, content=digest(FIRST))),
    ],
    ids=["generation", "pin", "source"],
)
def test_what_anything_may_go_back_to_is_kept_and_nothing_else(ports: Ports, named: Ledger) -> None:
    ports.state.save(ENTERED, contents={digest(FIRST): FIRST, digest(SECOND): SECOND, digest(THIRD): THIRD})
    assert ports.state.content(digest(THIRD)) is None, "nobody names it"
    ports.state.save(named)
    assert ports.state.content(digest(FIRST)) == FIRST
    assert ports.state.content(digest(SECOND)) is None
    ports.state.save(FULL)
    assert ports.state.content(digest(FIRST)) is None


def test_a_large_content_is_kept_byte_for_byte(ports: Ports) -> None:
    ports.state.save(replace(FULL, generations=(generation(1, THIRD),)), contents={digest(THIRD): THIRD})
    assert ports.reopened().content(digest(THIRD)) == THIRD


def test_what_is_not_what_its_name_says_is_not_given(ports: Ports) -> None:
    named = replace(FULL, generations=(generation(1, FIRST),))
    ports.state.save(named, contents={digest(FIRST): SECOND})
    assert ports.state.content(digest(FIRST)) is None
    ports.state.save(named, contents={digest(FIRST): FIRST})
    assert ports.state.content(digest(FIRST)) == FIRST, "the right one takes its place"


def test_no_content_is_found_where_none_was_saved(ports: Ports) -> None:
    assert ports.state.content(digest(FIRST)) is None
    ports.state.save(FULL)
    assert ports.state.content(digest(FIRST)) is None
    assert ports.state.content("") is None


def test_a_gateway_without_a_file_is_absent(ports: Ports) -> None:
    assert ports.gateways.look() == {"litellm": Absent()}


def test_published_routes_are_read_back(ports: Ports) -> None:
    routes = (route("deep", 8101), route("fast", 8100))
    ports.do(ports.gateways.publish("litellm", routes))
    assert seen(ports).routes == routes
    assert seen(ports).may_dispatch == {8100, 8101}
    assert seen(ports).drained_at is None


def test_a_withdrawn_route_is_used_until_it_is_drained(ports: Ports) -> None:
    ports.do(ports.gateways.publish("litellm", (route("deep", 8101), route("fast", 8100))))
    ports.do(ports.gateways.publish("litellm", (route("deep", 8101),)))
    withdrawn = ports.time.now
    assert seen(ports).may_dispatch == {8100, 8101}
    assert seen(ports).drained_at == withdrawn + DRAIN
    ports.time.now = withdrawn + DRAIN / 2
    assert seen(ports).may_dispatch == {8100, 8101}
    ports.time.now = withdrawn + DRAIN
    assert seen(ports).may_dispatch == {8101}
    assert seen(ports).drained_at is None


def test_a_route_that_comes_back_is_not_draining(ports: Ports) -> None:
    both, one = (route("deep", 8101), route("fast", 8100)), (route("deep", 8101),)
    for routes in (both, one, both):
        ports.do(ports.gateways.publish("litellm", routes))
    ports.time.now += DRAIN
    assert seen(ports).may_dispatch == {8100, 8101}
    assert seen(ports).drained_at is None


def test_everything_withdrawn_leaves_an_empty_file(ports: Ports) -> None:
    ports.do(ports.gateways.publish("litellm", (route("fast", 8100),)))
    ports.do(ports.gateways.publish("litellm", ()))
    ports.time.now += DRAIN
    assert seen(ports) == GatewayState()


def test_a_port_that_nobody_uses_is_absent(ports: Ports) -> None:
    port = free_port()
    assert ports.listeners.look((port,)) == {port: Absent()}


def test_every_asked_reference_gets_an_answer(ports: Ports) -> None:
    references = ("org/nowhere@main", "/nowhere/at/all")
    found = ports.artifacts.look(references)
    assert found == dict.fromkeys(references, Absent())
