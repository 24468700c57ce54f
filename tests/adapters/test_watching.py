"""Edits are noticed on a real file system, however an editor or git makes them."""

import asyncio
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec

import pytest

from reconciler.adapters.changes import first
from reconciler.adapters.watching import EditWatch
from reconciler.adapters.worktree import WorktreeSource

DEADLINE = 5.0
"""Seconds until an edit must have been told."""
QUIET = 0.4
"""Seconds in which nothing must be told: longer than a batch of edits takes."""
P = ParamSpec("P")


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that runs in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A desired file in a folder of its own, without templates."""
    folder = tmp_path / "desired-state"
    folder.mkdir()
    (folder / "ensemble.yaml").write_text("version: 1\n")
    return folder / "ensemble.yaml"


@pytest.fixture
def templates(file: Path) -> Path:
    (file.parent / "templates").mkdir()
    (file.parent / "templates" / "a.jinja").write_text("a")
    return file.parent / "templates"


class Watched:
    """The watch that is tested, and what it has told so far."""

    def __init__(self, file: Path) -> None:
        self.watch = EditWatch(WorktreeSource(file).folders)
        self._file = file

    async def told(self, what: str) -> None:
        """It must tell of an edit, and then come to rest: an edit may be told in parts."""
        try:
            async with asyncio.timeout(DEADLINE):
                await self.watch.changed()
        except TimeoutError:
            pytest.fail(f"never told: {what}")
        await self.rests()

    async def rests(self) -> None:
        while await self.again():
            pass

    async def again(self) -> bool:
        """Whether it tells of something within a moment."""
        try:
            async with asyncio.timeout(QUIET):
                await self.watch.changed()
        except TimeoutError:
            return False
        return True

    async def begun(self) -> None:
        """Edit until it is noticed: from then on the folders are watched."""
        async with asyncio.timeout(DEADLINE):
            while not await self.again():
                self._file.write_text("version: 1 # begun\n")
        await self.rests()


@asynccontextmanager
async def watching(file: Path) -> AsyncIterator[Watched]:
    watched = Watched(file)
    try:
        await watched.begun()
        yield watched
    finally:
        await watched.watch.close()


def write(path: Path, text: str) -> None:
    """In place; its folder is made where there is none."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def read(*paths: Path) -> None:
    for path in paths:
        _ = list(path.iterdir()) if path.is_dir() else path.read_text()


def replaced(path: Path, text: str) -> None:
    """As editors and git save: a new file is renamed over the old one."""
    beside = path.with_name(f".{path.name}.swp")
    beside.write_text(text)
    os.replace(beside, path)


@in_a_loop
async def test_edits_in_place_and_by_renaming_are_told_each_time(file: Path) -> None:
    async with watching(file) as watched:
        for number in range(2):
            write(file, f"version: 1 # {number}\n")
            await watched.told(f"edit {number} in place")
            replaced(file, f"version: 1 # renamed {number}\n")
            await watched.told(f"edit {number} by renaming")


@in_a_loop
async def test_a_file_that_goes_and_comes_back_is_told(file: Path) -> None:
    async with watching(file) as watched:
        remove(file)
        await watched.told("the file is gone")
        write(file, "version: 1\n")
        await watched.told("the file is back")


