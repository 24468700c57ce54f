"""A machine on an ordinary day, as its page shows it: the story `studio`, with a past and a present."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

from reconciler.engine.loop import Tick
from reconciler.model.event import Event, EventKind
from reconciler.model.generation import Generation, Pin, ProvedServer
from reconciler.model.ledger import Suspension
from reconciler.model.names import ENSEMBLE, Subject, artifact_subject, gateway_subject, server_subject, source_subject
from reconciler.model.plan import Blocked, Claim, InFlight
from reconciler.model.source import Mode, SourceRecord
from reconciler.model.supply import Progress
from reconciler.model.view import Facts
from tests.golden.story import NOW, Story, planner

STORY: Final = Path(__file__).resolve().parents[1] / "golden" / "studio"
FILE: Final = "/Users/ada/ensemble/desired-state/ensemble.yaml"
COMMIT: Final = "0ad95c57d1e84b3f92a60c18e7d45b20f9a3c6e1"
OLD: Final = "7be1f04c2d9a58e36b01f47c8a52d9e06b3f17ac"
NEWER: Final = "c41e77b0a96d2f5384be10c7d95f3a6e28b04d7c"
LLAMA: Final = "mlx-community/Llama-3.3-70B-Instruct-4bit@main"
HOUR: Final = 3_600.0
DAY: Final = 24 * HOUR
GIB: Final = 2**30


def facts(now: float = NOW) -> Facts:
    """What is seen at `now`, seconds since the epoch."""
    told = Story(STORY).facts()
    desired = replace(told.desired, revision=COMMIT)
    suspension = Suspension(since=NOW - 1_920, reason="benchmarks need the GPU to themselves", until=NOW + 5_280)
    servers = told.observed.servers
    seen = {label: replace(s, revision=OLD, generation=13, proved_at=NOW - 240) for label, s in servers.items()}
    seen["gemma-3-27b"] = replace(seen["gemma-3-27b"], proved_at=NOW - 1_260)
    ledger = replace(
        told.ledger,
        suspensions={"mistral-small-24b": suspension},
        generations=_generations(),
        current=14,
        source=SourceRecord(
            mode=Mode.COMMIT,
            place=FILE,
            ref="refs/heads/main",
            revision=COMMIT,
            content="14",
            uncommitted=("ensemble.yaml",),
        ),
    )
    observed = replace(told.observed, servers=seen)
    changed = replace(told, desired=desired, observed=observed, ledger=ledger, in_flight=(_download(),))
    moved: Facts = _later(changed, now - NOW)
    return moved


def tick(seen: Facts, *events: Event) -> Tick:
    """What the loop tells of it."""
    decision = planner().decide(seen)
    return Tick(decision=decision, events=events, in_flight=seen.in_flight, steady=decision.plan.settled)


def paused(seen: Facts) -> Facts:
    """The same, with a newer commit that is not taken."""
    why = "ensemble.yaml has 1 problem: ensemble.yaml:14:5: there is no field 'prot': did you mean 'port'?"
    against = Blocked(
        subject=source_subject("commit"), reference="invalid-document", reason=why, hint="mend the file and commit it"
    )
    record = seen.ledger.source
    if record is None:
        raise AssertionError("the story follows a source")
    refused = replace(record, refused=NEWER, reference=against.reference, reason=against.reason)
    return replace(seen, source=against, ledger=replace(seen.ledger, source=refused))


def pinned(seen: Facts) -> Facts:
    """The same, after it went back to generation 13 by itself."""
    why = "qwen3-4b was held after 5 failures: out of memory while it loaded"
    pin = Pin(number=13, content="13", bad=COMMIT, left=("14",), at=seen.now - 600, reason=why, automatic=True)
    return replace(seen, ledger=replace(seen.ledger, current=13, pin=pin))


def _later(value: Any, seconds: float) -> Any:
    """The same noun with every time in it moved: every fraction that is about `NOW`."""
    if isinstance(value, float):
        return value + seconds if NOW / 10 < value < 2 * NOW else value
    if isinstance(value, tuple):
        return tuple(_later(entry, seconds) for entry in value)
    if isinstance(value, Mapping):
        return {key: _later(entry, seconds) for key, entry in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _later(getattr(value, f.name), seconds) for f in fields(value)})
    return value


def _download() -> InFlight:
    total = 37 * GIB
    return InFlight(
        subject=artifact_subject(LLAMA),
        kind="ensure",
        claim=Claim(disk=total),
        since=NOW - 712,
        progress=Progress(done=int(total * 0.62), total=total, what="downloading", rate=33.4 * 2**20),
    )


_WEIGHTS: Final = {
    "gpt-oss-120b": ("mlx-community/gpt-oss-120b-MXFP4-Q4@main", "3d8f1c0a9be7425f60d1b7a2c94e85f3706a1d2c", 8100),
    "qwen3-coder-30b": (
        "mlx-community/Qwen3-Coder-30B-A3B-Instruct-8bit@main",
        "91c2e7d4405bfa863e1f70d9a5cb2846f8e03a7b",
        8101,
    ),
    "gemma-3-27b": ("mlx-community/gemma-3-27b-it-qat-4bit@main", "b60aa1de57f34c9821e5d70386fc4b29a7e1d853", 8102),
    "qwen3-4b": ("mlx-community/Qwen3-4B-Instruct-2507-4bit@main", "4b9e21d05f7c8a6d31e0b2c49f75a8de60137b2f", 8103),
    "mistral-small-24b": (
        "mlx-community/Mistral-Small-3.2-24B-Instruct-2506-4bit@main",
        "5ae0c9d213b8476fa1d05c3e97b64f82d1c7a90e",
        8104,
    ),
}


def _generations() -> tuple[Generation, ...]:
    everything = (*_WEIGHTS, "llama-3.3-70b")
    failed = "qwen3-4b was held after 5 failures: out of memory while it loaded"
    return (
        _generation(14, 0.83 * HOUR, COMMIT, everything, ("qwen3-4b", "llama-3.3-70b")),
        _generation(13, 3.1 * DAY, OLD, tuple(_WEIGHTS)),
        _generation(12, 3.2 * DAY, "e290b6d7a4c81f35d06e92b7f1a8c340d57e96bb", tuple(_WEIGHTS), ("qwen3-4b",), failed),
        _generation(11, 9.4 * DAY, "5f03ac9e81d7426b90f4e3c5b28a716d0e94cf52", tuple(_WEIGHTS)[:4]),
    )


def _generation(
    number: int, ago: float, revision: str, labels: tuple[str, ...], missing: tuple[str, ...] = (), failed: str = ""
) -> Generation:
    at = NOW - ago
    servers = {
        label: ProvedServer(
            reference=_WEIGHTS[label][0],
            artifact=_WEIGHTS[label][1],
            draft="",
            spec_hash="0123456789ab",
            port=_WEIGHTS[label][2],
            at=at + 95,
        )
        for label in labels
        if label not in missing
    }
    return Generation(
        number=number,
        at=at,
        revision=revision,
        content=str(number),
        servers=servers,
        labels=labels,
        proved_at=None if missing else at + 180,
        failed=failed,
    )


def happened(now: float = NOW) -> tuple[Event, ...]:
    """What has happened until now, oldest first."""
    gemma, llama, small = server_subject("gemma-3-27b"), artifact_subject(LLAMA), server_subject("qwen3-4b")
    litellm, mistral = gateway_subject("litellm"), server_subject("mistral-small-24b")
    told: list[tuple[float, EventKind, Subject, str, str]] = [
        (41_460, EventKind.FAILED, gemma, "its process 60188 is gone: killed", ""),
        (41_459, EventKind.STARTED, gemma, "port 8102, it is declared and does not run", "launch"),
        (41_404, EventKind.PROVED, gemma, "pid 61730 answers on port 8102", ""),
        (41_403, EventKind.STARTED, litellm, "route gemma-3-27b", "publish"),
        (41_403, EventKind.DONE, litellm, "publish done", "publish"),
        (41_402, EventKind.SETTLED, ENSEMBLE, "5 serving, 0 blocked", ""),
        (3_000, EventKind.REVISION, source_subject("commit"), f"{COMMIT[:7]}, 6 models", ""),
        (2_999, EventKind.STARTED, artifact_subject(LLAMA), "ask the hub about it", "ensure"),
        (2_996, EventKind.DONE, llama, "ensure done", "ensure"),
        (1_920, EventKind.SUSPENDED, mistral, "benchmarks need the GPU to themselves", ""),
        (1_919, EventKind.STARTED, litellm, "withdraw mistral-small-24b", "publish"),
        (1_909, EventKind.STARTED, mistral, "port 8104: benchmarks need the GPU to themselves", "stop"),
        (1_905, EventKind.DONE, mistral, "stop done", "stop"),
        (712, EventKind.STARTED, llama, "download 37.0 GiB at commit f1d0a37be29c", "ensure"),
        (364, EventKind.PROGRESS, llama, "downloading 50 % of 37.0 GiB, 33.1 MiB/s, 10 min left", "ensure"),
        (118, EventKind.PROGRESS, llama, "downloading 60 % of 37.0 GiB, 33.6 MiB/s, 8 min left", "ensure"),
        (9, EventKind.FAILED, gemma, "three questions in a row were not answered, and it does not work meanwhile", ""),
        (8, EventKind.WAITING, small, "its successor is loaded when gemma-3-27b has gone", ""),
    ]
    return tuple(
        Event(at=now - ago, kind=kind, subject=subject, text=text, action=action, reference="", revision=COMMIT)
        for ago, kind, subject, text, action in told
    )
