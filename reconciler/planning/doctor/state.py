"""The state directory: its file system, who may write to it, the room that it has."""

from collections.abc import Iterator, Sequence
from typing import Final

from reconciler.model.doctor import Disk, Finding, Owned, StateFolder
from reconciler.model.host import HostFile
from reconciler.model.units import human, size

from .said import ok, problem, quoted, warning

_NETWORK: Final = frozenset(
    {"9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "ocfs2", "smb2", "smb3", "smbfs", "virtiofs", "webdav"}
    | {"fuse.ceph", "fuse.davfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "macfuse", "osxfuse"}
)
_MEMORY: Final = frozenset({"ramfs", "tmpfs"})
_SYNCHRONISED: Final = ("/Library/Mobile Documents/", "/Library/CloudStorage/", "/Dropbox/", "/OneDrive/")
_ELSEWHERE: Final = "name a folder of a disk of this machine with RECONCILER_STATE"
_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022
_STATE_LOW: Final = 64 * 2**20
_STATE_SPARE: Final = 2**30
"""Bytes of logs, templates and the database that a state directory should have room for."""


def file_system(state: StateFolder) -> Iterator[Finding]:
    """Locks, renames and the kind of the file system (faults X06, X07)."""
    place = f"{state.path} ({state.kind or 'of a kind that is not known'})"
    if state.kind in _NETWORK:
        text = f"{place} is on a network file system, where a lock is not what it is on a disk"
        yield problem("state-on-network", text, _ELSEWHERE)
    broken = [
        said
        for holds, said in (
            (state.excludes, "a lock does not keep out a second process"),
            (state.inherits, "a lock does not stay with a server that inherited it"),
            (state.frees, "a lock is not freed when its holder ends"),
            (state.replaces, "a rename leaves an instant without the file"),
        )
        if not holds
    ]
    if broken:
        yield problem("state-unsafe", f"{place}: {', and '.join(broken)}", _ELSEWHERE)
        return
    if state.kind in _NETWORK:
        return
    if state.kind in _MEMORY:
        text = f"{place} is in memory: a restart of the machine forgets what is suspended and what was leased"
        yield warning("state-in-memory", text, _ELSEWHERE)
    elif any(part in f"{state.path}/" for part in _SYNCHRONISED):
        text = f"{place} is in a folder that another program copies to other machines, database and locks too"
        yield warning("state-synchronised", text, _ELSEWHERE)
    elif state.full_sync is False:
        text = f"{place} has no F_FULLFSYNC, so a loss of power may take back what was written"
        yield warning("no-full-sync", text, _ELSEWHERE)
    else:
        folds = "does not tell" if state.folds_case else "tells"
        yield ok(f"{place}: locks and renames hold, and it {folds} upper from lower case")


def owners(found: Sequence[Owned]) -> Iterator[Finding]:
    """Owner and modes: 0700 and 0600, because who can write there decides what runs."""
    for entry in found:
        if not entry.ours:
            text = f"{entry.path} belongs to another user"
            yield problem("state-foreign", text, f'chown -R "$(id -un)" {quoted(entry.path)}')
        elif entry.mode & _OTHERS_WRITE:
            text = f"{entry.path} can be written by others (mode {entry.mode:04o})"
            yield problem("state-writable", text, f"chmod go-rwx {quoted(entry.path)}")
        elif entry.mode & _OTHERS:
            text = f"{entry.path} can be read by others (mode {entry.mode:04o})"
            yield warning("state-readable", text, f"chmod go-rwx {quoted(entry.path)}")
    if all(entry.ours and not entry.mode & _OTHERS for entry in found):
        yield ok(f"{found[0].path} and its files are yours alone" if found else "there is nothing yet")


def room(disks: Sequence[Disk], host: HostFile) -> Iterator[Finding]:
    """Free space where state and weights are kept."""
    spare = {"state": _STATE_SPARE, "models": max(_STATE_SPARE, size(host.downloads.reserve))}
    for disk in disks:
        free = f"{human(disk.free)} are free at {disk.path}"
        if disk.free < _STATE_LOW:
            yield problem("disk-full", f"only {free}, so nothing can be remembered or loaded", _freed(disk))
        elif disk.free < spare.get(disk.what, 0):
            text = f"only {free}, and {human(spare[disk.what])} should be left"
            yield warning("disk-low", text, _freed(disk))
        else:
            yield ok(f"{free} ({disk.what})")


def _freed(disk: Disk) -> str:
    return "reconciler artifacts  # says what could be freed" if disk.what == "models" else f"free room at {disk.path}"
