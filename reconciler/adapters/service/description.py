"""What the watch is as a service: a command with absolute paths, and the part of the environment that it depends on.

A service manager starts it in another environment than a shell, so whatever a command would read from the one of this
shell goes with it: where models, state and the host file are, how the hub is reached, and what stands in for the host
file. Whatever looks like a secret does not, as the file can be read by others: a download finds the token that `hf auth
login` has left.
"""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from reconciler.desired.host_environment import VARIABLES
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.secret import redacted
from reconciler.model.service import Service

LOG: Final = "_watch.log"
"""No label begins like that."""
_PLACES: Final = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_TOKEN_PATH",
    "HUGGINGFACE_HUB_CACHE",
    "RECONCILER_HOST_FILE",
    "RECONCILER_STATE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
)
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
_TEXTS: Final = ("HF_ENDPOINT", "HF_HUB_OFFLINE", *_PROXIES, *VARIABLES)
_OVERRIDE: Final = "MODEL__"
_NAMED: Final = re.compile(rb"\$\{env\.([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_USUAL_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def described(
    arguments: Iterable[str], state: Path, desired: bytes, environ: Mapping[str, str], python: str = sys.executable
) -> Service:
    """`reconciler` with these arguments as a service, with its log in the state directory.

    `desired` is the text of the desired file, for the variables that its paths name. Raises ReconcilerError for a path
    that no service file can hold.
    """
    if not python:
        raise _refused("this Python does not know its own path")
    # -P: of the folder that it is started in nothing is imported.
    argv = (os.path.abspath(python), "-P", "-m", "reconciler", *arguments)
    log = str(state / "logs" / LOG)
    for text in (*argv, log):
        if _CONTROL.search(text):
            raise _refused(f"{text!a} has a control character in it, or is not UTF-8")
    return Service(argv=argv, environment=dict(sorted(_environment(desired, environ).items())), log=log)


def _environment(desired: bytes, environ: Mapping[str, str]) -> dict[str, str]:
    kept = {"PATH": _search_path(environ.get("PATH", ""))}
    kept |= {name: os.path.abspath(os.path.expanduser(text)) for name in _PLACES if (text := environ.get(name))}
    names = {name.decode() for name in _NAMED.findall(desired)}
    names |= {name for name in environ if name.startswith(_OVERRIDE)} | set(_TEXTS)
    kept |= {name: text for name in names - kept.keys() if (text := environ.get(name))}
    return {name: text for name, text in kept.items() if not _CONTROL.search(text) and redacted(text) == text}


def _search_path(text: str) -> str:
    """Without what depends on the folder that a program is started in."""
    return ":".join(dict.fromkeys(part for part in text.split(":") if os.path.isabs(part))) or _USUAL_PATH


def _refused(why: str) -> ReconcilerError:
    return ReconcilerError(
        "service-impossible",
        f"the watch cannot be described to a service manager: {why}; nothing was changed",
        hint="move it to a path of plain characters",
        code=ExitCode.ENVIRONMENT,
    )
