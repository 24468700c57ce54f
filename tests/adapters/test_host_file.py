"""The host file is found in its places and refused when others could have written it."""

import os
from pathlib import Path

import pytest

from reconciler.adapters.host_file import find_host_file
from reconciler.model.problem import ExitCode, ReconcilerError

TEXT = b"version: 1\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("RECONCILER_HOST_FILE", raising=False)
    return tmp_path


def put(path: Path, mode: int = 0o600) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(TEXT)
    path.chmod(mode)
    return path


def refused(path: Path | None = None) -> ReconcilerError:
    with pytest.raises(ReconcilerError) as caught:
        find_host_file(path)
    assert caught.value.code is ExitCode.ENVIRONMENT
    return caught.value


def test_there_need_not_be_one(home: Path) -> None:
    assert find_host_file() is None


def test_the_usual_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = put(home / ".config" / "reconciler" / "host.yaml", 0o644)
    assert find_host_file() == (str(usual), TEXT)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    assert find_host_file() is None
    chosen = put(home / "xdg" / "reconciler" / "host.yaml")
    assert find_host_file() == (str(chosen), TEXT)


def test_a_named_one_wins_and_must_be_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home / ".config" / "reconciler" / "host.yaml")
    variable, option = put(home / "variable.yaml"), put(home / "option.yaml")
    monkeypatch.setenv("RECONCILER_HOST_FILE", str(variable))
    assert find_host_file() == (str(variable), TEXT)
    assert find_host_file(option) == (str(option), TEXT)
    option.unlink()
    assert refused(option).reference == "host-file-missing"
    variable.unlink()
    assert refused().reference == "host-file-missing"


def test_it_may_be_a_link_to_a_file_of_ours(home: Path) -> None:
    real = put(home / "dotfiles" / "host.yaml")
    link = home / ".config" / "reconciler" / "host.yaml"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    assert find_host_file() == (str(link), TEXT)
    real.parent.chmod(0o777)
    assert refused().reference == "host-file-untrusted"


@pytest.mark.fault("S18")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_s18_a_file_that_others_may_write_is_refused(home: Path, mode: int) -> None:
    path = put(home / "host.yaml", mode)
    error = refused(path)
    assert error.reference == "host-file-untrusted"
    assert error.hint == f"chmod go-w '{path}'"


@pytest.mark.fault("S18")
def test_s18_a_folder_in_which_others_may_replace_it_is_refused(home: Path) -> None:
    path = put(home / "shared" / "host.yaml")
    path.parent.chmod(0o777)
    assert refused(path).reference == "host-file-untrusted"
    path.parent.chmod(0o1777)
    assert find_host_file(path) == (str(path), TEXT)


@pytest.mark.fault("S18")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_s18_a_file_of_another_user_is_refused(home: Path) -> None:
    path = put(home / "host.yaml")
    os.chown(path, 12_345, -1)
    assert "belongs to user 12345" in refused(path).message


def test_what_is_no_plain_file_is_refused(home: Path) -> None:
    os.mkfifo(home / "pipe")
    for path in (home / "pipe", home, Path("/dev/null")):
        assert refused(path).reference == "host-file-unreadable"
