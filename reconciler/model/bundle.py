"""What a source hands over: the desired file and its templates, of one revision, as bytes."""

from collections.abc import Mapping
from typing import Final

from .base import noun

REGULAR: Final = 0o100644
"""The only mode, as git writes it, that a file of a bundle may have."""


@noun
class BundleFile:
    """One file of a bundle; nothing about it has been believed yet."""

    mode: int
    """File mode as git writes it: 0o100644 plain, 0o100755 executable, 0o120000 link, 0o160000 submodule."""
    content: bytes


@noun
class Bundle:
    """One revision of the desired state."""

    name: str
    """How messages call the desired file: the path that the user gave."""
    revision: str
    """Commit, blob or `worktree:<sha256 prefix>`."""
    text: bytes
    files: Mapping[str, BundleFile]
    """Files below the folder of the desired file that may be referenced, by relative path."""
    tracked: bool = True
    """Whether the file is shared through git, so that paths of one machine do not belong in it."""
