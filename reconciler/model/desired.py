"""The desired state, version 1: what a person declares in the git-tracked file."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from annotated_types import Ge, Le, MaxLen

from .base import FieldClass, noun, setting
from .names import (
    LabelText,
    LaunchRef,
    OptionText,
    PathRef,
    Port,
    PortRangeText,
    RepoRef,
    RepoText,
    RevisionText,
    TemplateText,
    WordText,
)
from .units import Duration

HOT, GATEWAY, RESTART, REPLACE = FieldClass.HOT, FieldClass.GATEWAY, FieldClass.RESTART, FieldClass.REPLACE

MAX_MODELS: Final = 10_000
"""More models than this in one file are refused: a commit must not exhaust the machine (fault S32)."""
DEFAULT_BACKEND: Final = "mlx-lm"
DEFAULT_REVISION: Final = "main"
AUTO_RANGE: Final = "experimental"
"""The port range from which `port: auto` is served."""

Tokens = Annotated[int, Ge(1), Le(16_777_216)]
Scalar = str | int | float | bool
Text = Annotated[str, MaxLen(4096)]


@noun
class Source:
    """Where the weights are: a repository or a folder, exactly one of them."""

    repo: RepoText | None = setting(
        default=None, changes=REPLACE, doc="Repository 'owner/name' on the model hub; never the API label."
    )
    revision: RevisionText | None = setting(
        default=None, changes=REPLACE, doc="Branch, tag or commit of the repository; 'main' when not given."
    )
    path: Text | None = setting(
        default=None,
        changes=REPLACE,
        doc="Folder with the weights. In a git-tracked file it starts with ${env.NAME} or ${root.NAME}.",
    )


def launch_reference(source: Source) -> LaunchRef:
    """What the process loads. The reader has made sure that exactly one of repo and path is given."""
    if source.repo is not None:
        return RepoRef(repo=source.repo, revision=source.revision or DEFAULT_REVISION)
    return PathRef(path=source.path or "")


@noun
class Quantization:
    """How the weights are converted; what is not given is the converter's default."""

    bits: Literal[2, 3, 4, 5, 6, 8] | None = setting(default=None, changes=REPLACE, doc="Bits per weight.")
    group_size: Literal[16, 32, 64, 128] | None = setting(
        default=None, changes=REPLACE, doc="Weights that share one scale."
    )
    mode: Literal["affine", "mxfp4", "nvfp4", "mxfp8"] | None = setting(
        default=None, changes=REPLACE, doc="Quantisation scheme."
    )
    dtype: Literal["float16", "bfloat16", "float32"] | None = setting(
        default=None, changes=REPLACE, doc="Type of the weights that are not quantised."
    )


@noun
class ModelSpec:
    """One model: which artifact is served how, on which port, under which names."""

    source: Source = setting(changes=REPLACE, doc="The launch artifact: what the process loads.")
    port: Port | Literal["auto", "none"] = setting(
        default="none",
        changes=REPLACE,
        doc="A port, 'auto' (a lease from the range 'experimental', kept), or 'none' (kept in the cache only).",
    )
    moved_from: Port | None = setting(
        default=None, changes=HOT, doc="The old port: acknowledges that `port` was changed on purpose."
    )
    backend: WordText | None = setting(
        default=None, changes=REPLACE, doc="The server program; `defaults.backend` when not given."
    )
    chat_template: TemplateText | None = setting(
        default=None, changes=RESTART, doc="Jinja file below the folder of this file, from the same commit."
    )
    tool_call_parser: WordText | None = setting(
        default=None, changes=RESTART, doc="Name of the backend's parser of tool calls."
    )
    reasoning_parser: WordText | None = setting(
        default=None, changes=RESTART, doc="Name of the backend's parser of reasoning."
    )
    options: Mapping[OptionText, Scalar] = setting(
        default_factory=dict, changes=RESTART, doc="Options of the backend, from its typed list."
    )
    draft: Source | None = setting(default=None, changes=RESTART, doc="A smaller model for speculative decoding.")
    context_length: Tokens | Literal["auto"] | None = setting(
        default=None,
        changes=GATEWAY,
        doc="Tokens of context that clients may use, for gateways and the memory plan; 'auto': what the model's own "
        "configuration says.",
    )
    max_output_tokens: Tokens | None = setting(
        default=None, changes=GATEWAY, doc="Tokens that one answer may have, as declared to gateways."
    )
    request_params: Mapping[OptionText, Scalar] = setting(
        default_factory=dict, changes=GATEWAY, doc="Defaults that the gateway adds to a request."
    )
    aliases: tuple[LabelText, ...] = setting(
        default=(), changes=GATEWAY, doc="Other names that clients may use for this label."
    )
    requires: tuple[Literal["tools", "reasoning", "vision", "offline"], ...] = setting(
        default=(), changes=HOT, doc="Refuse the plan when the backend or the artifact cannot do this."
    )
    priority: Annotated[int, Ge(-1000), Le(1000)] = setting(
        default=0, changes=HOT, doc="Who gets the memory first when not all fit; higher first."
    )
    activation: Literal["always", "on-demand"] = setting(
        default="always", changes=HOT, doc="Whether the server runs always or when somebody asks for it."
    )
    group: LabelText | None = setting(
        default=None, changes=HOT, doc="A group of `groups`, which bounds how many of it are in memory."
    )
    idle_ttl: Duration | None = setting(
        default=None, changes=HOT, doc="How long an on-demand server stays after its last request."
    )
    convert: Literal["auto", "skip", "force"] | Quantization = setting(
        default="auto", changes=REPLACE, doc="Whether the weights are converted before they are served."
    )
    preconverted: Literal["auto", "yes", "no"] = setting(
        default="auto", changes=REPLACE, doc="Whether the weights are converted already; 'auto': their files say it."
    )
    offload: Literal["auto", "never"] = setting(
        default="auto", changes=HOT, doc="Whether base weights may move to cold storage once their conversion serves."
    )


