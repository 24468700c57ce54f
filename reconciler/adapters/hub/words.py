"""What a failure of `programs/hub.py` means, and how it is said: one class, one sentence, one thing to do.

The classes and the order in which signals count are those of facts/predecessors.md 6.1 and faults.md H13-H17: an
answer's error code first, then its message, then its status, then what kind of exception it was.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from reconciler.model.secret import redacted

DEFAULT_ENDPOINT: Final = "https://huggingface.co"
_LATER: Final = 60.0
"""Seconds after which to ask again, where the hub does not say it."""

Facts = Mapping[str, Any]


class Saying(NamedTuple):
    """How a class is said. The texts are templates over the facts."""

    reason: str
    hint: str
    passes: bool = False
    """Whether time may mend it; otherwise a person or another declaration has to."""


_AGAIN: Final = "nothing is wrong with the declaration; it is asked again by itself"

SAYINGS: Final[Mapping[str, Saying]] = {
    "bare-repository-name": Saying(
        "{repo} looks like an API label, not a repository; nobody was asked about it", "write owner/name in source.repo"
    ),
    "source-bad-syntax": Saying(
        "{reference} is no repository of the form owner/name@revision", "write owner/name, or use source.path"
    ),
    "source-not-found": Saying(
        "{host} knows no repository {repo}, or shows it only to accounts that may read it",
        "check the spelling of source.repo first; only if it is a private one, name a token of an account that may "
        "read it in HF_TOKEN",
    ),
    "source-gated": Saying(
        "{url} is gated: whoever reads it has to accept its licence and terms, and {account}",
        "accept the licence and terms at {url}, then give a token of that account in HF_TOKEN (or: hf auth login)",
    ),
    "source-bad-token": Saying(
        "token rejected by {host}: it is wrong or has expired",
        "make another one at {endpoint}/settings/tokens and give it in HF_TOKEN (or: hf auth login)",
    ),
    "source-forbidden": Saying(
        "{host} forbids this account to read {repo}{quoted}",
        "give the token the right to read it at {endpoint}/settings/tokens, or declare another repository",
    ),
    "source-revision-missing": Saying(
        "{repo} has no revision {revision} on {host}", "mend source.revision; what there is: {url}/refs"
    ),
    "source-disabled": Saying(
        "{host} has disabled {repo} for everybody", "only the hub can lift that; declare another repository"
    ),
    "source-rate-limited": Saying(
        "{host} is asked too often and wants to be left alone for {seconds:.0f} s",
        "nothing is wrong with the declaration; it is asked again by itself, and accounts may ask more often",
        passes=True,
    ),
    "hub-unavailable": Saying("{host} cannot serve now ({status}{message})", _AGAIN, passes=True),
    "hub-unreachable": Saying(
        "{host} could not be reached ({how}: {message})",
        "look at the network, DNS, and proxy settings; what is here is served meanwhile",
        passes=True,
    ),
    "hub-offline": Saying(
        "{reference} is not complete here, and HF_HUB_OFFLINE forbids asking {host}",
        "unset HF_HUB_OFFLINE, or bring it into the cache by hand: hf download {repo} --revision {revision}",
    ),
    "source-wrong-format": Saying("{message}", "declare a repository that holds a model as safetensors"),
    "source-unsafe-names": Saying("{message}", "declare another repository"),
    "source-changed": Saying(
        "{host} offers other content for a commit than it listed: {message}",
        "trust nothing of {url} before its owner has explained it, or declare another revision",
    ),
    "download-corrupt": Saying("{message}", "it is downloaded again by itself; a proxy may damage it", passes=True),
    "download-stalled": Saying("{host} has sent nothing for {seconds:.0f} s", _AGAIN, passes=True),
    "disk-full": Saying(
        "the disk of the model cache is full", "free space where it is; see: reconciler artifacts", passes=True
    ),
    "cache-not-writable": Saying(
        "the model cache cannot be written ({message})", "mend its permissions, or HF_HUB_CACHE, which names it"
    ),
    "hub-library-missing": Saying(
        "huggingface_hub cannot be imported ({message})", "install reconciler with its dependencies again"
    ),
    "hub-failed": Saying("asking {host} failed ({message})", "ask again; if it stays, report it", passes=True),
}

_BY_CODE: Final = {
    "GatedRepo": "source-gated",
    "RevisionNotFound": "source-revision-missing",
    "RepoNotFound": "source-not-found",
    "EntryNotFound": "source-changed",
}
_BY_MESSAGE: Final = {
    "Access to this resource is disabled": "source-disabled",
    "Invalid credentials in Authorization header": "source-bad-token",
}
_BY_STATUS: Final = {
    401: "source-not-found",
    403: "source-forbidden",
    404: "source-not-found",
    429: "source-rate-limited",
}
_BY_NAME: Final = {
    "OfflineModeIsEnabled": "hub-offline",
    "HFValidationError": "source-bad-syntax",
    "TransportError": "hub-unreachable",
    "TooManyRedirects": "hub-unreachable",
    "InvalidURL": "hub-unreachable",
    "FileMetadataError": "hub-unavailable",
    "JSONDecodeError": "hub-unavailable",
    "ImportError": "hub-library-missing",
}
_BY_ERRNO: Final = {
    "ENOSPC": "disk-full",
    "EDQUOT": "disk-full",
    "EACCES": "cache-not-writable",
    "EPERM": "cache-not-writable",
    "EROFS": "cache-not-writable",
    "ENOTDIR": "cache-not-writable",
    "EEXIST": "cache-not-writable",
    "EFBIG": "cache-not-writable",
}
_HOW: Final = {
    "ProxyError": "proxy",
    "SSLError": "TLS",
    "gaierror": "DNS",
    "TimeoutException": "timeout",
    "RemoteProtocolError": "cut off",
}


def problem_of(facts: Facts) -> str:
    """The class of a failure, which is its stable reference."""
    if known := facts.get("class"):
        return str(known)
    if status := facts.get("status"):
        return _answered(facts, int(status))
    names = facts.get("names", ())
    if found := next((kind for name, kind in _BY_NAME.items() if name in names), None):
        return found
    return _BY_ERRNO.get(facts.get("errno", ""), "hub-failed")


def _answered(facts: Facts, status: int) -> str:
    said = str(facts.get("said", ""))
    if known := _BY_CODE.get(facts.get("code", "")):
        return known
    if known := next((kind for text, kind in _BY_MESSAGE.items() if text in said), None):
        return known
    # A delivery network refuses addresses that have run out; it knows nothing of repositories.
    known = None if facts.get("elsewhere") and status not in (429,) else _BY_STATUS.get(status)
    return known or "hub-unavailable"


class Told(NamedTuple):
    """A failure as it is said to people."""

    problem: str
    reason: str
    hint: str
    retry_in: float | None
    """Seconds after which to ask again; None: time does not mend it."""


def told(facts: Facts, reference: str, environ: Mapping[str, str]) -> Told:
    """The class of a failure, its sentence and its hint, about one reference."""
    problem = problem_of(facts)
    saying = SAYINGS[problem]
    repo, _, revision = reference.partition("@")
    endpoint = (environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    after = facts.get("retry_after")
    seconds = _LATER if after is None else float(after)
    status = facts.get("status")
    said = str(facts.get("said", "") if status else facts.get("message", ""))
    said = "".join(character for character in said if character.isprintable())
    names = facts.get("names", ())
    words = {
        "reference": reference,
        "repo": repo,
        "revision": revision,
        "endpoint": endpoint,
        "host": (urlsplit(endpoint).netloc or endpoint).rpartition("@")[2],
        "url": f"{endpoint}/{repo}",
        "account": "the account of the token has not" if facts.get("token") else "no token says who asks",
        "seconds": float(facts.get("seconds", seconds)),
        "status": f"{status}" if status else "",
        "message": said if not status else (f": {said}" if said else ""),
        "quoted": f" ({said})" if said else "",
        "how": next((word for name, word in _HOW.items() if name in names), "connection"),
    }
    reason, hint = (redacted(template.format_map(words)) for template in (saying.reason, saying.hint))
    return Told(problem, reason, hint, seconds if saying.passes else None)
