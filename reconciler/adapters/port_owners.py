"""Which process holds a listening socket; asked only about ports that are taken.

Linux says it through the links in /proc/PID/fd, for processes that we may look into (our own; all, for root), and
macOS through lsof alone (`net_connections` needs root there, facts/performance.md 3). Who cannot be named is
nobody's: the port stays taken and its owner unknown (P13).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

COMMAND_LENGTH: Final = 200
_LSOF: Final = "/usr/sbin/lsof"
_LSOF_SECONDS: Final = 3.0


class Socket(NamedTuple):
    """A listening socket, as the kernel lists it."""

    port: int
    uid: int
    inode: int


class Owner(NamedTuple):
    """A process that holds a listening socket."""

    pid: int
    command: str | None


Found = dict[int, tuple[str, Owner]]
"""inode -> where its owner was seen to hold it, as a path below /proc, and who that is."""


def owners_by_proc(
    sockets: Sequence[Socket], known: Callable[[], Iterable[int]], before: Found | None = None
) -> dict[int, Owner]:
    """inode -> the first process that holds it, `known` pids first, then by pid; unnamed where none is visible.

    `before` is what earlier calls have found, kept for the next one: a socket has its number as long as it is open, so
    one look at the same place says that it is still held. Whoever calls takes sockets out of it that are gone.
    """
    before = {} if before is None else before
    wanted = {f"socket:[{found.inode}]": found.inode for found in sockets if found.inode}
    owners: dict[int, Owner] = {}
    for link, inode in list(wanted.items()):
        if inode in before and _link(before[inode][0]) == link:
            owners[wanted.pop(link)] = before[inode][1]
    for pid in _candidates(known, {found.uid for found in sockets}) if wanted else ():
        held = _held(pid, wanted)
        if held:
            owner = Owner(pid, command_line(pid))
            for link, path in held.items():
                inode = wanted.pop(link)
                owners[inode], before[inode] = owner, (path, owner)
        if not wanted:
            break
    return owners


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _candidates(known: Callable[[], Iterable[int]], uids: set[int]) -> Iterator[int]:
    """Pids that may hold the sockets: known ones, then all whose user made one of them."""
    first = list(known())
    yield from first
    seen = set(first)
    for name in sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int):
        pid = int(name)
        if pid not in seen and _user(pid) in uids | {0}:
            yield pid


def _user(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def _held(pid: int, wanted: dict[str, int]) -> dict[str, str]:
    """Which of the wanted socket links a process has, and where; none where it is hidden or gone."""
    held = {}
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                link = _link(entry.path)
                if link in wanted:
                    held[link] = entry.path
    except OSError:
        pass
    return held


def command_line(pid: int) -> str | None:
    """The program of a process and what it runs, for people, never its options; None where hidden."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb", 0) as handle:
            raw = handle.read(4 * COMMAND_LENGTH)
    except OSError:
        return None
    return shown(_named(raw.rstrip(b"\0").decode("utf-8", "replace").split("\0"))) or None


def _named(words: Sequence[str]) -> str:
    """The program, with its script or module: an option may be a secret, and people read plans aloud (S17)."""
    script = words[1:3] if words[1:2] == ["-m"] else words[1:2]
    return " ".join(words[:1] if script and script[0].startswith("-") and script[0] != "-m" else [*words[:1], *script])


def shown(text: str) -> str:
    """Text of a stranger, fit for a terminal: 200 characters, nothing in it that a terminal would obey (S31)."""
    cut = text[:COMMAND_LENGTH]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def owners_by_lsof(ports: Sequence[int]) -> dict[int, list[Owner | None]]:
    """port -> the processes that listen on it, from one run of lsof; empty where lsof cannot say."""
    import subprocess

    program = _LSOF if os.path.exists(_LSOF) else "lsof"
    listed = ",".join(map(str, ports))
    try:
        run = subprocess.run(
            [program, "-nP", f"-iTCP:{listed}", "-sTCP:LISTEN", "-Fpcdn"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LSOF_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_lsof(run.stdout.decode("utf-8", "replace"))


def parse_lsof(text: str) -> dict[int, list[Owner | None]]:
    """The fields of `lsof -Fpcdn`: `p` a process, `c` its name; for each of its sockets `d` and `n` ADDRESS:PORT.

    `d` is the same for every process that inherited one socket; of those the first, the parent, is named.
    """
    owners: dict[int, list[Owner | None]] = {}
    seen: set[tuple[str, str]] = set()
    pid, command, device = 0, None, ""
    for line in text.splitlines():
        kind, value = line[:1], line[1:]
        if kind == "p":
            pid, command = int(value) if value.isdigit() else 0, None
        elif kind == "c":
            command = shown(value)
        elif kind == "d":
            device = value
        elif kind == "n" and pid > 0 and (port := value.rpartition(":")[2]).isdigit():
            if (device, port) not in seen:
                owners.setdefault(int(port), []).append(Owner(pid, command))
            seen.add((device, port))
    return owners
