"""Judges the files of one model folder: what is missing, how large it is in memory, what its template knows.

Complete means that mlx_lm 0.32 can load it offline: `config.json`, every weight file that the index names (or a
lone `model*.safetensors`, the only pattern it globs) as long as its own header says, a tokenizer, and, where
huggingface_hub 2.x has kept the listing of the commit, every file of the listing that a server reads, in its
listed size. The library's own success is no proof (facts/faults.md H02-H04).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from reconciler.adapters.memory.model_config import cache_cost, context_window
from reconciler.adapters.memory.model_memory_key import memory_key
from reconciler.model.cache_cost import CacheCost

from .weights import Damaged, declared, indexed_files, numbered_siblings, read_file

T = TypeVar("T")

CONFIG: Final = "config.json"
INDEX: Final = "model.safetensors.index.json"
WEIGHTS: Final = "model*.safetensors"
TOKENIZERS: Final = ("tokenizer.json", "tokenizer_config.json")
_TEMPLATE_FILE: Final = "chat_template.jinja"
_TEMPLATE_LIMIT: Final = 16 * 2**20
_NEEDED: Final = re.compile(
    r"config\.json|generation_config\.json|model[^/]*\.safetensors(\.index\.json)?|tokenizer[^/]*|[^/]*\.tiktoken"
    r"|vocab\.(json|txt)|merges\.txt|special_tokens_map\.json|added_tokens\.json|chat_template\.(jinja|json)"
)
"""Files of a listing without which a server answers wrongly or not at all; others may never have been fetched."""
_TEMPLATE_TEXT: Final = re.compile(rb'"chat_template"\s*:\s*("(?:[^"\\]++|\\.)*+")')
_TOOLS: Final = re.compile(rb"\btools\b")

_OURS: Final = "mlx"
"""`format` in the metadata of weight files that mlx wrote."""
_FOREIGN: Final = frozenset({"gguf", "bin", "pt", "pth", "onnx", "tflite", "h5", "msgpack", "npz"})
"""Endings of weights in other formats."""

Stamp = tuple[int, int, int, int]
"""Device, inode, size and mtime in nanoseconds: while these stay, so does the content."""
Memo = dict[tuple[str, Stamp], Any]
"""(what was read, of which file) -> the result; Damaged and all."""


class FoundFile(NamedTuple):
    """One file of a folder, links followed."""

    path: str
    stamp: Stamp

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.stamp[2]


class _Config(NamedTuple):
    """What config.json says."""

    cache: CacheCost
    context_window: int | None
    code: str
    """File of code that a server is asked to run; empty: none."""
    quantized: bool
    """Whether mlx_lm quantised it: others name the method by which they did."""
    memory_key: str
    """Under what it is remembered how much memory such a model takes."""


class Judged:
    """What the files of a folder say."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        """File -> why, the empty text for one that is simply not there."""
        self.foreign = ""
        self.code = ""
        self.shards = 1
        self.weight_bytes = 0
        self.cache = CacheCost()
        self.context_window: int | None = None
        self.converted: bool | None = None
        """Whether its files say that they were written for MLX; None where they say neither."""
        self.has_tool_template: bool | None = None
        self.memory_key = ""
        """Under what its exact memory is remembered; empty without a configuration."""

    def wrong(self) -> tuple[str, ...]:
        """`missing` for people, by name."""
        return tuple(f"{name} ({why})" if (why := self.missing[name]) else name for name in sorted(self.missing))


class _Made(NamedTuple):
    """What was concluded about one folder."""

    grounds: object
    result: Any
    used: Memo
    """What was read for it."""


class Recall:
    """Reads of file content, each made once for as long as the file stays as it is.

    One run of the command line starts with an empty memo; a loop that keeps it pays a stat per file. What was not
    asked for again is dropped.
    """

    def __init__(self, memo: Memo | None = None) -> None:
        self.memo: Memo = memo or {}
        self._used: Memo = {}
        self._made: dict[str, _Made] = {}
        self._kept: dict[str, _Made] = {}

    def __call__(self, kind: str, found: FoundFile, read: Callable[[FoundFile], T]) -> T:
        """The result of `read`, or the Damaged that it raised, of this very content."""
        key = (kind, found.stamp)
        if key in self.memo:
            result = self.memo[key]
        else:
            try:
                result = read(found)
            except Damaged as error:
                result = error
        self._used[key] = result
        if isinstance(result, Damaged):
            raise Damaged(*result.args)
        known: T = result
        return known

    def made(self, path: str, grounds: object, make: Callable[[], T]) -> T:
        """What was concluded about a folder at the last look from equal grounds, else what `make` concludes now."""
        known = self._made.get(path)
        if known is None or known.grounds != grounds:
            others, self._used = self._used, {}
            try:
                known = _Made(grounds, make(), self._used)
            finally:
                self._used = others
        self._kept[path] = known
        self._used |= known.used
        result: T = known.result
        return result

    def turn(self) -> None:
        """One look at everything is over: forget what was not used since the one before."""
        self.memo, self._used = self._used, {}
        self._made, self._kept = self._kept, {}

    def keep(self) -> None:
        """A look at a part is over: forget nothing."""
        self.memo |= self._used
        self._made |= self._kept


def judge(files: Mapping[str, FoundFile], listing: FoundFile | None, recall: Recall) -> Judged:
    """The verdict on a folder. Raises OSError when a file cannot be read."""
    judged = Judged()
    _judge_config(files, recall, judged)
    _judge_weights(files, recall, judged)
    if not any(name in files for name in TOKENIZERS):
        judged.missing[TOKENIZERS[0]] = ""
    if listing is not None:
        for name, size in recall("listing", listing, _listed):
            found = files.get(name)
            if found is None:
                judged.missing.setdefault(name, "")
            elif found.size != size:
                judged.missing.setdefault(name, f"{found.size} of {size} bytes")
    judged.has_tool_template = _knows_tools(files, recall)
    return judged


def _judge_config(files: Mapping[str, FoundFile], recall: Recall, judged: Judged) -> None:
    config = files.get(CONFIG)
    if config is None:
        judged.missing[CONFIG] = ""
        return
    try:
        known = recall("config", config, _config)
    except Damaged as error:
        judged.missing[CONFIG] = str(error)
        return
    judged.cache, judged.context_window, judged.code = known.cache, known.context_window, known.code
    judged.converted, judged.memory_key = known.quantized or None, known.memory_key


def _judge_weights(files: Mapping[str, FoundFile], recall: Recall, judged: Judged) -> None:
    there = frozenset(name for name in files if name.startswith("model") and name.endswith(".safetensors"))
    expected: frozenset[str] = frozenset()
    index = files.get(INDEX)
    if index is not None:
        try:
            expected = recall("index", index, lambda found: indexed_files(found.path))
        except Damaged as error:
            judged.missing[INDEX] = str(error)
    expected |= numbered_siblings(there) if index is None else frozenset()
    for name in expected - files.keys():
        judged.missing[name] = ""
    if not there and not judged.missing.keys() & expected:
        judged.missing[WEIGHTS] = ""
        found = {name.rpartition(".")[2].lower() for name in files} & _FOREIGN
        judged.foreign = min(found, default="")
    for name in there:
        try:
            header = recall("header", files[name], lambda f: declared(f.path, f.size))
        except Damaged as error:
            judged.missing[name] = str(error)
            continue
        judged.weight_bytes += header.tensor_bytes
        if header.format:
            judged.converted = judged.converted or header.format == _OURS
    judged.shards = max(1, len(expected | there))


def _config(found: FoundFile) -> _Config:
    content = read_file(found.path)
    try:
        config = json.loads(content)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise Damaged("no JSON object")
    code = config.get("model_file")
    window = context_window(config)
    return _Config(
        cache=cache_cost(config),
        context_window=None if window is None else window[0],
        code=code if isinstance(code, str) else "",
        quantized=_quantized(config.get("quantization")),
        memory_key=memory_key(content),
    )


def _quantized(settings: object) -> bool:
    return isinstance(settings, dict) and "bits" in settings and "quant_method" not in settings


def _listed(found: FoundFile) -> tuple[tuple[str, int], ...]:
    """(name, size) of the needed files; empty where the listing is of a format that is not known.

    `trees/<commit>.json` is a cache of huggingface_hub, which ignores one that it cannot read; so does this.
    """
    try:
        document = json.loads(read_file(found.path))
        entries = document["files"] if document["format_version"] == 1 else {}
        return tuple((name, int(entry["size"])) for name, entry in entries.items() if _NEEDED.fullmatch(name))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Damaged):
        return ()


def _knows_tools(files: Mapping[str, FoundFile], recall: Recall) -> bool | None:
    """Whether the chat template mentions tools; its own file goes before the tokenizer's configuration."""
    try:
        if _TEMPLATE_FILE in files:
            return recall("template", files[_TEMPLATE_FILE], _template_file)
        if TOKENIZERS[1] in files:
            return recall("tokenizer", files[TOKENIZERS[1]], _template_in_tokenizer)
    except Damaged:
        pass
    return None


def _template_file(found: FoundFile) -> bool:
    return _TOOLS.search(read_file(found.path, _TEMPLATE_LIMIT)) is not None


def _template_in_tokenizer(found: FoundFile) -> bool | None:
    text = read_file(found.path, _TEMPLATE_LIMIT)
    if b'"chat_template"' not in text:
        return None
    if match := _TEMPLATE_TEXT.search(text):
        # An escaped line break glues an "n" to the word behind it.
        return _TOOLS.search(match[1].replace(b"\\n", b" ")) is not None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    texts = list(_template_texts(document.get("chat_template") if isinstance(document, dict) else None))
    return any(_TOOLS.search(item.encode()) for item in texts) if texts else None


def _template_texts(value: object) -> Iterator[str]:
    """The texts of `chat_template`, which may be a list of named templates."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from _template_texts(item.get("template"))
