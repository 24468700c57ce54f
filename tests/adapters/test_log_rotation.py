"""Logs that have grown too large, written by a real process that never learns of it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.adapters.log_rotation import LARGEST as LARGEST_LOG
from reconciler.adapters.log_rotation import Logs, begin_anew
from reconciler.adapters.server_log import DROPPED, OLDER, dropped, end, position, size, tail
from tests.adapters.servers import Servers, until

pytestmark = pytest.mark.fault("X20")

LARGEST = 1_000
Say = Callable[[str], None]


@contextmanager
def writer(log: Path) -> Iterator[Say]:
    """A process that has a log open for appending, as a server has; it writes what it is told."""
    with log.open("ab") as output:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=output)
    assert child.stdin is not None

    def say(text: str) -> None:
        assert child.stdin is not None
        before = size(str(log))
        child.stdin.write(text.encode())
        child.stdin.flush()
        while size(str(log)) < before + len(text):
            pass

    try:
        yield say
    finally:
        child.stdin.close()
        assert child.wait(10) == 0


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "fast.log"


def older(log: Path) -> str:
    return log.with_name(f"{log.name}{OLDER}").read_text()


def lines(first: int, last: int) -> str:
    return "".join(f"line {number:03d}\n" for number in range(first, last))


def test_a_log_that_is_small_enough_stays(log: Path) -> None:
    log.write_text(lines(0, 100))
    begin_anew(str(log), LARGEST)
    assert log.read_text() == lines(0, 100)
    assert list(log.parent.iterdir()) == [log]


def test_whoever_writes_it_goes_on_in_the_same_file(log: Path) -> None:
    with writer(log) as say:
        say(lines(0, 150))
        begin_anew(str(log), LARGEST)
        assert log.read_text() == ""
        say(lines(150, 160))
        assert log.read_text() == lines(150, 160), "from its first byte on, without a hole"
        assert older(log) == lines(39, 150), "the whole lines of its end"
        say(lines(160, 300))
        begin_anew(str(log), LARGEST)
        assert older(log) == lines(189, 300)
        assert dropped(str(log)) == 9 * 300
    assert not list(log.parent.glob("*.tmp"))
    for path in log.parent.iterdir():
        assert path == log or path.stat().st_mode & 0o077 == 0


def test_positions_stay_right_for_every_launch(log: Path) -> None:
    with writer(log) as say:
        say(lines(0, 50))
        first = position(str(log), size(str(log)))
        say(lines(50, 150))
        begin_anew(str(log), LARGEST)
        assert tail(str(log), first) == ()
        say(lines(150, 153))
        assert tail(str(log), first) == end(str(log), first) == ("line 150", "line 151", "line 152")
        second = position(str(log), size(str(log)))
        assert tail(str(log), second) == ()
        say(lines(153, 154))
        assert tail(str(log), second) == ("line 153",)
        assert len(tail(str(log), first)) == 4
        say(lines(154, 400))
        begin_anew(str(log), LARGEST)
        say(lines(400, 401))
        assert tail(str(log), first) == tail(str(log), second) == ("line 400",)


def test_a_log_that_a_person_has_emptied_is_new(log: Path) -> None:
    log.write_text(lines(0, 150))
    begin_anew(str(log), LARGEST)
    log.write_text(lines(150, 160))
    start = position(str(log), size(str(log)))
    log.write_text("new\n")
    assert tail(str(log), start) == ("new",)
    log.with_name(f"{log.name}{DROPPED}").write_text("no number")
    assert dropped(str(log)) == 0
    assert tail(str(log), start) == ("new",)


def test_a_kill_before_it_is_emptied_hides_nothing_new(log: Path) -> None:
    """What is written down first is how much has gone."""
    log.write_text(lines(0, 150))
    before = position(str(log), size(str(log)))
    log.with_name(f"{log.name}{DROPPED}").write_text(str(size(str(log))))
    with writer(log) as say:
        say(lines(150, 152))
        assert tail(str(log), before, 2) == ("line 150", "line 151")
        after = position(str(log), size(str(log)))
        say(lines(152, 153))
        begin_anew(str(log), LARGEST)
        say(lines(153, 154))
        assert tail(str(log), after) == ("line 153",)


def test_what_is_no_plain_file_is_left(log: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text(lines(0, 300))
    log.symlink_to(victim)
    begin_anew(str(log), LARGEST)
    log.with_name("folder.log").mkdir()
    begin_anew(str(log.with_name("folder.log")), LARGEST)
    begin_anew(str(log.with_name("absent.log")), LARGEST)
    assert victim.read_text() == lines(0, 300)
    assert Logs(tmp_path, LARGEST).too_large() == []


def test_a_log_with_another_name_elsewhere_is_left(log: Path, tmp_path: Path) -> None:
    """It was emptied, and with it the file of whoever had made the link."""
    victim = tmp_path / "precious"
    victim.write_text(lines(0, 300))
    log.hardlink_to(victim)
    assert Logs(tmp_path, LARGEST).too_large() == []
    begin_anew(str(log), LARGEST)
    Logs(tmp_path, LARGEST, 0).limit()
    assert victim.read_text() == lines(0, 300)
    assert list(log.parent.iterdir()) == [log]


@pytest.mark.parametrize("suffix", [OLDER, DROPPED])
def test_what_is_put_in_the_place_of_a_copy_is_not_written_to(log: Path, tmp_path: Path, suffix: str) -> None:
    victim = tmp_path / "precious"
    victim.write_text("mine\n")
    for name in (f"{log.name}{suffix}", f"{log.name}{suffix}.tmp"):
        log.with_name(name).hardlink_to(victim)
    log.write_text(lines(0, 150))
    begin_anew(str(log), LARGEST)
    assert victim.read_text() == "mine\n"
    assert (log.read_text(), older(log)) == ("", lines(39, 150))


def test_files_that_no_server_of_ours_can_have_written_are_left(log: Path, tmp_path: Path) -> None:
    names = ["Postgres.log", "my notes.log", "_other.log", ".log", "notes.txt", "archive.1"]
    for name in names:
        log.with_name(name).write_text(lines(0, 300))
    log.write_text(lines(0, 300))
    assert Logs(tmp_path, LARGEST).too_large() == [str(log)]
    for name in names:
        begin_anew(str(log.with_name(name)), LARGEST)
    Logs(tmp_path, LARGEST, 0).limit()
    assert {path.name: path.read_text() for path in log.parent.iterdir()} == dict.fromkeys(names, lines(0, 300))


def test_a_folder_of_logs_that_leads_elsewhere_costs_nobody_a_file(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """Whoever had no room left put a link in its place, and everything of others there was emptied and removed."""
    servers, elsewhere = Servers(tmp_path, free_ports), tmp_path / "elsewhere"
    elsewhere.mkdir()
    servers.root.mkdir()
    (servers.root / "logs").symlink_to(elsewhere)
    others = {"postgres.log": lines(0, 200), "postgres.log.1": lines(0, 200), "old.log": lines(0, 9)}
    for name, text in others.items():
        (elsewhere / name).write_text(text)
    try:
        servers.launch("fast")
        with (elsewhere / "fast.log").open("ab") as file:
            file.write(lines(0, 200).encode())
        logs = Logs(servers.root, LARGEST, 0)
        assert logs.too_large() == [str(servers.root / "logs" / "fast.log")]
        for name in ("fast.log", "postgres.log"):
            begin_anew(str(servers.root / "logs" / name), LARGEST)
        assert older(elsewhere / "fast.log").endswith(lines(150, 200))
        logs.limit()
        left = {path.name: path.read_text() for path in elsewhere.iterdir()}
        assert left.pop("fast.log") == ""
        del left[f"fast.log{DROPPED}"]
        assert left == others, "only our own older copy is gone"
    finally:
        servers.close()


def test_a_copy_that_cannot_be_written_leaves_the_log(log: Path) -> None:
    log.write_text(lines(0, 150))
    log.with_name(f"{log.name}{OLDER}").mkdir()
    begin_anew(str(log), LARGEST)
    assert log.read_text() == lines(0, 150)
    assert not list(log.parent.glob("*.tmp"))


@pytest.mark.skipif(sys.platform != "linux", reason="only there anybody may mount a file system of his own")
def test_on_a_full_disk_it_is_emptied_without_a_copy(tmp_path: Path) -> None:
    program = (
        "import os, sys; from reconciler.adapters.log_rotation import begin_anew\n"
        "with open('fast.log', 'wb') as log: log.write(b'x' * 100_000)\n"
        "with open('ballast', 'wb', buffering=0) as file:\n"
        "    try:\n"
        "        while file.write(bytes(4096)): pass\n"
        "    except OSError: pass\n"
        "begin_anew('fast.log', 1_000)\n"
        "print(os.path.getsize('fast.log'), sorted(os.listdir('.')))\n"
    )
    shell = 'mount -t tmpfs -o size=1m none "$1" && cd "$1" && exec "$2" -c "$3"'
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell, "sh", str(tmp_path), sys.executable]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [*argv, program], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(root)}
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("nobody but root may mount a file system here")
    assert done.stdout.startswith("0 ['ballast', 'fast.log'"), done.stdout + done.stderr


def test_a_running_server_goes_on_writing(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    servers = Servers(tmp_path, free_ports)
    try:
        log = Path(servers.run("fast").log_path)
        log.parent.mkdir(parents=True)
        with log.open("wb") as file:
            file.truncate(LARGEST_LOG + 1)
        first = servers.launch("fast", "--say=hello")
        assert log.stat().st_size < LARGEST, "a launch begins it anew where it is too large"
        assert first.log_start == LARGEST_LOG + 1
        assert tail(str(log), first.log_start)[0] == "hello"
        with log.open("ab") as file:
            file.write(lines(0, 200).encode())

        async def kept_small() -> None:
            task = asyncio.create_task(Logs(servers.root, LARGEST).keep_small(0.01))
            await asyncio.to_thread(until, lambda: size(str(log)) <= LARGEST, "it is small")
            task.cancel()

        asyncio.run(kept_small())
        assert older(log).endswith(lines(150, 200))
        assert tail(str(log), first.log_start) == ()
        os.kill(first.pid or 0, signal.SIGKILL)
        second = servers.launch("fast", "--say=again")
        assert tail(str(log), second.log_start)[0] == "again"
        assert servers.record("fast").log_start == second.log_start > first.log_start
    finally:
        servers.close()


def test_all_logs_together_have_a_limit(tmp_path: Path) -> None:
    logs, run = tmp_path / "logs", tmp_path / "run"
    logs.mkdir()
    run.mkdir()
    names = ["gone.log", "gone.log.dropped", "live.log", "live.log.1", "young.log", "young.log.1", "_watch.log"]
    for age, name in enumerate(names):
        (logs / name).write_bytes(bytes(100))
        os.utime(logs / name, (age, age))
    (run / "live.json").write_text("{}")

    def left(limit: int) -> set[str]:
        Logs(tmp_path, LARGEST, limit).limit()
        return {path.name for path in logs.iterdir()}

    assert left(700) == set(names)
    assert left(600) == set(names) - {"live.log.1"}
    assert left(500) == {"gone.log", "gone.log.dropped", "live.log", "young.log", "_watch.log"}
    assert left(400) == {"live.log", "young.log", "_watch.log"}
    assert left(100) == {"live.log", "_watch.log"}, "who may still write is left alone"
    assert Logs(tmp_path / "absent", LARGEST).too_large() == []
