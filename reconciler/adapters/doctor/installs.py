"""Which Python packages are in which environment, by the names of their metadata.

No interpreter is started for it: litellm 1.82.8 ran its theft at every start of the Python that it was installed in
(fault S30), and an import costs seconds. A program leads to its environment by its first line.
"""

import glob
import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from reconciler.model.doctor import Install
from reconciler.model.host import Runtime

PROGRAMS: Final = {
    "mlx-lm": ("mlx_lm.server", "mlx_lm"),
    "mlx-openai-server": ("mlx-openai-server",),
    "litellm": ("litellm",),
}
"""Package -> the programs by which it is found on the PATH."""
_BESIDE: Final = {"mlx-openai-server": ("mlx-vlm",)}
"""Packages that matter in the environment of another one."""
_OWN: Final = ("mlx-lm", "psutil", "litellm")
_FIRST_LINES: Final = 1024
_METADATA: Final = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)\.(?:dist|egg)-info")
_SHELL: Final = re.compile(rb"#!/bin/sh\n'''exec' (\"?)(?P<python>/[^\n]*?)\1 \"\$0\"")
"""How pip writes the first lines of a script whose interpreter has a long path, or one with spaces."""


def installs(runtimes: Mapping[str, Runtime]) -> tuple[Install, ...]:
    """Every install of what matters: of this environment, of the host file's commands, of the PATH."""
    found: dict[tuple[str, str], Install] = {}
    for package, prefix, version, how in _all(runtimes):
        before = found.get((package, prefix))
        known = before.found if before is not None else ()
        found[package, prefix] = Install(
            package=package, version=version, prefix=prefix, found=tuple(dict.fromkeys((*known, how)))
        )
    return tuple(found.values())


def _all(runtimes: Mapping[str, Runtime]) -> Iterator[tuple[str, str, str, str]]:
    for package in _OWN:
        if version := _own(package):
            yield package, os.path.realpath(sys.prefix), version, "this environment"
    for backend, runtime in runtimes.items():
        if backend in PROGRAMS:
            yield from _of(backend, runtime.command[0], "the host file")
    for package, names in PROGRAMS.items():
        program = next((path for name in names if (path := shutil.which(name)) is not None), None)
        if program is not None:
            yield from _of(package, program, "the PATH")


def _of(package: str, program: str, how: str) -> Iterator[tuple[str, str, str, str]]:
    prefix = environment_of(program)
    yield package, prefix or "", version_in(prefix, package), how
    for other in _BESIDE.get(package, ()):
        if prefix and (version := version_in(prefix, other)):
            yield other, prefix, version, how


def _own(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def environment_of(program: str) -> str | None:
    """The folder of the environment that a program runs in; None where it is no Python program, or cannot be read."""
    interpreter = _interpreter(os.path.realpath(program)) if not _is_python(program) else program
    if interpreter is None:
        return None
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(interpreter)))
    if not os.path.isfile(f"{prefix}/pyvenv.cfg"):  # else the link to another interpreter is what makes it one
        prefix = os.path.dirname(os.path.dirname(os.path.realpath(interpreter)))
    return os.path.realpath(prefix)


def _is_python(program: str) -> bool:
    return re.fullmatch(r"pythonw?[0-9.]*", os.path.basename(program)) is not None


def _interpreter(program: str) -> str | None:
    """The interpreter that the first lines of a script name."""
    try:
        with open(program, "rb") as file:
            head = file.read(_FIRST_LINES)
    except OSError:
        return None
    if (match := _SHELL.match(head)) is not None:
        return os.fsdecode(match["python"])
    if not head.startswith(b"#!"):
        return None
    words = os.fsdecode(head[2:].split(b"\n", 1)[0]).split()
    if words and os.path.basename(words[0]) == "env":
        words = [path for name in words[1:2] if (path := shutil.which(name)) is not None]
    return words[0] if words and _is_python(words[0]) else None


def version_in(prefix: str | None, package: str) -> str:
    """The version of a package in an environment; empty where its metadata is not found there."""
    if not prefix:
        return ""
    wanted = _normal(package)
    for folder in _libraries(prefix):
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            match = _METADATA.fullmatch(name)
            if match is not None and _normal(match["name"]) == wanted:
                return match["version"]
    return ""


def _libraries(prefix: str) -> Iterable[str]:
    base = glob.escape(prefix)
    return sorted(glob.glob(f"{base}/lib/python3*/site-packages") + glob.glob(f"{base}/lib/python3*/dist-packages"))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
