"""A source, what follows it, and what is remembered between its looks."""

from dataclasses import dataclass, field, replace

from reconciler.desired.canonical import canonical, digest
from reconciler.engine.declared import Followed, Following, Reading
from reconciler.engine.requests import released
from reconciler.model.desired import Desired, DesiredState, ModelSpec, Source
from reconciler.model.generation import Generation, Pin
from reconciler.model.ledger import EMPTY, Ledger
from reconciler.model.problem import ExitCode, InvalidDocument, Problem, ReconcilerError
from reconciler.model.source import Mode
from tests.world.repository import Content, Repository

NOW = 1_000.0
BROKEN = ReconcilerError("desired-file-missing", "there is no file", hint="put it back", code=ExitCode.INVALID)
TYPO = InvalidDocument(
    "ensemble.yaml",
    (
        Problem(reference="odd", message="it is odd", where="", line=2, column=1, severity="warning"),
        Problem(reference="bad-port", message="no such port", where="", line=7, column=3),
        Problem(reference="bad-name", message="no such name", where="", line=9, column=3),
    ),
    kept="nothing was changed",
)


def content(name: str, models: int = 1) -> Desired:
    specs = {f"{name}{n}": ModelSpec(source=Source(repo=f"org/m{n}"), port=8100 + n) for n in range(models)}
    return Desired(state=DesiredState(version=1, models=specs), revision="", templates={}, provenance={})


A, B, C, EMPTIED = content("a"), content("b"), content("c"), content("none", 0)


def guard(newer: Desired, ledger: Ledger) -> tuple[str, str] | None:
    """As the real one: nothing may be emptied without a person."""
    return None if newer.state.models else ("emptied", "nothing is declared any more")


@dataclass
class Place:
    """A source, what follows it, and what is remembered between its looks."""

    source: Repository
    mode: Mode
    ledger: Ledger = EMPTY
    kept: dict[str, bytes] = field(default_factory=dict)
    rules: str = "these"
    followed: Followed = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """As after a kill: nothing is left but what is remembered."""
        self.followed = Followed(
            Following(
                source=self.source,
                mode=self.mode,
                place="/repo/ensemble.yaml",
                parse=self.source.parse,
                guard=guard,
                rules=self.rules,
                kept=self.kept.get,
            )
        )

    def read(self, now: float) -> Reading:
        """One look, remembered as the loop does."""
        reading = self.followed.read(now, self.ledger)
        text = canonical(reading.desired)
        self.kept[digest(text)] = text
        self.ledger = replace(self.ledger, source=reading.record or self.ledger.source, pin=reading.pin)
        return reading

    def accept(self, revision: str) -> None:
        self.ledger = released(self.ledger, revision, "it is meant")

    def pin(self, back: Desired, revision: str, bad: str, left: Desired) -> None:
        """A person goes back to what was in force once."""
        text = canonical(back)
        name = digest(text)
        self.kept[name] = text
        old = Generation(number=1, at=1.0, revision=revision, content=name)
        pin = Pin(number=1, content=name, bad=bad, left=(digest(canonical(left)),), at=NOW, reason="worse")
        self.ledger = replace(self.ledger, generations=(old,), current=1, pin=pin)


def saved(first: Content = A) -> Place:
    """A file in a folder, in force."""
    place = Place(Repository(), Mode.WORKTREE)
    place.source.save("worktree:1", first)
    place.read(NOW - 100)
    return place


def committed(first: Content = A) -> Place:
    """A branch whose first commit is in force."""
    place = Place(Repository(ref="refs/heads/main"), Mode.COMMIT)
    place.source.commit("c1", first)
    place.read(NOW - 100)
    return place


def models(reading: Reading) -> tuple[str, ...]:
    return tuple(reading.desired.state.models)


def waits(reading: Reading) -> tuple[str | None, float | None]:
    return (None if reading.problem is None else reading.problem.reference), reading.look_again


NAMES_A, NAMES_B, NAMES_C = ("a0",), ("b0",), ("c0",)
