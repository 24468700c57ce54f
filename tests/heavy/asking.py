"""Requests to a running watch over its socket, without a process for each."""

from collections.abc import Mapping
from typing import Any

from reconciler.surface.control.asking import connect
from tests.e2e.committed import Committed
from tests.e2e.watching import until

_PATIENCE = 30.0


def ask(machine: Committed, do: str, *labels: str) -> Mapping[str, Any]:
    """What the watch says at the end of a request; it must be there."""
    connection = connect(machine.state, 2 * _PATIENCE)
    assert connection is not None, "no watch listens"
    request = {"do": do, "labels": labels, "file": str(machine.file.resolve()), "timeout": _PATIENCE}
    answer: Mapping[str, Any] = {}
    with connection:
        for answer in connection.ask(request):
            assert answer["type"] != "error", answer
    return answer


def settle(machine: Committed) -> None:
    """Wait until the watch says that nothing is left to do."""
    until(lambda: ask(machine, "apply").get("settled"), "it settles")
