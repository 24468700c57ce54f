"""Loads a model folder as a server would, up to the point at which its weights would be read.

    echo '{"path": "/models/x"}' | python load_check.py

Names, shapes and settings of all weights are compared with the model that the configuration describes, and the
tokenizer is loaded. MLX arrays are lazy: no weight is computed or held. No code of the model's author is run and
nothing is asked of a network. One JSON object is printed: `{"mlx_lm": "0.32.2"}` when it could be loaded, or
`{"error": "...", "kind": "..."}` with one of the kinds `bad-request`, `no-runtime`, `not-loadable`.
"""

import contextlib
import importlib
import importlib.metadata
import json
import os
import sys
import threading
from typing import Any, Final

NICENESS: Final = 10
_LONGEST: Final = 1_000


def check(path: str) -> dict[str, Any]:
    """The answer for one folder."""
    try:
        runtime: Any = importlib.import_module("mlx_lm")
        version = importlib.metadata.version("mlx-lm")
    except ImportError as error:
        return {"error": f"mlx_lm cannot be used here: {error}", "kind": "no-runtime"}
    try:
        # Without this transformers asks on the terminal whether it may run code.
        runtime.load(path, lazy=True, tokenizer_config={"trust_remote_code": False})
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return {"error": said[:_LONGEST], "kind": "not-loadable"}
    return {"mlx_lm": version}


def _alone() -> None:
    """Be last in line for the processor, in a group of one's own, and off the network."""
    with contextlib.suppress(OSError):
        os.setsid()
    with contextlib.suppress(OSError):
        os.nice(max(0, NICENESS - os.nice(0)))
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ.pop("MLX_LM_TRUST_REMOTE_CODE", None)
    # The folder of this file holds names that some library may mean differently.
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [place for place in sys.path if os.path.realpath(place) != here]


def _end_with_input() -> None:
    """Whoever asked is gone, or wants no answer any more."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    """Answer the question in the first line of standard input."""
    _alone()
    try:
        path = json.loads(sys.stdin.buffer.readline())["path"]
    except (ValueError, LookupError, TypeError):
        path = None
    if not (isinstance(path, str) and os.path.isabs(path)):
        print(json.dumps({"error": "no object with an absolute path", "kind": "bad-request"}))
        return
    if not sys.stdin.isatty():
        threading.Thread(target=_end_with_input, daemon=True).start()
    with contextlib.redirect_stdout(sys.stderr):
        answer = check(path)
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
