"""Runs a program on a disk that is full after so many bytes of a partial file: `full_disk.py BYTES PROGRAM`.

A real one needs a file system of its own, which only root can mount. What the kernel would refuse is refused here
between the program and the kernel: nothing of the program is replaced.
"""

import builtins
import errno
import io
import os
import runpy
import sys
from typing import Any


class Full(io.FileIO):
    """A file that cannot grow any more."""

    def write(self, data: Any) -> int:
        room = int(sys.argv[1]) - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(memoryview(data)[:room])


def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
    """`open`, for files that are read and written without a buffer too."""
    return Full(file, mode) if buffering == 0 and "+" in mode else _open(file, mode, buffering, *rest, **more)


_open = builtins.open
builtins.open = opened
runpy.run_path(sys.argv[2], run_name="__main__")
