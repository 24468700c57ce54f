"""launchctl, systemctl and loginctl as far as one service goes: the documented answers, and real processes.

Called by one of these names, which a test puts on the PATH. What it knows is in the folder FAKE_MANAGER, and the file
`absent` in it means that nobody is logged in: then no manager can be reached. Codes and words are those that launchctl
of macOS 15 and systemctl 252 were seen to give.
"""

import json
import os
import plistlib
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

STORE = Path(os.environ["FAKE_MANAGER"])
LINGERING = 2
"""How many more questions find a service that launchd is ending."""


class Ended(Exception):
    """The program ends with this code, having said this."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code


def known() -> dict[str, Any]:
    """What is remembered between calls."""
    try:
        return dict(json.loads((STORE / "known.json").read_text()))
    except FileNotFoundError:
        return {}


def remember(**what: object) -> None:
    (STORE / "known.json").write_text(json.dumps({**known(), **what}))


def running() -> int | None:
    """The pid of the service, while it runs."""
    pid = known().get("pid")
    try:
        alive = pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return pid if alive else None


def started(argv: list[str], environment: dict[str, str], log: str) -> int:
    usual = {"HOME": os.environ.get("HOME", "/"), "PATH": "/usr/bin:/bin"}
    with open(log, "ab") as out:
        process = subprocess.Popen(
            argv,
            env=usual | environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    return process.pid


def end(pid: int | None, others: list[psutil.Process]) -> None:
    """Signal the process, wait for its end, then kill the others that belong to it."""
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        limit = time.monotonic() + 20
        while running() == pid:
            if time.monotonic() > limit:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
    for other in others:
        try:
            other.kill()
        except psutil.NoSuchProcess:
            continue


# ------------------------------------------------------------------------------------------------------------- launchd


def launchctl(words: list[str]) -> None:
    verb, target = words[0], words[1]
    _, uid, *label = target.split("/")
    domain = f"domain for user gui: {uid}"
    if (STORE / "absent").exists():
        if verb == "bootstrap":
            raise Ended(125, "Bootstrap failed: 125: Domain does not support specified action")
        raise Ended(112, f"Bad request.\nCould not find {domain}")
    if verb == "print" and not label:
        print(f"gui/{uid} = {{\n\ttype = login\n\thandle = 100002\n}}")
    elif verb == "print":
        shown(target, label[0], domain)
    elif verb in ("enable", "disable"):
        remember(disabled=verb == "disable")
    elif verb == "bootout":
        bootout()
    elif verb == "bootstrap":
        bootstrap(words[2])
    else:
        raise Ended(64, f"Unrecognized subcommand: {verb}")


def lingers() -> bool:
    """Whether a service that is being ended is still there."""
    left = known().get("ending")
    if left is None:
        return False
    if left > 0:
        remember(ending=left - 1)
        return True
    remember(ending=None, plist=None, settling=True)
    return False


def shown(target: str, label: str, domain: str) -> None:
    lingering = lingers()
    plist = known().get("plist")
    if plist is None or plistlib.loads(Path(plist).read_bytes())["Label"] != label:
        raise Ended(113, f'Bad request.\nCould not find service "{label}" in {domain}')
    pid = running()
    print(f"{target} = {{\n\tactive count = {int(pid is not None)}\n\tpath = {plist}\n\ttype = LaunchAgent")
    print(f"\tstate = {'running' if pid else 'spawn scheduled' if not lingering else 'not running'}\n")
    print("\tenvironment = {\n\t\tXPC_SERVICE_NAME => watch\n\t}\n\n\tminimum runtime = 10\n\truns = 1")
    print(f"\tpid = {pid}" if pid else "\tlast exit code = 78: EX_CONFIG")
    print("\n\tjetsam coalition = {\n\t\tID = 292896\n\t\tstate = active\n\t\tpid = 1\n\t}\n}")


def bootout() -> None:
    if known().get("plist") is None:
        raise Ended(3, "Boot-out failed: 3: No such process")
    entries = plistlib.loads(Path(known()["plist"]).read_bytes())
    pid = running()
    group = [p for p in psutil.process_iter() if pid is not None and os.getpgid(p.pid) == pid and p.pid != pid]
    end(pid, [] if entries.get("AbandonProcessGroup") else group)
    remember(pid=None, ending=LINGERING)


def bootstrap(path: str) -> None:
    busy = known().get("plist") is not None
    if busy:
        lingers()
    # What `print` does not know any more may still be in the way once.
    settling = known().get("settling", False)
    remember(settling=False)
    if busy or settling or known().get("disabled") or not os.path.exists(path):
        raise Ended(5, "Bootstrap failed: 5: Input/output error")
    entries = plistlib.loads(Path(path).read_bytes())
    remember(plist=path)
    if entries["RunAtLoad"]:
        remember(pid=started(entries["ProgramArguments"], entries["EnvironmentVariables"], entries["StandardOutPath"]))


# ------------------------------------------------------------------------------------------------------------- systemd


def systemctl(words: list[str]) -> None:
    if words[0] != "--user":
        raise Ended(1, "Access denied")
    if (STORE / "absent").exists():
        raise Ended(1, "Failed to connect to bus: No medium found")
    _, verb, *rest = words
    names = [word for word in rest if not word.startswith("--")]
    if verb == "daemon-reload":
        text = unit_path().read_text() if unit_path().exists() else None
        remember(unit=text)
    elif verb == "show":
        pid, loaded = running(), known().get("unit") is not None
        print(f"LoadState={'loaded' if loaded else 'not-found'}\nActiveState={'active' if pid else 'inactive'}")
        print(f"SubState={'running' if pid else 'dead'}\nMainPID={pid or 0}\nResult=success")
    elif known().get("unit") is None:
        raise Ended(
            1 if verb in ("enable", "disable") else 5, f"Failed to {verb} unit: Unit file {names[0]} does not exist."
        )
    elif verb == "enable":
        wanted().parent.mkdir(exist_ok=True)
        wanted().unlink(missing_ok=True)
        wanted().symlink_to(unit_path())
    elif verb in ("disable", "restart"):
        stop()
        if verb == "disable":
            wanted().unlink(missing_ok=True)
        else:
            start()


def unit_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or f"{os.environ['HOME']}/.config"
    return Path(base, "systemd", "user", "reconciler.service")


def wanted() -> Path:
    return unit_path().parent / "default.target.wants" / "reconciler.service"


def fields(name: str) -> list[str]:
    lines = str(known()["unit"]).splitlines()
    return [line.split("=", 1)[1] for line in lines if line.startswith(f"{name}=")]


def start() -> None:
    (command,) = fields("ExecStart")
    argv = [word.replace("%%", "%") for word in shlex.split(command.removeprefix(":"))]
    pairs = [word.replace("%%", "%") for line in fields("Environment") for word in shlex.split(line)]
    (log,) = fields("StandardOutput")
    environment = dict(pair.split("=", 1) for pair in pairs)
    remember(pid=started(argv, environment, log.removeprefix("append:").replace("%%", "%")))


def stop() -> None:
    pid = running()
    whole = fields("KillMode") != ["process"]
    end(pid, psutil.Process(pid).children(recursive=True) if pid is not None and whole else [])
    remember(pid=None)


def loginctl(words: list[str]) -> None:
    if (STORE / "absent").exists() or words[0] != "show-user":
        raise Ended(1, "Failed to connect to bus: Host is down")
    print("Linger=no")


if __name__ == "__main__":
    name, *said = sys.argv[1:]
    with (STORE / "calls").open("a") as calls:
        calls.write(f"{name} {' '.join(said)}\n")
    try:
        {"launchctl": launchctl, "systemctl": systemctl, "loginctl": loginctl}[name](said)
    except Ended as ended:
        print(ended, file=sys.stderr)
        sys.exit(ended.code)
