"""The host file: what is allowed on this machine. Owner-only, not in git."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from .base import FieldClass, noun, setting
from .names import AbsolutePath, HostName, LabelText, Port, RefText, VariableText, VolumeId, WebAddress, WordText
from .units import Duration, Size

HOT, GATEWAY, RESTART = FieldClass.HOT, FieldClass.GATEWAY, FieldClass.RESTART

STATUS_PORT: Final = 7575
"""Where the status page is when the host file does not say otherwise."""


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
class Downloads:
    """How weights are fetched from the model hub."""

    repos: Annotated[int, Ge(1), Le(16)] = setting(
        default=1, changes=HOT, doc="How many repositories are downloaded at a time."
    )
    files: Annotated[int, Ge(1), Le(32)] = setting(
        default=4, changes=HOT, doc="How many files of one repository are downloaded at a time."
    )
    reserve: Size = setting(
        default="2GiB", changes=HOT, doc="Bytes that a download or a conversion leaves free on the disk."
    )


@noun
class ColdVolume:
    """A place for weights that are not needed now: an external disk, or one of another host."""

    path: AbsolutePath = setting(changes=HOT, doc="Folder on the volume.")
    id: VolumeId = setting(changes=HOT, doc="What `reconciler volume init` has written onto it: no other disk is it.")
    host: HostName | None = setting(
        default=None,
        changes=HOT,
        doc="Host that has the volume, reached by ssh without questions; this machine when not given, but for "
        "MLX_OFFLOAD_HOST and the volume `offload_to`.",
    )
    separate: bool = setting(
        default=True,
        changes=HOT,
        doc="Whether it is a disk of its own; false: a folder on a disk that is always there.",
    )


@noun
class Converter:
    """How weights are converted, and which need not be."""

    command: Annotated[tuple[Annotated[str, MaxLen(4096)], ...], MinLen(1)] | None = setting(
        default=None,
        changes=HOT,
        doc="Program and arguments with {repo}, {src} and {dest}; else MLX_CONVERT_CMD, else `mlx_lm convert`.",
    )
    preconverted_orgs: tuple[WordText, ...] = setting(
        default=("mlx-community", "mlx", "ml-explore"),
        changes=HOT,
        doc="Organisations whose repositories are taken for converted where their files do not say; "
        "MLX_PRECONVERTED_ORGS.",
    )
    preconverted_hints: tuple[WordText, ...] = setting(
        default=("mlx",),
        changes=HOT,
        doc="Parts of a repository's name that say the same, as weak evidence; MLX_PRECONVERTED_HINTS.",
    )


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
class SourceRules:
    """What the watch follows, and whom it believes."""

    mode: Literal["auto", "commit", "worktree"] = setting(
        default="auto",
        changes=HOT,
        doc="'commit': the commits of the repository that holds the desired file; 'worktree': the saved file; 'auto': "
        "commits where there is a repository.",
    )
    ref: RefText | None = setting(
        default=None,
        changes=HOT,
        doc="The branch that is followed, such as refs/heads/main; else the one that was checked out first.",
    )
    signers: AbsolutePath | None = setting(
        default=None,
        changes=HOT,
        doc="File with the SSH keys that may sign commits (ALLOWED SIGNERS of ssh-keygen); given: every commit that "
        "is taken must be signed by one of them.",
    )


@noun
class StatusPage:
    """The read-only page of the watch."""

    port: Port | Literal["none"] = setting(
        default=STATUS_PORT, changes=HOT, doc="Port on 127.0.0.1 and ::1, or 'none': no page."
    )


@noun
class Notification:
    """Somebody who wants to be told; exactly one of `command` and `webhook`."""

    on: Annotated[tuple[Literal["held", "degraded", "rolled_back", "blocked", "paused"], ...], MinLen(1)] = setting(
        default=("held", "degraded", "rolled_back", "blocked", "paused"), changes=HOT, doc="What is told."
    )
    command: Annotated[tuple[Annotated[str, MaxLen(4096)], ...], MinLen(1)] | None = setting(
        default=None, changes=HOT, doc="Program and arguments; it gets one JSON object on its standard input."
    )
    webhook: WebAddress | None = setting(default=None, changes=HOT, doc="Address that one JSON object is posted to.")
    timeout: Duration = setting(default="10s", changes=HOT, doc="How long one of them may take.")


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
    downloads: Downloads = setting(default=Downloads(), changes=HOT, doc="Fetching from the model hub.")
    converter: Converter = setting(default=Converter(), changes=HOT, doc="Conversion of weights.")
    volumes: Mapping[LabelText, ColdVolume] = setting(
        default_factory=dict, changes=HOT, doc="name -> cold storage for weights."
    )
    offload_to: LabelText | None = setting(
        default=None,
        changes=HOT,
        doc="Volume that base weights go to once their conversion serves; not given: they stay.",
    )
    model_folders: tuple[AbsolutePath, ...] = setting(
        default=(), changes=HOT, doc="Folders with models of other programs, such as ~/.lmstudio/models; only read."
    )
    source: SourceRules = setting(default=SourceRules(), changes=HOT, doc="What the watch follows.")
    status_page: StatusPage = setting(default=StatusPage(), changes=HOT, doc="The page of the watch.")
    notify: Annotated[tuple[Notification, ...], MaxLen(20)] = setting(
        default=(), changes=HOT, doc="Who is told what happens while a watch runs."
    )
    gateways: GatewayFiles = setting(default=GatewayFiles(), changes=GATEWAY, doc="Files of the gateways.")
