"""A volume of another host: what ssh is told, what of the host is refused, and what becomes of bad answers."""

import ast
import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh
import pytest

from reconciler.adapters.cold.remote_link import COMMAND, OPTIONS
from reconciler.adapters.cold.remote_volume import PROGRAM, connected
from reconciler.adapters.durable.files import PIECE
from reconciler.model.host import ColdVolume
from reconciler.ports.errors import ActionError

from .real_move import CONTENT, REPO, add_commit, filled, is_cold, tree
from .remote_place import RemotePlace, fresh, kept
from .ssh_host import GREETED, ID, NAME, Process, SshHost, ssh_host


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with ssh_host(tmp_path_factory.mktemp("host") / "mini") as made:
        yield made


@pytest.fixture
def host(shared: SshHost) -> SshHost:
    return fresh(shared)


@pytest.fixture
def place(tmp_path: Path, host: SshHost) -> RemotePlace:
    made = RemotePlace(tmp_path / "place", host=host)
    add_commit(made.source, CONTENT)
    return made


# ------------------------------------------------------------------------------------------------------- what is said


@pytest.mark.fault("S20", "S21")
def test_what_ssh_is_told_depends_on_nothing_but_the_host(host: SshHost, tmp_path: Path) -> None:
    hostile = host.folder / "$(touch x) `touch x`; touch 'x' \"y\" && -oProxyCommand=x"
    hostile.mkdir(exist_ok=True)
    (hostile / ".reconciler-volume").write_text("cd" * 16)
    for place in (host.place(), host.place(hostile, identity="cd" * 16)):
        with connected(place, host.environ) as files:
            files.write("; touch x #", [b"touch x"])
            files.link("$(touch x)", "`touch x`")
            assert files.read("; touch x #") == b"touch x"
    words = [word for option in OPTIONS for word in ("-o", option)]
    assert host.calls() == [[*words, "--", NAME, COMMAND]] * 2
    assert host.commands == [COMMAND] * 2
    assert set(OPTIONS) >= {"BatchMode=yes", "StrictHostKeyChecking=yes", "ForwardAgent=no", "ClearAllForwardings=yes"}
    assert not list(host.folder.rglob("x")) + list(host.folder.rglob("y"))
    assert host.connections == 2
    assert not (host.folder / "control").exists()  # the user's configuration asks for a shared connection


@pytest.mark.fault("S20")
def test_nothing_of_the_home_folder_there_is_executed(host: SshHost) -> None:
    spoiled = {"json.py": "open('ran', 'w')", "sitecustomize.py": "open('ran', 'w')"}
    for name, text in spoiled.items():
        (host.folder / name).write_text(text)
    host.variables = {"PYTHONPATH": str(host.folder), "PYTHONSTARTUP": str(host.folder / "json.py")}
    try:
        with connected(host.place(), host.environ) as files:
            assert files.names("") == (".reconciler-volume",)
    finally:
        host.variables = {}
        for name in spoiled:
            (host.folder / name).unlink()
    assert not (host.folder / "ran").exists()


def test_what_a_login_script_prints_is_skipped(host: SshHost) -> None:
    async def serve(process: Process) -> None:
        process.stdout.write(b'Welcome to mini!\n{"ok": 1}\nhalf a line')
        await host.run(process)

    host.serve = serve
    with connected(host.place(), host.environ) as files:
        assert files.names("") == (".reconciler-volume",)


@pytest.mark.fault("S21")
def test_ssh_does_not_come_by_a_token(tmp_path: Path, host: SshHost) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\nenv >'{tmp_path}/env'\nexit 255\n")
    ssh.chmod(0o755)
    secrets = dict.fromkeys(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "LITELLM_MASTER_KEY", "OPENAI_API_KEY"), "value")
    environ = secrets | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SSH_AUTH_SOCK": "/agent"}
    with pytest.raises(ActionError), connected(host.place(), environ):
        raise AssertionError("it was let through")
    lines = (tmp_path / "env").read_text().splitlines()
    assert "SSH_AUTH_SOCK=/agent" in lines
    assert not [line for line in lines if line.partition("=")[0] in secrets]


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.fault("O13", "S21")
@pytest.mark.parametrize("known", ["another key", "none"])
def test_a_host_that_is_not_the_known_one_gets_nothing(place: RemotePlace, known: str) -> None:
    file = place.host.folder / "known_hosts"
    before = file.read_bytes()
    try:
        if known == "none":
            file.write_bytes(b"")
        else:
            place.host.trust(asyncssh.generate_private_key("ssh-ed25519"))
        now = file.read_bytes()
        error = kept(place)
        assert (error.cause, error.permanent) == ("volume-host-untrusted", True)
        assert "nothing was changed" in error.message
        assert file.read_bytes() == now
    finally:
        file.write_bytes(before)
    assert place.host.commands == []


