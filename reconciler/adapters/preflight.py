"""Tries out what a runtime makes of a model and of a command line: a program in its own environment, no server.

It has no network, no token, the lowest priority and a session of its own, and is gone when this returns or is
cancelled. A runtime whose Python cannot be found is not examined.
"""

from collections.abc import Mapping
from typing import Any, Final

from reconciler.adapters.child import running
from reconciler.backends.base import Backend, Diagnosis
from reconciler.model.target import PreflightOrder
from reconciler.ports.errors import ActionError

from .memory.model_memory import bare_environment, interpreter
from .server_log import safe

DEADLINE: Final = 240.0
"""Seconds: most of them go by with imports, and with the files of a large model on a slow disk."""
_NICENESS: Final = 10
_KEPT: Final = "the running server was kept"
_MEANS: Final = {
    "not-loadable": ("preflight-failed", "the model cannot be loaded: {said}"),
    "template-broken": ("template-broken", "the chat template cannot be used: {said}"),
    "flag-refused": ("flag-refused", "the program refuses its command line: {said}"),
    "no-runtime": ("runtime-broken", "the installation of the server program is broken: {said}"),
}
"""Kind of an answer -> cause and sentence, where no table of the backend knows better."""


async def preflight(order: PreflightOrder, backends: Mapping[str, Backend], deadline: float = DEADLINE) -> None:
    """Return where nothing stands against a start, as far as can be seen; else raise ActionError.

    What a restart of the same could not mend is permanent, under the cause that a server's log would have given.
    """
    python = interpreter(order.runtime)
    if python is None:
        return
    import asyncio

    environ, request = bare_environment(), dict(order.request)
    command = (python,)
    async with running(order.program, request, environ=environ, command=command, niceness=_NICENESS, grace=0) as child:
        try:
            async with asyncio.timeout(deadline):
                answer = await child.line()
        except TimeoutError:
            said = f"what is to replace it could not be examined within {deadline:g} s; {_KEPT}"
            raise ActionError("preflight-timed-out", said) from None
        if answer is None:
            error = child.failed()
            raise ActionError(
                "preflight-failed", f"what is to replace it could not be examined: {error.message}; {_KEPT}"
            )
    if "error" in answer:
        raise _failure(answer, backends.get(order.backend))


def _failure(answer: Mapping[str, Any], backend: Backend | None) -> ActionError:
    kind, said = str(answer.get("kind", "")), safe(str(answer["error"]))
    if kind not in _MEANS:
        return ActionError("preflight-failed", f"what is to replace it could not be examined: {said}; {_KEPT}")
    cause, sentence = _MEANS[kind]
    found = Diagnosis(cause=cause, message=sentence.format(said=said), permanent=True)
    if backend is not None and kind == "not-loadable":
        found = backend.diagnose(str(answer.get("traceback", "")).splitlines()) or found
    return ActionError(found.cause, f"{safe(found.message)}; {_KEPT}", permanent=found.permanent)
