"""Starts one server so that it outlives us, holds its lock, and has nothing else of ours.

`posix_spawn` in a session of its own, because Metal dies in a child that was forked and then executed a program,
and because a signal to our group must not reach it (R16). The lock reaches it through a file action alone: a
descriptor that is made inheritable leaks into whatever else is started at that moment, and then a dead server's
lock stays held. What a file action cannot do is done by one line of `sh`, which then becomes the server.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from reconciler.model.target import LaunchOrder
from reconciler.ports.errors import ActionError

from .process_table import (
    COMMIT_VARIABLE,
    GENERATION_VARIABLE,
    LABEL_VARIABLE,
    LOCK_DESCRIPTOR,
    SPEC_VARIABLE,
    TOKEN_VARIABLE,
)
from .records import write_file

DESCRIPTORS: Final = 4096
"""What mlx_lm asks for at import; it fails where the hard limit is lower (R23)."""
SEARCH_PATH: Final = "/usr/bin:/bin:/usr/sbin:/sbin"
_SHELL: Final = "/bin/sh"
_SHIM: Final = 'ulimit -S -n "$2"; echo "$$ $' + TOKEN_VARIABLE + '" >"$1"; shift 2; cd /; unset OLDPWD; exec "$@"'
_NULL: Final = "/dev/null"
_KEPT: Final = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TMPDIR", "TZ"})
_HEAD: Final = 512
_LAST_STANDARD: Final = 2


def environment(own: Mapping[str, str], extra: Mapping[str, str], token: str) -> dict[str, str]:
    """What a server gets: where it lives and how it writes text, what its backend adds, and its token.

    No credential, nothing that steers an interpreter or a loader, and not the place of the model cache: a server
    is given absolute paths, and its settings are in its spec or nowhere.
    """
    return scrubbed(own) | dict(extra) | {TOKEN_VARIABLE: token}


def scrubbed(own: Mapping[str, str]) -> dict[str, str]:
    """Of our environment what tells a child where it lives and how it writes text, and nothing else."""
    kept = {name: value for name, value in own.items() if name in _KEPT or name.startswith("LC_")}
    return {"PATH": SEARCH_PATH} | kept


def provenance(order: LaunchOrder) -> dict[str, str]:
    """What a server carries about its own launch, so that it can be told also where its record is lost."""
    return {
        LABEL_VARIABLE: order.label,
        COMMIT_VARIABLE: order.revision,
        GENERATION_VARIABLE: str(order.generation),
        SPEC_VARIABLE: order.spec_hash,
    }


def executable(program: str, path: str) -> str:
    """Where a program is, after a look at whether it can run. Raises ActionError, permanent (R22)."""
    if "/" in program:
        places = [program] if os.path.isabs(program) else []
    else:
        places = [os.path.join(folder, program) for folder in path.split(":") if os.path.isabs(folder)]
    for place in places:
        if os.path.isfile(place) and os.access(place, os.X_OK):
            _check_interpreter(place)
            return place
    _missing(f"there is no program {program}" if places else f"{program} is no absolute path")


def _check_interpreter(place: str) -> None:
    """A script whose interpreter is gone: what is left of a moved virtual environment."""
    try:
        with open(place, "rb", 0) as file:
            line = file.read(_HEAD).partition(b"\n")[0]
    except OSError:
        return  # it may be run and not read
    words = line[2:].split() if line.startswith(b"#!") else []
    if words and not os.access(words[0], os.X_OK):
        _missing(f"{place} asks for {os.fsdecode(words[0])}, which is not there")


def _missing(message: str) -> NoReturn:
    raise ActionError("executable-missing", message, permanent=True)


def write_order_files(files: Mapping[str, str]) -> None:
    """Put content where its name says it is; a file that is right already is left alone. Raises OSError."""
    for path, text in files.items():
        content = text.encode()
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                if file.read(len(content) + 1) == content:
                    continue
        except OSError:
            pass  # not there, or not a file to be trusted: it is replaced
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_file(path, content)


def spawn(argv: Sequence[str], env: Mapping[str, str], *, lock: int, log: int, pid_path: str) -> int:
    """The pid of a new server. `lock` and `log` must be above the numbers they get. Raises OSError."""
    import signal

    seal()
    os.close(os.open(pid_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, _NULL, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
        (os.POSIX_SPAWN_DUP2, lock, LOCK_DESCRIPTOR),
    ]
    return os.posix_spawn(
        _SHELL,
        [_SHELL, "-c", _SHIM, "reconciler", pid_path, _descriptor_limit(), *argv],
        env,
        file_actions=actions,
        setsid=True,
        setsigmask=(),
        # Python ignores SIGPIPE, nohup SIGHUP, a background job SIGINT: an ignored signal stays ignored in a child.
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )


def seal() -> None:
    """Keep descriptors that we were started with from a child: those Python has not made close-on-exec."""
    for name in os.listdir("/dev/fd"):
        number = int(name)
        try:
            if number > _LAST_STANDARD and os.get_inheritable(number):
                os.set_inheritable(number, False)
        except OSError:
            continue  # the listing's own, closed again


def _descriptor_limit() -> str:
    """The soft limit that a server gets: ours, raised to DESCRIPTORS as far as the hard one allows."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return "unlimited"
    return str(max(soft, DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)))