@pytest.mark.fault("O13")
def test_a_host_that_does_not_know_us(place: RemotePlace) -> None:
    before = (place.host.folder / "key").read_bytes()
    try:
        place.host.login(asyncssh.generate_private_key("ssh-ed25519"))
        error = kept(place)
    finally:
        (place.host.folder / "key").write_bytes(before)
    assert (error.cause, error.permanent) == ("volume-host-refused", True)


@pytest.mark.fault("O12")
def test_a_host_that_is_off(place: RemotePlace, free_ports: Callable[[int], list[int]]) -> None:
    config = place.host.folder / "config"
    before = config.read_text()
    try:
        config.write_text(before.replace(f"Port {place.host.port}", f"Port {free_ports(1)[0]}"))
        error = kept(place)
    finally:
        config.write_text(before)
    assert (error.cause, error.permanent) == ("volume-unreachable", False)
    assert "Connection refused" in error.message


def test_without_ssh_nothing_is_reached(place: RemotePlace) -> None:
    with pytest.raises(ActionError, match="no ssh in PATH") as raised, connected(place.host.place(), {"PATH": "/none"}):
        raise AssertionError("it was let through")
    assert raised.value.cause == "volume-unreachable"


@pytest.mark.fault("O14")
@pytest.mark.parametrize(
    ("said", "silence", "cause"),
    [
        (b"", 0.5, "volume-unreachable"),
        (GREETED, 3.0, "volume-connection-lost"),  # the connection itself takes a moment
        (GREETED + b'{"ok": 1}\n{"ok": ', 3.0, "volume-connection-lost"),
    ],
    ids=["nothing", "its greeting", "half an answer"],
)
def test_a_host_that_hangs(place: RemotePlace, said: bytes, silence: float, cause: str) -> None:
    async def serve(process: Process) -> None:
        process.stdout.write(said)
        await process.wait_closed()

    place.host.serve, place.silence = serve, silence
    error = kept(place)
    assert (error.cause, error.permanent) == (cause, False)
    assert "said nothing for" in error.message


@pytest.mark.fault("O14")
def test_a_host_that_says_for_ever_that_it_works(place: RemotePlace) -> None:
    async def serve(process: Process) -> None:
        process.stdout.write(GREETED)
        over = asyncio.ensure_future(process.wait_closed())
        while not over.done():
            process.stdout.write(b'{"alive": true}\n')
            await asyncio.wait([over], timeout=0.05)

    place.host.serve, place.silence, place.standstill = serve, 60, 0.5
    error = kept(place)
    assert error.cause == "volume-connection-lost"
    assert "did not come to an end in time" in error.message


@pytest.mark.fault("O15")
@pytest.mark.parametrize(
    "answer", [b"no JSON\n", b"[]\n", b"{}\n", b'{"ok": []}\n', b'{"ok": ["file", "x"]}\n', b'{"ok": "x"}\n']
)
def test_an_answer_that_is_none_is_never_taken_for_one(place: RemotePlace, answer: bytes) -> None:
    async def serve(process: Process) -> None:
        process.stdout.write(GREETED + b'{"ok": 7}\n' + answer)
        await process.wait_closed()

    place.host.serve = serve
    assert kept(place).cause == "volume-connection-lost"
    with connected(place.host.place(), place.host.environ) as files:
        for ask in (lambda: files.look("x"), lambda: files.names("")):
            with pytest.raises(ActionError):
                ask()


@pytest.mark.fault("O15")
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\necho 'python3: not found' >&2\nexit 127\n", "exit 127"),
        ("#!/bin/sh\necho 'xcode-select: hf_abcdefghijklmnopqrstuvwx' >&2\nexit 1\n", "xcode-select: [secret]"),
        ("#!/bin/sh\nexit 0\n", "exit 0"),
    ],
)
def test_a_host_without_python(place: RemotePlace, script: str, words: str) -> None:
    program = place.host.folder / "programs" / "python3"
    target = os.readlink(program)
    program.unlink()
    program.write_text(script)
    program.chmod(0o755)
    try:
        error = kept(place)
    finally:
        program.unlink()
        program.symlink_to(target)
    assert (error.cause, error.permanent) == ("volume-host-unfit", True)
    assert words in error.message
    assert "hf_" not in error.message


# ---------------------------------------------------------------------------------------------------------- the volume


