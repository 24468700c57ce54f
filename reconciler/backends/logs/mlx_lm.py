"""What the log of mlx_lm.server 0.32.2 says about failures; every row was seen, but for the Metal texts."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Final

from reconciler.backends.base import Diagnosis

from .python import PROGRAM, Meaning, Raised, meaning, raised, sentence


def diagnose(lines: Sequence[str]) -> Diagnosis | None:
    """The most recent failure that the server itself wrote into its log.

    Wants the whole end of a log: a model with a part missing writes a line for each of its tensors, twice.
    """
    for block in reversed(list(_blocks(lines))):
        if found := _diagnosed(block):
            # What follows a line with a client's own text may be the client's as well: it never ends the restarts.
            return replace(found, permanent=found.permanent and not block.doubtful)
    names = list(takewhile(_TENSOR.match, lines))
    if len(names) < _ENOUGH_TENSORS:
        return None
    # The end of a long list, whose first line said whether these are missing or too many.
    says = f"the weights and the program's idea of the model differ in tensors such as {names[-1].rstrip('., ')}"
    return Diagnosis(cause="weights-mismatch", message=sentence(says), permanent=True)


class _Block:
    """Consecutive lines that the server itself wrote about one thing."""

    def __init__(self, *, died: str | None = None, doubtful: bool = False) -> None:
        self.lines: list[str] = []
        self.died = died
        """What the generation thread died of; None: not a record of the program, but Python's or the system's words."""
        self.doubtful = doubtful
        """Whether it stands below text that a client could choose."""


_RECORD: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - (?P<level>[A-Z]+) - (?P<text>.*)")
_DIED: Final = re.compile(r"mlx_lm\.server generation thread died: ?(?P<what>.*)")
_ANSWERED: Final = re.compile(r"\S+ - - \[\d\d/\w{3}/\d{4} \d\d:\d\d:\d\d\] ")
_BODY: Final = "JSONDecodeError: "
"""Begins the record that copies a client's request as it came, line breaks included."""
_HARMLESS: Final = re.compile(r"Exception (?:occurred during processing of|ignored |in thread (?!.*generate\)))")
"""Begins a traceback after which the server goes on: a client that went away, a helper thread."""
_RULER: Final = re.compile("-{40}$")
_REFUSED: Final = re.compile(r"[\w.-]+: error: (?P<what>(?:argument|unrecognized|ambiguous|expected|the following) .*)")
_MODULE: Final = re.compile(r"\S*python[\d.]*: (?P<what>No module named .*)")
_ABORTED: Final = re.compile(
    r"(?:libc\+\+abi: terminating due to uncaught exception of type [^ ]+: |  what\(\):\s+)(?P<what>.*)"
)
_TENSOR: Final = re.compile(r"\w+(?:\.\w+)+[,.]\s*$")
_ENOUGH_TENSORS: Final = 3


def _blocks(lines: Sequence[str]) -> Iterator[_Block]:
    """What the server wrote about failures, oldest first; text of clients and of the model is left out."""
    block, skipping, doubtful = _Block(), False, False
    for line in lines:
        record = _RECORD.match(line)
        if record is not None:
            yield block
            died = _DIED.match(record["text"]) if record["level"] == "ERROR" else None
            doubtful = doubtful or (record["level"] == "ERROR" and record["text"].startswith(_BODY))
            # Records of these levels may go on over lines that somebody else chose, those of the others do not.
            skipping = died is None and record["level"] in ("DEBUG", "ERROR")
            block = _Block(died=None if died is None else died["what"], doubtful=doubtful)
        elif _ANSWERED.match(line) or _RULER.match(line):
            yield block
            block, skipping = _Block(doubtful=doubtful), False
        elif skipping or _HARMLESS.match(line):
            skipping = True
        else:
            block.lines.append(line)
    yield block


def _diagnosed(block: _Block) -> Diagnosis | None:
    for line in reversed(block.lines if block.died is None else ()):
        if refused := _REFUSED.match(line):
            says = sentence(f"the program refuses its command line: {refused['what']}")
            return Diagnosis(cause="flag-refused", message=says, permanent=True)
        if missing := _MODULE.match(line):
            return _read(Raised(said=f"ImportError: {missing['what']}"))
        if aborted := _ABORTED.match(line):
            return _read(Raised(said=f"RuntimeError: {aborted['what']}"), "crashed", "the process aborted")
    exception = raised(block.lines)
    if exception is None and block.died is not None:
        exception = Raised(said="\n".join([f"Exception: {block.died}", *block.lines[:1]]))
    return None if exception is None else _read(exception)


