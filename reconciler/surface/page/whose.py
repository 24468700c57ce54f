"""What this machine is called, and what must not be shown of whose it is."""

import os
import socket

from reconciler.model.host import HostFile


def machine(host_file: HostFile) -> str:
    """The name that people know it by: that of the host file, else its own."""
    return host_file.name or socket.gethostname().removesuffix(".local")


def homes() -> tuple[str, ...]:
    """Every name of the home folder of who runs this."""
    home = os.path.expanduser("~")
    return tuple(dict.fromkeys((home, os.path.realpath(home))))
