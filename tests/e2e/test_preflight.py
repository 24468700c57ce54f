"""What is to replace a running server is tried out first: one that would not start leaves the old one as it is."""

import pytest

from reconciler.model.problem import ExitCode
from tests.e2e.ensemble import Ensemble
from tests.e2e.test_broken_models import answer, renamed_tensor

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(240)]

TEMPLATE = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
SPEAKS = TEMPLATE + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
FAILS = "{{ messages[0].nobody.knows }}"


def test_a_successor_that_would_not_start_changes_nothing_and_a_good_one_goes_through(ensemble: Ensemble) -> None:
    ensemble.models("fast", "renamed")
    renamed_tensor(ensemble, "renamed")
    ensemble.declare("fast")
    ensemble.apply()
    pid, routes = ensemble.pid("fast"), ensemble.published.read_bytes()
    for change, cause in (
        ({"chat_template": "templates/fails.jinja"}, "template-broken"),
        ({"source": {"repo": "demo/renamed"}}, "weights-mismatch"),
    ):
        (ensemble.home.root / "templates").mkdir(exist_ok=True)
        ensemble.home.write(FAILS, "templates/fails.jinja")
        ensemble.declare("fast", fast=change)
        said = ensemble.apply(ExitCode.BLOCKED)
        assert "the running server was kept" in said
        assert ensemble.pid("fast") == pid
        assert ensemble.published.read_bytes() == routes
        assert answer(ensemble.port("fast")) == "Hello from fast."
        status = ensemble.status("fast")
        assert (status["sync"], status["health"]) == ("OutOfSync", "Healthy")
        assert (status["reference"], f"({cause})" in status["reason"]) == ("held-permanent", True)
        plan = ensemble.run("plan").out
        assert f"({cause})" in plan
        assert "Nothing can be done now." in plan
        assert {event["action"] for event in ensemble.of("fast")} == {"", "launch", "preflight"}
    ensemble.home.write(SPEAKS, "templates/speaks.jinja")
    ensemble.declare("fast", fast={"chat_template": "templates/speaks.jinja"})
    assert "preflight server/fast" in ensemble.run("plan").out
    ensemble.apply()
    assert ensemble.pid("fast") != pid
    assert answer(ensemble.port("fast")) == "Hello from fast."
    assert ensemble.routed() == {"fast"}
