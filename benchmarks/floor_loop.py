"""The least that can follow commits and keep children alive, for G7, G8 and G9: floor_loop.py REPO COMMAND...

It follows `servers` at HEAD, a line `PORT FLAG` for each child. No proof of a process, no record, no lock, no question,
no gateway, no memory, no budget, no event that outlives it: an event loop, pidfd, inotify and posix_spawn are left.
"""

import asyncio
import os
import signal
import sys
import zlib
from pathlib import Path

from reconciler.adapters import inotify


class Loop:
    """Children by port."""

    def __init__(self, repo: Path, command: list[str]) -> None:
        self._git, self._command = repo / ".git", command
        self._log = os.open(repo / "floor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._wanted: dict[int, str] = {}
        self._running: dict[int, str] = {}
        self._pids: dict[int, int] = {}
        self._handles: set[int] = set()
        self._head = ""

    def tick(self) -> None:
        """Compare HEAD with what runs."""
        ref = (self._git / "HEAD").read_text().split()[1]
        head = (self._git / ref).read_text().strip()
        if head == self._head:
            return
        self._head = head
        self._wanted = dict(self._declared(head))
        for port, flag in self._wanted.items():
            if port not in self._running:
                self._start(port)
            elif self._running[port] != flag:
                os.kill(self._pids[port], signal.SIGTERM)

    def _declared(self, commit: str) -> list[tuple[int, str]]:
        tree = self._object(self._object(commit)[5:45].decode())
        at = tree.index(b" servers\0") + len(b" servers\0")
        lines = self._object(tree[at : at + 20].hex()).decode().splitlines()
        return [(int(port), flag) for port, flag in (line.split() for line in lines)]

    def _object(self, name: str) -> bytes:
        return zlib.decompress((self._git / "objects" / name[:2] / name[2:]).read_bytes()).partition(b"\0")[2]

    def _start(self, port: int) -> None:
        flag = self._running[port] = self._wanted[port]
        actions = [(os.POSIX_SPAWN_DUP2, self._log, 1), (os.POSIX_SPAWN_DUP2, self._log, 2)]
        argv = [*self._command, f"--port={port}", flag]
        pid = self._pids[port] = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)
        handle, loop = os.pidfd_open(pid), asyncio.get_running_loop()
        self._handles.add(handle)

        def ended() -> None:
            loop.remove_reader(handle)
            self._handles.discard(handle)
            os.close(handle)
            os.waitpid(pid, 0)
            self._start(port)

        loop.add_reader(handle, ended)

    def end(self) -> None:
        """No child is left, and none is started again."""
        for handle in self._handles:
            asyncio.get_running_loop().remove_reader(handle)
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)


async def main(repo: Path, command: list[str]) -> None:
    """Until somebody ends it."""
    made, ended = Loop(repo, command), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    queue = inotify.watch([str(repo / ".git" / "refs" / "heads")])

    def moved() -> None:
        inotify.read(queue)
        made.tick()

    loop.add_reader(queue, moved)
    made.tick()
    await ended.wait()
    made.end()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
