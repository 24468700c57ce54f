"""mlx-openai-server 1.8: parsers by name, a served name of its own; runs in an environment of its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from reconciler.model.desired import ModelSpec, Scalar

from .base import (
    HTTP_NOT_FOUND,
    Answer,
    Command,
    Diagnosis,
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

_TOOL_PARSERS: Final = (
    "functiongemma gemma4 glm4_moe harmony hermes iquest_coder_v1 kimi_k2 longcat_flash_lite minimax_m2 "
    "nemotron3_nano qwen3 qwen3_coder qwen3_moe qwen3_vl solar_open step_35"
)
_REASONING_PARSERS: Final = (
    "gemma4 glm47_flash glm4_moe harmony hermes kimi_k2 minimax_m2 mixed_think_tool_handoff nemotron3_nano "
    "qwen3 qwen3_5 qwen3_moe qwen3_vl solar_open step_35"
)


class MlxOpenAiServer:
    """A parent with one worker process; tool calls and reasoning are parsed only when a parser is named."""

    name: ClassVar[str] = "mlx-openai-server"
    accepts: ClassVar[tuple[str, ...]] = ("repo", "path")
    options: ClassVar[Mapping[str, Option]] = {
        "decode_concurrency": Option(flag="--decode-concurrency", kind=int, default=2, low=1, high=64),
        "prompt_concurrency": Option(flag="--prompt-concurrency", kind=int, low=1, high=64),
        "prefill_step_size": Option(flag="--prefill-step-size", kind=int, low=1, high=65_536),
        "prompt_cache_size": Option(flag="--prompt-cache-size", kind=int, low=0, high=1_000),
        "max_bytes": Option(flag="--max-bytes", kind=int, default=1_073_741_824, low=0, high=2**45),
        "queue_timeout": Option(flag="--queue-timeout", kind=int, low=1, high=86_400),
        "queue_size": Option(flag="--queue-size", kind=int, low=1, high=100_000),
        "num_draft_tokens": Option(flag="--num-draft-tokens", kind=int, low=1, high=64),
    }
    tool_parsers: ClassVar[tuple[str, ...]] = tuple(_TOOL_PARSERS.split())
    reasoning_parsers: ClassVar[tuple[str, ...]] = tuple(_REASONING_PARSERS.split())
    capabilities: ClassVar[frozenset[str]] = frozenset({"tools", "reasoning", "offline"})
    needs_metal: ClassVar[bool] = True
    concurrency: ClassVar[str] = "decode_concurrency"
    base_memory: ClassVar[int] = 1_024 * 2**20

    def check(self, spec: ModelSpec, template: str | None) -> Iterator[Finding]:
        """`requires: [tools]` is kept only with a parser: without one the raw text reaches the client."""
        if "tools" in spec.requires and spec.tool_call_parser is None:
            yield Finding(
                reference="requirement-unmet",
                reason=f"the model requires 'tools' and {self.name} parses tool calls only with a tool_call_parser",
                hint=f"set tool_call_parser to one of {', '.join(self.tool_parsers)}",
            )

    def served_name(self, label: str) -> str:
        """It answers to the name it is given at its start and refuses every other."""
        return label

    def cache_bytes(self, options: Mapping[str, Scalar]) -> int:
        """The bound of its prompt cache."""
        return int(options["max_bytes"])

    def command(self, start: Start) -> Command:
        """Its default address is every interface and it logs into the working directory: both are set."""
        spec = start.spec
        argv = [
            *start.runtime,
            f"--model-path={start.model_path}",
            "--model-type=lm",
            f"--served-model-name={start.label}",
            f"--host={start.host}",
            f"--port={start.port}",
            "--no-log-file",
            *flags(self, start.options),
        ]
        if spec.tool_call_parser is not None:
            argv += ["--enable-auto-tool-choice", f"--tool-call-parser={spec.tool_call_parser}"]
        if spec.reasoning_parser is not None:
            argv.append(f"--reasoning-parser={spec.reasoning_parser}")
        if start.template_path is not None:
            argv.append(f"--chat-template-file={start.template_path}")
        if start.draft_path is not None:
            argv.append(f"--draft-model-path={start.draft_path}")
        return Command(argv=tuple(argv), env={"HF_HUB_OFFLINE": "1"})

    def preflight(self, start: Start) -> None:
        """Its parent starts a worker to load anything, so nothing can be tried out."""

    def question(self, served_name: str) -> Question:
        """One token, asked under the name that it was given."""
        return one_token(served_name)

    def judge(self, answer: Answer) -> Sign:
        """It listens only once its worker has loaded; a failed start ends the process, so no answer shows death."""
        if completed(answer):
            return Sign.COMPLETION
        unknown = answer.status == HTTP_NOT_FOUND and b"model_not_found" in answer.body
        return Sign.WRONG_MODEL if unknown else unanswered(answer)

    def diagnose(self, lines: Sequence[str]) -> Diagnosis | None:
        """Its last words; it exits with 0 after a failed start, so the log alone tells that from a stop."""
        from .logs.mlx_openai_server import diagnose  # its tables are needed when something has failed

        return diagnose(lines)

    def at_work(self, lines: Sequence[str]) -> bool:
        """No line of its log is known to be written by nothing but work."""
        return False


BACKEND = MlxOpenAiServer()
