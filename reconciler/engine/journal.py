"""What happened between two ticks, in words: differences of the ledger and of the plan, and outcomes of jobs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import Final, TypeVar

from reconciler.model.base import noun
from reconciler.model.event import Event, EventKind
from reconciler.model.ledger import Ledger, Suspension, Wish, is_of_action
from reconciler.model.names import ENSEMBLE, Subject, artifact_subject, server_subject, source_subject
from reconciler.model.plan import Action, Blocked, InFlight, Waiting
from reconciler.model.source import Mode, shown
from reconciler.model.units import count, spoken
from reconciler.planning.plan import Decision

from .drift import WEIGHTS, drifted
from .jobs import Outcome

Entry = TypeVar("Entry", Blocked, Waiting)
_Reason = tuple[Subject, str, str]
"""Subject, stable reference and, of a source, the sentence: a second mistake in a file is another one. Everywhere else
the sentence has numbers in it, and a new number is nothing new."""


_New = tuple[EventKind, Subject, str, str, str]
"""Kind, subject, sentence, kind of the action, reference."""
_WHOLE: Final = 10
_MOMENT: Final = 2.0
_Tenth = tuple[str, int]
"""What was being done, and how many tenths of it were."""

_STILL: Final = (EventKind.REVISION, EventKind.BLOCKED, EventKind.CLEARED, EventKind.UNCOMMITTED)
"""What may be told of a world in which nothing moves."""


@noun
class Told:
    """What has been told already, so that it is not told again."""

    revision: str
    waiting: frozenset[_Reason]
    blocked: frozenset[_Reason]
    settled: bool
    tenths: Mapping[Subject, _Tenth] = field(default_factory=dict)
    """How far each job was when that was last told."""
    astray: frozenset[Subject] | None = field(default=None, compare=False)
    """What was not as declared at the last look, for whatever reason; None: nobody of this run has looked yet."""


def recalled(history: Iterable[Event]) -> Told:
    """What earlier runs have told."""
    revision, settled, blocked = "", True, set[_Reason]()
    for event in history:
        revision = event.revision or revision
        settled = event.kind is EventKind.SETTLED or (settled and event.kind in _STILL)
        if event.kind in (EventKind.BLOCKED, EventKind.CLEARED):
            blocked = {reason for reason in blocked if reason[:2] != (event.subject, event.reference)}
        if event.kind is EventKind.BLOCKED:
            blocked.add(_detailed(event.subject, event.reference, event.text))
    return Told(revision=revision, waiting=frozenset(), blocked=frozenset(blocked), settled=settled)


def told(decision: Decision) -> Told:
    """What has been told once the events of this decision have been."""
    plan = decision.plan
    return Told(
        revision=decision.view.facts.desired.revision,
        waiting=frozenset(map(_reason, plan.waiting)),
        blocked=frozenset(map(_reason, plan.blocked)),
        settled=plan.settled,
        astray=frozenset(subject for subject, *_ in drifted(decision.view)) if plan.settled else frozenset(),
        tenths={
            job.subject: tenth
            for job in decision.view.facts.in_flight
            if (tenth := _tenth(job, decision.view.facts.now)) is not None
        },
    )


def _tenth(job: InFlight, now: float) -> _Tenth | None:
    """How far a job is that has taken more than a moment; None where there is nothing to tell."""
    progress = job.progress
    if now - job.since < _MOMENT or progress is None or not progress.total or not progress.done:
        return None
    return (progress.what, min(_WHOLE, 10 * progress.done // progress.total))


def _progressed(before: Told, decision: Decision) -> Iterator[_New]:
    """Jobs that are a tenth further than they were."""
    for job in decision.view.facts.in_flight:
        tenth = _tenth(job, decision.view.facts.now)
        if tenth is not None and tenth[1] < _WHOLE and tenth != before.tenths.get(job.subject):
            yield EventKind.PROGRESS, job.subject, str(job.progress), job.kind, "progress"


def events(before: Told, known: Ledger, decision: Decision, outcomes: Iterable[Outcome]) -> tuple[Event, ...]:
    """Everything of a tick that is new; `known` is the ledger before it. In the order in which people tell it."""
    facts = decision.view.facts
    now, revision = facts.now, facts.desired.revision
    new = [
        *_ended(outcomes),
        *_progressed(before, decision),
        *_remembered(known, decision),
        *_went_back(known, decision.ledger),
        *_ignored(known, decision.ledger),
        *_drifted(before, known, decision),
        *_planned(before, decision),
    ]
    moved = not before.settled or any(kind not in _STILL for kind, *_ in new)
    if decision.plan.settled and moved:
        new.append((EventKind.SETTLED, ENSEMBLE, _outcome(decision), "", "settled"))
    return tuple(
        Event(at=now, kind=kind, subject=subject, text=text, action=action, reference=reference, revision=revision)
        for kind, subject, text, action, reference in new
    )


def _drifted(before: Told, known: Ledger, decision: Decision) -> Iterator[_New]:
    """What is not as declared any more, in a world that was at rest under the same declaration."""
    after = decision.ledger
    same = before.revision == decision.view.facts.desired.revision and known.current == after.current
    if not (before.settled and same):
        return
    resumed = {server_subject(label) for label in known.suspensions.keys() - after.suspensions.keys()}
    known_of = resumed | {subject for subject, *_ in before.blocked} | (before.astray or frozenset())
    for subject, text, reference in drifted(decision.view, known_of):
        # What stood against weights may have been said of somebody else, so only a look of this run tells.
        if before.astray is not None or reference != WEIGHTS:
            yield EventKind.DRIFTED, subject, text, "", reference


def _ended(outcomes: Iterable[Outcome]) -> Iterator[_New]:
    for outcome in outcomes:
        action = outcome.action
        if outcome.cancelled:
            said = f"{action.kind} was cancelled, as nobody wants it any more; what has arrived is kept"
            yield EventKind.DONE, action.subject, said, action.kind, "cancelled"
        elif outcome.cause is None:
            yield EventKind.DONE, action.subject, f"{action.kind} done", action.kind, action.reference
        else:
            yield EventKind.FAILED, action.subject, outcome.error, action.kind, outcome.cause


def changed(before: Ledger, after: Ledger) -> Iterator[tuple[EventKind, Subject, str, str]]:
    """What a person has said: kind, subject, sentence and reference."""
    for reference, wish in after.wishes.items():
        if before.wishes.get(reference) is not wish:
            yield EventKind.WISHED, artifact_subject(reference), _WISHED[wish], str(wish)
    yield from _returning(before, after)
    released = after.source.accepted if after.source is not None else ""
    if released and after.source is not None and after.source != before.source and after.source.accepted_because:
        text = f"{shown(released)} is released: {after.source.accepted_because}"
        yield EventKind.ACCEPTED, source_subject(after.source.mode), text, "accepted"
    for label, suspension in after.suspensions.items():
        if before.suspensions.get(label) != suspension:
            yield EventKind.SUSPENDED, server_subject(label), _suspended(suspension), "suspended"
    for label in before.suspensions:
        if label not in after.suspensions:
            yield EventKind.RESUMED, server_subject(label), "it may run again", "resumed"
    for label, attempt in before.attempts.items():
        left = after.attempts.get(label)
        if not is_of_action(label) and attempt.count and (left is None or left.count == 0):
            yield EventKind.RETRIED, server_subject(label), "earlier failures do not count any more", "retried"


def _suspended(suspension: Suspension) -> str:
    if suspension.until is None:
        return suspension.reason
    return f"{suspension.reason} (for {spoken(suspension.until - suspension.since)})"


_WISHED: Final = {
    Wish.OFFLOAD: "it is to be in cold storage",
    Wish.KEEP: "it is to be in the model cache, and to stay there",
}


def _remembered(known: Ledger, decision: Decision) -> Iterator[_New]:
    after, live = decision.ledger, decision.view.facts.observed.servers
    for label, suspension in known.suspensions.items():
        if label in after.suspensions:
            continue
        if suspension.until is not None:
            yield EventKind.RESUMED, server_subject(label), "the time of its suspension is over", "", "resumed"
        else:
            text = "it is in nothing that could come back, so that it was suspended is forgotten"
            yield EventKind.RESUMED, server_subject(label), text, "", "forgotten"
    for label, attempt in after.attempts.items():
        old = known.attempts.get(label)
        fresh = old is None or (old.spec_hash, old.count) != (attempt.spec_hash, attempt.count)
        # The failure of an action has been told as its outcome.
        if fresh and attempt.evidence:
            yield EventKind.FAILED, server_subject(label), attempt.error, "", attempt.cause
    for label, proof in after.proofs.items():
        old_proof = known.proofs.get(label)
        server = live.get(label)
        if server is not None and (old_proof is None or old_proof.instance != proof.instance):
            text = f"pid {server.pid} answers on port {server.port}"
            yield EventKind.PROVED, server_subject(label), text, "", "proved"


def _planned(before: Told, decision: Decision) -> Iterator[_New]:
    plan, facts = decision.plan, decision.view.facts
    if before.revision != facts.desired.revision:
        yield EventKind.REVISION, _source(facts.desired.revision), _revision(decision), "", "revision"
    for blocked in _new(plan.blocked, before.blocked):
        yield EventKind.BLOCKED, blocked.subject, _said(blocked), "", blocked.reference
    now = {(entry.subject, entry.reference) for entry in plan.blocked}
    for subject, reference in sorted({(s, r) for s, r, _ in before.blocked} - now):
        yield EventKind.CLEARED, subject, f"{reference} does not stand against it any more", "", reference
    for action in plan.actions:
        yield EventKind.STARTED, action.subject, about(action), action.kind, action.reference
    for waiting in _new(plan.waiting, before.waiting):
        if waiting.reference != "in-progress":
            yield EventKind.WAITING, waiting.subject, waiting.reason, "", waiting.reference


def _new(entries: Iterable[Entry], old: frozenset[_Reason]) -> Iterator[Entry]:
    """One entry for each reason that was not there before."""
    known = set(old)
    for entry in entries:
        if _reason(entry) not in known:
            known.add(_reason(entry))
            yield entry


def _reason(entry: Blocked | Waiting) -> _Reason:
    text = _said(entry) if isinstance(entry, Blocked) else entry.reason
    return _detailed(entry.subject, entry.reference, text)


def _detailed(subject: Subject, reference: str, text: str) -> _Reason:
    return subject, reference, text if subject.startswith("source/") else ""


def _said(blocked: Blocked) -> str:
    return f"{blocked.reason}; {blocked.hint}" if blocked.hint else blocked.reason


def _outcome(decision: Decision) -> str:
    serving = sum(server.serves for server in decision.view.facts.observed.servers.values())
    return f"{serving} serving, {len({b.subject for b in decision.plan.blocked})} blocked"


def _revision(decision: Decision) -> str:
    desired = decision.view.facts.desired
    return f"{shown(desired.revision)}, {count(len(desired.state.models), 'model')}"


def _source(revision: str) -> Subject:
    return source_subject(Mode.WORKTREE if revision.startswith(Mode.WORKTREE) else Mode.COMMIT)


def _went_back(known: Ledger, after: Ledger) -> Iterator[_New]:
    """A return to an earlier generation, when it begins and when it is proved; and a revision nobody returns from."""
    before, pin = known.pin, after.pin
    for kind, subject, text, reference in _returning(known, after):
        yield kind, subject, text, "", reference
    if pin is not None and pin.proved_at is not None and (before is None or before.proved_at is None):
        text = f"generation {pin.number} is in force and proved again; {shown(pin.bad)} was left: {pin.reason}"
        yield EventKind.ROLLED_BACK, ENSEMBLE, text, "", "rolled-back"
    old = {g.number: g.failed for g in known.generations}
    for g in after.generations:
        if g.failed and not old.get(g.number) and (pin is None or pin == before):
            text = f"generation {g.number} cannot be proved, and stays in force: {g.failed}"
            yield EventKind.FAILED, ENSEMBLE, text, "", "rollback-refused"


def _returning(known: Ledger, after: Ledger) -> Iterator[tuple[EventKind, Subject, str, str]]:
    before, pin = known.pin, after.pin
    if pin is not None and (before is None or (before.number, before.at) != (pin.number, pin.at)):
        who = "by itself" if pin.automatic else "as a person asked"
        text = f"back to generation {pin.number}, {who}: {pin.reason}"
        yield EventKind.ROLLING_BACK, ENSEMBLE, text, "rolling-back"


def _ignored(known: Ledger, after: Ledger) -> Iterator[_New]:
    """Edits that nobody has committed."""
    edits = after.source.uncommitted if after.source is not None else ()
    if edits and edits != (known.source.uncommitted if known.source is not None else ()):
        text = f"edits of {', '.join(edits)} are not committed, so they are ignored"
        yield EventKind.UNCOMMITTED, source_subject(Mode.COMMIT), text, "", "uncommitted"


def about(action: Action) -> str:
    """What an action is about to do, and why."""
    port = action.claims.port
    return action.reason if port is None else f"port {port}, {action.reason}"
