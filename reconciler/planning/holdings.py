"""What everything that takes room is kept for, and what of it nothing needs."""

from collections.abc import Mapping

from reconciler.model.base import noun
from reconciler.model.observed import Artifact, Observation, Present
from reconciler.model.supply import Holding, Place
from reconciler.model.target import Target
from reconciler.model.view import Facts

from .generations import returnable
from .retention import Root, roots, sources


@noun
class Kept:
    """One holding with its verdict and its reasons."""

    holding: Holding
    verdict: str
    """`complete`, `partial (1 of 4 shards)`, ...; empty where nobody looked."""
    roots: tuple[Root, ...]
    """Empty: nothing needs it."""


def kept(
    facts: Facts,
    targets: Mapping[str, Target],
    holdings: tuple[Holding, ...],
    found: Mapping[str, Observation[Artifact]],
) -> tuple[Kept, ...]:
    """Every holding, those that nothing needs last, larger ones first. `found` is a look at their references."""
    entries = [Kept(holding=h, verdict=_verdict(facts, h, found), roots=_roots(facts, targets, h)) for h in holdings]
    return tuple(sorted(entries, key=lambda e: (not e.roots, e.holding.place, -e.holding.bytes, e.holding.name)))


def folders(facts: Facts) -> tuple[Holding, ...]:
    """Declared weights that lie outside of the model cache."""
    return tuple(
        Holding(
            place=Place.FOLDER,
            name=reference,
            path=found.value.path,
            bytes=found.value.disk_bytes,
            references=(reference,),
        )
        for reference, found in facts.observed.artifacts.items()
        if isinstance(found, Present) and (reference.startswith("/") or found.value.read_only)
    )


def _roots(facts: Facts, targets: Mapping[str, Target], holding: Holding) -> tuple[Root, ...]:
    match holding.place:
        case Place.CACHE if holding.name.startswith("."):
            # It may hold the only copy: the protocol knows, and nobody else should touch it.
            return (Root(kind="moving", reason="the next offload or restore of it finishes what was cut off"),)
        case Place.CACHE:
            return (*roots(facts, targets, holding.name), *sources(facts, holding.name))
        case Place.CONVERTED:
            return tuple(_of_conversion(facts, targets, holding.identity))
        case Place.FOLDER:
            users = [target.label for target in targets.values() if target.reference in holding.references]
            return tuple(Root(kind="desired", reason=f"{label} is declared to be served from it") for label in users)
        case Place.COLD:
            # It may be the only copy; whoever wants to be rid of it deletes it on its volume.
            return (Root(kind="offloaded", reason="it was moved there to be kept"),)


def _of_conversion(facts: Facts, targets: Mapping[str, Target], identity: str) -> list[Root]:
    found = [
        Root(kind="serving", reason=f"server/{server.label} was started with it")
        for server in facts.observed.servers.values()
        if server.live and server.artifact == identity
    ]
    found += [
        Root(kind="desired", reason=f"{label} is declared to be served from it")
        for label, target in targets.items()
        if isinstance(target.artifact, Present) and target.artifact.value.identity == identity
    ]
    found += [
        Root(kind="generation", reason=f"a return to generation {generation.number} needs it")
        for generation in returnable(facts.ledger)
        if any(entry.endswith(f" {identity}") for entry in generation.artifacts)
    ]
    return found


def _verdict(facts: Facts, holding: Holding, found: Mapping[str, Observation[Artifact]]) -> str:
    if holding.place is Place.CONVERTED:
        made = [c.artifact for entries in facts.observed.storage.conversions.values() for c in entries]
        return next((artifact.verdict for artifact in made if artifact.path == holding.path), "")
    if holding.place is Place.COLD:
        return "moved away"
    verdicts = [a.value.verdict for r in holding.references if isinstance(a := found.get(r), Present)]
    bad = [verdict for verdict in verdicts if verdict != "complete"]
    return ", ".join(dict.fromkeys(bad or verdicts))
