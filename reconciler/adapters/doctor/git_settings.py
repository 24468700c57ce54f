"""Git as it is called here: its version, whether it may read the repository, and what it makes of pinned settings."""

import os
import re
from typing import Final

from reconciler.adapters.git.repository import find, top_of
from reconciler.adapters.git.running import SETTINGS, Git
from reconciler.model.doctor import Complaint, GitState
from reconciler.model.problem import ReconcilerError

_VERSION: Final = re.compile(r"git version (\d+(?:\.\d+)*)")


def looked(place: str) -> GitState | Complaint:
    """What git says about the repository of an absolute path, called as the source calls it."""
    top = top_of(place)
    git = Git(top or os.path.dirname(place))
    try:
        version = git.run("version")
        if top is not None:
            find(place, git)
        listed = git.run("config", "--list", "-z")
    except ReconcilerError as error:
        return Complaint(reference=error.reference, message=error.message, hint=error.hint)
    match = _VERSION.match(version.out.decode("utf-8", "replace"))
    # The last value of a setting counts, and names of settings are told in small letters.
    effective = dict(line.partition("\n")[::2] for line in os.fsdecode(listed.out).split("\0"))
    pinned = dict(setting.split("=", 1) for setting in SETTINGS)
    return GitState(
        version=match[1] if match is not None else "",
        folder=top or "",
        pinned=pinned,
        effective={name: effective[name.lower()] for name in pinned if name.lower() in effective},
    )
