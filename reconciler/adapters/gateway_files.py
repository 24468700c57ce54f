"""The files of the gateways that the host file names; this version can see whether they are there."""

import os
from collections.abc import Mapping

from reconciler.model.host import HostFile
from reconciler.model.observed import Absent, GatewayState, Observation, Unknown
from reconciler.model.routes import Route
from reconciler.ports.errors import ActionError


class LocalGateways:
    """Gateway files of this machine. What a file says is unknown until a writer of its kind can read it."""

    def __init__(self, host_file: HostFile) -> None:
        self._files = host_file.gateways

    def look(self) -> Mapping[str, Observation[GatewayState]]:
        """kind -> its state, for the kinds that the host file names."""
        litellm = self._files.litellm
        return {} if litellm is None else {"litellm": _look(litellm.include)}

    async def publish(self, kind: str, routes: tuple[Route, ...]) -> None:
        """Not in this version."""
        raise ActionError("not-available", f"this version cannot write the files of {kind}", permanent=True)


def _look(path: str) -> Observation[GatewayState]:
    try:
        os.stat(path)
    except FileNotFoundError:
        return Absent()
    except OSError as error:
        return Unknown(reason=f"{path}: {error.strerror}")
    return Unknown(reason=f"this version cannot read LiteLLM's file yet ({path})")
