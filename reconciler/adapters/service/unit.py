"""The user unit for systemd (systemd.service(5), systemd.exec(5), systemd.syntax(7)).

- `KillMode=process`: servers stay in the control group of the watch although they have sessions of their own, and would
  be killed with it (facts of systemd.kill(5)); likewise `OOMPolicy=continue`, or the kernel's killing of one server
  would end the watch and so leave all others alone.
- `Restart=always` without a limit, as launchd has none; 130 and 143 are how the watch says that a signal has ended it,
  which is no failure.
- The colon before a command keeps systemd from replacing `$NAME` in it; `%` is doubled, as it names specifiers.
"""

import re
from typing import Final

from reconciler.model.service import MARK, PATIENCE, THROTTLE, Service

NAME: Final = "reconciler.service"
_TEMPLATE: Final = """\
# Written by `reconciler service install`, which replaces it after a question.
[Unit]
Description=reconciler, which serves the declared models
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=:{command}
{environment}
WorkingDirectory=/
StandardOutput=append:{log}
StandardError=append:{log}
KillMode=process
OOMPolicy=continue
TimeoutStopSec={patience}
Restart=always
RestartSec={throttle}
SuccessExitStatus=130 143

[Install]
WantedBy=default.target
"""
_BARE: Final = re.compile(r"[A-Za-z0-9_./:@=,+-]+")
_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_COMMAND: Final = re.compile(r"^ExecStart=:(.*)$", re.MULTILINE)
_VARIABLE: Final = re.compile(r"^Environment=(.*)$", re.MULTILINE)
_LOG: Final = re.compile(r"^StandardOutput=append:(.*)$", re.MULTILINE)


def unit(service: Service) -> str:
    """The text of the unit."""
    variables = {**service.environment, MARK: "systemd"}
    return _TEMPLATE.format(
        command=" ".join(_quoted(word) for word in service.argv),
        environment="\n".join(f"Environment={_quoted(f'{name}={text}')}" for name, text in variables.items()),
        log=service.log.replace("%", "%%"),
        patience=PATIENCE,
        throttle=THROTTLE,
    )


def described(text: str) -> Service | None:
    """The service of a unit of ours; None for any other text."""
    command, log = _COMMAND.search(text), _LOG.search(text)
    words = [word for line in _VARIABLE.findall(text) for word in _words(line)]
    environment = dict(word.split("=", 1) for word in words if "=" in word)
    if command is None or log is None or environment.pop(MARK, None) is None:
        return None
    return Service(argv=tuple(_words(command[1])), environment=environment, log=log[1].replace("%%", "%"))


def _quoted(word: str) -> str:
    """A word as it stands in a line of a unit; it has no control characters."""
    if _BARE.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _words(line: str) -> list[str]:
    found = [match[1] if match[1] is not None else match[2] for match in _WORD.finditer(line)]
    return [re.sub(r"\\(.)", r"\1", word).replace("%%", "%") for word in found]
