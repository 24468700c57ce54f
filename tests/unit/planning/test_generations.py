"""Which content is in force, what of it is proved, and what stays to go back to."""

from dataclasses import replace

import pytest

from reconciler.model.generation import Generation, Pin, ProvedServer
from reconciler.model.ledger import EMPTY, Ledger, Suspension
from reconciler.model.observed import Artifact, Observation, Present, Unknown
from reconciler.model.view import View
from reconciler.planning.generations import (
    KEPT,
    RETAINED,
    come_back,
    entered,
    generation,
    moved,
    progressed,
    returnable,
)
from tests.unit.planning.conftest import Tell

HEAD = "version: 1\nports: {team: 8100-8119, experimental: 8120-8139}\nmodels:\n"
FAST = "  fast:\n    source: {repo: acme/fast}\n    port: 8100\n"
DEEP = "  deep:\n    source: {repo: acme/deep}\n    port: 8101\n    draft: {repo: acme/tiny}\n"
LAZY = "  lazy:\n    source: {repo: acme/deep}\n    port: 8102\n    activation: on-demand\n"
HERE = "artifacts: {acme/fast@main: {}, acme/deep@main: {}, acme/tiny@main: {}}\n"
BOTH = "servers: {fast: {}, deep: {}}\n"


def born(content: str, at: float = 1.0, **more: object) -> Generation:
    """A content that comes in force."""
    return Generation(number=0, at=at, revision=f"of {content}", content=content, rules="r", **more)  # type: ignore[arg-type]


def told(*contents: str, prove: bool = True) -> Ledger:
    """The ledger after these contents were in force, one after the other, each of them proved."""
    ledger = EMPTY
    for at, content in enumerate(contents, 1):
        ledger = entered(ledger, born(content, float(at)))
        if prove:
            made = [replace(g, proved_at=float(at)) if g.number == ledger.current else g for g in ledger.generations]
            ledger = replace(ledger, generations=tuple(made))
    return ledger


def numbers(ledger: Ledger) -> list[int]:
    return [g.number for g in ledger.generations]


def pin(number: int, **more: object) -> Pin:
    fields: dict[str, object] = {"bad": "b", "left": (), "at": 1.0, "reason": "slow", **more}
    return Pin(number=number, content=f"{number}", **fields)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ coming in force


def test_the_first_content_is_generation_1() -> None:
    ledger = entered(EMPTY, born("a", 7.0))
    assert ledger == replace(EMPTY, generations=(replace(born("a", 7.0), number=1),), current=1)


def test_the_same_content_again_is_the_same_generation() -> None:
    ledger = told("a", "b")
    assert entered(ledger, born("b", 9.0)) is ledger, "also under another revision: it is the content that counts"


def test_another_content_is_a_new_one_and_the_newest_comes_first() -> None:
    ledger = told("a", "b", "c")
    assert (numbers(ledger), ledger.current) == ([3, 2, 1], 3)
    assert [g.content for g in ledger.generations] == ["c", "b", "a"]


def test_what_was_in_force_before_is_the_generation_that_it_was() -> None:
    ledger = entered(told("a", "b"), born("a", 9.0))
    assert (sorted(numbers(ledger)), ledger.current) == ([1, 2], 1)
    assert generation(ledger, 1) == generation(told("a"), 1), "with its proof"
    assert entered(ledger, born("c")).current == 3, "a number is given once"


def test_a_number_that_a_run_record_names_is_not_given_again() -> None:
    """After a damaged state nothing is known but the number that servers were started with."""
    ledger = entered(replace(EMPTY, current=7), born("a"))
    assert (numbers(ledger), ledger.current) == ([8], 8)


def test_the_oldest_are_forgotten() -> None:
    ledger = told(*map(str, range(1, KEPT + 4)))
    assert numbers(ledger) == list(range(KEPT + 3, 3, -1))
    assert generation(ledger, 3) is None
    assert generation(ledger, 4) == ledger.generations[-1]


def test_what_is_pinned_is_not_forgotten() -> None:
    ledger = replace(told("1", "2"), pin=pin(1))
    for content in range(3, KEPT + 6):
        ledger = entered(ledger, born(str(content)))
    assert numbers(ledger)[-1] == 1


