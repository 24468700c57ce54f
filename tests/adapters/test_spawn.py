"""What a server gets from us and what it does not: descriptors, environment, limits, files, signals."""

import asyncio
import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from reconciler.adapters import spawn
from reconciler.adapters.inspection import inspect
from reconciler.adapters.process_table import LOCK_DESCRIPTOR
from reconciler.model.observed import Provenance, Standing
from reconciler.ports.errors import ActionError
from tests.adapters.servers import DEADLINE, Servers, until

LINUX = sys.platform == "linux"
CARRIED = ("RECONCILER_LABEL", "RECONCILER_COMMIT", "RECONCILER_GENERATION", "RECONCILER_SPEC")
on_linux = pytest.mark.skipif(not LINUX, reason="/proc is Linux")


@pytest.fixture
def servers(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Iterator[Servers]:
    made = Servers(tmp_path, free_ports)
    yield made
    made.close()


def descriptors(pid: int | None) -> dict[int, str]:
    """number -> what it is open on, sockets left out: those are the server's own."""
    links = {int(name): os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    return {number: link for number, link in links.items() if not link.startswith("socket:")}


# ----------------------------------------------------------------------------------------------------- descriptors


@on_linux
def test_a_server_has_its_lock_its_log_and_nothing_else(servers: Servers) -> None:
    found = servers.launch("fast")
    run = servers.run("fast")
    assert descriptors(found.pid) == {0: "/dev/null", 1: run.log_path, 2: run.log_path, LOCK_DESCRIPTOR: run.lock_path}
    flags = Path(f"/proc/{found.pid}/fdinfo/2").read_text()
    assert int(flags.split("flags:")[1].split()[0], 8) & os.O_APPEND


@on_linux
def test_a_descriptor_that_we_were_started_with_stays_here(servers: Servers) -> None:
    ends = os.pipe()
    low = [os.dup(ends[0]) for _ in range(12)]
    try:
        for number in (*ends, *low):
            os.set_inheritable(number, True)
        found = servers.launch("fast")
        assert sorted(descriptors(found.pid)) == [0, 1, 2, LOCK_DESCRIPTOR]
    finally:
        for number in (*ends, *low):
            os.close(number)


@on_linux
def test_servers_that_start_at_the_same_instant_have_their_own_lock_alone(servers: Servers) -> None:
    labels = [f"server-{number}" for number in range(8)]
    ready = threading.Barrier(len(labels))

    def launch(label: str) -> None:
        order = servers.order(label)
        ready.wait()
        asyncio.run(servers.processes.launch(order))

    threads = [threading.Thread(target=launch, args=(label,)) for label in labels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = servers.processes.records()
    assert {server.standing for server in found.values()} == {Standing.OURS}
    for label in labels:
        until(lambda label=label: "ready" in servers.log(label), f"{label} is ready")  # type: ignore[misc]
        locks = [link for link in descriptors(found[label].pid).values() if link.endswith(".lock")]
        assert locks == [servers.run(label).lock_path]
    for label in labels[::2]:
        os.kill(found[label].pid or 0, signal.SIGKILL)
        until(lambda label=label: servers.is_free(label), f"the lock of {label} is free")  # type: ignore[misc]
    assert [servers.is_free(label) for label in labels[1::2]] == [False] * 4
    assert [servers.record(label).standing for label in labels] == [Standing.GONE, Standing.OURS] * 4


def test_we_keep_nothing_open(servers: Servers) -> None:
    servers.launch("warm")
    before = sorted(os.listdir("/dev/fd"))
    found = servers.launch("fast")
    servers.processes.records()
    asyncio.run(servers.processes.stop(found))
    assert sorted(os.listdir("/dev/fd")) == before


# ------------------------------------------------------------------------------------------------ environment, limits


def test_a_server_gets_no_secret_and_nothing_that_steers_it(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "LITELLM_MASTER_KEY", "GITHUB_TOKEN", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "a secret")
    for name in ("PYTHONPATH", "PYTHONSTARTUP", "DYLD_INSERT_LIBRARIES", "LD_AUDIT", "HF_HOME", "BASH_ENV", "ENV"):
        monkeypatch.setenv(name, "/steered")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("RECONCILER_TOKEN", "of a server that started us")
    found = servers.launch("fast", env={"HF_HUB_OFFLINE": "1"})
    variables = psutil.Process(found.pid).environ()
    record = json.loads(Path(servers.run("fast").record_path).read_text())
    assert variables["RECONCILER_TOKEN"] == record["token"]
    assert (variables["HF_HUB_OFFLINE"], variables["LC_TIME"]) == ("1", "C")
    added_by_shells = {"PWD", "SHLVL", "_", "__CF_USER_TEXT_ENCODING"}
    kept = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TMPDIR", "TZ"}
    own = {"HF_HUB_OFFLINE", "SERVER_OF_TEST", "RECONCILER_TOKEN", *CARRIED}
    assert {name for name in variables if not name.startswith("LC_")} <= kept | own | added_by_shells
    assert psutil.Process(found.pid).cwd() == "/"


def test_a_server_carries_where_it_comes_from_and_its_record_says_the_same(servers: Servers) -> None:
    found = servers.launch("fast", revision="5" * 40, generation=7)
    assert (found.revision, found.generation) == ("5" * 40, 7)
    variables = psutil.Process(found.pid).environ()
    assert {name: variables[name] for name in CARRIED} == {
        "RECONCILER_LABEL": "fast",
        "RECONCILER_COMMIT": "5" * 40,
        "RECONCILER_GENERATION": "7",
        "RECONCILER_SPEC": "5bec",
    }
    seen = inspect(found.pid or 0)
    assert seen is not None
    assert seen.carried == Provenance(label="fast", revision="5" * 40, generation="7", spec_hash="5bec")
    assert (seen.pid, seen.session) == (found.pid, found.pid)


def test_an_order_cannot_say_that_a_server_comes_from_elsewhere(servers: Servers) -> None:
    found = servers.launch("fast", env={"RECONCILER_COMMIT": "forged", "RECONCILER_GENERATION": "9"})
    variables = psutil.Process(found.pid).environ()
    assert (variables["RECONCILER_COMMIT"], variables["RECONCILER_GENERATION"]) == (found.revision, "3")


def test_a_stranger_carries_nothing_and_nobody_is_nothing(servers: Servers) -> None:
    mine = inspect(os.getpid())
    assert mine is not None
    assert mine.carried == Provenance()
    assert mine.session == os.getsid(0)
    order = servers.order("fast")
    asyncio.run(servers.processes.launch(order))
    pid = servers.record("fast").pid or 0
    os.kill(pid, signal.SIGKILL)
    servers.stands("fast", Standing.GONE)
    assert inspect(pid) is None


def test_an_order_cannot_take_the_token_s_place() -> None:
    made = spawn.environment({"HOME": "/home"}, {"RECONCILER_TOKEN": "x", "A": "b"}, "real")
    assert made == {"PATH": spawn.SEARCH_PATH, "HOME": "/home", "A": "b", "RECONCILER_TOKEN": "real"}


@pytest.mark.fault("R23")
def test_r23_a_low_limit_of_descriptors_is_raised_for_the_server_alone(servers: Servers) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        found = servers.launch("fast")
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if LINUX:
        limit = psutil.Process(found.pid).rlimit(psutil.RLIMIT_NOFILE)
        assert limit == (min(spawn.DESCRIPTORS, hard), hard)


def test_a_signal_that_we_ignore_is_not_ignored_by_a_server(servers: Servers) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        found = servers.launch("fast")
    finally:
        signal.signal(signal.SIGTERM, before)
    os.kill(found.pid or 0, signal.SIGTERM)
    assert servers.stands("fast", Standing.GONE).detail == "ended by signal 15; its log ends with: ready"


# --------------------------------------------------------------------------------------------- outliving the launcher


@pytest.mark.fault("R15", "R16")
def test_r15_r16_a_server_survives_the_signals_and_the_death_of_its_launcher(servers: Servers) -> None:
    order = servers.order("fast")
    with servers.other("launch", order, new_session=True) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"done\n"
        until(lambda: "ready" in servers.log("fast"), "it is ready")
        found = servers.record("fast")
        assert os.getsid(found.pid or 0) == os.getpgid(found.pid or 0) == found.pid
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGKILL):
            if launcher.poll() is None:
                os.killpg(launcher.pid, number)
        launcher.communicate(timeout=DEADLINE)
    assert servers.record("fast") == found
    # With its output on a pipe to the launcher it would die of the next line that it writes.
    assert answer(found.port) == str(found.pid)
    until(lambda: "GET" in servers.log("fast"), "it writes into its log")
    assert servers.record("fast") == found


def answer(port: int) -> str:
    """What the fake server says to a request."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.makefile().read().splitlines()[-1]


# ------------------------------------------------------------------------------------------------ programs and files


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "server"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    return path


def test_a_program_is_found_by_path_and_by_name(program: Path) -> None:
    assert spawn.executable(str(program), "/usr/bin") == str(program)
    assert spawn.executable("server", f"relative:/usr/bin:{program.parent}") == str(program)


@pytest.mark.fault("R22")
@pytest.mark.parametrize("name", ["server", "bin/server", "/no/such/server", "/", "no\0name"])
def test_r22_a_program_that_is_missing_is_named(name: str, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(program.parent.parent)
    with pytest.raises(ActionError, match=re.escape(name)) as caught:
        spawn.executable(name, "/usr/bin:bin")
    assert (caught.value.cause, caught.value.permanent) == ("executable-missing", True)


@pytest.mark.fault("R22")
def test_r22_a_script_of_a_moved_environment_names_its_interpreter(program: Path) -> None:
    program.write_text("#!/old/venv/bin/python3 -s\nprint()\n")
    with pytest.raises(ActionError, match="/old/venv/bin/python3, which is not there"):
        spawn.executable(str(program), "")
    program.chmod(0o600)
    with pytest.raises(ActionError, match="there is no program"):
        spawn.executable(str(program), "")


def test_files_are_there_before_the_server(servers: Servers) -> None:
    path = servers.root / "templates" / "0a.jinja"
    code = f"import time; print(open({str(path)!r}).read(), 'ready', flush=True); time.sleep(600)"
    servers.launch("fast", argv=(sys.executable, "-c", code), files={str(path): "a template"})
    assert servers.log("fast") == "a template ready\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["0a.jinja"]


def test_a_file_that_is_right_is_left_and_one_that_is_wrong_is_replaced(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "0a", tmp_path / "elsewhere"
    spawn.write_order_files({str(path): "right"})
    before = path.stat()
    spawn.write_order_files({str(path): "right"})
    assert path.stat().st_ino == before.st_ino
    path.write_text("right, and more")
    spawn.write_order_files({str(path): "right"})
    assert path.read_text() == "right"
    path.unlink()
    elsewhere.write_text("right")
    path.symlink_to(elsewhere)
    spawn.write_order_files({str(path): "right"})
    assert not path.is_symlink()


def test_a_template_of_100_kib_reaches_the_server_whole(servers: Servers) -> None:
    code = "import sys, time; print(len(sys.argv[1]), 'ready', flush=True); time.sleep(600)"
    text = "{{ 'quotes' }} $HOME `date` \n" * 3500
    found = servers.launch("fast", argv=(sys.executable, "-c", code, text))
    assert servers.log("fast") == f"{len(text)} ready\n"
    assert psutil.Process(found.pid).cmdline()[-1] == text


def test_a_program_that_a_shell_would_misread_is_started_as_it_is(servers: Servers, tmp_path: Path) -> None:
    odd = tmp_path / "a $(false) 'place'"
    odd.mkdir()
    (odd / "-n").symlink_to(sys.executable)
    code = "import time; print('ready', flush=True); time.sleep(600)"
    found = servers.launch("fast", argv=(str(odd / "-n"), "-S", "-c", code))
    assert found.standing is Standing.OURS


def test_no_child_is_left_that_nobody_reaps(servers: Servers) -> None:
    before = {child.pid for child in psutil.Process().children()}
    for label in ("one", "two"):
        asyncio.run(servers.processes.stop(servers.launch(label)))
    assert {child.pid for child in psutil.Process().children()} <= before
    assert subprocess.run(["true"], check=False).returncode == 0
