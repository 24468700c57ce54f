"""What a backend says about its server program: pure tables and functions, nothing is run here."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import ClassVar, Final, Protocol

from reconciler.model.base import noun
from reconciler.model.desired import ModelSpec, Scalar

HTTP_OK: Final = 200
HTTP_BAD_REQUEST: Final = 400
HTTP_NOT_FOUND: Final = 404
HTTP_SERVER_ERROR: Final = 500
_PASSING: Final = frozenset({408, 425, 429})
"""Timed out, too early, too many: the same request may succeed later."""


@noun
class Option:
    """One entry of a backend's typed list of options; anything else is refused."""

    flag: str
    kind: type
    """`int`, `float`, `bool` or `str`."""
    default: Scalar | None = None
    """Always passed when not None; None: passed only when declared."""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


@noun
class Finding:
    """A field that this backend cannot honour."""

    reference: str
    reason: str
    hint: str


@noun
class Start:
    """What a backend needs to know to write a command line."""

    label: str
    spec: ModelSpec
    options: Mapping[str, Scalar]
    runtime: tuple[str, ...]
    host: str
    port: int
    model_path: str
    """Absolute folder of the weights."""
    draft_path: str | None
    template: str | None
    """Content of the chat template."""
    template_path: str | None
    """Absolute path at which the same content will be found when the process starts."""


@noun
class Command:
    """A command line and the environment that it needs on top of a scrubbed one."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


@noun
class Examination:
    """A way to find out, without starting a server, whether it would start with what it is given."""

    program: str
    """File of `programs/`, run by the Python that runs the server program."""
    request: Mapping[str, object]
    """What it is asked, sent as JSON."""


@noun
class Question:
    """A request that only a server with its weights in memory can answer."""

    path: str
    body: Mapping[str, object]
    """Sent as JSON."""


@noun
class Answer:
    """What came back."""

    status: int
    body: bytes


class Sign(StrEnum):
    """What an answer shows about the server."""

    COMPLETION = "completion"
    NOT_YET = "not-yet"
    DEAD = "dead"
    """It will never generate again, whatever its process does."""
    WRONG_MODEL = "wrong-model"
    """It serves, and not what it was started for."""
    REFUSED = "refused"
    """It answered the question with an error; one that repeats is one that every request would get."""


@noun
class Diagnosis:
    """What the end of a server's log says about why it does not serve."""

    cause: str
    """Stable kebab-case class, such as `weights-damaged`; the restart budget is kept per class."""
    message: str
    """One sentence for people, without a full stop."""
    permanent: bool = False
    """Whether starting the same again must fail in the same way."""


class Backend(Protocol):
    """One kind of server program."""

    name: ClassVar[str]
    accepts: ClassVar[tuple[str, ...]]
    """Kinds of launch reference: `repo`, `path`."""
    options: ClassVar[Mapping[str, Option]]
    tool_parsers: ClassVar[tuple[str, ...]]
    """Names that `tool_call_parser` may have; empty: the backend finds the parser itself."""
    reasoning_parsers: ClassVar[tuple[str, ...]]
    capabilities: ClassVar[frozenset[str]]
    """What `requires` may ask for."""
    needs_metal: ClassVar[bool]
    concurrency: ClassVar[str]
    """The option that bounds how many requests are decoded at a time."""
    base_memory: ClassVar[int]
    """Bytes of the process without weights, measured on the CPU build."""

    def check(self, spec: ModelSpec, template: str | None) -> Iterator[Finding]:
        """Every field that cannot be honoured, beyond what the tables say."""
        ...

    def served_name(self, label: str) -> str:
        """What a request must say in `model`."""
        ...

    def cache_bytes(self, options: Mapping[str, Scalar]) -> int:
        """Bytes that the prompt cache may take."""
        ...

    def command(self, start: Start) -> Command:
        """The exact command line; the same input gives the same bytes."""
        ...

    def preflight(self, start: Start) -> Examination | None:
        """How a start is tried out beforehand; None where nothing of this runtime can be asked without starting it."""
        ...

    def question(self, served_name: str) -> Question:
        """A completion of one token."""
        ...

    def judge(self, answer: Answer) -> Sign:
        """What the answer to the question shows."""
        ...

    def diagnose(self, lines: Sequence[str]) -> Diagnosis | None:
        """What the last lines of one launch's log say about its failure; None where they say nothing known."""
        ...

    def at_work(self, lines: Sequence[str]) -> bool:
        """Whether any of these lines of its log is one that only work on a request writes, not a look at it."""
        ...


