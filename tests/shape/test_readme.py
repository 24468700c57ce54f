"""What the README shows is what the code does."""

import re
from pathlib import Path

import pytest
import yaml

from reconciler.desired.parse import parse
from reconciler.model.bundle import Bundle
from reconciler.model.problem import InvalidDocument
from reconciler.surface.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_plan_is_the_one_of_its_story() -> None:
    assert (ROOT / "tests" / "golden" / "readme" / "plan.txt").read_text() in README


def test_the_example_is_a_valid_desired_state() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    bundle = Bundle(name="README.md", revision="worktree:0", text=example.encode(), files={})
    parsed = parse(bundle, roots={}, environ={}, overrides={})
    assert list(parsed.desired.state.models) == list(yaml.safe_load(example)["models"])
    assert parsed.warnings == ()


MISTAKEN = b"version: 1\nmodells: {}\nmodels:\n  fast:\n    port: 8100\n    source: {repo: gemma-4-31b-it}\n"


def test_mistakes_are_told_in_these_words() -> None:
    bundle = Bundle(name="ensemble.yaml", revision="worktree:0", text=MISTAKEN, files={})
    with pytest.raises(InvalidDocument) as caught:
        parse(bundle, roots={}, environ={}, overrides={})
    told = "".join(f"{problem.located('ensemble.yaml')}\n" for problem in caught.value.problems)
    assert f"$ reconciler validate\n{told}error: {caught.value.message}." in README


def test_commands_and_targets_exist() -> None:
    named = set(re.findall(r"^\$ reconciler ([a-z]+)", README, re.M)) | set(re.findall(r"`reconciler ([a-z]+)", README))
    assert named
    assert named <= COMMANDS.keys()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / link).exists(), f"{page} links to {link}"