@noun
class Defaults:
    """Values for models that do not say otherwise."""

    backend: WordText = setting(
        default=DEFAULT_BACKEND, changes=REPLACE, doc="Server program of models that name none."
    )
    context_length: Tokens | Literal["auto"] | None = setting(
        default=None, changes=GATEWAY, doc="`context_length` of models that name none."
    )
    max_output_tokens: Tokens | None = setting(
        default=None, changes=GATEWAY, doc="`max_output_tokens` of models that name none."
    )


@noun
class Group:
    """Models of which only some are in memory at a time."""

    resident: Annotated[int, Ge(1), Le(MAX_MODELS)] = setting(
        default=1, changes=HOT, doc="How many servers of the group may run at a time."
    )


@noun
class FrontSpec:
    """The front door: the reconciler's own gateway."""

    port: Port = setting(changes=GATEWAY, doc="The one port that clients use.")


@noun
class OptiLlmSpec:
    """OptiLLM beside LiteLLM."""

    enabled: bool = setting(default=False, changes=GATEWAY, doc="Whether requests pass through OptiLLM.")


@noun
class LiteLlmSpec:
    """LiteLLM, for those who run it; where its files are is said by the host file."""

    mode: Literal["front", "direct"] | None = setting(
        default=None,
        changes=GATEWAY,
        doc="Entries point at the front door or at the servers; 'front' when a front door is declared.",
    )
    exposure: Literal["labels"] = setting(
        default="labels",
        changes=GATEWAY,
        doc="Which names LiteLLM lists: every declared label that was proved.",
    )
    optillm: OptiLlmSpec = setting(default=OptiLlmSpec(), changes=GATEWAY, doc="OptiLLM beside LiteLLM.")


@noun
class Gateways:
    """What routes clients to the servers."""

    front: FrontSpec | None = setting(default=None, changes=GATEWAY, doc="The reconciler's own front door.")
    litellm: LiteLlmSpec | None = setting(default=None, changes=GATEWAY, doc="A LiteLLM proxy.")


@noun
class Policy:
    """What the reconciler may do by itself."""

    prune: bool = setting(default=True, changes=HOT, doc="Whether servers that are no longer declared are stopped.")
    rollback: Literal["auto", "never"] = setting(
        default="auto",
        changes=HOT,
        doc="'auto': back to the last proved generation, once, when a commit's servers cannot be proved.",
    )
    offline: Literal["auto", "always"] = setting(
        default="auto", changes=HOT, doc="'auto': the hub is asked only for what is not here; 'always': never."
    )
    deny_sources: Annotated[tuple[Text, ...], MaxLen(100)] = setting(
        default=(), changes=HOT, doc="Patterns such as '*gemma-2*' that no source may match."
    )


@noun
class HostSlice:
    """The part of the ensemble that one Mac serves."""

    models: tuple[LabelText, ...] = setting(changes=REPLACE, doc="Labels that this host serves.")


@noun
class DesiredState:
    """The whole document."""

    version: Literal[1] = setting(changes=HOT, doc="Version of this format.")
    ports: Mapping[LabelText, PortRangeText] = setting(
        default_factory=dict, changes=HOT, doc="Named ranges; every declared port lies in one of them."
    )
    defaults: Defaults = setting(default=Defaults(), changes=HOT, doc="Values for models that name none.")
    models: Mapping[LabelText, ModelSpec] = setting(
        changes=REPLACE, doc="The ensemble: label -> model; `{}` says that nothing is served, which must be said."
    )
    groups: Mapping[LabelText, Group] = setting(default_factory=dict, changes=HOT, doc="Groups of models.")
    gateways: Gateways = setting(default=Gateways(), changes=GATEWAY, doc="What routes clients.")
    policy: Policy = setting(default=Policy(), changes=HOT, doc="What may be done unasked.")
    hosts: Mapping[LabelText, HostSlice] = setting(
        default_factory=dict, changes=REPLACE, doc="Which host serves which labels; empty: one host, all."
    )


@noun
class Desired:
    """A desired state with what belongs to it: where it came from and the templates of the same revision."""

    state: DesiredState
    revision: str
    """The commit or blob the text came from, or `worktree:<sha256 prefix>`."""
    templates: Mapping[str, str]
    """Content of each referenced chat template, by its path in the bundle."""
    provenance: Mapping[str, str]
    """`label -> "env NAME"` or `"--set"` where a source does not come from the file."""
