"""Who is told what happens: the receivers of the host file, put together from the adapters."""

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from reconciler.adapters.notify.courier import Couriers, Receiver
from reconciler.model.host import HostFile, Notification
from reconciler.model.units import seconds
from reconciler.ports.host import Host
from reconciler.surface.notifying import Notifier, complain


def notifier(host_file: HostFile, host: Host) -> Notifier:
    """For one watch; nobody is told anything before its event loop runs."""
    couriers = Couriers(tuple(_receivers(host_file, host)), complain)
    state = host.state
    return Notifier(
        couriers.send,
        couriers.close,
        host=host_file.name or os.uname().nodename,
        serving=state.ledger().proofs,
        generation=lambda: state.ledger().current,
    )


def _receivers(host_file: HostFile, host: Host) -> Iterator[Receiver]:
    for number, wish in enumerate(host_file.notify):
        yield from _receiver(f"notify[{number}]", wish, host)


def _receiver(where: str, wish: Notification, host: Host) -> Iterator[Receiver]:
    """One receiver; its name has no more of an address than the host, as the rest is often a secret."""
    limit = seconds(wish.timeout)
    if wish.command is not None:
        from reconciler.adapters.notify.command import Command

        command = Command(wish.command, limit, os.environ)
        yield Receiver(name=f"{where} ({wish.command[0]})", on=wish.on, deliver=command.deliver)
    if wish.webhook is not None:
        from reconciler.adapters.notify.webhook import Webhook

        webhook = Webhook(wish.webhook, limit, host.clock.now)
        yield Receiver(name=f"{where} ({urlsplit(wish.webhook).hostname})", on=wish.on, deliver=webhook.deliver)