def one_token(served_name: str) -> Question:
    """The question that every server with the chat API of OpenAI understands."""
    message = {"role": "user", "content": "ping"}
    body = {"model": served_name, "messages": [message], "max_tokens": 1, "temperature": 0, "stream": False}
    return Question(path="/v1/chat/completions", body=body)


def completed(answer: Answer) -> bool:
    """Whether an answer is a chat completion: 200 and at least one choice."""
    return answer.status == HTTP_OK and b'"choices"' in answer.body and b'"message"' in answer.body


def unanswered(answer: Answer) -> Sign:
    """What an answer that is no completion shows: an error of the request, or one that passes."""
    wrong = HTTP_BAD_REQUEST <= answer.status < HTTP_SERVER_ERROR and answer.status not in _PASSING
    return Sign.REFUSED if wrong or answer.status == HTTP_SERVER_ERROR else Sign.NOT_YET


def filled(backend: Backend, spec: ModelSpec) -> dict[str, Scalar]:
    """The declared options with the backend's defaults, in the order of the backend's table."""
    values: dict[str, Scalar] = {}
    for name, option in backend.options.items():
        value = spec.options.get(name, option.default)
        if value is not None:
            values[name] = value
    return values


def flags(backend: Backend, options: Mapping[str, Scalar]) -> tuple[str, ...]:
    """The options as arguments; a value is glued to its flag, so that it can never be read as another flag."""
    return tuple(flag for name, value in options.items() for flag in _flag(backend.options[name], value))


def _flag(option: Option, value: Scalar) -> Iterator[str]:
    if option.kind is bool:
        if value:
            yield option.flag
        return
    yield f"{option.flag}={value}"


def judge(backend: Backend, spec: ModelSpec, template: str | None, rivals: tuple[Backend, ...]) -> Iterator[Finding]:
    """Every field of `spec` that `backend` cannot honour; `rivals` are named where they could."""
    for field, value, known in (
        ("tool_call_parser", spec.tool_call_parser, backend.tool_parsers),
        ("reasoning_parser", spec.reasoning_parser, backend.reasoning_parsers),
    ):
        if value is not None and value not in known:
            yield _parser_finding(backend, field, value, known, rivals)
    for name, given in spec.options.items():
        if name not in backend.options:
            yield Finding(
                reference="option-unknown",
                reason=f"{backend.name} has no option {name!r}",
                hint=f"options of {backend.name}: {', '.join(backend.options) or 'none'}",
            )
        elif problem := _misfit(backend.options[name], given):
            yield Finding(reference="option-invalid", reason=f"option {name} {problem}", hint="mend models.*.options")
    for need in spec.requires:
        if need not in backend.capabilities:
            able = [rival.name for rival in rivals if need in rival.capabilities]
            hint = f"{' or '.join(able)} could" if able else "no backend of this version can"
            yield Finding(
                reference="requirement-unmet",
                reason=f"the model requires {need!r}, which {backend.name} cannot promise",
                hint=hint,
            )
    yield from backend.check(spec, template)


def _parser_finding(
    backend: Backend, field: str, value: str, known: tuple[str, ...], rivals: tuple[Backend, ...]
) -> Finding:
    able = [r.name for r in rivals if value in (r.tool_parsers if field == "tool_call_parser" else r.reasoning_parsers)]
    if known:
        return Finding(
            reference="parser-unknown",
            reason=f"{backend.name} has no {field} {value!r}",
            hint=f"allowed: {', '.join(known)}",
        )
    hint = f"leave {field} out"
    if able:
        hint += f", or use the backend {' or '.join(able)}"
    return Finding(
        reference="parser-not-selectable",
        reason=f"{backend.name} chooses the parser from the model's own template; it takes no {field} (allowed: none)",
        hint=hint,
    )


def _misfit(option: Option, value: Scalar) -> str | None:
    fits = type(value) is option.kind or (option.kind is float and type(value) is int)
    if not fits:
        return f"must be a value of type {option.kind.__name__}, not {value!r}"
    if option.choices and value not in option.choices:
        return f"must be one of {', '.join(option.choices)}, not {value!r}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if option.low is not None and value < option.low:
            return f"must be at least {option.low:g}, not {value!r}"
        if option.high is not None and value > option.high:
            return f"must be at most {option.high:g}, not {value!r}"
    return None
