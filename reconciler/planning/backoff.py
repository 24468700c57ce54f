"""When a server that failed may be started again, and when only a person may."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from reconciler.model.base import noun
from reconciler.model.change import Change, Verdict
from reconciler.model.ledger import Attempt, Ledger, is_of_action
from reconciler.model.names import Subject, server_subject
from reconciler.model.observed import RESTARTED_MACHINE, Present
from reconciler.model.plan import Action, Blocked, Waiting
from reconciler.model.target import Target

BUDGET: Final = 5
"""Failed starts of one spec after which a server is held."""
WINDOW: Final = 600.0
"""Seconds without a failure after which earlier ones are forgotten, if the server serves."""
PERSON: Final = 15.0
"""Seconds after which an action is tried again that failed for something a person has to mend."""
_CONVERSIONS: Final = 3
"""Failed conversions by one recipe after which a person is asked."""
_DOUBLINGS: Final = 16
"""After so many the interval is longer than CAP; a number without end would be too large one day."""
_OF_VOLUMES: Final = ("offload", "restore")
"""What fails for a disk or a host that a person has to see to; it is tried again all the same."""
BASE: Final = 1.0
CAP: Final = 300.0
"""Seconds: the second restart waits up to BASE, each further one up to twice as long, CAP at most."""


def is_of(attempt: Attempt, target: Target) -> bool:
    """Whether it was with what is declared now, as far as that can be said, and not with another spec or weights."""
    if attempt.spec_hash != target.spec_hash:
        return False
    found = target.artifact
    return not (isinstance(found, Present) and _other(attempt.artifact, found.value.identity))


def hold(target: Target, ledger: Ledger, now: float) -> Waiting | Blocked | None:
    """What stands against a start of this spec with these weights; anything new starts with a clean sheet."""
    attempt = ledger.attempts.get(target.label)
    if attempt is None or not attempt.count or not is_of(attempt, target):
        return None
    subject = server_subject(target.label)
    if attempt.permanent:
        return Blocked(
            subject=subject,
            reference="held-permanent",
            reason=f"it failed in a way that a restart cannot mend ({attempt.cause}): {attempt.error}",
            hint=f"change the model, or say: reconciler retry {target.label}",
        )
    if attempt.count >= BUDGET:
        return Blocked(
            subject=subject,
            reference="crash-loop",
            reason=f"it failed {attempt.count} times in a row ({attempt.cause}): {attempt.error}",
            hint=f"see: reconciler logs {target.label}; then change the model, or: reconciler retry {target.label}",
        )
    if attempt.retry_at > now:
        return Waiting(
            subject=subject,
            reference="backing-off",
            reason=f"it failed {attempt.count} times ({attempt.cause}) and is started again later",
            until=attempt.retry_at,
        )
    return None


def _other(one: str, another: str) -> bool:
    """Whether two identities of weights are known to differ."""
    return bool(one and another) and one != another


def action_hold(action: Action, ledger: Ledger, now: float) -> Waiting | Blocked | None:
    """What stands against repeating an action that failed; only launches run out of budget.

    One that a person must mend is tried again all the same, as nothing else tells that it was mended.
    """
    return held(action.kind, subject=action.subject, spec=spec_of(action), ledger=ledger, now=now)


def spec_of(action: Action) -> str:
    """What an action's failures are counted for: a conversion by another recipe has a clean sheet."""
    return action.claims.recipe or action.kind


