"""What `offload` and `restore` share: say what would move, ask, and have it carried out."""

from pathlib import Path

import click

from reconciler.engine.declared import Fixed
from reconciler.engine.requests import Asked, Request
from reconciler.model.desired import Desired, launch_reference
from reconciler.model.names import REPO, REVISION, artifact_subject
from reconciler.model.observed import Present
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.supply import MoveOrder
from reconciler.model.units import human, seconds
from reconciler.planning.plan import Decision
from reconciler.surface.cli.acting import hand_over, is_watched, settle
from reconciler.surface.cli.apply import confirm
from reconciler.surface.cli.looking import look, standing
from reconciler.surface.cli.options import settings
from reconciler.surface.composition import Compose, Composition
from reconciler.surface.render.text import printable

_PATIENCE = "7d"
"""How long a move may take; whoever does not want to wait ends it, and the next run goes on from there."""


def carry_out(
    compose: Compose, config: Path | None, host_file: Path | None, do: Asked, weights: tuple[str, ...], yes: bool
) -> ExitCode:
    """Have the wish remembered, then carried out, by a loop of our own or by the watch. Raises ReconcilerError."""
    composition = compose(settings(config, host_file, ()))
    desired, _ = standing(composition)
    references = tuple(dict.fromkeys(_reference(desired, text) for text in weights))
    request = Request(do=do, labels=references)
    moves = _shown(composition, desired, request)
    if moves and not yes:
        confirm(f"{'Move' if do is Asked.OFFLOAD else 'Bring back'} this?")
    if is_watched(composition):
        return hand_over(composition, request, seconds(_PATIENCE))
    with composition.exclusively(f"{do} {' '.join(references)}"):
        # What else the desired state would have done was not shown, and is not done.
        planner = composition.planner.about(map(artifact_subject, references))
        return settle(composition, Fixed(desired, enters=False), request, seconds(_PATIENCE), planner)


def _reference(desired: Desired, text: str) -> str:
    """The launch reference of a label, or the one that was said. Raises ReconcilerError."""
    if text in desired.state.models:
        return str(launch_reference(desired.state.models[text].source))
    repo, at, revision = text.partition("@")
    if REPO.regex.fullmatch(repo) and (not at or REVISION.regex.fullmatch(revision)):
        return text if at else f"{text}@main"
    raise ReconcilerError(
        "unknown-weights",
        f"{text!r} is neither a declared label nor a repository owner/name; nothing was changed",
        hint="see: reconciler artifacts",
        code=ExitCode.USAGE,
    )


def _shown(composition: Composition, desired: Desired, request: Request) -> bool:
    """Say what would move, with bytes and paths; whether anything would. Raises ReconcilerError where it may not."""
    host = composition.host
    ledger = request.change(host.state.ledger(), host.clock.now())
    decision = composition.planner.decide(look(composition, desired, ledger))
    wanted = {
        order.reference: order
        for order in decision.view.supplies.values()
        if isinstance(order, MoveOrder) and order.reference in request.labels
    }
    for reference in request.labels:
        order = wanted.get(reference)
        if order is None:
            click.echo(printable(_there(decision, request, reference)))
        else:
            way = "back from" if order.back else "to"
            click.echo(printable(f"{reference}: {human(order.bytes)} {way} {order.volume} ({order.path})"))
    return bool(wanted)


def _there(decision: Decision, request: Request, reference: str) -> str:
    """That it is where it should be; what may not move is not even remembered. Raises ReconcilerError."""
    facts, subject = decision.view.facts, artifact_subject(reference)
    blocked = next((entry for entry in decision.plan.blocked if entry.subject == subject), None)
    if blocked is not None:
        raise _refused(blocked.reference, blocked.reason, blocked.hint)
    here = isinstance(facts.observed.artifact(reference), Present)
    away = reference in facts.observed.storage.cold
    if request.do is Asked.OFFLOAD and away:
        return f"{reference} is in cold storage already"
    if request.do is Asked.RESTORE and here:
        return f"{reference} is in the model cache, and stays there"
    if subject in decision.view.supplies:
        raise _refused("not-yet", f"{reference} has to be brought or verified first", "say first: reconciler apply")
    raise _refused(
        "unknown-weights", f"there is no copy of {reference}, here or in cold storage", "see: reconciler artifacts"
    )


def _refused(reference: str, reason: str, hint: str) -> ReconcilerError:
    return ReconcilerError(reference, f"{reason}; nothing was moved", hint=hint, code=ExitCode.BLOCKED)
