"""What a gateway is told: under which names a request may arrive and where it goes."""

from collections.abc import Mapping

from .base import noun
from .desired import Scalar


@noun
class Upstream:
    """The one server that answers for a label."""

    host: str
    port: int
    served_name: str
    """What the request must say in `model` to that server; never the label."""


@noun
class Route:
    """One label with its aliases, limits and upstream."""

    label: str
    aliases: tuple[str, ...] = ()
    upstream: Upstream | None = None
    """None: the label is known and nothing answers for it right now."""
    context_length: int | None = None
    max_output_tokens: int | None = None
    request_params: Mapping[str, Scalar]
