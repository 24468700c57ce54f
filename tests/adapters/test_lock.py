"""The lock of a state directory, whatever happens to its file."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.adapters.lock import NAME, held, is_held
from reconciler.model.problem import ExitCode, ReconcilerError
from tests.adapters.servers import REPOSITORY

_HOLDER = """
import sys; from pathlib import Path; from reconciler.adapters.lock import held
with held(Path(sys.argv[1]), "watch"):
    print("held", flush=True); sys.stdin.read()
"""


@contextmanager
def holder(root: Path) -> Iterator[int]:
    """Another process that holds it; its pid."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process.pid
        finally:
            process.kill()


def refused(root: Path) -> ReconcilerError:
    with pytest.raises(ReconcilerError) as caught, held(root, "apply"):
        pass
    assert (caught.value.reference, caught.value.code) == ("lock-busy", ExitCode.LOCKED)
    return caught.value


def free(root: Path) -> bool:
    with held(root, "apply"):
        return not (root / NAME).read_bytes().startswith(b"pid 1 ")


@pytest.mark.fault("X01", "X03")
def test_who_has_it_is_named_until_the_kernel_frees_it(tmp_path: Path) -> None:
    root = tmp_path / "state"
    assert not is_held(root)
    with holder(root) as pid:
        assert is_held(root)
        assert f"pid {pid} (watch)" in refused(root).message
    assert not is_held(root)
    assert free(root)


@pytest.mark.fault("X05")
@pytest.mark.parametrize("again", [False, True], ids=["removed", "made again"])
def test_x05_it_outlives_its_file(tmp_path: Path, again: bool) -> None:
    with holder(tmp_path):
        (tmp_path / NAME).unlink()
        if again:
            (tmp_path / NAME).write_text("")
        assert is_held(tmp_path)
        for _ in range(2):
            assert "one that has left no note" in refused(tmp_path).message
    assert not is_held(tmp_path)
    assert free(tmp_path)


def test_a_lock_of_an_earlier_version_counts(tmp_path: Path) -> None:
    """It locks the file alone."""
    script = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True); input()"
    argv = [sys.executable, "-c", script, str(tmp_path / NAME)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert is_held(tmp_path)
        refused(tmp_path)
        process.kill()
    assert free(tmp_path)


def test_who_only_looks_is_in_nobodys_way(tmp_path: Path) -> None:
    """A look takes a shared lock for a moment."""
    script = (
        "import sys; from pathlib import Path; from reconciler.adapters.lock import is_held\n"
        "print('looks', flush=True)\nwhile True: is_held(Path(sys.argv[1]))"
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"looks\n"
        try:
            assert all(free(tmp_path) for _ in range(50))
        finally:
            process.kill()
