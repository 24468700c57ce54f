"""Why weights are not there, in one sentence each, and what a person can do."""

from typing import Final

from reconciler.backends.base import Finding
from reconciler.model.names import LaunchRef, RepoRef
from reconciler.model.observed import Artifact, Unknown
from reconciler.model.supply import SourceCheck

_NAMED: Final = 3
"""How many missing files a message names."""


def refused(what: str, reference: LaunchRef, check: SourceCheck) -> Finding:
    return Finding(reference=check.problem, reason=f"{what} {reference}: {check.reason}", hint=check.hint)


def unreadable(what: str, reference: LaunchRef, found: Unknown) -> Finding:
    return Finding(
        reference="observation-unknown",
        reason=f"{what} {reference} could not be looked at ({found.reason}), so nothing was changed for it",
        hint="mend what stands against reading it, and look again",
    )


def foreign(what: str, reference: LaunchRef, here: Artifact) -> Finding:
    return Finding(
        reference="artifact-format",
        reason=f"{what} {reference} holds weights as {here.foreign}, and servers here load safetensors",
        hint="declare a repository that holds safetensors, converted for MLX or not",
    )


def own_code(what: str, reference: LaunchRef, here: Artifact) -> Finding:
    # mlx-lm runs it on a plain load before 0.32 (CVE-2026-5843); later ones refuse, after a start.
    return Finding(
        reference="custom-code",
        reason=f"{what} {reference} asks servers to run code of its own ({here.code}), which is never done",
        hint="declare a repository whose architecture the backend knows itself",
    )


def lacking(what: str, reference: LaunchRef, here: Artifact | None, offline: str = "") -> Finding:
    """It is not whole, and nothing here may complete it; `offline` says what forbids asking the hub."""
    unasked = f", and the hub is not asked because {offline}" if offline else ""
    repo = isinstance(reference, RepoRef)
    fetch = (
        f"hf download {reference.repo} --revision {reference.revision}"
        if isinstance(reference, RepoRef)
        else "put it there, or mend the source"
    )
    if not repo and (here is None or not here.shaped):
        said = "there is no such folder" if here is None else "it holds no config.json with weights beside it"
        return Finding(
            reference="path-missing" if here is None else "path-not-model",
            reason=f"{what} {reference} cannot be served: {said}; nothing that runs was stopped for it",
            hint=fetch,
        )
    if here is None:
        return Finding(
            reference="artifact-missing",
            reason=f"{what} {reference} is not on this machine{unasked}; nothing that runs was stopped for it",
            hint=fetch,
        )
    if here.corrupt:
        return Finding(
            reference="artifact-corrupt",
            reason=f"{what} {reference} is {here.verdict}: the content is not what was downloaded{unasked}",
            hint=f"{fetch} --force-download" if repo else fetch,
        )
    names = ", ".join(here.missing[:_NAMED]) + (", ..." if len(here.missing) > _NAMED else "")
    count = f"{len(here.missing)} {'file is' if len(here.missing) == 1 else 'files are'}"
    return Finding(
        reference="artifact-partial",
        reason=f"{what} {reference} is incomplete: {count} missing, short or contradictory ({names}){unasked}",
        # A file that is there and wrong is taken for good by the library, and so has to be forced.
        hint=f"{fetch} --force-download" if repo and " (" in names else fetch,
    )
