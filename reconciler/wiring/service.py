"""The service manager of this machine, and the watch as it would be told to it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.surface.composition import Settings

if TYPE_CHECKING:
    from reconciler.model.service import Service
    from reconciler.ports.service import ServiceManager


def service_manager(name: str | None) -> "ServiceManager":
    """`launchd` or `systemd`; None: the one of this system."""
    if name == "launchd" or (name is None and sys.platform == "darwin"):
        from reconciler.adapters.service.launchd import Launchd

        return Launchd(os.path.expanduser("~"), os.getuid())
    from reconciler.adapters.service.systemd import Systemd, unit_folder

    return Systemd(unit_folder(os.environ), _user())


def described(words: Sequence[str], desired: bytes) -> "Service":
    """`reconciler` with these words, as this Python and this environment have it. Raises ReconcilerError."""
    from reconciler.adapters.service.description import described as describe
    from reconciler.adapters.state_dir import default_root

    return describe(words, default_root(os.environ), desired, os.environ)


def told(words: Sequence[str]) -> Settings:
    """What an installed service is told about files: `watch`, then options with their values."""
    options = dict(zip(words[1::2], words[2::2], strict=False))
    config, host_file = options.get("-c"), options.get("--host-file")
    return Settings(
        config=None if config is None else Path(config),
        host_file=None if host_file is None else Path(host_file),
        source=options.get("--source"),
        ref=options.get("--ref"),
    )


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
