"""What every gateway's writer can do: routes to the text of a file that is ours, and back."""

from typing import ClassVar, Final, Protocol

from reconciler.model.routes import Route

FOREIGN: Final = "gateway-file-foreign"
"""The text is somebody else's: it is never replaced."""
NEWER: Final = "gateway-file-newer"
"""The text was written in a later format than this program knows."""
DAMAGED: Final = "gateway-file-damaged"
"""The text is ours and was changed into something that says no routes."""
UNWRITABLE: Final = "route-unwritable"
"""A route that the gateway's format cannot say, or must not be told."""


class GatewayTextError(Exception):
    """A text that cannot be understood as ours, or routes that cannot be written.

    `reference` is the stable kebab-case name of the reason, one of this module's; `message` completes a sentence
    that begins with what is concerned ("the file ...", "the routes ...") and quotes no value of a parameter.
    """

    def __init__(self, reference: str, message: str) -> None:
        super().__init__(message)
        self.reference = reference
        self.message = message


class GatewayWriter(Protocol):
    """One kind of gateway file, in the `include` layout: the whole file is ours.

    `read(write(routes)) == routes`, and the same routes always give the same text.
    """

    kind: ClassVar[str]
    """Name of the gateway in the desired state and in the host file."""

    def read(self, text: str) -> tuple[Route, ...]:
        """The routes in the order of the text; raises GatewayTextError where the text is not all ours."""
        ...

    def write(self, routes: tuple[Route, ...]) -> str:
        """The whole text, header included; raises GatewayTextError where a route cannot be said."""
        ...
