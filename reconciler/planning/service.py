"""How the watch stands as a service: its file, what the manager says, and what is another than it should be."""

from reconciler.model.base import noun
from reconciler.model.observed import Observation, Present
from reconciler.model.service import FileStanding, Service, ServiceRun

_OWN_WORDS = ("-P", "-m", "reconciler")
_SEARCH_PATH = "PATH"


@noun
class ServiceReport:
    """One service, looked at once."""

    manager: str
    file: str
    standing: FileStanding | None
    """None where the file cannot be read."""
    why: str = ""
    """Why it cannot."""
    differs: tuple[str, ...] = ()
    """What is another than it would be written now, each in a few words."""
    run: Observation[ServiceRun]

    @property
    def sound(self) -> bool:
        """Whether it is as it would be written now, and runs."""
        runs = isinstance(self.run, Present) and self.run.value.pid is not None
        return runs and self.standing is FileStanding.CURRENT


def arguments(service: Service) -> tuple[str, ...]:
    """What `reconciler` is told by a service of ours; nothing for another program."""
    ours = service.argv[1 : 1 + len(_OWN_WORDS)] == _OWN_WORDS
    return service.argv[1 + len(_OWN_WORDS) :] if ours else ()


def settled(wanted: Service, known: Service) -> Service:
    """The wanted service, to be compared with the one that is there.

    Every shell has a search path of its own, and the one at the installation counts.
    """
    path = known.environment.get(_SEARCH_PATH)
    return wanted if path is None else _with_path(wanted, path)


def differences(known: Service, wanted: Service) -> tuple[str, ...]:
    """What is another, in a few words each."""
    found = []
    if known.argv[:1] != wanted.argv[:1]:
        found.append("the Python")
    if known.argv[1:] != wanted.argv[1:]:
        found.append("what the watch is told")
    if known.log != wanted.log:
        found.append("the log")
    names = known.environment.keys() | wanted.environment.keys()
    return (*found, *sorted(name for name in names if known.environment.get(name) != wanted.environment.get(name)))


def _with_path(service: Service, path: str) -> Service:
    environment = {**service.environment, _SEARCH_PATH: path}
    return Service(argv=service.argv, environment=dict(sorted(environment.items())), log=service.log)
