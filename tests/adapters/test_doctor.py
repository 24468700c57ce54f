"""Looking at this machine as it is: real locks, real environments on the PATH, real listeners, real repositories."""

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.adapters.doctor import file_system, git_settings
from reconciler.adapters.doctor.examiner import LocalExaminer
from reconciler.adapters.doctor.installs import environment_of, installs, version_in
from reconciler.adapters.doctor.unfinished import leftovers
from reconciler.adapters.state_dir import StateDir
from reconciler.adapters.transcripts import LocalMac, transcript
from reconciler.model.doctor import Complaint, GitState, Install, Listening, Owned
from reconciler.model.event import Event, EventKind
from reconciler.model.host import HostFile, Runtime
from reconciler.model.ledger import EMPTY
from reconciler.model.names import ENSEMBLE
from reconciler.model.observed import Absent, Present, Unknown
from reconciler.model.transcript import Transcript
from reconciler.ports.errors import ObservationError
from tests.adapters.conftest import Listen

NOW = 1_800_000_000.0


# ---------------------------------------------------------------------------------------------------- the file system


def test_the_disk_of_the_tests_behaves_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    found = file_system.tried(tmp_path)
    assert (found.excludes, found.inherits, found.frees, found.replaces) == (True, True, True, True)
    assert found.folds_case == (tmp_path / "x").with_name("X").exists()
    assert found.kind
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_yet_is_tried_where_it_would_be(tmp_path: Path) -> None:
    found = file_system.tried(tmp_path / "state" / "reconciler")
    assert (found.path, found.tried) == (str(tmp_path / "state" / "reconciler"), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("X06")
def test_x06_locks_that_belong_to_a_process_and_not_to_a_file_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS has them: it makes a lock on a range of bytes of every flock, which no child inherits."""
    monkeypatch.setattr("fcntl.flock", fcntl.lockf)
    found = file_system.tried(tmp_path)
    assert (found.excludes, found.inherits) == (False, False)


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no tmpfs here")
def test_memory_is_told_from_a_disk() -> None:
    assert file_system.kind("/dev/shm") == "tmpfs"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/me/state", "nfs4"),
        ("/home", "nfs4"),
        ("/homes", "ext4"),
        ("/home/me/local/x", "xfs"),
        ("/twice/x", "tmpfs"),
    ],
)
def test_the_innermost_and_the_last_mount_counts(path: str, kind: str) -> None:
    mounts = [("/", "ext4"), ("/home", "NFS4"), ("/home/me/local", "xfs"), ("/twice", "ext4"), ("/twice", "tmpfs")]
    assert file_system.kind_among(path, mounts) == kind


def test_where_no_mount_is_known_no_kind_is_claimed() -> None:
    assert file_system.kind_among("/x", []) == ""


# ------------------------------------------------------------------------------------------------------------ installs


class Environment:
    """A virtual environment of files alone; whoever starts its Python leaves a trace."""

    def __init__(self, root: Path, **packages: str) -> None:
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir(parents=True)
        (root / "pyvenv.cfg").write_text("home = /usr/bin\n")
        self.trace = root / "started"
        self.python = self.program("python3", f"#!/bin/sh\ntouch '{self.trace}'\n")
        library = root / "lib" / "python3.12" / "site-packages"
        library.mkdir(parents=True)
        for package, version in packages.items():
            (library / f"{package}-{version}.dist-info").mkdir()

    def program(self, name: str, text: str) -> Path:
        """A program in it."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def script(self, name: str) -> Path:
        """A program as pip writes it."""
        return self.program(name, f"#!{self.python}\nimport sys\n")


@pytest.mark.fault("S30")
def test_s30_a_second_backend_on_the_path_is_found_and_its_python_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Environment(tmp_path / "other", mlx_lm="0.31.3", litellm="1.82.8")
    other.script("mlx_lm.server")
    other.script("litellm")
    monkeypatch.setenv("PATH", f"{other.bin}:/usr/bin:/bin")
    found = {(i.package, i.found): i for i in installs({})}
    assert found["mlx-lm", ("the PATH",)] == Install(
        package="mlx-lm", version="0.31.3", prefix=str(other.root), found=("the PATH",)
    )
    assert found["litellm", ("the PATH",)].version == "1.82.8"
    assert found["mlx-lm", ("this environment",)].prefix == os.path.realpath(sys.prefix)
    assert found["psutil", ("this environment",)].version
    assert not other.trace.exists()


def test_one_environment_that_is_found_twice_is_one_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Environment(tmp_path / "other", mlx_openai_server="1.8.1", mlx_vlm="0.4.4")
    program = other.script("mlx-openai-server")
    monkeypatch.setenv("PATH", str(other.bin))
    found = [
        i for i in installs({"mlx-openai-server": Runtime(command=(str(program), "launch"))}) if "vlm" in i.package
    ]
    assert found == [
        Install(package="mlx-vlm", version="0.4.4", prefix=str(other.root), found=("the host file", "the PATH"))
    ]


def test_a_program_leads_to_its_environment_by_a_link_by_its_shell_and_by_env(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Environment(tmp_path / "a long way" / "other", mlx_lm="0.32.2")
    link = tmp_path / "mlx_lm.server"
    link.symlink_to(other.script("mlx_lm.server"))
    spaced = other.program("spaced", f"#!/bin/sh\n'''exec' \"{other.python}\" \"$0\" \"$@\"\n' '''\nimport sys\n")
    by_env = other.program("by-env", "#!/usr/bin/env python3\n")
    monkeypatch.setenv("PATH", str(other.bin))
    for program in (spaced, by_env, other.python):
        assert environment_of(str(program)) == str(other.root), program
    plain = Environment(tmp_path / "plain", mlx_lm="0.32.2")
    link.unlink()
    link.symlink_to(plain.script("mlx_lm.server"))
    assert environment_of(str(link)) == str(plain.root)
    assert version_in(str(plain.root), "mlx.lm") == "0.32.2"


def test_a_program_that_is_no_python_has_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "litellm"
    program.write_text("#!/usr/bin/env bash\nexec elsewhere\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = [i for i in installs({}) if i.package == "litellm"]
    assert found == Install(package="litellm", version="", prefix="", found=("the PATH",))


# ------------------------------------------------------------------------------------------------------------ downloads


@pytest.mark.fault("H01")
def test_h01_leftovers_are_counted_and_those_under_a_lock_are_told_apart(tmp_path: Path) -> None:
    blobs, locks = tmp_path / "models--a--b" / "blobs", tmp_path / ".locks" / "models--a--b"
    blobs.mkdir(parents=True)
    locks.mkdir(parents=True)
    for name in ("aaa.0123abcd.incomplete", "bbb.incomplete", "ccc.reconciler.incomplete", "ddd"):
        (blobs / name).write_bytes(b"12345")
        os.utime(blobs / name, (NOW - 100, NOW - 100))
    (tmp_path / "models--empty--one").mkdir()
    (tmp_path / "version.txt").write_text("1")
    (locks / "ccc.lock").touch()
    with (locks / "aaa.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = {Path(one.path).name: one for one in leftovers(str(tmp_path), NOW)}
    assert {name: one.locked for name, one in found.items()} == {
        "aaa.0123abcd.incomplete": True,
        "bbb.incomplete": False,
        "ccc.reconciler.incomplete": False,
    }
    assert {(one.size, one.age) for one in found.values()} == {(5, 100.0)}
    assert sorted(path.name for path in locks.iterdir()) == ["aaa.lock", "ccc.lock"]


# ---------------------------------------------------------------------------------------------------------------- git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that tries to have a program of its own run."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch '{tmp_path}/sprung'\n")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "core.sshCommand", "core.hooksPath"):
        subprocess.run(["git", "-C", str(tmp_path), "config", name, str(trap)], check=True)
    return tmp_path


@pytest.mark.fault("S25")
def test_s25_the_settings_that_are_pinned_win_over_those_of_a_repository(repository: Path) -> None:
    found = git_settings.looked(str(repository / "ensemble.yaml"))
    assert isinstance(found, GitState), found
    assert found.folder == str(repository)
    assert found.effective == found.pinned
    assert {"core.fsmonitor", "core.hooksPath"} <= found.pinned.keys()
    assert not (repository / "sprung").exists()


def test_a_file_outside_of_a_repository_has_git_all_the_same(tmp_path: Path) -> None:
    found = git_settings.looked(str(tmp_path / "ensemble.yaml"))
    assert isinstance(found, GitState), found
    assert (found.folder, found.effective) == ("", found.pinned)


@pytest.mark.fault("D29")
def test_d29_a_missing_git_is_a_complaint(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = git_settings.looked(str(repository / "ensemble.yaml"))
    assert isinstance(found, Complaint)
    assert found.reference == "git-missing"


@pytest.mark.fault("D28")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
def test_d28_a_repository_of_somebody_else_is_a_complaint(repository: Path) -> None:
    for path in (repository, repository / ".git"):
        os.chown(path, 12345, -1)
    found = git_settings.looked(str(repository / "ensemble.yaml"))
    assert isinstance(found, Complaint)
    assert found.reference == "repository-foreign"


# ---------------------------------------------------------------------------------------------------------- the machine


@pytest.fixture
def examiner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalExaminer:
    monkeypatch.setenv("RECONCILER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("RECONCILER_HOST_FILE", str(tmp_path / "host.yaml"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_TOKEN_PATH", raising=False)
    return LocalExaminer(HostFile(), None, None, lambda: NOW)


@pytest.mark.fault("S09")
@pytest.mark.skipif(sys.platform != "linux", reason="netlink")
@pytest.mark.parametrize(
    ("address", "wide"), [("127.0.0.1", False), ("0.0.0.0", True), ("::1", False), ("::", True), ("127.0.0.2", False)]
)
def test_s09_a_listener_on_every_address_is_told_from_one_of_this_machine(
    examiner: LocalExaminer, listen: Listen, address: str, wide: bool
) -> None:
    port = listen(address)
    found = examiner.listening()
    assert isinstance(found, Present)
    assert [one for one in found.value if one.port == port] == [Listening(port=port, wide=wide)]


@pytest.mark.skipif(sys.platform != "linux", reason="netlink")
def test_every_address_of_the_older_protocol_written_in_the_newer_one_is_wide(examiner: LocalExaminer) -> None:
    with socket.socket(socket.AF_INET6) as listener:
        try:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::ffff:0.0.0.0", 0))
        except OSError as error:
            pytest.skip(f"no such address here: {error}")
        listener.listen()
        found = examiner.listening()
        assert isinstance(found, Present)
        assert Listening(port=listener.getsockname()[1], wide=True) in found.value


def test_nothing_of_ours_is_sound_and_leaves_no_trace(examiner: LocalExaminer, tmp_path: Path) -> None:
    assert examiner.state_owners() == Present(value=())
    assert examiner.database() == Present(value=None)
    assert examiner.leftovers() == Present(value=())
    assert examiner.tokens() == Present(value=())
    assert examiner.host_file() == Absent()
    assert examiner.git() == Absent()
    assert isinstance(examiner.disks(), Present)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_database_and_a_newer_one_complain(examiner: LocalExaminer, tmp_path: Path) -> None:
    import sqlite3

    StateDir().save(EMPTY)
    assert examiner.database() == Present(value=None)
    database = tmp_path / "state" / "state.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    newer = examiner.database()
    assert isinstance(newer, Present)
    assert newer.value is not None
    assert newer.value.reference == "state-too-new"
    database.write_bytes(b"no database at all " * 500)
    before = sorted(path.name for path in database.parent.iterdir())
    damaged = examiner.database()
    assert isinstance(damaged, Present)
    assert damaged.value is not None
    assert damaged.value.reference == "state-damaged"
    assert sorted(path.name for path in database.parent.iterdir()) == before


def test_modes_are_seen_and_tokens_are_not_read(examiner: LocalExaminer, tmp_path: Path) -> None:
    StateDir().save(EMPTY)
    (tmp_path / "state").chmod(0o750)
    owners = examiner.state_owners()
    assert isinstance(owners, Present)
    assert Owned(path=str(tmp_path / "state"), ours=True, mode=0o750) in owners.value
    assert Owned(path=str(tmp_path / "state" / "state.db"), ours=True, mode=0o600) in owners.value
    token = tmp_path / "hf" / "token"
    token.parent.mkdir()
    token.write_text("hf_0123456789abcdefghij")
    token.chmod(0o640)
    os.utime(token, (1.0, 1.0))
    assert examiner.tokens() == Present(value=(Owned(path=str(token), ours=True, mode=0o640),))
    (tmp_path / "host.yaml").touch(mode=0o600)
    assert isinstance(examiner.host_file(), Present)


def test_the_last_event_is_what_the_clock_is_compared_with(examiner: LocalExaminer) -> None:
    first = examiner.clock()
    assert isinstance(first, Present)
    assert (first.value.now, first.value.last_event) == (NOW, None)
    StateDir().save(EMPTY, [Event(at=NOW + 5, kind=EventKind.SETTLED, subject=ENSEMBLE, text="0 serving")])
    then = examiner.clock()
    assert isinstance(then, Present)
    assert then.value.last_event == NOW + 5


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_ports_that_this_kernel_lends(examiner: LocalExaminer) -> None:
    found = examiner.lent_ports()
    assert isinstance(found, Present)
    assert 0 < found.value.first <= found.value.last < 65536


# -------------------------------------------------------------------------------------------------------- transcripts


def test_a_program_is_heard_in_its_own_words_and_with_its_code() -> None:
    program = "import os, sys; print(os.environ['LC_ALL']); print('no', file=sys.stderr); sys.exit(3)"
    assert transcript((sys.executable, "-c", program)) == Transcript(code=3, out="C\n", err="no\n")


@pytest.mark.parametrize(
    ("words", "seconds", "said"),
    [
        (("/no/such/program",), 1.0, "there is no program"),
        ((os.path.dirname(__file__),), 1.0, "cannot be run"),
        ((sys.executable, "-c", "import signal; signal.pause()"), 0.2, "no answer"),
    ],
)
def test_a_program_that_does_not_answer_is_an_observation_that_failed(
    words: tuple[str, ...], seconds: float, said: str
) -> None:
    with pytest.raises(ObservationError, match=said):
        transcript(words, seconds)


def test_only_a_mac_is_asked_what_only_a_mac_knows() -> None:
    assert LocalMac("linux").ask("sysctl", "hw.memsize") == Absent()
    assert isinstance(LocalMac("darwin").ask("/no/such/program"), Unknown)
