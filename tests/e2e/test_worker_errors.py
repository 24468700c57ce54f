"""A worker that answers with errors is degraded in our own words, and never serves, whatever else it says of itself."""

import urllib.request

import pytest

from tests.e2e.ensemble import Ensemble, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.mark.req("S2-02", "S2-23", "S2-57", "S2-71")
def test_an_error_of_a_worker_is_named_by_us_and_makes_it_degraded(ensemble: Ensemble) -> None:
    ensemble.stubs("alpha", "beta")
    ensemble.order("alpha", answer={"status": 500, "body": {"error": {"message": "overloaded"}}})
    ensemble.declare("alpha", "beta")
    with ensemble.applying() as apply:
        ensemble.started("alpha", apply)
        until(lambda: _lists_models(ensemble.port("alpha")), "it lists its models", apply)
        until(lambda: [e for e in ensemble.of("alpha") if e["kind"] == "failed"], "it has failed", apply)
        until(lambda: ensemble.status("alpha")["health"] == "Degraded", "it is degraded", apply)
    (failed, *_) = [event for event in ensemble.of("alpha") if event["kind"] == "failed"]
    assert failed["reference"] == "refuses-requests"
    assert ensemble.status("beta")["health"] == "Healthy"
    assert ensemble.routed() == ensemble.ever_routed() == {"beta"}
    assert not any(event["kind"] == "proved" for event in ensemble.of("alpha"))


def _lists_models(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
