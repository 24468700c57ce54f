"""The checks of an examination: what each looks at, and who judges what was seen.

A look that fails is a finding of its own, `unknown`; what is not there to be looked at is `not-applicable`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from reconciler.model.desired import DesiredState
from reconciler.model.doctor import Complaint, Examined, Finding, LentPorts, Listening, Opinion, Owned
from reconciler.model.hook import Hook
from reconciler.model.host import HostFile
from reconciler.model.observed import Absent, Observation, Present, Unknown
from reconciler.model.transcript import Transcript
from reconciler.model.units import count
from reconciler.planning.doctor import cache, mac, ports, source, state, versions
from reconciler.planning.doctor.said import complained, ok, unknown
from reconciler.planning.service import ServiceReport
from reconciler.ports.doctor import Examiner
from reconciler.ports.mac import Mac

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One machine to be examined, with what is declared for it."""

    examiner: Examiner
    mac: Mac
    host_file: HostFile | Complaint
    """The complaint where it is refused."""
    desired: Observation[DesiredState | Complaint]
    """Absent: none was found."""
    usable: Observation[int]
    """Bytes of memory that servers could use at most."""
    service: Callable[[], ServiceReport]
    hooks: Callable[[], Observation[Sequence[Hook] | Complaint]]
    """Absent: the desired file is in no repository."""
    models: str
    """Folder of the model cache."""

    @property
    def host(self) -> HostFile:
        """What is allowed here; the defaults where the host file is refused."""
        return self.host_file if isinstance(self.host_file, HostFile) else HostFile()

    @property
    def claims(self) -> tuple[ports.Claim, ...]:
        """The ports of ours, as far as they are known."""
        declared = self.desired.value if isinstance(self.desired, Present) else None
        return ports.claims(declared if isinstance(declared, DesiredState) else None, self.host)


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, what it looks at in a few words, and what it finds."""

    name: str
    about: str
    findings: Callable[[Case], Iterable[Finding]]

    def of(self, case: Case) -> Examined:
        """What it finds in a case; a mistake of its own is no finding about the machine."""
        try:
            findings = tuple(self.findings(case))
        except Exception as error:
            findings = (unknown(f"the check itself failed: {type(error).__name__}: {error}"),)
        return Examined(name=self.name, about=self.about, findings=findings)


def _check(
    name: str,
    about: str,
    look: Callable[[Case], Observation[T]],
    judge: Callable[[T, Case], Iterable[Finding]],
) -> Check:
    def findings(case: Case) -> Iterator[Finding]:
        match look(case):
            case Present(value=value):
                yield from judge(value, case)
            case Unknown(reason=reason):
                yield unknown(reason)
            case Absent():
                yield Finding(opinion=Opinion.NOT_APPLICABLE, text="there is nothing of the kind here")

    return Check(name, about, findings)


def _host_file(case: Case) -> Observation[Owned | Complaint]:
    if isinstance(case.host_file, Complaint):
        return Present(value=case.host_file)
    return case.examiner.host_file()


def _judge_host_file(found: Owned | Complaint, _: Case) -> Iterable[Finding]:
    return [complained(found)] if isinstance(found, Complaint) else source.host_file(found)


def _judge_desired(found: DesiredState | Complaint, _: Case) -> Iterable[Finding]:
    if isinstance(found, Complaint):
        return [complained(found)]
    return [ok(f"it is valid, with {count(len(found.models), 'model')}")]


def _judge_database(found: Complaint | None, _: Case) -> Iterable[Finding]:
    return [ok("nothing in it is damaged") if found is None else complained(found)]


def _read(said: Observation[Transcript], read: Callable[[Transcript], T | None], what: str) -> Observation[T]:
    """What is read from a transcript."""
    if not isinstance(said, Present):
        return said
    found = read(said.value)
    return Unknown(reason=f"{what}: {said.value.complaint}") if found is None else Present(value=found)


def _lent(case: Case) -> Observation[LentPorts]:
    found = case.examiner.lent_ports()
    if isinstance(found, Absent):
        return _read(case.mac.ask(*mac.LENT), mac.lent_ports, "sysctl does not say which ports are lent")
    return found


def _collisions(lent: Observation[LentPorts], case: Case) -> Iterator[Finding]:
    yield from ports.collisions(case.claims, lent.value if isinstance(lent, Present) else None)
    if isinstance(lent, Unknown):
        yield unknown(lent.reason)


def _listening(case: Case) -> Observation[tuple[Listening, ...]]:
    found = case.examiner.listening()
    if isinstance(found, Absent):
        return _read(case.mac.ask(*mac.SOCKETS), mac.listening, "netstat gives no list")
    return found


def _restart(case: Case) -> Observation[tuple[Transcript, ...]]:
    said = [case.mac.ask(*words) for words in (mac.DISK_ENCRYPTION, mac.AUTOMATIC_LOGIN, mac.POWER)]
    missing = next((answer for answer in said if not isinstance(answer, Present)), None)
    return missing or Present(value=tuple(answer.value for answer in said if isinstance(answer, Present)))


CHECKS: Final = (
    _check(
        "state-filesystem",
        "locks, renames and kind of the file system of the state directory",
        lambda case: case.examiner.state_folder(),
        lambda seen, _: state.file_system(seen),
    ),
    _check(
        "state-owner",
        "owner and modes of the state directory",
        lambda case: case.examiner.state_owners(),
        lambda seen, _: state.owners(seen),
    ),
    _check("state-database", "the state database", lambda case: case.examiner.database(), _judge_database),
    _check(
        "disk-space",
        "room for state and weights",
        lambda case: case.examiner.disks(),
        lambda seen, case: state.room(seen, case.host),
    ),
    _check("host-file", "the host file", _host_file, _judge_host_file),
    _check("desired-state", "the desired state", lambda case: case.desired, _judge_desired),
    _check("git", "git and its pinned settings", lambda case: case.examiner.git(), lambda seen, _: source.git(seen)),
    _check("hook", "hooks of the repository", lambda case: case.hooks(), lambda seen, _: source.hooks(seen)),
    _check(
        "service",
        "the watch as a service",
        lambda case: Present(value=case.service()),
        lambda seen, _: source.service(seen),
    ),
    _check(
        "backend-installs",
        "backends that are installed twice",
        lambda case: case.examiner.installs(),
        lambda seen, _: versions.several(seen),
    ),
    _check(
        "known-faults",
        "versions with known faults",
        lambda case: case.examiner.installs(),
        lambda seen, _: versions.faults(seen),
    ),
    _check(
        "port-ranges",
        "declared ports, one another, and those that the system lends",
        lambda case: Present(value=_lent(case)),
        _collisions,
    ),
    _check(
        "wildcard-listeners",
        "listeners on our ports that other machines reach",
        _listening,
        lambda seen, case: ports.exposed(seen, case.claims, case.host),
    ),
    _check(
        "incomplete-downloads",
        "what unfinished downloads have left",
        lambda case: case.examiner.leftovers(),
        lambda seen, case: cache.leftovers(seen, case.models),
    ),
    _check(
        "hub-token",
        "who can read the token of the model hub",
        lambda case: case.examiner.tokens(),
        lambda seen, _: cache.tokens(seen),
    ),
    _check("clock", "the clock", lambda case: case.examiner.clock(), lambda seen, _: source.clock(seen)),
    _check(
        "wired-limit",
        "memory that Metal keeps, against the budget",
        lambda case: case.mac.ask(*mac.WIRED),
        lambda said, case: mac.wired_limit(said, case.host, case.usable),
    ),
    _check(
        "launchd-domain",
        "whether launchd takes a service of this user",
        lambda case: case.mac.ask("launchctl", "print", f"gui/{case.examiner.uid}"),
        lambda said, case: mac.launchd_domain(said, case.examiner.uid),
    ),
    _check("sleep", "whether this Mac sleeps", lambda case: case.mac.ask(*mac.POWER), lambda said, _: mac.sleep(said)),
    _check(
        "unattended-restart",
        "what happens after a restart when nobody is there",
        _restart,
        lambda said, _: mac.unattended(*said),
    ),
)
"""Every check, in the order in which they are shown."""