def held(kind: str, subject: Subject, spec: str, ledger: Ledger, now: float) -> Waiting | Blocked | None:
    """The same for an action that is not made yet."""
    attempt = ledger.attempts.get(f"{kind}:{subject}")
    if attempt is not None and kind == "convert":
        # It costs hours: what failed for good, or three times, is not tried again by itself.
        if attempt.spec_hash != spec:
            return None
        if gave_up(kind, attempt):
            return Blocked(
                subject=subject,
                reference=attempt.cause,
                reason=attempt.error,
                hint="change `convert` of the model or what stands against it, then: reconciler apply",
            )
    if attempt is None or attempt.retry_at <= now:
        return None
    if attempt.permanent or kind in _OF_VOLUMES:
        return Blocked(
            subject=subject,
            reference=attempt.cause,
            reason=attempt.error,
            hint="mend that; it is tried again",
        )
    return Waiting(
        subject=subject,
        reference="backing-off",
        reason=f"{kind} failed {attempt.count} times ({attempt.error}) and is tried again later",
        until=attempt.retry_at,
    )


def gave_up(kind: str, attempt: Attempt) -> bool:
    """Whether only a person can have it tried again."""
    return kind == "convert" and (attempt.permanent or attempt.count >= _CONVERSIONS)


def afresh(ledger: Ledger) -> Ledger:
    """The ledger as a person who looks again wants it: actions that failed may be tried, and refusals asked about."""
    servers = {key: attempt for key, attempt in ledger.attempts.items() if not is_of_action(key)}
    sources = {reference: check for reference, check in ledger.sources.items() if not check.problem}
    if len(servers) == len(ledger.attempts) and len(sources) == len(ledger.sources):
        return ledger
    return replace(ledger, attempts=servers, sources=sources)


def action_key(action: Action) -> str:
    """The ledger's key for the failures of an action that is not a launch."""
    return f"{action.kind}:{action.subject}"


@noun
class Failure:
    """One failure, as it is counted."""

    cause: str
    """Kebab-case class."""
    error: str
    evidence: str = ""
    """The process it was seen on; empty where an action failed."""
    permanent: bool = False
    artifact: str = ""
    command: tuple[str, ...] = ()
    log: str = ""
    log_start: int = 0


def failed(ledger: Ledger, label: str, spec_hash: str, failure: Failure, now: float, jitter: float) -> Ledger:
    """The ledger after one more failure; `jitter` in [0, 1) spreads the retry over its interval."""
    before = ledger.attempts.get(label)
    # Time alone forgives nothing: a server may take longer to fail than any window. `remember` drops what was outlived.
    other = before is not None and (before.spec_hash != spec_hash or _other(before.artifact, failure.artifact))
    if other or (before is not None and not before.count):
        before = None
    count = 1 if before is None else before.count + 1
    first = now if before is None else before.first
    delay = 0.0 if count == 1 else jitter * min(CAP, BASE * 2 ** min(count - 2, _DOUBLINGS))
    if is_of_action(label) and failure.permanent:
        delay = max(delay, PERSON)
    attempt = Attempt(
        spec_hash=spec_hash,
        artifact=failure.artifact,
        command=failure.command,
        log=failure.log,
        log_start=failure.log_start,
        cause=failure.cause,
        count=count,
        first=first,
        last=now,
        retry_at=now + delay,
        evidence=failure.evidence,
        permanent=failure.permanent,
        error=failure.error,
    )
    return replace(ledger, attempts={**ledger.attempts, label: attempt})


def count_failures(ledger: Ledger, changes: Mapping[str, Change], now: float, jitter: float) -> Ledger:
    """The ledger after every death and wedge that the changes show, each counted once."""
    for label, change in changes.items():
        live, target = change.live, change.target
        if live is None or target is None or live.spec_hash != target.spec_hash:
            continue
        if change.verdict not in (Verdict.CRASHED, Verdict.UNHEALTHY, Verdict.STUCK):
            continue
        if live.cause == RESTARTED_MACHINE:
            continue
        evidence = live.instance
        known = ledger.attempts.get(label)
        if known is not None and known.evidence == evidence:
            continue
        failure = Failure(
            cause=change.reference,
            error=change.reason,
            evidence=evidence,
            permanent=live.permanent,
            artifact=live.artifact,
            command=live.command,
            log=live.log,
            log_start=live.log_start,
        )
        ledger = failed(ledger, label, live.spec_hash, failure, now, jitter)
    return ledger