def test_many_that_could_not_be_proved_do_not_push_out_those_that_were() -> None:
    ledger = told("a", "b", "c", "d")
    for bad in range(2 * KEPT):
        ledger = entered(ledger, born(f"bad {bad}"))
    assert numbers(ledger)[-RETAINED:] == [4, 3, 2]
    assert [g.number for g in returnable(ledger)] == [ledger.current, 4, 3, 2]


# -------------------------------------------------------------------------------------------------------- to go back to


def test_the_last_three_that_were_proved_are_kept_to_go_back_to() -> None:
    ledger = told("a", "b", "c", "d", "e")
    assert RETAINED == 3
    assert [g.number for g in returnable(ledger)] == [5, 4, 3]


def test_what_was_never_proved_takes_no_place_but_while_it_is_in_force() -> None:
    ledger = entered(told("a", "b", "c"), born("d"))
    assert [g.number for g in returnable(ledger)] == [4, 3, 2, 1]
    assert [g.number for g in returnable(entered(ledger, born("e")))] == [5, 3, 2, 1]


def test_what_is_pinned_is_kept_to_go_back_to() -> None:
    ledger = replace(told("1", "2", "3", "4", "5"), pin=pin(1))
    assert [g.number for g in returnable(ledger)] == [5, 4, 3, 1]


def test_what_was_gone_back_to_is_the_last_one_that_was_in_force() -> None:
    """The content of generation 1 was declared again, and left for a new one: a return is a return to it."""
    ledger = told("a", "b", "c", "d", "e")
    ledger = entered(entered(ledger, born("a", 9.0)), born("f", 10.0))
    assert 1 in [g.number for g in returnable(ledger)]


# --------------------------------------------------------------------------------------------------------------- proofs


def seen(tell: Tell, desired: str, observed: str) -> View:
    return tell(desired, observed).first


def after(view: View, ledger: Ledger, at: float = 0.0) -> Ledger:
    """What a look adds to the ledger; `at` seconds after the story begins."""
    facts = replace(view.facts, now=view.facts.now + at, ledger=ledger)
    return progressed(ledger, facts, view.targets, {change.label: change for change in view.changes})


def back(view: View, ledger: Ledger, at: float = 0.0) -> Ledger:
    """The same, with what it says of a return."""
    facts = replace(view.facts, now=view.facts.now + at, ledger=after(view, ledger, at))
    return come_back(replace(view, facts=facts))


def now(ledger: Ledger) -> Generation:
    found = generation(ledger, ledger.current)
    assert found is not None
    return found


def test_without_a_generation_in_force_nothing_is_remembered(tell: Tell) -> None:
    view = seen(tell, HEAD + FAST, HERE + "servers: {fast: {}}\n")
    assert after(view, EMPTY) is EMPTY
    lost = replace(EMPTY, current=7)
    assert after(view, lost) is lost


def test_a_generation_is_proved_server_by_server_and_then_as_a_whole(tell: Tell) -> None:
    start = told("a", prove=False)
    half = after(seen(tell, HEAD + FAST + DEEP, HERE + "servers: {fast: {}, deep: {health: starting}}\n"), start)
    assert set(now(half).servers) == {"fast"}
    assert (now(half).proved_at, now(half).missing, now(half).partial) == (None, ("deep",), True)
    view = seen(tell, HEAD + FAST + DEEP, HERE + BOTH)
    whole = after(view, half, at=5.0)
    assert now(whole).proved_at == view.facts.now + 5.0
    assert now(whole).partial is False
    assert now(whole).labels == ("fast", "deep")
    fast, deep = now(whole).servers["fast"], now(whole).servers["deep"]
    assert fast == ProvedServer(
        reference="acme/fast@main",
        artifact=view.facts.observed.servers["fast"].artifact,
        draft="",
        spec_hash=view.targets["fast"].spec_hash,
        port=8100,
        at=view.facts.now,
    )
    assert deep.draft.startswith("acme/tiny@main ")
    assert deep.at == view.facts.now + 5.0
    assert len(now(whole).artifacts) == 3


def test_what_is_proved_once_is_not_proved_again(tell: Tell) -> None:
    view = seen(tell, HEAD + FAST + DEEP, HERE + BOTH)
    whole = after(view, told("a", prove=False))
    assert after(view, whole, at=60.0) is whole
    died = after(seen(tell, HEAD + FAST + DEEP, HERE + "servers: {fast: {}}\n"), whole, at=60.0)
    assert now(died) == now(whole), "a death takes nothing back"


