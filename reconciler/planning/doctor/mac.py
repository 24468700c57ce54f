"""What the programs of macOS say: read without trust in their form, and judged.

What a text does not say is `None`, and never the value that would be good.
"""

import re
from collections.abc import Iterator
from typing import Final

from reconciler.model.doctor import Finding, LentPorts, Listening
from reconciler.model.host import HostFile
from reconciler.model.observed import Observation, Present
from reconciler.model.transcript import Transcript
from reconciler.model.units import human, size

from .said import ok, problem, unknown, warning

WIRED: Final = ("sysctl", "iogpu.wired_limit_mb", "hw.memsize")
LENT: Final = ("sysctl", "net.inet.ip.portrange.first", "net.inet.ip.portrange.last")
SOCKETS: Final = ("netstat", "-an", "-p", "tcp")
POWER: Final = ("pmset", "-g")
DISK_ENCRYPTION: Final = ("fdesetup", "status")
AUTOMATIC_LOGIN: Final = ("defaults", "read", "/Library/Preferences/com.apple.loginwindow", "autoLoginUser")
_MIB: Final = 2**20
_LEAST_REST: Final = 4 * 2**30
"""Bytes that the rest of the system needs, whatever the machine: wired memory cannot be taken back."""
_SETTING: Final = re.compile(r"^\s*([A-Za-z][A-Za-z ]*?)\s+(\d+)(?:\s+\(.*\))?\s*$", re.MULTILINE)
_NO_DOMAIN: Final = re.compile(r"could not find domain|domain does not support", re.IGNORECASE)


def numbers(text: str) -> dict[str, int]:
    """The lines `name: number` of sysctl."""
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and value.strip().isdigit():
            found[name.strip()] = int(value)
    return found


def lent_ports(said: Transcript) -> LentPorts | None:
    """The ports of outgoing connections; None where it does not say them."""
    found = numbers(said.out)
    first, last = (found.get(name) for name in LENT[1:])
    return None if first is None or last is None or last < first else LentPorts(first=first, last=last)


def listening(said: Transcript) -> tuple[Listening, ...] | None:
    """The listening sockets of `netstat -an -p tcp`; None where that is no such list."""
    if said.code or "Local Address" not in said.out:
        return None
    found = []
    for line in said.out.splitlines():
        words = line.split()
        if len(words) < len(SOCKETS) or not words[0].startswith("tcp") or "LISTEN" not in words:
            continue
        host, _, port = words[3].rpartition(".")
        if port.isdigit():
            found.append(Listening(port=int(port), wide=host == "*"))
    return tuple(found)


def settings(text: str) -> dict[str, int]:
    """The settings of `pmset -g`, by name."""
    return {name: int(value) for name, value in _SETTING.findall(text)}


def wired_limit(said: Transcript, host: HostFile, usable: Observation[int]) -> Iterator[Finding]:
    """Memory that Metal keeps resident, compared with what servers may take together.

    `usable`: bytes that are planned with where the host file names no budget.
    """
    found = numbers(said.out)
    total, limit = found.get("hw.memsize"), found.get("iogpu.wired_limit_mb", 0) * _MIB
    if not total:
        yield unknown(f"sysctl does not say how much memory there is: {said.complaint}")
        return
    if limit > total - _LEAST_REST:
        text = f"iogpu.wired_limit_mb lets Metal keep {human(limit)} of {human(total)}, and the system needs more"
        yield problem("wired-limit-too-high", text, f"sudo sysctl iogpu.wired_limit_mb={(total - _LEAST_REST) // _MIB}")
        return
    known = limit or (usable.value if isinstance(usable, Present) else 0)
    kept = (
        f"Metal keeps at most {human(known)} of {human(total)} resident" if known else "what Metal keeps is not known"
    )
    budget = size(host.memory.budget) if host.memory.budget is not None else None
    if budget is None:
        yield ok(f"{kept}, and servers get that less {host.memory.reserve}")
    elif not known:
        yield unknown(f"memory.budget is {human(budget)}, and {kept}")
    elif budget > known:
        text = f"memory.budget is {human(budget)}, and {kept}, so models are paged out while they answer"
        yield (problem if limit else warning)("budget-over-wired-limit", text, _raised(budget, total, known))
    else:
        yield ok(f"{kept}, and memory.budget is {human(budget)}")


def _raised(budget: int, total: int, known: int) -> str:
    """The way out: a higher limit where that leaves enough, which a restart forgets, else a smaller budget."""
    if budget <= total - _LEAST_REST:
        return f"sudo sysctl iogpu.wired_limit_mb={-(-budget // _MIB)}  # again after every restart of the Mac"
    return f"set memory.budget to {known // 2**30}GiB in the host file"


def launchd_domain(said: Transcript, uid: int) -> Iterator[Finding]:
    """Whether launchd takes an agent of this user: there must be a login at the screen."""
    if not said.code:
        yield ok(f"launchd answers for gui/{uid}")
    elif _NO_DOMAIN.search(said.err + said.out):
        text = f"nobody is logged in at the screen as user {uid}, so launchd has no place for the service (gui/{uid})"
        yield problem("launchd-domain-missing", text, "log in at the screen, or by Screen Sharing")
    else:
        yield unknown(f"launchctl says: {said.complaint}")


def sleep(said: Transcript) -> Iterator[Finding]:
    """A Mac that sleeps answers nobody."""
    found = settings(said.out)
    minutes = found.get("sleep")
    if minutes is None:
        yield unknown("pmset does not say when this Mac sleeps")
    elif minutes == 0 or found.get("SleepDisabled") == 1:
        yield ok("this Mac does not sleep by itself")
    else:
        text = f"this Mac sleeps after {minutes} min without a person, and then serves nobody"
        yield warning("mac-sleeps", text, "sudo pmset -a sleep 0")


def unattended(encryption: Transcript, login: Transcript, power: Transcript) -> Iterator[Finding]:
    """What happens after a loss of power, or an update, when nobody is there."""
    restarts = settings(power.out).get("autorestart")
    if restarts == 0:
        yield warning("no-restart", "after a loss of power this Mac stays off", "sudo pmset -a autorestart 1")
    if "filevault is on" in encryption.out.lower():
        text = "FileVault is on, so after a restart nothing is served until somebody unlocks the disk at the screen"
        fix = "accept that, or: sudo fdesetup disable; for one planned restart: sudo fdesetup authrestart"
        yield warning("filevault-on", text, fix)
    elif "filevault is off" not in encryption.out.lower():
        yield unknown(f"fdesetup does not say whether FileVault is on: {encryption.complaint}")
    elif login.code and "does not exist" in login.err:
        text = "nobody is logged in automatically, so after a restart nothing is served until somebody logs in"
        yield warning("no-automatic-login", text, "System Settings > Users & Groups > Automatically log in as")
    elif login.code or not login.out.strip():
        yield unknown(f"whether somebody is logged in automatically is not known: {login.complaint}")
    elif restarts is None:
        yield unknown("pmset does not say whether this Mac restarts after a loss of power")
    elif restarts:
        yield ok(f"after a restart {login.out.strip()} is logged in, and the service starts")
