"""Rules inside one model: sources, moves, lifetimes, and values that could be read as something else."""

import re
from collections.abc import Mapping

from reconciler.model.bundle import Bundle
from reconciler.model.desired import ModelSpec, Quantization, Scalar, Source, launch_reference
from reconciler.model.secret import SECRET

from .check import Document
from .findings import route, shown


def check_models(document: Document, bundle: Bundle) -> None:
    """Report every broken rule, and warn of paths of one machine in a file that others share."""
    deny = _Denied(document.state.policy.deny_sources)
    for label, model in document.state.models.items():
        _source(document, model.source, deny, "models", label, "source")
        if model.draft is not None:
            _source(document, model.draft, deny, "models", label, "draft")
        _moved(document, label, model)
        if isinstance(model.convert, Quantization):
            _converted(document, label, model.convert)
        if model.idle_ttl is not None and model.activation != "on-demand":
            said = f"models.{label}.idle_ttl has no effect on a server that always runs: add activation: on-demand"
            document.error("idle-ttl-without-on-demand", said, "models", label, "idle_ttl")
        if len(set(model.requires)) != len(model.requires):
            said = f"models.{label}.requires names one thing twice: keep one"
            document.error("duplicate-requirement", said, "models", label, "requires")
        for field, values in (("options", model.options), ("request_params", model.request_params)):
            if values:
                _values(document, values, "models", label, field)
        if model.request_params and document.state.gateways.litellm is not None:
            _told_to_litellm(document, model.request_params, "models", label, "request_params")
        if bundle.tracked:
            _machine_paths(document, label)


class _Denied:
    """The patterns of `policy.deny_sources`, as one expression."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = patterns
        self._any: re.Pattern[str] | None = None
        if patterns:
            from fnmatch import translate  # only some files deny something

            self._any = re.compile("|".join(translate(pattern) for pattern in patterns), re.IGNORECASE)

    def by(self, *texts: str) -> str | None:
        """The pattern that one of `texts` matches."""
        if self._any is None or not any(self._any.match(text) for text in texts):
            return None
        from fnmatch import translate

        alone = {pattern: re.compile(translate(pattern), re.IGNORECASE) for pattern in self._patterns}
        return next((p for p, expression in alone.items() if any(expression.match(t) for t in texts)), None)


def _source(document: Document, source: Source, deny: _Denied, *steps: str) -> None:
    where = route(steps)
    if (source.repo is None) == (source.path is None):
        said = "both repo and path" if source.repo is not None else "neither repo nor path"
        document.error("source-not-one", f"{where} has {said}: give exactly one", *steps)
        return
    if source.path is not None and source.revision is not None:
        said = f"{where}.revision belongs to a repository, and the source is a path: remove it"
        document.error("revision-of-path", said, *steps, "revision")
    for field, text, refused in (
        ("repo", source.repo, (".." in (source.repo or ""))),
        ("revision", source.revision, any(part in ("", ".", "..") for part in (source.revision or "main").split("/"))),
    ):
        if refused:
            said = f"{where}.{field} {shown(text or '')} has an empty part or '..': write the plain name"
            document.error("bad-value", said, *steps, field)
    reference = launch_reference(source)
    pattern = deny.by(source.repo or source.path or "", str(reference))
    if pattern is not None:
        origin = document.provenance.get(steps[1]) if steps[-1] == "source" else None
        named = f"{shown(source.repo or source.path or '')}" + (f" (from {origin})" if origin else "")
        said = f"{where} {named} is denied by policy.deny_sources ({shown(pattern)}): choose another source"
        document.error("source-denied", said, *steps)


_FIXED = {"mxfp4": (4, 32), "nvfp4": (4, 16), "mxfp8": (8, 32)}
"""Bits and group size of the modes that have only one of each (mlx 0.32.4)."""


def _converted(document: Document, label: str, settings: Quantization) -> None:
    bits, group = _FIXED.get(settings.mode or "", (None, None))
    for name, given, only in (("bits", settings.bits, bits), ("group_size", settings.group_size, group)):
        if given is not None and only is not None and given != only:
            said = f"models.{label}.convert.{name} is {given}, and {settings.mode} has {only}: leave it out"
            document.error("convert-contradicts", said, "models", label, "convert", name)


def _moved(document: Document, label: str, model: ModelSpec) -> None:
    steps = ("models", label, "moved_from")
    if model.moved_from is None:
        return
    if not isinstance(model.port, int):
        said = f"models.{label}.moved_from acknowledges a move to another port, and port is {model.port}: remove it"
        document.error("moved-without-port", said, *steps)
    elif model.moved_from == model.port:
        said = f"models.{label}.moved_from is the port itself: write the old port, or remove it"
        document.error("moved-nowhere", said, *steps)


def _values(document: Document, values: Mapping[str, Scalar], *steps: str) -> None:
    """Values reach a command line or a request: none may be read as a flag, and none may be a secret in git."""
    for name, value in values.items():
        if not isinstance(value, str):
            continue
        where = route((*steps, name))
        if value.startswith("-"):
            said = f"{where} begins with '-' and could be read as a flag: write the value only"
            document.error("value-like-a-flag", said, *steps, name)
        if SECRET.search(value):
            said = f"{where} looks like a secret, which does not belong in git: remove it and revoke it"
            document.error("looks-like-a-secret", said, *steps, name)
        if "${" in value:
            said = f"{where} has a '${{' that nothing fills in: write the value, placeholders are for paths only"
            document.error("bad-placeholder", said, *steps, name)


def _told_to_litellm(document: Document, values: Mapping[str, Scalar], *steps: str) -> None:
    """What the gateway would refuse when it is written is refused here, where it still harms nobody."""
    from reconciler.gateways.litellm import refusal  # only some files give request parameters

    for name, value in values.items():
        if (why := refusal(name, value)) and not why.startswith("looks like a secret"):
            said = f"{route((*steps, name))} must not be given to LiteLLM, it {why}: remove it"
            document.error("request-param-refused", said, *steps, name)


def _machine_paths(document: Document, label: str) -> None:
    for field in ("source", "draft"):
        steps = ("models", label, field, "path")
        text = document.tree.find(steps).value
        if isinstance(text, str) and text.startswith("/") and not (field == "source" and label in document.provenance):
            said = f"{route(steps)} is a path of one machine in a shared file: begin it with ${{root.NAME}}"
            document.findings.warning("machine-path-in-git", said, steps, document.tree.find(steps))