@pytest.mark.parametrize(
    "server",
    [
        "{health: starting}",
        "{health: zombie}",
        "{standing: unknown}",
        "{standing: orphan}",
        "{fields: {reasoning_parser: x}}",
    ],
)
def test_only_what_answers_as_it_is_declared_is_a_proof(tell: Tell, server: str) -> None:
    view = seen(tell, HEAD + FAST, f"{HERE}servers: {{fast: {server}}}\n")
    found = now(after(view, told("a", prove=False)))
    assert (dict(found.servers), found.proved_at) == ({}, None)


def test_old_weights_prove_nothing(tell: Tell) -> None:
    view = seen(tell, HEAD + FAST, HERE + "servers: {fast: {commit: b16b00b5}}\n")
    assert now(after(view, told("a", prove=False))).servers == {}


def test_who_is_started_on_demand_is_not_waited_for_and_is_remembered(tell: Tell) -> None:
    asleep = after(seen(tell, HEAD + FAST + LAZY, HERE + "servers: {fast: {}}\n"), told("a", prove=False))
    assert now(asleep).proved_at is not None
    assert now(asleep).labels == ("fast",)
    woken = after(seen(tell, HEAD + FAST + LAZY, HERE + "servers: {fast: {}, lazy: {}}\n"), asleep)
    assert set(now(woken).servers) == {"fast", "lazy"}


def test_who_is_suspended_is_not_waited_for(tell: Tell) -> None:
    view = seen(tell, HEAD + FAST + DEEP, HERE + "servers: {fast: {}}\n")
    start = replace(told("a", prove=False), suspensions={"deep": Suspension(since=1.0, reason="lunch")})
    assert now(after(view, start)).proved_at is not None
    assert now(after(view, start)).missing == ("deep",), "and so a return to it is partial"


@pytest.mark.parametrize("desired", [HEAD.replace("models:", "models: {}"), HEAD + LAZY, HEAD + FAST])
def test_nothing_that_serves_proves_nothing(tell: Tell, desired: str) -> None:
    """An ensemble without a server that always runs, or with each of them suspended, pushes out none that served."""
    start = replace(told("a", prove=False), suspensions={"fast": Suspension(since=1.0, reason="lunch")})
    assert now(after(seen(tell, desired, HERE), start)).proved_at is None


def test_a_look_at_what_is_not_in_force_proves_nothing_of_what_is(tell: Tell) -> None:
    """`plan` of an edit: its forecast must not take the proofs of the present generation for its own."""
    whole = after(seen(tell, HEAD + FAST + DEEP, HERE + BOTH), told("a", prove=False))
    assert after(seen(tell, HEAD + FAST, HERE + "servers: {fast: {}}\n"), whole) is whole


# ---------------------------------------------------------------------------------------------------- weights that move

OLD = HERE.replace("fast@main: {}", "fast@main: {commit: old}")
NEW = HERE.replace("fast@main: {}", "fast@main: {commit: new}")


def test_weights_that_move_under_a_declaration_make_a_new_generation(tell: Tell) -> None:
    old = after(seen(tell, HEAD + FAST + DEEP, OLD + BOTH), told("a", prove=False))
    new = after(seen(tell, HEAD + FAST + DEEP, NEW + BOTH), old, at=60.0)
    assert (numbers(new), new.current) == ([2, 1], 2)
    assert (new.generations[0].content, new.generations[0].failed) == ("a", "")
    assert now(new).proved_at == now(new).at
    assert "acme/fast@main new" in now(new).artifacts
    assert new.generations[1] == old.generations[0], "the old one keeps its proof, and so its weights"
    assert after(seen(tell, HEAD + FAST + DEEP, NEW + BOTH), new, at=90.0) is new


def test_they_make_one_also_where_they_are_served_before_all_is_proved(tell: Tell) -> None:
    """The server with the new weights answers while another one is on its way."""
    old = after(seen(tell, HEAD + FAST + DEEP, OLD + BOTH), told("a", prove=False))
    half = after(seen(tell, HEAD + FAST + DEEP, NEW + "servers: {fast: {}, deep: {health: starting}}\n"), old, at=60.0)
    new = after(seen(tell, HEAD + FAST + DEEP, NEW + BOTH), half, at=90.0)
    assert numbers(new) == [2, 1]
    assert "acme/fast@main old" in new.generations[1].artifacts
    assert "acme/fast@main new" in new.generations[0].artifacts


