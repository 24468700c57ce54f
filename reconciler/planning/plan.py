"""One tick: look at the facts once, let the verbs propose, keep at most one action per subject."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from reconciler.actions.base import Verb
from reconciler.backends.base import Backend
from reconciler.model.base import noun
from reconciler.model.change import Change, Verdict
from reconciler.model.desired import launch_reference
from reconciler.model.ledger import Ledger
from reconciler.model.names import Subject, artifact_subject, gateway_subject, is_of_weights, server_subject
from reconciler.model.observed import Absent, Health, Present, ServerProcess, Standing, Unknown
from reconciler.model.plan import Action, Blocked, Plan, Waiting
from reconciler.model.supply import ConvertOrder, VerifyOrder
from reconciler.model.target import Target
from reconciler.model.view import Facts, View

from . import backoff, memory, orders, retention, supply
from .arrange import Arrangement, arrange
from .diff import NOT_PROVED, deadline, diff
from .generations import come_back
from .remember import remember
from .resolve import Resolver
from .retention import REFUSED
from .routes import wanted


@noun
class Decision:
    """What one tick found and decided, and what it wants remembered."""

    view: View
    plan: Plan
    ledger: Ledger
    obsolete: tuple[Subject, ...] = ()
    """Jobs under way that nobody wants any more."""


class Planner:
    """The deciding core, with the plug-ins it was given."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        verbs: Sequence[type[Verb]],
        only: frozenset[Subject] | None = None,
    ) -> None:
        """`only`: what may be acted on, where a person has asked for nothing else; None: everything."""
        self.backends, self.only = backends, only
        self._resolver = Resolver(backends)
        self.verbs = verbs

    def decide(self, facts: Facts, jitter: float = 1.0) -> Decision:
        """The actions whose preconditions hold now. Pure: equal facts and jitter give an equal decision."""
        targets = self._resolver.resolve(facts)
        changes = diff(facts, targets)
        ledger = remember(facts, targets, changes, jitter)
        view = look(replace(facts, ledger=ledger), targets, changes, self.only)
        view = replace(view, facts=replace(view.facts, ledger=come_back(view)))
        plan = propose(view, self.verbs)
        if self.only is not None:
            plan = _about(plan, self.only)
        return Decision(view=view, plan=plan, ledger=view.facts.ledger, obsolete=_obsolete(view))

    def about(self, subjects: Iterable[Subject]) -> "Planner":
        """One that acts on nothing else, and takes everything else for something that stays as it is."""
        return Planner(self.backends, self.verbs, frozenset(subjects))

    def chosen(self, decision: Decision) -> tuple[Verb, ...]:
        """The actions of a decision of this planner, as the verbs that proposed them."""
        # Every action of a plan was made by a verb; the noun Plan cannot say so, it is below them.
        return cast("tuple[Verb, ...]", decision.plan.actions)


def _about(plan: Plan, subjects: frozenset[Subject]) -> Plan:
    """The part of a plan that is about some subjects; nothing else is begun or waited for."""
    return Plan(
        actions=tuple(action for action in plan.actions if action.subject in subjects),
        waiting=tuple(entry for entry in plan.waiting if entry.subject in subjects),
        blocked=tuple(entry for entry in plan.blocked if entry.subject in subjects),
    )


def _obsolete(view: View) -> tuple[Subject, ...]:
    """Downloads, conversions and preflights that nobody wants any more; who has begun a move may finish it."""
    declared = {
        artifact_subject(str(launch_reference(source)))
        for spec in view.facts.desired.state.models.values()
        for source in (spec.source, spec.draft)
        if source is not None
    }
    wanted = [order for target in view.targets.values() for order in target.supplies]
    examined = {order.key for label in view.examined if (order := view.targets[label].preflight) is not None}
    recipes = {order.recipe.key for order in wanted if isinstance(order, ConvertOrder)}
    return tuple(
        job.subject
        for job in view.facts.in_flight
        if (job.kind == "ensure" and job.subject not in declared)
        or (job.kind == "convert" and job.claim.recipe not in recipes)
        or (job.kind == "preflight" and job.claim.examines not in examined)
    )


