"""mlx_lm.server, from mlx-lm 0.32 on: facts from its source and from runs on the CPU build (0.32.2)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from reconciler.model.desired import ModelSpec, Scalar
from reconciler.model.names import authority

from .base import (
    Answer,
    Command,
    Diagnosis,
    Examination,
    Finding,
    Option,
    Question,
    Sign,
    Start,
    completed,
    flags,
    one_token,
    unanswered,
)

MAX_TEMPLATE_BYTES: Final = 131_072
"""Linux refuses a single argument of 128 KiB or more (MAX_ARG_STRLEN); the flag takes the template's text."""
_PYTHON: Final = re.compile(r"python[0-9.]*")
_READS: Final = " - INFO - Prompt processing progress: "
_SOUGHT: Final = (
    b"Cannot find an appropriate cached snapshot",
    b"Repository Not Found",
    b"Repo id must be in the form",
)


class MlxLm:
    """One model in memory, OpenAI chat and completions; the parsers come from the model's template."""

    name: ClassVar[str] = "mlx-lm"
    accepts: ClassVar[tuple[str, ...]] = ("repo", "path")
    options: ClassVar[Mapping[str, Option]] = {
        "decode_concurrency": Option(flag="--decode-concurrency", kind=int, default=2, low=1, high=64),
        "prompt_concurrency": Option(flag="--prompt-concurrency", kind=int, low=1, high=64),
        "prefill_step_size": Option(flag="--prefill-step-size", kind=int, low=1, high=65_536),
        "prompt_cache_size": Option(flag="--prompt-cache-size", kind=int, low=0, high=1_000),
        "prompt_cache_bytes": Option(flag="--prompt-cache-bytes", kind=int, default=1_073_741_824, low=0, high=2**45),
        "max_tokens": Option(flag="--max-tokens", kind=int, low=1, high=16_777_216),
        "temp": Option(flag="--temp", kind=float, low=0, high=10),
        "top_p": Option(flag="--top-p", kind=float, low=0, high=1),
        "top_k": Option(flag="--top-k", kind=int, low=0, high=1_000_000),
        "min_p": Option(flag="--min-p", kind=float, low=0, high=1),
        "num_draft_tokens": Option(flag="--num-draft-tokens", kind=int, low=1, high=64),
        "log_level": Option(
            flag="--log-level",
            kind=str,
            default="INFO",
            choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        ),
    }
    tool_parsers: ClassVar[tuple[str, ...]] = ()
    reasoning_parsers: ClassVar[tuple[str, ...]] = ()
    capabilities: ClassVar[frozenset[str]] = frozenset({"tools", "reasoning", "offline"})
    needs_metal: ClassVar[bool] = True
    concurrency: ClassVar[str] = "decode_concurrency"
    base_memory: ClassVar[int] = 128 * 2**20

    def check(self, spec: ModelSpec, template: str | None) -> Iterator[Finding]:
        """A template longer than one argument may be cannot be handed over."""
        if template is not None and len(template.encode()) >= MAX_TEMPLATE_BYTES:
            yield Finding(
                reference="template-too-long",
                reason=f"{spec.chat_template} is longer than the {MAX_TEMPLATE_BYTES} bytes that {self.name} can take",
                hint="shorten the template, or put it into the model's folder as chat_template.jinja",
            )

    def served_name(self, label: str) -> str:
        """`default_model` is the loaded one; any other name makes the server drop it and load that name."""
        return "default_model"

    def cache_bytes(self, options: Mapping[str, Scalar]) -> int:
        """The prompt cache has no bound unless it is given one."""
        return int(options["prompt_cache_bytes"])

    def command(self, start: Start) -> Command:
        """Offline, on one address, callable by no web page (the default allows every origin)."""
        argv = [
            *start.runtime,
            f"--model={start.model_path}",
            f"--host={start.host}",
            f"--port={start.port}",
            f"--allowed-origins=http://{authority(start.host, start.port)}",
            *flags(self, start.options),
        ]
        if start.draft_path is not None:
            argv.append(f"--draft-model={start.draft_path}")
        if start.template is not None:
            argv.append(f"--chat-template={start.template}")
        return Command(argv=tuple(argv), env={"HF_HUB_OFFLINE": "1"})

    def preflight(self, start: Start) -> Examination | None:
        """What the program would load and be told, asked of its own environment; another command is nobody's to ask."""
        own = _words_behind(start.runtime)
        if own is None:
            return None
        return Examination(
            program="load_check.py",
            request={
                "path": start.model_path,
                "draft": start.draft_path,
                "argv": [*own, *self.command(start).argv[len(start.runtime) :]],
                "converses": True,
                "chat_template": start.template,
                "tools": "tools" in start.spec.requires,
            },
        )

    def question(self, served_name: str) -> Question:
        """One token of the loaded model."""
        return one_token(served_name)

    def judge(self, answer: Answer) -> Sign:
        """After a failed load the process lives on and answers every request with the same sentence (0.32.2)."""
        if b"generation thread died" in answer.body:
            return Sign.DEAD
        if completed(answer):
            return Sign.COMPLETION
        # An older server takes `default_model` for a name, and looks for it in the cache.
        return Sign.WRONG_MODEL if any(mark in answer.body for mark in _SOUGHT) else unanswered(answer)

    def diagnose(self, lines: Sequence[str]) -> Diagnosis | None:
        """The most recent failure that the server itself wrote into its log."""
        from .logs.mlx_lm import diagnose  # its tables are needed when something has failed

        return diagnose(lines)

    def at_work(self, lines: Sequence[str]) -> bool:
        """It tells of every part of a prompt that it has read; of an answer it tells nothing until its end."""
        return any(_READS in line for line in lines)


def _words_behind(runtime: tuple[str, ...]) -> tuple[str, ...] | None:
    """The words of a command that mlx_lm.server itself is given; None where it is not known to run that."""
    program, *rest = (runtime[0].rpartition("/")[2], *runtime[1:]) if runtime else ("",)
    if program == "mlx_lm.server":
        return tuple(rest)
    if not _PYTHON.fullmatch(program) or "-m" not in rest:
        return None
    module, *words = [*rest[rest.index("-m") + 1 :], ""]
    if module == "mlx_lm" and words[0] == "server":
        return tuple(words[1:-1])
    return tuple(words[:-1]) if module == "mlx_lm.server" else None


BACKEND = MlxLm()
