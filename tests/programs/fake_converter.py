"""Stands in for a converter of weights, and does what its arguments say.

    python fake_converter.py --dest FOLDER --from FOLDER --gate FILE --exit 3 ...

It writes its own pid and place into `--note`, and then, in this order: makes the destination, writes what is asked
for, waits for the gate, prints, ends.
"""

import argparse
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

PAUSE = 0.01


def wait_for(gate: Path) -> None:
    """Return once the file is there."""
    while not gate.exists():
        threading.Event().wait(PAUSE)


def write(dest: Path, given: argparse.Namespace) -> None:
    """What is asked for, by a copy of a finished model."""
    if given.source is not None:
        for path in sorted(given.source.iterdir()):
            if path.name != "receipt.json":
                shutil.copyfile(path, dest / path.name)
    if given.half:
        weights = dest / "model.safetensors"
        os.truncate(weights, weights.stat().st_size // 2)
    if given.drop:
        (dest / given.drop).unlink()
    if given.touch is not None:
        with given.touch.open("ab") as file:
            file.write(b" ")
    if given.config:
        config = json.loads((dest / "config.json").read_bytes())
        (dest / "config.json").write_text(json.dumps(config | json.loads(given.config)))


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dest", type=Path, required=True)
    parser.add_argument("--src")
    parser.add_argument("--repo")
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--note", type=Path)
    parser.add_argument("--gate", type=Path)
    parser.add_argument("--touch", type=Path, help="a file to which a byte is appended")
    parser.add_argument("--half", action="store_true", help="cut the weights in half")
    parser.add_argument("--drop", help="a file that is not written")
    parser.add_argument("--config", help="fields to change in config.json, as JSON")
    parser.add_argument("--child", action="store_true", help="start a process that stays")
    parser.add_argument("--enospc", action="store_true")
    parser.add_argument("--say", default="")
    parser.add_argument("--exit", type=int, default=0)
    parser.add_argument("--unmade", action="store_true", help="do not even make the destination")
    given = parser.parse_args()

    child = None
    if given.child:
        child = subprocess.Popen([sys.executable, "-S", "-c", "import threading; threading.Event().wait()"]).pid
    if given.note is not None:
        facts = {
            "pid": os.getpid(),
            "runner": os.getppid(),
            "child": child,
            "group": os.getpgrp(),
            "nice": os.nice(0),
            "cwd": os.getcwd(),
            "argv": sys.argv[1:],
            "environ": dict(os.environ),
            "dest_was_there": os.path.lexists(given.dest),
        }
        whole = given.note.with_suffix(".part")
        whole.write_text(json.dumps(facts))
        whole.rename(given.note)
    if given.unmade:
        return
    given.dest.mkdir()
    write(given.dest, given)
    if given.gate is not None:
        wait_for(given.gate)
    if given.say:
        print(given.say, file=sys.stderr, flush=True)
    if given.enospc:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(given.dest / "model.safetensors"))
    raise SystemExit(given.exit)


if __name__ == "__main__":
    main()
