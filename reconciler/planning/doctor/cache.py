"""The model cache: what unfinished downloads have left in it, and who can read the token."""

from collections.abc import Iterator, Sequence
from typing import Final

from reconciler.model.doctor import Finding, Leftover, Owned
from reconciler.model.units import human

from .said import ok, quoted, warning

DAY: Final = 86_400.0
_OTHERS: Final = 0o077


def leftovers(found: Sequence[Leftover], folder: str) -> Iterator[Finding]:
    """Files that huggingface_hub never goes on with and never removes (fault H01)."""
    orphans = [leftover for leftover in found if not leftover.locked and leftover.age > DAY]
    rest = [leftover for leftover in found if leftover not in orphans]
    under_way = f"; {len(rest)} more ({_bytes(rest)}) are younger than a day or being written" if rest else ""
    if orphans:
        oldest = max(orphan.age for orphan in orphans) / DAY
        text = (
            f"{len(orphans)} unfinished downloads hold {_bytes(orphans)} in {folder}, the oldest for {oldest:.0f} "
            f"days, and nobody writes to them{under_way}"
        )
        fix = f"find {quoted(folder)} -path '*/blobs/*.incomplete' -mtime +0 -delete"
        yield warning("downloads-left", text, fix)
    elif rest:
        yield ok(f"{len(rest)} downloads ({_bytes(rest)}) are under way or ended within a day")
    else:
        yield ok(f"no unfinished download is in {folder}")


def tokens(found: Sequence[Owned]) -> Iterator[Finding]:
    """Whoever reads the token may download, and perhaps write, in your name."""
    for entry in found:
        if not entry.ours:
            yield warning("token-foreign", f"{entry.path} belongs to another user", "log in again: hf auth login")
        elif entry.mode & _OTHERS:
            text = f"{entry.path} can be read by others (mode {entry.mode:04o})"
            yield warning("token-readable", text, f"chmod 600 {quoted(entry.path)}")
    if all(entry.ours and not entry.mode & _OTHERS for entry in found):
        yield ok("tokens of the hub are yours alone" if found else "there is no token of the hub in a file")


def _bytes(found: Sequence[Leftover]) -> str:
    return human(sum(leftover.size for leftover in found))
