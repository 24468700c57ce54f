"""Traces of servers in stories: what is observed, and what their processes say of themselves."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.model.observed import (
    Inspection,
    Provenance,
    ServerProcess,
)
from reconciler.model.source import Mode, SourceRecord
from reconciler.model.view import Facts
from reconciler.planning.plan import Decision
from reconciler.planning.trace import Trace, trace
from reconciler.planning.trace_lines import Agreement, Beside
from tests.golden.story import Story, planner

HEAD = "version: 1\nports: {team: 8100-8119}\ngateways: {litellm: {mode: direct}}\nmodels:\n"
FAST = "  fast:\n    source: {repo: acme/fast}\n    port: 8100\n    aliases: [quick]\n"
DEEP = "  deep:\n    source: {repo: acme/deep}\n    port: 8101\n"
HERE = "artifacts: {acme/fast@main: {commit: aaaaaaaaaaaaaaaa}, acme/deep@main: {}}\n"
RUNS = "servers: {fast: }\ngateways: {litellm: {routes: [fast]}}\n"
IDLE = "gateways: {litellm: {routes: []}}\n"
OLD, NEW = "1" * 40, "2" * 40
FOLLOWED = SourceRecord(mode=Mode.COMMIT, place="/r/ensemble.yaml", ref="refs/heads/main", revision=OLD, content="c")


def seen(folder: Path, observed: str, models: str = FAST) -> Facts:
    """A story whose servers were launched from OLD as generation 1, which are in force."""
    (folder / "desired.yaml").write_text(HEAD + models)
    (folder / "observed.yaml").write_text(HERE + observed)
    facts = Story(folder).facts()
    facts = replace(
        facts,
        desired=replace(facts.desired, revision=OLD),
        ledger=replace(facts.ledger, current=1, source=FOLLOWED),
    )
    return serving(facts, revision=OLD, generation=1)


def serving(facts: Facts, **changes: Any) -> Facts:
    """The same with every server changed."""
    servers = {label: replace(server, **changes) for label, server in facts.observed.servers.items()}
    return replace(facts, observed=replace(facts.observed, servers=servers))


def decided(facts: Facts) -> Decision:
    return planner().decide(facts)


def carried(server: ServerProcess, **changes: Any) -> Provenance:
    """What the environment of a server says."""
    said = Provenance(
        label=server.label,
        revision=server.revision,
        generation=str(server.generation),
        spec_hash=server.spec_hash,
    )
    return replace(said, **changes)


def traced(facts: Facts, label: str = "fast", beside: Beside | None = None) -> Trace:
    """The trace of a label whose process says what its record says, unless `beside` says otherwise."""
    live = facts.observed.servers.get(label)
    if beside is None and live is not None and live.pid is not None:
        own = Inspection(pid=live.pid, session=live.pid, carried=carried(live))
        beside = Beside(process=own, newest=OLD, behind=0)
    return trace(decided(facts), label, beside or Beside())


def lines(found: Trace) -> Mapping[str, tuple[str, Agreement | None, str]]:
    return {line.name: (line.found, line.agreement, line.difference) for line in found.lines}


def line(found: Trace, name: str) -> tuple[str, Agreement | None, str]:
    return lines(found)[name]
