"""The agent's property list for launchd (launchd.plist(5)).

- `KeepAlive` is true without a condition, and `Restart=always` says the same to systemd: the watch ends by itself only
  when something stands against it (an invalid file, a lock that another one holds), and is to come up once that is
  mended. Whoever wants it to stay down says so to the manager, and not by a signal to a process.
- `AbandonProcessGroup`: servers have sessions of their own and outlive the watch anyway; what they start may not.
- `ProcessType` Interactive: launchd slows processor and disk of other kinds, and servers inherit that.
- A soft limit of 256 open files is the usual one there, and 40 servers are more.
"""

import plistlib
from xml.parsers.expat import ExpatError

from reconciler.model.service import MARK, PATIENCE, THROTTLE, Service

LABEL = "reconciler.watch"
_OPEN_FILES = 4096
_COMMENT = "<!-- Written by `reconciler service install`, which replaces it after a question. -->\n"
_ROOT = "<plist "


def plist(service: Service) -> str:
    """The text of the property list."""
    entries = {
        "Label": LABEL,
        "ProgramArguments": list(service.argv),
        "EnvironmentVariables": {**service.environment, MARK: "launchd"},
        "WorkingDirectory": "/",
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": THROTTLE,
        "ExitTimeOut": PATIENCE,
        "AbandonProcessGroup": True,
        "ProcessType": "Interactive",
        "SoftResourceLimits": {"NumberOfFiles": _OPEN_FILES},
        "StandardOutPath": service.log,
        "StandardErrorPath": service.log,
    }
    text = plistlib.dumps(entries, sort_keys=False).decode()
    return text.replace(_ROOT, _COMMENT + _ROOT, 1)


def described(text: str) -> Service | None:
    """The service of a property list of ours; None for any other text."""
    try:
        entries = plistlib.loads(text.encode(), fmt=plistlib.FMT_XML)
        environment = dict(entries["EnvironmentVariables"])
        del environment[MARK]
        return Service(
            argv=tuple(map(str, entries["ProgramArguments"])),
            environment={str(name): str(value) for name, value in environment.items()},
            log=str(entries["StandardOutPath"]),
        )
    except (ExpatError, ValueError, KeyError, TypeError, AttributeError, plistlib.InvalidFileException):
        return None
