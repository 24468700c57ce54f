"""Finds out whether mlx_lm would serve a model folder, up to the point at which its weights would be read.

    echo '{"path": "/models/x"}' | python load_check.py

Names, shapes and settings of all weights are compared with the model that the configuration describes, and the
tokenizer is loaded. MLX arrays are lazy: no weight is computed or held. No code of the model's author is run and
nothing is asked of a network. The question may have more in it:

    draft           folder of a draft model, which is loaded in the same way
    argv            the words behind `mlx_lm.server`, which its own parser must accept; nothing is started
    converses       true: what clients say must go through the chat template, with tools and without
    chat_template   text of the template to be used instead of the model's
    tools           true: a template that refuses tools in so many words is refused, too

One JSON object is printed: `{"mlx_lm": "0.32.2"}` when nothing stands against it, or `{"error": "...", "kind": "..."}`
with one of the kinds `bad-request`, `no-runtime`, `flag-refused`, `not-loadable`, `template-broken`. Beside
`not-loadable` the `traceback` is given.
"""

import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import sys
import threading
import traceback
from typing import Any, Final

NICENESS: Final = 10
_LONGEST: Final = 1_000
_CONVERSATION: Final = [{"role": "user", "content": "ping"}]
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "ping",
        "description": "Says pong.",
        "parameters": {"type": "object", "properties": {"loud": {"type": "boolean"}}, "required": ["loud"]},
    },
}


class _Accepted(Exception):
    """The command line was read and found good; nothing more is wanted of the server."""


def check(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question."""
    try:
        runtime: Any = importlib.import_module("mlx_lm")
        version = importlib.metadata.version("mlx-lm")
    except ImportError as error:
        return _wrong("no-runtime", f"mlx_lm cannot be used here: {error}")
    if said := _refused(question.get("argv")):
        return _wrong("flag-refused", said)
    template = question.get("chat_template")
    # Without the first transformers asks on the terminal whether it may run code.
    settings = {"trust_remote_code": False} | ({"chat_template": template} if template else {})
    try:
        _, tokenizer = runtime.load(question["path"], lazy=True, tokenizer_config=settings)
        if question.get("draft"):
            runtime.load(question["draft"], lazy=True, tokenizer_config={"trust_remote_code": False})
    except Exception as error:
        return _wrong("not-loadable", _named(error)) | {"traceback": traceback.format_exc()}
    if question.get("converses") and (said := _unspeakable(tokenizer, bool(question.get("tools")))):
        return _wrong("template-broken", said)
    return {"mlx_lm": version}


def _refused(argv: Any) -> str:
    """What the server's own parser has against a command line; empty: nothing, or it cannot be asked."""
    if not argv:
        return ""
    server: Any = importlib.import_module("mlx_lm.server")
    if not (hasattr(server, "main") and hasattr(server, "ModelProvider")):
        return ""  # of another version: its parser cannot be had without starting it

    def accepted(*_: Any) -> None:
        raise _Accepted

    server.ModelProvider, server.run = accepted, accepted
    if hasattr(server, "maybe_set_recommended_wired_limit"):
        server.maybe_set_recommended_wired_limit = accepted
    said = io.StringIO()
    sys.argv = ["mlx_lm.server", *argv]
    try:
        with contextlib.redirect_stderr(said):
            server.main()
    except SystemExit:
        return " ".join(said.getvalue().rpartition("error: ")[2].split())
    except _Accepted:
        pass
    return ""


def _unspeakable(tokenizer: Any, tools: bool) -> str:
    """What the chat template does not render; empty: it renders, or there is none."""
    if not getattr(tokenizer, "has_chat_template", False):
        return ""
    for given in (None, [_TOOL]):
        messages = [dict(message) for message in _CONVERSATION]
        try:
            tokenizer.apply_chat_template(messages, tools=given, add_generation_prompt=True, tokenize=False)
        except Exception as error:
            # Templates raise exactly this one to say that they cannot do something.
            meant = type(error).__name__ == "TemplateError"
            if given is None or tools or not meant:
                return f"{_named(error)} ({'with tools' if given else 'without tools'})"
    return ""


def _wrong(kind: str, said: str) -> dict[str, Any]:
    return {"error": said[:_LONGEST], "kind": kind}


def _named(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


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
        question = json.loads(sys.stdin.buffer.readline())
        path = question["path"]
    except (ValueError, LookupError, TypeError):
        path = None
    if not (isinstance(path, str) and os.path.isabs(path)):
        print(json.dumps({"error": "no object with an absolute path", "kind": "bad-request"}))
        return
    if not sys.stdin.isatty():
        threading.Thread(target=_end_with_input, daemon=True).start()
    with contextlib.redirect_stdout(sys.stderr):
        answer = check(question)
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
