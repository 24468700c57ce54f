"""Another host: a real ssh server on this machine, which runs what it is asked to run and can be cut off anywhere."""

import asyncio
import os
import shutil
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncssh

from reconciler.model.host import ColdVolume

NAME: Final = "mini"
ID: Final = "ab" * 16
GREETED: Final = b"\nreconciler-volume-agent 1\n"
Process = asyncssh.SSHServerProcess[bytes]
_WRAPPER: Final = """#!/bin/sh
printf '%s\\0' "$@" >>{calls}
printf '\\n' >>{calls}
exec {ssh} -F {config} "$@"
"""
_CONFIG: Final = """Host *
  HostName 127.0.0.1
  Port {port}
  User tester
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  ForwardAgent yes
  StrictHostKeyChecking no
  ControlMaster auto
  ControlPersist 60
  ControlPath {folder}/control
  LogLevel QUIET
"""
"""What a person may have written; the last six lines must not count."""


@dataclass
class Cut:
    """Where the connection ends: in the middle of the n-th request, or with the n-th answer, which may still arrive."""

    at: int = 0
    """0: nowhere."""
    of: str = "answers"
    seen: int = 0

    def allowed(self, which: str, data: bytes) -> tuple[bytes, bool]:
        """What of these bytes still gets through, and whether the connection ends then."""
        if not self.at or which != self.of:
            return data, False
        start = 0
        for line in data.splitlines(keepends=True):
            if line.endswith(b"\n") and not line.startswith(b'{"alive"'):
                self.seen += 1
            if self.seen == self.at:
                self.at = 0
                return data[: start + (len(line) if which == "answers" else len(line) // 2)], True
            start += len(line)
        return data, False


@dataclass
class SshHost:
    """The host: its folder, its keys, and what it was asked."""

    folder: Path
    commands: list[str | None] = field(default_factory=list)
    """Of every session."""
    connections: int = 0
    cut: Cut = field(default_factory=Cut)
    serve: Callable[[Process], Awaitable[None]] | None = None
    """What it does with a session; None: run the command."""
    variables: dict[str, str] = field(default_factory=dict)
    sessions: list[asyncio.Task[None]] = field(default_factory=list)
    port: int = 0

    @property
    def environ(self) -> dict[str, str]:
        """What the client is started with: its `ssh` is the real one with the configuration of this test."""
        return {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "HOME": str(self.folder)}

    @property
    def volume(self) -> Path:
        """A folder of it."""
        return self.folder / "volume"

    def place(self, path: Path | None = None, *, identity: str = ID, separate: bool = False) -> ColdVolume:
        """How the host file names its volume."""
        return ColdVolume(path=str(path or self.volume), id=identity, host=NAME, separate=separate)

    def calls(self) -> list[list[str]]:
        """The arguments of ssh, of every time it was started."""
        return [line.split("\0")[:-1] for line in (self.folder / "calls").read_text().split("\n")[:-1]]

    def trust(self, key: asyncssh.SSHKey) -> None:
        """Write down which key it has."""
        line = f"[127.0.0.1]:{self.port} {key.export_public_key().decode()}"
        (self.folder / "known_hosts").write_text(line)

    def login(self, key: asyncssh.SSHKey) -> None:
        """Write down who the client is."""
        (self.folder / "key").write_bytes(key.export_private_key())
        (self.folder / "key").chmod(0o600)

    async def session(self, process: Process) -> None:
        """Serve one session, whatever becomes of its connection."""
        task = asyncio.current_task()
        assert task is not None
        self.sessions.append(task)
        self.commands.append(process.command)
        with suppress(asyncssh.Error, OSError):
            await (self.serve or self.run)(process)
            process.exit(0)

    async def run(self, process: Process, before: str = "") -> None:
        """Run the command as a login shell would, and something before it; its input ends with the connection."""
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", f"{before}{process.command}"),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=self.folder,
            env={"HOME": str(self.folder), "PATH": f"{self.folder}/programs:{os.environ['PATH']}"} | self.variables,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        begun = asyncio.Event()
        into = asyncio.ensure_future(self._into(process, child.stdin, begun))
        out = asyncio.ensure_future(self._out_of(process, child.stdout, begun))
        try:
            await self._complain(process, child.stderr)
            await out
        finally:
            child.stdin.close()
            status = await child.wait()
            into.cancel()
        process.exit(status)

    async def _into(self, process: Process, stdin: asyncio.StreamWriter, begun: asyncio.Event) -> None:
        with suppress(asyncssh.Error, OSError):
            while data := await process.stdin.read(2**16):
                over = False
                if begun.is_set():
                    data, over = self.cut.allowed("requests", data)
                stdin.write(data)
                await stdin.drain()
                if over:
                    process.channel.get_connection().abort()
        stdin.close()

    async def _out_of(self, process: Process, stdout: asyncio.StreamReader, begun: asyncio.Event) -> None:
        while data := await stdout.read(2**16):
            over = False
            if begun.is_set():
                data, over = self.cut.allowed("answers", data)
            elif data.endswith(GREETED):
                begun.set()
            process.stdout.write(data)
            await process.stdout.drain()
            if over:
                process.channel.get_connection().abort()

    async def _complain(self, process: Process, stderr: asyncio.StreamReader) -> None:
        while data := await stderr.read(2**16):
            process.stderr.write(data)


class _Server(asyncssh.SSHServer):
    def __init__(self, host: SshHost) -> None:
        self._host = host

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._host.connections += 1


@contextmanager
def ssh_host(folder: Path) -> Iterator[SshHost]:
    """A host with an empty volume, its identity on it, and a client that knows it."""
    (folder / "volume").mkdir(parents=True)
    (folder / "volume" / ".reconciler-volume").write_text(ID)
    (folder / "bin").mkdir()
    (folder / "programs").mkdir()
    (folder / "programs" / "python3").symlink_to(sys.executable)
    host = SshHost(folder)
    host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    (folder / "allowed").write_bytes(user_key.export_public_key())
    with _serving(host, host_key):
        ssh = shutil.which("ssh")
        assert ssh is not None, "this test needs the ssh client"
        wrapper = folder / "bin" / "ssh"
        wrapper.write_text(_WRAPPER.format(calls=folder / "calls", ssh=ssh, config=folder / "config"))
        wrapper.chmod(0o755)
        (folder / "config").write_text(_CONFIG.format(port=host.port, folder=folder))
        host.login(user_key)
        host.trust(host_key)
        yield host


@contextmanager
def _serving(host: SshHost, key: asyncssh.SSHKey) -> Iterator[None]:
    """A server in a thread of its own; when the block is left, nothing that it has started is left."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Server(host),
            server_host_keys=[key],
            authorized_client_keys=str(host.folder / "allowed"),
            process_factory=host.session,
            encoding=None,
            line_editor=False,
        )
        host.port = server.get_port()
        ready.set()
        await over.wait()
        server.close()
        await server.wait_closed()
        await asyncio.gather(*host.sessions)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(20)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)
        loop.close()