def _read(exception: Raised, cause: str = "load-failed", says: str = "it ended with") -> Diagnosis:
    """The meaning of an exception; of one that no table knows, only that it ended the server."""
    if known := meaning(_MEANINGS, exception):
        row, message = known
        return Diagnosis(cause=row.cause, message=message, permanent=row.permanent)
    return Diagnosis(cause=cause, message=sentence(f"{says}: {exception.said.splitlines()[0]}"))


def _always(cause: str, text: str, says: str, within: str | None = None) -> Meaning:
    """A row about a failure that comes back as long as the same files are there."""
    place = None if within is None else re.compile(within)
    return Meaning(cause=cause, says=says, text=re.compile(text), permanent=True, within=place)


_CONFIG: Final = r", in load_config\b"
_TOKENIZER: Final = r", in (?:load_tokenizer|_?from_pretrained)\b|/tokenization_auto\.py"
_MEANINGS: Final = (
    *PROGRAM,
    Meaning(
        cause="out-of-memory",
        says="there is not enough memory: {what}",
        text=re.compile(
            r"(?:RuntimeError: )?(?P<what>MemoryError|std::bad_alloc"
            r"|\[METAL\] Command buffer execution failed: Insufficient Memory.*"
            r"|\[(?:metal::)?malloc(?:_or_wait)?\] (?:Unable|Attempting) to allocate.*)"
        ),
    ),
    _always(
        "model-not-found", r"\w+: Repo id must be in the form .*?: '(?P<path>[^'\n]*)", "no model's folder is at {path}"
    ),
    _always(
        "model-not-found",
        r"(?:LocalEntryNotFoundError|RepositoryNotFoundError): ",
        "the model is not in the local cache, and the server downloads nothing",
    ),
    _always("model-incomplete", r"IncompleteSnapshotError: (?P<what>.*)", "the download is incomplete: {what}"),
    _always(
        "model-incomplete",
        r"\w+: Missing (?P<count>\d+) parameters:?(?P<first>\s+[\w.]*\w)?",
        "the weights lack tensors ({count}):{first}",
    ),
    _always(
        "weights-mismatch",
        r"\w+: Received (?P<count>\d+) parameters not in model:?(?P<first>\s+[\w.]*\w)?",
        "the weights hold tensors that the model does not have ({count}):{first}",
    ),
    _always("weights-mismatch", r"\w+: (?P<what>Expected shape .* but received shape .*)", "{what}"),
    _always("weights-missing", r"\w+: No safetensors found in ", "the model's folder holds no model*.safetensors"),
    _always(
        "weights-missing",
        r"\w+: \[load_safetensors\] Failed to open file (?:.*/)?(?P<file>[^/\n]+\.safetensors)",
        "{file} cannot be opened",
    ),
    _always("weights-missing", r"\w+: \[load_safetensors\] Failed to open ", "a file of the weights cannot be opened"),
    _always("weights-damaged", r"\w+: \[read\] Unable to read ", "a file of the weights is empty or cut off"),
    _always(
        "weights-damaged",
        r"\w+: (?:\[load_safetensors\] |\[safetensor\] |(?=\[json\.exception\.))(?P<what>.*?)(?:\. Perhaps|\n|$)",
        "a file of the weights is damaged: {what}",
    ),
    _always(
        "architecture-unsupported",
        r"\w+: Model type (?P<kind>\S+) not supported",
        "this version of mlx-lm does not know the architecture {kind}",
    ),
    _always(
        "custom-code-refused",
        r"\w+: .*contains custom code",
        "the model's tokenizer wants to run code of its own, which is refused",
    ),
    _always(
        "custom-code-refused",
        r"ValueError: The model at ",
        "the model wants to run code of its own, which is refused",
        r", in load_model\b",
    ),
    _always("config-invalid", r"KeyError: 'model_type'", "config.json does not name a model_type"),
    _always(
        "config-invalid",
        r"TypeError: .*\b__init__\(\) missing \d+ required \w+ arguments?: (?P<names>.*)",
        "config.json lacks {names}",
        r", in from_dict\b",
    ),
    _always("model-incomplete", r"FileNotFoundError: ", "config.json is missing", _CONFIG),
    _always("config-invalid", r"\w+: (?P<what>.*)", "config.json cannot be read: {what}", _CONFIG),
    _always(
        "tokenizer-broken",
        r"\w+: Couldn't instantiate the backend tokenizer",
        "the model's folder holds no tokenizer that can be loaded (tokenizer.json)",
    ),
    _always("tokenizer-broken", r"\w+: (?P<what>.*)", "the tokenizer cannot be loaded: {what}", _TOKENIZER),
)
