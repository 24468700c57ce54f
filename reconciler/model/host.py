"""The host file: what is allowed on this machine. Owner-only, not in git."""

from collections.abc import Mapping
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from .base import FieldClass, noun, setting
from .names import AbsolutePath, LabelText, VariableText
from .units import Duration, Size

HOT, GATEWAY, RESTART = FieldClass.HOT, FieldClass.GATEWAY, FieldClass.RESTART


@noun
class Runtime:
    """The command that starts one backend, in whatever environment it needs."""

    command: Annotated[tuple[Annotated[str, MaxLen(4096)], ...], MinLen(1)] = setting(
        changes=RESTART, doc="Program and first arguments; no shell reads them."
    )


@noun
class Memory:
    """How much memory servers may use together."""

    budget: Size | None = setting(
        default=None, changes=HOT, doc="Bytes for all servers; when not given: total memory minus `reserve`."
    )
    reserve: Size = setting(default="4GiB", changes=HOT, doc="Bytes left to everything else.")


@noun
class LiteLlmFiles:
    """Where LiteLLM's managed file is."""

    include: AbsolutePath = setting(changes=GATEWAY, doc="The file that LiteLLM's own configuration includes.")
    drain: Duration = setting(
        default="10s", changes=HOT, doc="How long LiteLLM may still use a route that was withdrawn."
    )


@noun
class GatewayFiles:
    """Where the files of the gateways are."""

    litellm: LiteLlmFiles | None = setting(default=None, changes=GATEWAY, doc="LiteLLM's managed file.")


@noun
class HostFile:
    """The whole document; every field has a default, so that no file is needed."""

    version: Literal[1] = setting(default=1, changes=HOT, doc="Version of this format.")
    name: LabelText | None = setting(
        default=None, changes=HOT, doc="Which entry of `hosts` in the desired state this machine is."
    )
    accept_cpu: bool = setting(
        default=False, changes=HOT, doc="Whether MLX servers may run without Metal (development, CI)."
    )
    bind: Annotated[str, MaxLen(64)] = setting(
        default="127.0.0.1", changes=RESTART, doc="Address on which servers listen."
    )
    memory: Memory = setting(default=Memory(), changes=HOT, doc="Memory for servers.")
    max_launches: Annotated[int, Ge(1), Le(64)] = setting(
        default=2, changes=HOT, doc="How many servers may be starting at a time."
    )
    start_timeout: Duration = setting(
        default="10m", changes=HOT, doc="How long a server may take from its start to its first answer."
    )
    runtimes: Mapping[LabelText, Runtime] = setting(
        default_factory=dict, changes=RESTART, doc="backend -> command; mlx-lm runs from this environment."
    )
    roots: Mapping[VariableText, AbsolutePath] = setting(
        default_factory=dict, changes=HOT, doc="Folders that `${root.NAME}` in the desired state may name."
    )
    gateways: GatewayFiles = setting(default=GatewayFiles(), changes=GATEWAY, doc="Files of the gateways.")
