"""Targets are made again when something that they rest on has changed, and only then."""

from dataclasses import replace

from reconciler.model.names import Subject, artifact_subject, gateway_subject, server_subject
from reconciler.model.observed import Absent
from reconciler.model.plan import Claim, InFlight
from reconciler.planning.resolve import Resolver
from tests.unit.engine.test_journal import scenario
from tests.world.drive import BACKENDS, facts


def job(subject: Subject, kind: str) -> InFlight:
    return InFlight(subject=subject, kind=kind, claim=Claim(port=8101), since=1.0)


def test_a_job_on_a_server_or_a_gateway_makes_no_new_target() -> None:
    given = scenario(("deep", "fast"))
    seen, resolver = facts(given), Resolver(BACKENDS)
    before = resolver.resolve(seen)
    jobs = (job(server_subject("fast"), "launch"), job(gateway_subject("litellm"), "publish"))
    after = resolver.resolve(replace(seen, in_flight=jobs))
    assert all(after[label] is before[label] for label in before)


def test_a_job_on_weights_does() -> None:
    given = scenario(("deep", "fast"))
    given.truth.artifacts["org/fast@main"] = Absent()
    seen, resolver = facts(given), Resolver(BACKENDS)
    before = resolver.resolve(seen)
    moving = replace(seen, in_flight=(job(artifact_subject("org/fast@main"), "offload"),))
    after = resolver.resolve(moving)
    assert after == Resolver(BACKENDS).resolve(moving)
    assert after["fast"] != before["fast"]
