"""What is wrong with a command line is said before anything is looked at."""

import shlex

import pytest

from reconciler.model.problem import ExitCode
from reconciler.surface.cli.main import run
from reconciler.surface.composition import Composition, Settings


def nobody(settings: Settings) -> Composition:
    """No machine may be needed to see it."""
    raise AssertionError("the machine was asked")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("suspend alpha --reason x", ["--for DURATION", "`reconciler stop` is the form without"]),
        ("suspend alpha --reason x --for ever", ["--for must be", "`reconciler stop` is the form without"]),
        ("suspend alpha --reason x --for 0s", ["--for must be"]),
        ("suspend alpha --reason x --for 31d", ["30d at most"]),
        ("suspend alpha --for 2h", ["--reason TEXT"]),
        ("suspend alpha --for 2h --reason ''", ["--reason TEXT"]),
        ("suspend --for 2h --reason x", ["LABEL, or --all"]),
        ("suspend alpha --all --for 2h --reason x", ["LABEL, or --all"]),
        ("events --since yesterday", ["--since must be a duration such as"]),
        ("events --kind happened", ["'happened' is not one of"]),
        ("accept 0123456", ["--reason"]),
        ("accept 0123456 --reason ' '", ["--reason TEXT"]),
        ("accept --reason x", ["REVISION"]),
        ("history -o yaml", ["'yaml' is not one of"]),
        ("rollback 1 2", ["unexpected extra argument"]),
    ],
)
def test_a_command_line_that_is_wrong(line: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(nobody, shlex.split(line)) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