@in_a_loop
async def test_a_desired_file_that_is_a_link_is_watched_where_it_is(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link.yaml").symlink_to(file)
    async with watching(tmp_path / "link.yaml") as watched:
        write(file, "version: 1 # edited\n")
        await watched.told("an edit behind the link")


@in_a_loop
async def test_a_template_is_told(file: Path, templates: Path) -> None:
    async with watching(file) as watched:
        write(templates / "a.jinja", "b")
        await watched.told("a template edited in place")
        replaced(templates / "a.jinja", "c")
        await watched.told("a template replaced")
        write(templates / "b.jinja", "new")
        await watched.told("a new template")


@in_a_loop
async def test_a_template_in_a_folder_below_is_told(file: Path, templates: Path) -> None:
    """What is read, four folders deep, is watched."""
    write(templates / "team" / "a.jinja", "a")
    async with watching(file) as watched:
        write(templates / "team" / "a.jinja", "b")
        await watched.told("a template edited")


@in_a_loop
async def test_a_template_beside_the_file_is_told(file: Path) -> None:
    """The desired file may name any `*.jinja` below its folder."""
    write(file.parent / "prompts" / "a.jinja", "a")
    write(file.parent / "a.jinja", "a")
    async with watching(file) as watched:
        write(file, "version: 1 # a.jinja prompts/a.jinja\n")
        await watched.told("the file names them")
        write(file.parent / "a.jinja", "b")
        await watched.told("a template beside the file")
        write(file.parent / "prompts" / "a.jinja", "b")
        await watched.told("a template in another folder")


@in_a_loop
async def test_a_templates_folder_that_comes_later_is_watched(file: Path) -> None:
    async with watching(file) as watched:
        (file.parent / "templates").mkdir()
        await watched.told("the folder is there")
        write(file.parent / "templates" / "a.jinja", "a")
        await watched.told("the first template")
        write(file.parent / "templates" / "a.jinja", "b")
        await watched.told("the template edited")


@in_a_loop
async def test_a_templates_folder_that_is_replaced_at_once_is_watched(file: Path, templates: Path) -> None:
    """As when git goes to another branch and back."""
    async with watching(file) as watched:
        remove(templates)
        write(templates / "a.jinja", "a")
        await watched.told("the folder was replaced")
        write(templates / "a.jinja", "b")
        await watched.told("a template in the new folder")


@in_a_loop
async def test_a_folder_that_is_removed_and_comes_back_is_told_each_time(file: Path) -> None:
    async with watching(file) as watched:
        remove(file.parent)
        await watched.told("the folder is gone")
        write(file, "version: 1 # back\n")
        await watched.told("the folder is back")
        write(file, "version: 1 # edited\n")
        await watched.told("an edit in it")


@in_a_loop
async def test_a_folder_that_is_renamed_away_and_replaced_is_watched(file: Path, tmp_path: Path) -> None:
    """As deployments do that swap a whole folder."""
    async with watching(file) as watched:
        write(tmp_path / "next" / file.name, "version: 1 # next\n")
        os.rename(file.parent, tmp_path / "before")
        os.rename(tmp_path / "next", file.parent)
        await watched.told("another folder is in its place")
        write(file, "version: 1 # edited\n")
        await watched.told("an edit in the new folder")


@in_a_loop
async def test_without_a_change_nothing_is_told(file: Path, templates: Path) -> None:
    async with watching(file) as watched:
        read(file, templates)
        write(file.parent.parent / "elsewhere", "x")
        assert not await watched.again()


@in_a_loop
async def test_an_edit_that_nobody_waited_for_is_told_to_the_next(file: Path) -> None:
    async with watching(file) as watched:
        for _ in range(3):
            hint = asyncio.create_task(first(watched.watch.changed))
            await asyncio.sleep(0)
            hint.cancel()
        write(file, "version: 1 # edited\n")
        await watched.told("an edit after three waits that were given up")


@in_a_loop
async def test_close_ends_it(file: Path) -> None:
    async with watching(file) as watched:
        waiting = asyncio.create_task(watched.watch.changed())
        await watched.watch.close()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]
    await EditWatch(WorktreeSource(file).folders).close()


_WITHOUT: str = """
import asyncio, sys
from pathlib import Path
from reconciler.adapters import inotify
from reconciler.adapters.watching import EditWatch
from reconciler.adapters.worktree import WorktreeSource

async def main() -> None:
    try:
        inotify.watch([])
        print("the kernel has a watch left", flush=True)
    except OSError:
        watch = EditWatch(WorktreeSource(Path(sys.argv[1])).folders)
        while True:
            await watch.changed()
            print("told", flush=True)

asyncio.run(main())
"""


@pytest.mark.fault("X23")
@pytest.mark.skipif(sys.platform != "linux", reason="there the kernel is not asked")
def test_x23_where_the_kernel_has_no_watch_left_files_are_looked_at(file: Path) -> None:
    limit = 'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"'
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh", sys.executable, "-c", _WITHOUT, str(file)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as watch:
        try:
            assert watch.stdout is not None
            if watch.stdout.readline() != "told\n":
                pytest.skip("a limit of our own cannot be set here")
            for number in range(2):
                write(file, f"version: 1 # {number}\n")
                assert watch.stdout.readline() == "told\n"
        finally:
            watch.kill()


@in_a_loop
async def test_what_git_writes_at_every_look_is_no_news(file: Path) -> None:
    """A prompt that shows the status of the repository has it rewrite its index every time."""
    async with watching(file) as watched:
        for name in ("index", "COMMIT_EDITMSG", "HEAD.lock", "main.lock"):
            write(file.parent / name, "x")
        assert not await watched.again()
        os.replace(file.parent / "main.lock", file.parent / "main")
        await watched.told("a ref was moved")


@in_a_loop
async def test_the_first_edit_is_told_at_once_and_a_burst_as_a_few(file: Path) -> None:
    async with watching(file) as watched:
        told = 0
        for number in range(300):
            write(file, f"version: 1 # {number}\n")
            async with asyncio.timeout(DEADLINE):
                if number == 0:
                    await watched.watch.changed()
            await asyncio.sleep(0)
        while await watched.again():
            told += 1
        assert 1 <= told < 10
