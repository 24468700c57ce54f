"""Going back to an earlier generation: what it was is restored, and pinned until something newer is declared."""

from collections.abc import Mapping
from dataclasses import replace

from reconciler.desired.canonical import canonical, digest, restored
from reconciler.model.base import noun
from reconciler.model.desired import Desired, launch_reference
from reconciler.model.generation import Generation, Pin
from reconciler.model.ledger import Ledger
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import RELEASABLE
from reconciler.planning import generations
from reconciler.ports.host import Host


@noun
class Return:
    """What a return to a generation brings back."""

    generation: Generation
    desired: Desired
    content: bytes

    def pinned(self, ledger: Ledger, now: float, reason: str, *, automatic: bool = False) -> Ledger:
        """The ledger with it in force, until the source has something newer, and other, than it has now."""
        left = generations.generation(ledger, ledger.current)
        record = ledger.source
        judged = record is not None and record.refused and record.reference in RELEASABLE
        newest = (record.refused if judged else record.revision) if record is not None else ""
        name = digest(self.content)
        bad = ledger.pin.bad if ledger.pin is not None and not judged else newest
        born = replace(
            self.generation,
            content=name,
            at=now,
            servers={},
            labels=(),
            proved_at=None,
            failed="",
            revision=self.desired.revision,
        )
        after = generations.entered(ledger, born)
        before = ledger.pin.left if ledger.pin is not None else ()
        contents = (*before, *([left.content] if left is not None else []))
        pin = Pin(
            number=after.current,
            content=name,
            bad=bad,
            left=tuple(dict.fromkeys(content for content in contents if content != name)),
            at=now,
            reason=reason,
            automatic=automatic,
        )
        return replace(after, pin=pin)


def returned(host: Host, ledger: Ledger, number: int) -> Return:
    """The content of a generation, with the weights that it was proved with. Raises ReconcilerError."""
    known = generations.generation(ledger, number)
    if known is None:
        listed = ", ".join(str(g.number) for g in ledger.generations) or "none"
        raise ReconcilerError(
            "generation-unknown",
            f"there is no generation {number}; nothing was changed",
            hint=f"see: reconciler history (remembered: {listed})",
            code=ExitCode.USAGE,
        )
    text = host.state.content(known.content)
    try:
        desired = None if text is None else restored(text, known.latest)
    except ValueError:
        desired = None
    if desired is None:
        raise ReconcilerError(
            "generation-lost",
            f"the content of generation {number} is not in the state directory any more; nothing was changed",
            hint="declare it anew, or go back to another one: reconciler history",
            code=ExitCode.ENVIRONMENT,
        )
    desired = _with_its_weights(host, desired, known)
    return Return(generation=known, desired=desired, content=canonical(desired))


def _with_its_weights(host: Host, desired: Desired, known: Generation) -> Desired:
    """A branch of a repository that has moved on means its old commit again; what has not moved stays as it was."""
    wanted = {
        label: str(launch_reference(model.source))
        for label, model in desired.state.models.items()
        if model.source.repo is not None and label in known.servers
    }
    found = host.artifacts.look(dict.fromkeys(wanted.values()))
    moved: Mapping[str, str] = {
        label: proved.artifact
        for label, reference in wanted.items()
        if generations.moved(proved := known.servers[label], reference, found.get(reference))
    }
    if not moved:
        return desired
    models = {
        label: replace(model, source=replace(model.source, revision=moved[label])) if label in moved else model
        for label, model in desired.state.models.items()
    }
    return replace(desired, state=replace(desired.state, models=models))
