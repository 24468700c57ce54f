"""Processes as the kernel of macOS shows them: libproc and sysctl, without starting a program.

Offsets are those of the public headers sys/resource.h (`rusage_info_v0`) and sys/sysctl.h, and of
sys/proc_info.h for the unique identifier, which Apple keeps private and uses itself in libdispatch; where it is
refused, that part of the proof is left out.
"""

import os
import sys
from typing import Any, Final

from .process_table import Seen

_UID_ONLY: Final = 4
_UNIQUE_IDENTIFIER: Final = 17
_UNIQUE_BYTES: Final = 56
_RUSAGE_BYTES: Final = 96
_AFTER_UUID: Final = 16
_USER, _SYSTEM = 16, 24
_START, _EXIT = 80, 88
_KERN, _PROCARGS2 = 1, 49
_ARGUMENT_BYTES: Final = 1 << 20
_SPARE: Final = 64


def seen(pid: int) -> Seen | None:
    """A process, zombies included, which have an exit time; None where there is none that we may look at."""
    import ctypes

    usage = ctypes.create_string_buffer(_RUSAGE_BYTES)
    if _library().proc_pid_rusage(ctypes.c_int(pid), ctypes.c_int(0), usage):
        return None
    try:
        session = os.getsid(pid)
    except OSError:
        session = 0
    return Seen(pid, _u64(usage.raw, _START), _u64(usage.raw, _EXIT) == 0, session)


def cpu_seconds(pid: int) -> float | None:
    """Processor time that a process has used; the kernel counts it in ticks of its own clock."""
    import ctypes

    usage, base = ctypes.create_string_buffer(_RUSAGE_BYTES), (ctypes.c_uint32 * 2)()
    if _library().proc_pid_rusage(ctypes.c_int(pid), ctypes.c_int(0), usage):
        return None
    if _library().mach_timebase_info(base) or not base[1]:
        return None
    ticks = _u64(usage.raw, _USER) + _u64(usage.raw, _SYSTEM)
    return ticks * base[0] / base[1] / 1e9


def unique(pid: int) -> int | None:
    """`p_uniqueid`: never given twice in one boot."""
    import ctypes

    info = ctypes.create_string_buffer(_UNIQUE_BYTES)
    arguments = (ctypes.c_int(pid), ctypes.c_int(_UNIQUE_IDENTIFIER), ctypes.c_uint64(0), info)
    written = _library().proc_pidinfo(*arguments, ctypes.c_int(_UNIQUE_BYTES))
    return _u64(info.raw, _AFTER_UUID) if written == _UNIQUE_BYTES else None


def environment(pid: int) -> list[bytes]:
    """NAME=value of an own process that is not protected by the system; empty where it cannot be read."""
    import ctypes

    names = (ctypes.c_int * 3)(_KERN, _PROCARGS2, pid)
    length = ctypes.c_size_t(_ARGUMENT_BYTES)
    area = ctypes.create_string_buffer(_ARGUMENT_BYTES)
    if _library().sysctl(names, ctypes.c_uint(3), area, ctypes.byref(length), None, ctypes.c_size_t(0)):
        return []
    return parse_arguments(area.raw[: length.value])


def parse_arguments(area: bytes) -> list[bytes]:
    """The environment in an answer of KERN_PROCARGS2: a count, the program's path, padding, arguments, variables."""
    count = int.from_bytes(area[:4], sys.byteorder)
    _, _, rest = area[4:].partition(b"\0")
    texts = rest.lstrip(b"\0").split(b"\0")[count:]
    return texts[: texts.index(b"")] if b"" in texts else texts


def pids_of(user: int) -> list[int]:
    """Every process of a user. Raises OSError when the kernel does not say."""
    import ctypes

    library = _library()
    needed = library.proc_listpids(ctypes.c_uint32(_UID_ONLY), ctypes.c_uint32(user), None, ctypes.c_int(0))
    size = ctypes.sizeof(ctypes.c_int)
    area = (ctypes.c_int * (max(needed, 0) // size + _SPARE))()
    room = ctypes.c_int(ctypes.sizeof(area))
    written = library.proc_listpids(ctypes.c_uint32(_UID_ONLY), ctypes.c_uint32(user), area, room)
    if written <= 0:
        raise OSError("the kernel does not list the processes of this user")
    return [pid for pid in area[: written // size] if pid > 0]


def _library() -> Any:
    import ctypes

    return ctypes.CDLL(None)


def _u64(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 8], sys.byteorder)
