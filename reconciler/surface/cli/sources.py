"""Asking the hub about declared weights that are not here, before a plan is made of it."""

import asyncio
from collections.abc import Mapping

import click

from reconciler.model.desired import Desired
from reconciler.model.ledger import Ledger
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.supply import CheckOrder, SourceCheck
from reconciler.model.units import count
from reconciler.ports.errors import ActionError
from reconciler.surface.cli.looking import look
from reconciler.surface.composition import Composition


def asked(composition: Composition, desired: Desired, ledger: Ledger) -> Mapping[str, SourceCheck]:
    """launch reference -> what the hub says, of everything that is not whole here; nothing is asked about the rest.

    Raises ReconcilerError where asking itself fails; that something cannot be had is an answer.
    """
    supplies = composition.planner.decide(look(composition, desired, ledger)).view.supplies
    orders = [order for order in supplies.values() if isinstance(order, CheckOrder)]
    if not orders:
        return {}
    click.echo(f"Asking the hub about {count(len(orders), 'repository', 'repositories')} ...", err=True)
    asked_for = {order.reference: f"{order.repo}@{order.revision}" for order in orders}
    try:
        answers = asyncio.run(_answers(composition, tuple(dict.fromkeys(asked_for.values()))))
    except ActionError as error:
        raise ReconcilerError(
            error.cause, error.message, hint="mend that, or plan without asking", code=ExitCode.ENVIRONMENT
        ) from error
    return {reference: answers[text] for reference, text in asked_for.items()}


async def _answers(composition: Composition, references: tuple[str, ...]) -> Mapping[str, SourceCheck]:
    return await composition.host.supply.check(references)
