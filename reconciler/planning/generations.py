"""Generations: which content is in force, what of it was proved, and what a return to an earlier one needs."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Final

from reconciler.model.change import Change, Verdict
from reconciler.model.generation import Generation, ProvedServer
from reconciler.model.ledger import Ledger
from reconciler.model.names import gateway_subject
from reconciler.model.observed import Absent, Artifact, Observation, Present, ServerProcess, Unknown
from reconciler.model.target import Target
from reconciler.model.view import Facts, View

RETAINED: Final = 3
"""How many generations that were proved as a whole keep their weights on this machine."""
KEPT: Final = 10
"""How many generations are remembered."""
REVISIONS: Final = 20
"""How many revisions of one content are remembered beside the first."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def generation(ledger: Ledger, number: int) -> Generation | None:
    """The generation of a number; None where it is not remembered (any more)."""
    return next((g for g in ledger.generations if g.number == number), None)


def returnable(ledger: Ledger) -> Iterator[Generation]:
    """Those whose weights are kept: the one in force, the one gone back to, and the last ones that were proved."""
    proved = [g.number for g in ledger.generations if g.proved_at is not None][:RETAINED]
    wanted = {*proved, ledger.current, ledger.pin.number if ledger.pin is not None else 0}
    return (g for g in ledger.generations if g.number in wanted)


def named(ledger: Ledger) -> frozenset[str]:
    """Every label that a remembered generation wanted or served, which a return or a commit may declare again."""
    return frozenset(label for g in ledger.generations for label in (*g.labels, *g.servers))


def entered(ledger: Ledger, born: Generation) -> Ledger:
    """The ledger with this content in force; the number of `born` is given here, where its content is a new one."""
    known = generation(ledger, ledger.current)
    if known is None or known.content != born.content:
        known = next((g for g in ledger.generations if g.content == born.content), None)
    if known is None:
        return _added(ledger, born)
    meant = known
    if born.revision not in (known.revision, *known.revisions):
        meant = replace(known, revisions=(*known.revisions, born.revision)[-REVISIONS:])
    if meant is known and known.number == ledger.current and ledger.generations[0] is known:
        return ledger
    others = (g for g in ledger.generations if g is not known)
    return replace(ledger, generations=(meant, *others), current=known.number)


def _added(ledger: Ledger, born: Generation) -> Ledger:
    number = max((g.number for g in ledger.generations), default=ledger.current) + 1
    # However many could not be proved: what can be gone back to stays, and the number that was given last.
    needed = {number - 1, *(g.number for g in returnable(ledger))}
    older = [g for n, g in enumerate(ledger.generations) if n < KEPT - 1 or g.number in needed]
    return replace(ledger, generations=(replace(born, number=number), *older), current=number)


def progressed(ledger: Ledger, facts: Facts, targets: Mapping[str, Target], changes: Mapping[str, Change]) -> Ledger:
    """The ledger with what this look has proved of the generation in force.

    Weights that have moved under an unchanged declaration make a new generation, as a return needs other ones then.
    """
    current = generation(ledger, ledger.current)
    if current is None:
        return ledger
    serving = {label: s for label, change in changes.items() if (s := _served(facts, targets, change)) is not None}
    labels = tuple(label for label, target in targets.items() if target.always)
    if current.labels and labels != current.labels:
        return ledger  # somebody looks at what is not in force
    whole = _whole(ledger, labels, serving)
    known = {n: p for n, p in current.servers.items() if n in targets}
    moved = {n for n, s in serving.items() if n in known and known[n].artifacts != s.artifacts}
    if moved and current.proved_at is not None and whole:
        born = replace(
            current, at=facts.now, servers={**known, **serving}, labels=labels, proved_at=facts.now, failed=""
        )
        return _added(ledger, born)
    # What was proved as a whole keeps its proof until what has taken the place of its weights is proved as a whole.
    kept = moved if current.proved_at is not None else set()
    fresh = {n: s for n, s in serving.items() if n not in kept and not (n in known and _same(known[n], s))}
    proved_at = facts.now if whole and serving and current.proved_at is None else current.proved_at
    failed = "" if proved_at != current.proved_at else current.failed  # it can be proved after all
    found = replace(current, servers={**known, **fresh}, labels=labels, proved_at=proved_at, failed=failed)
    if found == current:
        return ledger
    return replace(ledger, generations=tuple(found if g.number == found.number else g for g in ledger.generations))


def _same(one: ProvedServer, other: ProvedServer) -> bool:
    return replace(one, at=0.0) == replace(other, at=0.0)


def _whole(ledger: Ledger, labels: Collection[str], serving: Collection[str]) -> bool:
    """Whether everything answers at this moment that should."""
    return all(label in serving for label in labels if label not in ledger.suspensions)


def come_back(view: View) -> Ledger:
    """The ledger of a view, with its pin proved once all that was gone back to answers and every gateway knows it."""
    facts, ledger = view.facts, view.facts.ledger
    pin, current = ledger.pin, generation(ledger, ledger.current)
    if pin is None or pin.proved_at is not None or current is None or pin.number != current.number:
        return ledger
    labels = tuple(label for label, target in view.targets.items() if target.always)
    serving = {change.label for change in view.changes if _served(facts, view.targets, change) is not None}
    published = all(_is_published(view, kind) for kind in view.wanted)
    if labels != current.labels or not published or not _whole(ledger, labels, serving):
        return ledger
    return replace(ledger, pin=replace(pin, proved_at=facts.now))


def _is_published(view: View, kind: str) -> bool:
    """Whether a gateway leads to what it should, as far as its file can be read."""
    if any(job.subject == gateway_subject(kind) for job in view.facts.in_flight):
        return False
    match view.facts.observed.gateways.get(kind):
        case Present(value=state):
            return state.routes == view.wanted[kind]
        case Absent():
            return not view.wanted[kind]
        case Unknown() | None:
            return True


def _served(facts: Facts, targets: Mapping[str, Target], change: Change) -> ProvedServer | None:
    """The proof of one label, where what answers is what is declared, from the weights that are declared."""
    target, live = targets.get(change.label), change.live
    if target is None or live is None or change.verdict is not Verdict.MATCHES or not _is_declared(target, live):
        return None
    return ProvedServer(
        reference=live.fields.get("source", ""),
        artifact=live.artifact,
        draft=live.fields.get("draft", ""),
        spec_hash=live.spec_hash,
        port=live.port,
        at=facts.now,
    )


def _is_declared(target: Target, server: ServerProcess) -> bool:
    """Whether it runs from what is declared, and not from what was declared before."""
    return isinstance(target.artifact, Present) and target.artifact.value.identity == server.artifact


def moved(proved: ProvedServer, reference: str, found: Observation[Artifact] | None) -> bool:
    """Whether a launch reference means other weights by now than those that were proved.

    What was converted has the identity of its recipe, and is made again from what is declared.
    """
    if proved.reference != reference or not _COMMIT.fullmatch(proved.artifact):
        return False
    return not (isinstance(found, Present) and found.value.identity == proved.artifact)
