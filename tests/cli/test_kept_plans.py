"""A kept plan is what a person has approved: what the hub said is a part of it."""

from collections.abc import Iterator

import pytest

from reconciler.model.problem import ExitCode
from reconciler.programs.tiny_model import write_model
from tests.cli.home import Home
from tests.programs.fake_hub import Hub, Repo, serving

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def hub(home: Home) -> Iterator[Hub]:
    """A hub with one repository, which is not here."""
    write_model(home.root / "offered", "Good.")
    home.write("version: 1\nmodels: {fast: {source: {repo: acme/fast}, port: none}}\n")
    with serving({"acme/fast": Repo(home.root / "offered")}) as served:
        yield served


def test_a_plan_that_has_asked_nobody_is_not_applied(home: Home, hub: Hub) -> None:
    env = home.environment(HF_ENDPOINT=hub.endpoint)
    assert home.run("plan", "-o", "kept.json", env=env).code == ExitCode.OK
    refused = home.run("apply", "kept.json", env=env)
    assert (refused.code, "plan-not-whole" in refused.err) == (ExitCode.BLOCKED, True)
    assert hub.asked == []
    assert not home.hub.exists()


def test_a_plan_is_stale_once_the_branch_has_moved_at_the_hub(home: Home, hub: Hub) -> None:
    """Another commit was downloaded than the one that was approved."""
    env = home.environment(HF_ENDPOINT=hub.endpoint)
    assert home.run("plan", "--check-sources", "-o", "kept.json", env=env).code == ExitCode.OK
    write_model(home.root / "next", "Better.")
    hub.push("acme/fast", home.root / "next")
    stale = home.run("apply", "kept.json", env=env)
    assert (stale.code, "source/acme/fast@main" in stale.err) == (ExitCode.STALE, True)
    assert not home.hub.exists()


def test_a_plan_of_which_nothing_has_moved_is_applied(home: Home, hub: Hub) -> None:
    env = home.environment(HF_ENDPOINT=hub.endpoint)
    assert home.run("plan", "--check-sources", "-o", "kept.json", env=env).code == ExitCode.OK
    assert home.run("apply", "kept.json", env=env).code == ExitCode.OK
    assert home.run("plan", env=env).out.count("0 waiting, 0 blocked")