def look(
    facts: Facts, targets: Mapping[str, Target], changes: Mapping[str, Change], only: frozenset[Subject] | None = None
) -> View:
    """Everything that the verbs may look at. `only`: what may be acted on; None: everything."""
    budget = memory.budget(facts.host, facts.observed.host)
    limit = budget.value if isinstance(budget, Present) else 0
    holds = {label: h for label, t in targets.items() if (h := backoff.hold(t, facts.ledger, facts.now)) is not None}
    arrangement = arrange(facts, changes, holds, limit, only)
    launches = {job.subject: job.claim.memory for job in facts.in_flight if job.kind == "launch"}
    visible = {server_subject(label) for label, s in facts.observed.servers.items() if s.live}
    unseen = sum(claimed for subject, claimed in launches.items() if subject not in visible)
    used = sum(s.memory for s in facts.observed.servers.values() if s.live) + unseen
    used += sum(job.claim.memory for job in facts.in_flight if job.kind in ("convert", "preflight"))
    measured = {label: o for label in arrangement.refused if (o := supply.measuring(targets[label])) is not None}
    measuring = {server_subject(label): _measured(label, o) for label, o in measured.items()}
    needed = orders.needed(facts, targets, measured.values())
    moves = retention.moves(facts, targets, needed)
    wishes = {subject: o for subject, o in {**needed, **moves.orders}.items() if only is None or subject in only}
    due = orders.admit(facts, wishes, limit - used)
    starting_up = sum(order.memory for label in arrangement.launchable if (order := targets[label].order) is not None)
    starting = {c.subject for c in changes.values() if c.live is not None and _on_its_way(facts, c.live)}
    promised = frozenset[str]() if only is None else {n for n in facts.ledger.reserved if server_subject(n) not in only}
    return View(
        facts=replace(facts, ledger=replace(facts.ledger, reserved=arrangement.admitted | promised)),
        targets=targets,
        changes=tuple(changes.values()),
        leaving=arrangement.leaving,
        examined=arrangement.examined,
        launchable=arrangement.launchable,
        wanted=wanted(facts, targets, changes, arrangement.leaving),
        headroom=limit - used,
        converts_first=orders.conversion_first(facts, due.orders, limit - used, starting_up),
        launch_slots=facts.host.max_launches - len(starting | launches.keys()),
        supplies=due.orders,
        admitted=arrangement.admitted,
        waiting=(*_waiting(facts, changes, arrangement), *measuring.values(), *due.waiting),
        blocked=(
            *(b for b in _blocked(facts, changes, holds, arrangement, budget) if b.subject not in measuring),
            *moves.blocked,
            *due.blocked,
        ),
    )


def _measured(label: str, order: VerifyOrder) -> Waiting:
    return Waiting(
        subject=server_subject(label),
        reference="waiting-for-artifact",
        reason="by an upper bound it does not fit into memory; what it really takes is being measured",
        on=artifact_subject(order.reference),
    )


def _waiting(facts: Facts, changes: Mapping[str, Change], arrangement: Arrangement) -> Iterable[Waiting]:
    yield from arrangement.waiting
    for change in changes.values():
        target = change.target
        content = change.verdict in (Verdict.SUSPENDED, Verdict.MATCHES)
        if target is not None and target.awaits is not None and not target.problems and not content:
            yield target.awaits
        live = change.live
        # Whatever of ours stays gets its route once it is proved, so it is waited for also where it is outdated.
        stays = change.target is not None and change.target.port is not None and change.label not in arrangement.leaving
        if live is not None and stays and _on_its_way(facts, live):
            yield Waiting(
                subject=change.subject,
                reference=live.cause or "starting",
                reason=live.detail or NOT_PROVED,
                until=deadline(facts, live),
            )


def _on_its_way(facts: Facts, live: ServerProcess) -> bool:
    """Whether it may still become ready; what has missed its deadline takes no launch slot for ever."""
    starting = live.standing is Standing.OURS and live.health is Health.STARTING
    return starting and facts.now < deadline(facts, live)


def _blocked(
    facts: Facts,
    changes: Mapping[str, Change],
    holds: Mapping[str, Waiting | Blocked],
    arrangement: Arrangement,
    budget: Present[int] | Absent | Unknown,
) -> Iterable[Blocked]:
    busy = {job.subject for job in facts.in_flight}
    for change in changes.values():
        if change.target is not None:
            yield from (_although(change, problem) for problem in change.target.problems)
            if change.verdict is Verdict.OCCUPIED and change.target.order is None:
                # Whatever else stands against it: a person can free the port meanwhile.
                yield Blocked(
                    subject=change.subject,
                    reference=change.reference,
                    reason=f"{change.reason}; nothing was stopped",
                    hint=f"free port {change.target.port}, or declare another one",
                )
        hold = holds.get(change.label)
        if isinstance(hold, Blocked) and change.verdict is not Verdict.MATCHES:
            yield hold
        # A launch under way holds its lock before its process can be proved: that is for time to settle.
        if change.verdict is Verdict.UNKNOWN and change.subject not in busy:
            yield Blocked(
                subject=change.subject,
                reference=change.reference,
                reason=f"{change.reason}; nothing was stopped or started for it",
                hint="mend what stands against looking, and look again",
            )
    for blocked in arrangement.blocked:
        if blocked.reference == "memory-refused" and isinstance(budget, Unknown):
            yield Blocked(
                subject=blocked.subject,
                reference="memory-unknown",
                reason=f"how much memory servers may use is not known: {budget.reason}",
                hint="set memory.budget in the host file",
            )
        else:
            yield blocked
    yield from _gateways(facts)
    if facts.source is not None:
        yield facts.source