@pytest.mark.fault("O06", "O08")
@pytest.mark.parametrize(
    ("path", "content", "separate", "refused"),
    [
        ("none", None, False, ("volume-unmounted", False)),
        ("mnt", None, False, ("volume-unmarked", True)),
        ("mnt", "torn", False, ("volume-unmarked", True)),
        ("mnt", "cd" * 16, False, ("volume-wrong", False)),
        ("mnt", ID, True, ("volume-unmounted", False)),  # a folder of the disk of the home folder there
        ("/dev", None, True, ("volume-unmarked", True)),  # another disk, on Linux and on macOS
    ],
)
def test_a_folder_that_is_not_the_volume_gets_nothing(
    place: RemotePlace, path: str, content: str | None, separate: bool, refused: tuple[str, bool]
) -> None:
    there = place.host.folder / "places" / path
    shutil.rmtree(place.host.folder / "places", ignore_errors=True)
    if path == "mnt":
        there.mkdir(parents=True)
    if content is not None:
        (there / ".reconciler-volume").write_text(content)
    place.cold_place = place.host.place(there, separate=separate)
    before = tree(place.host.folder / "places")
    error = kept(place)
    assert ((error.cause, error.permanent), tree(place.host.folder / "places")) == (refused, before)
    assert f"{there} on mini" in error.message


@pytest.mark.fault("O01")
def test_a_full_disk_there_keeps_the_source_and_no_part(place: RemotePlace) -> None:
    add_commit(place.source, {"big.bin": os.urandom(2 * PIECE + 1)}, "3" * 40, "big")

    async def serve(process: Process) -> None:
        await place.host.run(process, before="ulimit -f 8200; ")

    place.host.serve = serve
    assert kept(place).cause == "disk-full"
    place.host.serve = None
    whole = tree(place.source)
    place.offload()
    is_cold(place, whole)


@pytest.mark.fault("O01")
def test_the_number_of_an_error_is_that_of_this_machine(host: SshHost) -> None:
    async def serve(process: Process) -> None:
        full = {"error": "ENOSPC", "text": "No space left on device\x1b[2J"}
        process.stdout.write(GREETED + b'{"ok": 7}\n' + json.dumps(full).encode() + b"\n")
        process.stdout.write(json.dumps(full | {"error": "ENOSUCH"}).encode() + b"\n")
        while await process.stdin.read(2**16):
            pass

    host.serve = serve
    with connected(host.place(), host.environ) as files:
        with pytest.raises(OSError, match="No space left") as raised:
            files.write("file", [bytes(PIECE)] * 100)
        assert (raised.value.errno, raised.value.filename, raised.value.strerror) == (
            errno.ENOSPC,
            "file",
            "No space left on device?[2J",
        )
        with pytest.raises(OSError, match="No space left") as raised:
            files.look("file")
        assert raised.value.errno is None


@pytest.mark.fault("O17")
def test_two_connections_do_not_change_one_repository(host: SshHost) -> None:
    with connected(host.place(), host.environ) as first:
        first.make_folder(f".{REPO}.part")
        with connected(host.place(), host.environ, silence=6.0) as second:
            second.make_folder(".models--acme--other.part")
            for change in (second.remove_folder, second.make_folder, second.remove):
                with pytest.raises(ActionError, match="another connection") as raised:
                    change(f".{REPO}.part")
                assert raised.value.cause == "volume-busy"
            assert second.look(f".{REPO}.part") is not None
            assert first.read(".reconciler-volume").decode() == ID  # which does not give the repository up
            with pytest.raises(ActionError, match="another connection"):
                second.make_folder(REPO)
    with connected(host.place(), host.environ) as third:
        third.rename(f".{REPO}.part", REPO)
        assert third.names("") == (".models--acme--other.part", ".reconciler-volume", REPO)


def test_the_program_needs_nothing_but_an_old_python() -> None:
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    for node in ast.walk(tree):
        imported |= {name.name for name in node.names} if isinstance(node, ast.Import) else set()
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.fault("O14")
def test_the_program_says_that_it_works_while_it_does_and_ends_with_its_input(host: SshHost) -> None:
    opened = {"op": "open", "path": str(host.volume), "id": ID, "separate": False, "beat": 0.01, "wait": 1}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-I", "-S", str(PROGRAM)], stdin=pipe, stdout=pipe) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for request in (opened, {"op": "write", "path": "file"}):
            program.stdin.write(json.dumps(request).encode() + b"\n")
            program.stdin.flush()
        lines = iter(program.stdout.readline, b'{"alive": true}\n')
        assert [line for line in lines if b"ok" not in line] == [b"\n", GREETED[1:]]
        program.stdin.write(b'{"data": 9}\nhalf')
    assert program.returncode == 1
    assert (host.volume / "file").read_bytes() == b""


def test_a_volume_of_this_machine_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    made = filled(tmp_path / "place")
    with (
        pytest.raises(ValueError, match="of this machine"),
        connected(ColdVolume(path=str(made.volume), id=ID), {"PATH": os.environ["PATH"]}),
    ):
        raise AssertionError("it was let through")
