"""From the text of the host file to a `HostFile`, or to every problem of it."""

from typing import Final

from reconciler.model.host import HostFile
from reconciler.model.placeholders import check_command
from reconciler.model.problem import ExitCode, InvalidDocument
from reconciler.model.units import seconds, size

from .findings import Findings, Steps, route, shown, similar
from .mismatch import EXPLAIN
from .parse import collected, fitting_version
from .reader import Node, read
from .shape import Context, salvage

KEPT: Final = "nothing was changed"
VERSION: Final = 1


def parse_host(text: bytes, name: str) -> HostFile:
    """The host file. Raises InvalidDocument with every problem; nothing has been done then."""
    findings = Findings()
    host: HostFile | None = collected(findings, lambda: _host(text, findings))
    if host is None or findings.refused:
        raise InvalidDocument(name, findings.sorted(), kept=KEPT, code=ExitCode.ENVIRONMENT)
    return host


def _host(text: bytes, findings: Findings) -> HostFile | None:
    tree = read(text, findings, "`version: 1`, or remove the file")
    if tree is None or not fitting_version(tree, VERSION, findings):
        return None
    host = HostFile(**salvage(HostFile, tree, Context(findings, EXPLAIN)))
    for rule in (_paths, _address, _commands, _conversion, _offload, _amounts, _notifications):
        rule(host, tree, findings)
    return host


def _paths(host: HostFile, tree: Node, findings: Findings) -> None:
    """Paths mean the same wherever a command is run from; that they are absolute, their grammar says."""
    paths: dict[Steps, str] = {("roots", name): path for name, path in host.roots.items()}
    if host.gateways.litellm is not None:
        paths["gateways", "litellm", "include"] = host.gateways.litellm.include
    paths |= {("volumes", name, "path"): volume.path for name, volume in host.volumes.items()}
    paths |= {("model_folders", number): path for number, path in enumerate(host.model_folders)}
    for steps, path in paths.items():
        if ".." in path.split("/") or path.startswith("//"):
            said = f"{route(steps)} must not contain '..' or begin with '//': write the plain path"
            findings.error("path-not-plain", said, steps, tree.find(steps))


def _address(host: HostFile, tree: Node, findings: Findings) -> None:
    if host.bind == HostFile().bind:
        return
    import ipaddress  # almost nobody changes the default

    try:
        ipaddress.ip_address(host.bind)
    except ValueError:
        said = f"bind must be an address such as 127.0.0.1, not a name; it is {shown(host.bind)}"
        findings.error("bad-address", said, ("bind",), tree.find(("bind",)))


def _commands(host: HostFile, tree: Node, findings: Findings) -> None:
    for name, runtime in host.runtimes.items():
        _program(runtime.command, ("runtimes", name, "command", 0), tree, findings)


def _program(words: tuple[str, ...], steps: Steps, tree: Node, findings: Findings) -> None:
    """What is run must be found wherever it is run from."""
    program = words[0] if words else ""
    if not program or program.startswith(("-", "~")) or ("/" in program and not program.startswith("/")):
        said = f"{route(steps)} must be a program's name or its absolute path; it is {shown(program)}"
        findings.error("bad-command", said, steps, tree.find(steps))


def _conversion(host: HostFile, tree: Node, findings: Findings) -> None:
    steps: Steps = ("converter", "command")
    if host.converter.command is not None and (wrong := check_command(host.converter.command)):
        findings.error(
            "bad-command", f"{route(steps)} is no command for a conversion: {wrong}", steps, tree.find(steps)
        )


def _offload(host: HostFile, tree: Node, findings: Findings) -> None:
    steps: Steps = ("offload_to",)
    if host.offload_to is None:
        return
    written = tree.value.get("volumes")
    known = tuple(written.value) if written is not None and type(written.value) is dict else ()
    if host.offload_to in known:  # also one that is wrong in itself, which has been said
        return
    meant = similar(host.offload_to, known)
    rest = f"; did you mean {meant!r}?" if meant else f": it has {', '.join(known)}" if known else ": it has none"
    said = f"offload_to is {shown(host.offload_to)}, which is no volume of this file{rest}"
    findings.error("unknown-volume", said, steps, tree.find(steps))


def _amounts(host: HostFile, tree: Node, findings: Findings) -> None:
    """Nothing can start in no time or in no memory."""
    steps: Steps = ("start_timeout",)
    if seconds(host.start_timeout) <= 0:
        findings.error("out-of-range", "start_timeout must be more than 0", steps, tree.find(steps))
    steps = ("memory", "budget")
    if host.memory.budget is not None and size(host.memory.budget) <= 0:
        findings.error("out-of-range", f"{route(steps)} must be more than 0B: leave it out", steps, tree.find(steps))


def _notifications(host: HostFile, tree: Node, findings: Findings) -> None:
    """Each names one way to be told, and one that can work. Addresses are not shown: they are often secrets."""
    if host.notify and len(host.notify) != len(tree.find(("notify",)).value):
        return  # one of them is wrong in itself, which has been said; their numbers are not those of the text then
    for number, wish in enumerate(host.notify):
        steps: Steps = ("notify", number)
        if (wish.command is None) == (wish.webhook is None):
            what = "neither command nor webhook" if wish.command is None else "both command and webhook"
            said = f"{route(steps)} has {what}: give exactly one"
            findings.error("receiver-not-one", said, steps, tree.find(steps))
        if wish.command is not None:
            _program(wish.command, (*steps, "command", 0), tree, findings)
        if wish.webhook is not None and not _is_address(wish.webhook):
            below = (*steps, "webhook")
            said = f"{route(below)} must be an address such as https://chat.example/hooks/abc"
            findings.error("bad-address", said, below, tree.find(below))
        if seconds(wish.timeout) <= 0:
            below = (*steps, "timeout")
            findings.error("out-of-range", f"{route(below)} must be more than 0", below, tree.find(below))


def _is_address(text: str) -> bool:
    from urllib.parse import urlsplit  # almost nobody has one

    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
