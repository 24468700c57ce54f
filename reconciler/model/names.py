"""The three names that are never derived from one another, and the grammar of every other name."""

from typing import Annotated, NewType

from annotated_types import Ge, Le, MaxLen

from .base import Pattern, noun

Label = NewType("Label", str)
"""What a client says to the gateway; also the key of a model in the desired state."""
Alias = NewType("Alias", str)
"""Another name that the gateway maps to one label."""
ServedName = NewType("ServedName", str)
"""What a request must say in `model` to one server (`default_model` for mlx_lm.server 0.32)."""
Subject = NewType("Subject", str)
"""What an action works on: `server/<label>`, `artifact/<reference>`, `gateway/<kind>`, `source/...` or `ensemble`."""

Port = Annotated[int, Ge(1024), Le(65535)]

LABEL = Pattern(r"[a-z0-9][a-z0-9._-]{0,127}", "lower-case letters, digits, '.', '_' and '-', not a path")
REPO = Pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}", "a repository id 'owner/name'")
REVISION = Pattern(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,127}", "a branch, a tag or a commit")
TEMPLATE = Pattern(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*",
    "a relative path below the folder of the desired state, without '..' and without links",
)
WORD = Pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "a plain name: letters, digits, '.', '_' and '-'")
OPTION = Pattern(r"[A-Za-z][A-Za-z0-9_.]{0,63}", "letters, digits, '.' and '_', beginning with a letter")
VARIABLE = Pattern(r"[A-Za-z_][A-Za-z0-9_]{0,63}", "letters, digits and '_', not beginning with a digit")
ABSOLUTE = Pattern(r"/[^\x00-\x1f\x7f]*", "an absolute path")
HOST_NAME = Pattern(
    r"([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?",
    "a host name such as mini or user@mini.local, not beginning with '-'",
)
REF = Pattern(r"refs/[A-Za-z0-9][A-Za-z0-9_./-]{0,199}", "a full ref such as refs/heads/main")
WEB_ADDRESS = Pattern(r"https?://[^\s\x00-\x1f\x7f]{1,2000}", "an address beginning with http:// or https://")
VOLUME_ID = Pattern(r"[0-9a-f]{32}", "the 32 hex digits that `reconciler volume init` has printed")
PORT_RANGE = Pattern(r"[1-9][0-9]{3,4}-[1-9][0-9]{3,4}", "a range of ports such as 8100-8119")

LabelText = Annotated[str, LABEL]
RepoText = Annotated[str, REPO]
RevisionText = Annotated[str, REVISION]
TemplateText = Annotated[str, TEMPLATE]
PortRangeText = Annotated[str, PORT_RANGE]
WordText = Annotated[str, WORD]
OptionText = Annotated[str, OPTION]
VariableText = Annotated[str, VARIABLE]
HostName = Annotated[str, HOST_NAME]
VolumeId = Annotated[str, VOLUME_ID]
RefText = Annotated[str, REF]
WebAddress = Annotated[str, WEB_ADDRESS]
AbsolutePath = Annotated[str, ABSOLUTE, MaxLen(4096)]


@noun
class RepoRef:
    """A launch reference to a repository of the Hugging Face cache."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


@noun
class PathRef:
    """A launch reference to a folder of this machine; `path` is absolute."""

    path: str

    def __str__(self) -> str:
        return self.path


LaunchRef = RepoRef | PathRef
"""What a process loads. A bare name such as an API label is neither of the two and so does not parse."""


def server_subject(label: str) -> Subject:
    """The subject of the one server that may serve `label`."""
    return Subject(f"server/{label}")


def label_of(subject: Subject) -> tuple[str, ...]:
    """The label of a server's subject; empty for another one."""
    kind, _, label = subject.partition("/")
    return (label,) if kind == "server" else ()


def artifact_subject(reference: str) -> Subject:
    """The subject of the weights that a launch reference names."""
    return Subject(f"artifact/{reference}")


def is_of_weights(subject: Subject) -> bool:
    """Whether it names weights."""
    return subject.startswith("artifact/")


ENSEMBLE = Subject("ensemble")
"""The subject of what concerns everything that is declared."""


def source_subject(kind: str) -> Subject:
    """The subject of the place that the desired state comes from."""
    return Subject(f"source/{kind}")


def gateway_subject(kind: str) -> Subject:
    """The subject of the files of one gateway."""
    return Subject(f"gateway/{kind}")


def authority(host: str, port: int) -> str:
    """`host:port` as it stands in a URL; an IPv6 address needs brackets there."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def port_range(text: str) -> range:
    """The ports of a range such as `8100-8119`, both ends included."""
    low, _, high = text.partition("-")
    return range(int(low), int(high) + 1)