def test_before_it_is_proved_as_a_whole_the_newest_weights_count(tell: Tell) -> None:
    starting = "servers: {fast: {}, deep: {health: starting}}\n"
    half = after(seen(tell, HEAD + FAST + DEEP, OLD + starting), told("a", prove=False))
    later = after(seen(tell, HEAD + FAST + DEEP, NEW + starting), half)
    assert numbers(later) == [1]
    assert now(later).artifacts == {"acme/fast@main new"}


# ----------------------------------------------------------------------------------------------------------------- pins


def test_a_pin_is_proved_when_all_of_it_is_and_only_then(tell: Tell) -> None:
    start = replace(told("1", prove=False), pin=pin(1))
    half = back(seen(tell, HEAD + FAST + DEEP, HERE + "servers: {fast: {}}\n"), start)
    assert half.pin == start.pin
    view = seen(tell, HEAD + FAST + DEEP, HERE + BOTH)
    whole = back(view, half)
    assert whole.pin == pin(1, proved_at=view.facts.now)
    assert back(view, whole, at=60.0).pin == whole.pin, "it has come back once"


def test_a_pin_to_what_was_proved_before_is_proved_anew(tell: Tell) -> None:
    view = seen(tell, HEAD + FAST + DEEP, HERE + BOTH)
    start = replace(after(view, told("1", prove=False)), pin=pin(1))
    died = back(seen(tell, HEAD + FAST + DEEP, HERE + "servers: {fast: {}}\n"), start)
    assert died.pin == start.pin, "that it served once does not say that it has come back"
    assert back(view, died, at=60.0).pin == pin(1, proved_at=view.facts.now + 60.0)


ROUTED = HEAD.replace("models:", "gateways: {litellm: {mode: direct}}\nmodels:") + FAST
SERVES = HERE + "servers: {fast: {}}\n"


@pytest.mark.parametrize(
    ("gateways", "come"),
    [
        ("litellm: {}", False),
        ("litellm: ", False),
        ("litellm: {listed: [fast]}", False),
        ("litellm: {routes: [fast]}", True),
        ("litellm: {unknown: no permission}", True),
    ],
)
def test_a_return_is_proved_only_when_clients_are_led_to_it(tell: Tell, gateways: str, come: bool) -> None:
    """It answers, which helps nobody as long as a gateway that can be read leads elsewhere."""
    view = seen(tell, ROUTED, SERVES + f"gateways: {{{gateways}}}\n")
    found = back(view, replace(told("1", prove=False), pin=pin(1))).pin
    assert found is not None
    assert (found.proved_at is not None) == come


def test_the_pin_of_another_generation_is_left_alone(tell: Tell) -> None:
    start = replace(told("1", "2", prove=False), pin=pin(1))
    assert back(seen(tell, HEAD + FAST, HERE + "servers: {fast: {}}\n"), start).pin == start.pin


# ------------------------------------------------------------------------------------------- what a reference means now

COMMIT = "c0ffee" * 6 + "abcd"


def artifact(identity: str) -> Observation[Artifact]:
    return Present(value=Artifact(identity=identity, path="/x"))


@pytest.mark.parametrize(
    ("identity", "found", "is_moved"),
    [
        (COMMIT, artifact(COMMIT), False),
        (COMMIT, artifact("f" * 40), True),
        (COMMIT, None, True),
        (COMMIT, Unknown(reason="denied"), True),
        ("recipe:123", artifact(COMMIT), False),
        ("files:123", artifact("files:456"), False),
    ],
)
def test_what_was_loaded_has_moved_where_its_name_means_something_else(
    identity: str, found: Observation[Artifact] | None, is_moved: bool
) -> None:
    proved = ProvedServer(reference="a/b@main", artifact=identity, draft="", spec_hash="", port=1, at=1.0)
    assert moved(proved, "a/b@main", found) is is_moved
    assert moved(proved, "a/b@dev", found) is False, "another reference says nothing about this one"