def _although(change: Change, problem: Blocked) -> Blocked:
    """What stands against a launch of what runs already ends nothing."""
    if change.verdict is not Verdict.MATCHES:
        return problem
    return replace(problem, reason=f"it serves and stays, and could not be started again: {problem.reason}")


def _gateways(facts: Facts) -> Iterable[Blocked]:
    declared = facts.desired.state.gateways
    for kind, spec in (("front", declared.front), ("litellm", declared.litellm)):
        if spec is not None and kind not in facts.observed.gateways and kind == "front":
            yield Blocked(
                subject=gateway_subject(kind),
                reference="gateway-unavailable",
                reason="a front door is declared, which this version does not run",
                hint="drop gateways.front, and give gateways.litellm the mode direct",
            )
        elif spec is not None and kind not in facts.observed.gateways:
            yield Blocked(
                subject=gateway_subject(kind),
                reference="gateway-undeclared",
                reason=f"gateway {kind} is declared and this machine does not say where its files are",
                hint=f"name them in the host file under gateways.{kind}, or drop gateways.{kind}",
            )
    for kind, state in facts.observed.gateways.items():
        if isinstance(state, Unknown):
            yield Blocked(
                subject=gateway_subject(kind),
                reference="observation-unknown",
                reason=f"the files of gateway {kind} could not be read: {state.reason}; nothing was written or stopped",
                hint="mend what stands against reading them",
            )


def propose(view: View, verbs: Sequence[type[Verb]]) -> Plan:
    """Collect what the verbs propose; a subject with a job under way gets nothing new."""
    busy = {job.subject for job in view.facts.in_flight}
    waiting = [
        Waiting(subject=job.subject, reference="in-progress", reason=f"{job.kind} is under way")
        for job in view.facts.in_flight
    ]
    waiting += [w for w in view.waiting if w.subject not in busy]
    blocked = list(view.blocked)
    actions: list[Action] = []
    for verb in verbs:
        for proposal in verb.propose(view):
            match proposal:
                case Waiting():
                    if proposal.subject not in busy:
                        waiting.append(proposal)
                case Blocked():
                    blocked.append(proposal)
                case action if action.subject not in busy:
                    busy.add(action.subject)
                    held = backoff.action_hold(action, view.facts.ledger, view.facts.now)
                    match held:
                        case Waiting():
                            waiting.append(held)
                        case Blocked():
                            blocked.append(held)
                        case None:
                            actions.append(action)
                case _:
                    pass
    moving = {action.subject for action in actions} | {job.subject for job in view.facts.in_flight}
    # That weights stay here, which somebody wanted away, stands against nobody who waits for them.
    causes = {e.subject: e for e in reversed(blocked) if e.subject not in moving and e.reference != REFUSED}
    waiting, stuck = _on_a_person(waiting, causes)
    # What stands against weights is said of who waits for them; nobody needs to read it twice.
    reasons = {(entry.reference, entry.hint) for entry in stuck}
    weights = [e for e in blocked if is_of_weights(e.subject) and (e.reference, e.hint) in reasons]
    said = [*(entry for entry in blocked if entry not in weights), *stuck]
    return Plan(actions=tuple(actions), waiting=tuple(waiting), blocked=tuple(dict.fromkeys(said)))


def _on_a_person(waiting: list[Waiting], blocked: Mapping[Subject, Blocked]) -> tuple[list[Waiting], list[Blocked]]:
    """Who waits for a gateway or for weights waits for a person, once these do."""
    rest, stuck = [], []
    for entry in waiting:
        cause = blocked.get(entry.on) if entry.on is not None else None
        if cause is not None and entry.reference == "waiting-for-withdrawal":
            label = entry.subject.removeprefix("server/")
            reason = f"it should stop, and {entry.reason}; it was kept"
            hint = f"mend the gateway's file, or: reconciler stop {label} --force"
            stuck.append(Blocked(subject=entry.subject, reference="withdrawal-blocked", reason=reason, hint=hint))
        elif cause is not None and entry.reference == "waiting-for-artifact":
            reason, hint = f"{cause.subject.partition('/')[2]}: {cause.reason}", cause.hint
            stuck.append(Blocked(subject=entry.subject, reference=cause.reference, reason=reason, hint=hint))
        else:
            rest.append(entry)
    return rest, stuck
