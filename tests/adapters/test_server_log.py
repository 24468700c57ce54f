"""The log of one launch, as far as it may be shown, and what is read out of it."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.adapters.diagnosis import LogDiagnosis
from reconciler.adapters.server_log import LINES, end, safe, size, tail
from reconciler.backends.base import Diagnosis
from reconciler.backends.mlx_lm import MlxLm
from reconciler.model.observed import ServerProcess, Standing

CANARY = "Can4ry" * 6
DIED = "2026-11-21 10:00:00,000 - ERROR - mlx_lm.server generation thread died: x\n"
FRAMES = 'Traceback (most recent call last):\n  File "/venv/mlx_lm/server.py", line 9, in _generate\n    run()\n'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "fast.log"


def process(log: Path, start: int = 0, backend: str = "mlx-lm") -> ServerProcess:
    fields = {"backend": backend}
    return ServerProcess(
        label="fast", port=8100, standing=Standing.GONE, fields=fields, log=str(log), log_start=start, cause="crashed"
    )


# ------------------------------------------------------------------------------------------------------------ reading


def test_only_what_was_written_since_the_launch_is_read(log: Path) -> None:
    log.write_text("older\nolder too\n")
    start = size(str(log))
    assert start == 16
    with log.open("a") as file:
        file.write("first\n\n  \nsecond  \nunfinished")
    assert tail(str(log), start) == ("first", "second", "unfinished")
    assert tail(str(log), start, 2) == ("second", "unfinished")
    assert end(str(log), start) == ("first", "", "  ", "second  ", "unfinished")
    assert tail(str(log), size(str(log))) == ()


def test_a_log_that_was_emptied_is_this_launchs_from_its_beginning(log: Path) -> None:
    log.write_text("a new one\n")
    assert tail(str(log), 10_000) == ("a new one",)


def test_the_last_lines_are_enough(log: Path) -> None:
    log.write_text("".join(f"{number}\n" for number in range(100_000)))
    assert tail(str(log), 0) == tuple(map(str, range(100_000 - LINES, 100_000)))
    assert len(end(str(log), 0)) < 50_000


@pytest.mark.fault("R14")
def test_what_is_no_log_is_empty(log: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/dev/fd"))
    for path in (log, tmp_path / "folder", tmp_path / "pipe", Path("")):
        assert tail(str(path), 0) == ()
        assert end(str(path), 0) == ()
    assert size(str(log)) == 0
    assert len(os.listdir("/dev/fd")) == before, "a descriptor was left open"


@pytest.mark.fault("S19")
def test_s19_a_planted_link_is_not_followed(log: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of another\n")
    log.symlink_to(tmp_path / "secret")
    assert tail(str(log), 0) == ()
    assert end(str(log), 0) == ()
    assert LogDiagnosis({"mlx-lm": MlxLm()}).of(process(log)) is None


def test_bytes_that_are_no_text_are_shown_somehow(log: Path) -> None:
    log.write_bytes(b"caf\xe9 \xff\xfe\n")
    assert tail(str(log), 0) == ("caf\ufffd \ufffd\ufffd",)


# -------------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.fault("S17")
@pytest.mark.parametrize(
    "secret",
    [
        f"hf_{CANARY}",
        f"sk-proj-{CANARY}",
        f"ghp_{CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"authorization: bearer {CANARY}",
        f"GET https://user:{CANARY}@host/x",
        f"redis://:{CANARY}@host/0",
        f"https://{CANARY}@host/git",
        f'{{"private_key": "-----BEGIN PRIVATE KEY-----\\n{CANARY}\\n-----END PRIVATE KEY-----\\n"}}',
    ],
)
def test_s17_a_secret_in_a_log_is_not_repeated(log: Path, secret: str) -> None:
    log.write_text(f"before {secret} after\n")
    [line] = tail(str(log), 0)
    assert CANARY[:12] not in line
    assert line.startswith("before ")


@pytest.mark.fault("S17")
def test_s17_a_private_key_over_several_lines_is_not_repeated(log: Path) -> None:
    log.write_text(f"key:\n-----BEGIN PRIVATE KEY-----\n{CANARY}\n{CANARY}\n-----END PRIVATE KEY-----\nnext\n")
    lines = tail(str(log), 0)
    assert (lines[0], lines[-1]) == ("key:", "next")
    assert CANARY not in "\n".join(lines)


@pytest.mark.fault("S17")
@pytest.mark.parametrize("beyond", [0, 10, 20, 30])
def test_s17_a_secret_at_the_edge_of_what_is_read_is_not_repeated(log: Path, beyond: int) -> None:
    """The lines before it are so long that fewer than are shown fit into what is read."""
    secret, rest = f"hf_{CANARY}", "\n" + ("x" * 1_000 + "\n") * 16
    log.write_text("y" * 50_000 + secret + "z" * (16_384 - len(rest) - len(secret) + beyond) + rest)
    assert not [line for line in tail(str(log), 0) if CANARY[-6:] in line]


@pytest.mark.fault("S17", "S31")
def test_s31_a_line_cannot_write_to_the_terminal(log: Path) -> None:
    log.write_text("\x1b]0;owned\x07 \u202e red \x9b31m\ttab\n")
    [line] = tail(str(log), 0)
    assert line == "\\x1b]0;owned\\x07 \\u202e red \\x9b31m\\ttab"


def test_a_line_is_cut_after_its_secrets_are_out() -> None:
    text = safe("x" * 190 + f" hf_{CANARY}")
    assert len(text) <= 200
    assert "hf_" not in text


# ------------------------------------------------------------------------------------------------------------ diagnosis


class Counting(MlxLm):
    """The real backend, which counts how often it reads."""

    def __init__(self) -> None:
        self.count = 0

    def diagnose(self, lines: Sequence[str]) -> Diagnosis | None:
        self.count += 1
        return super().diagnose(lines)


def test_a_log_is_read_again_only_when_it_has_grown(log: Path) -> None:
    backend = Counting()
    logs = LogDiagnosis({"mlx-lm": backend})
    log.write_text("all is well\n")
    assert [logs.of(process(log)) for _ in range(3)] == [None] * 3
    assert backend.count == 1
    with log.open("a") as file:
        file.write(f"{DIED}{FRAMES}FileNotFoundError: No safetensors found in /hub/it\n")
    found = [logs.diagnosed(process(log)) for _ in range(3)]
    assert [(p.cause, p.permanent) for p in found] == [("weights-missing", True)] * 3
    assert backend.count == 2
    start = size(str(log))
    assert logs.of(process(log, start)) is None, "the next launch begins with a clean sheet"
    assert logs.diagnosed(process(log, start)) == process(log, start)


def test_where_nothing_is_known_nothing_is_said(log: Path) -> None:
    logs = LogDiagnosis({"mlx-lm": MlxLm()})
    assert logs.of(process(log)) is None
    log.write_text(f"{DIED}{FRAMES}FileNotFoundError: No safetensors found in /hub/it\n")
    assert logs.of(process(log, backend="gone")) is None
    assert logs.of(process(Path(""))) is None


@pytest.mark.fault("S17")
@pytest.mark.parametrize("room", [0, 150, 160, 165])
def test_s17_a_secret_in_an_exception_is_not_repeated(log: Path, room: int) -> None:
    """Wherever the sentence is cut."""
    log.write_text(f"{DIED}{FRAMES}SomeError: {'x' * room} hf_{CANARY}\n")
    found = LogDiagnosis({"mlx-lm": MlxLm()}).of(process(log))
    assert found is not None
    assert "Can4" not in found.message
