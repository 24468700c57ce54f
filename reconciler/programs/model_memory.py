"""Measures what a model takes in memory, from its config.json alone, in the environment of the server that loads it.

    (echo '{"config": {...}}'; cat) | python model_memory.py

The model is built as `mlx_lm` would build it and nothing of it is ever computed: MLX arrays are lazy, so shapes and
types are known and no memory is taken. Parameters are cast and quantised as `mlx_lm.convert` writes and `mlx_lm.load`
reads them. The cache is measured by two forward passes over 256 and 512 tokens, which is what tells a part that grows
from one that does not; longer ones cost much, because recurrent layers build a graph for every token.

No weight is read, no code of the model's author is run, nothing is asked of a network. The request is the first line
of stdin; end of file there ends the program at once. One JSON object is printed:

    {"weight_bytes": 1, "per_token": 1, "windows": [{"per_token": 1, "tokens": 1}], "fixed": 1, "kinds": {"KVCache": 1},
     "mlx_lm": "0.32.2", "working_set": null}

in bytes, `weight_bytes` null where only the weights could tell, or `{"error": "...", "kind": "..."}` with one of the
kinds `bad-request`, `custom-code`, `no-runtime`, `unsupported-model`, `bad-config`, `not-lazy`, `failed`.
"""

import contextlib
import importlib
import importlib.metadata
import json
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

SHORT: Final = 256
LONG: Final = 512
"""Tokens of the two passes: multiples of the step by which caches grow."""
_TYPES: Final = ("bfloat16", "float16", "float32")
_MODEL_TYPE: Final = re.compile(r"[\w.-]+")


class Refused(Exception):
    """It cannot be measured; the text says why, `kind` in one word."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """The answer for one configuration. Raises Refused."""
    kind = config.get("model_type")
    if config.get("model_file") is not None:
        raise Refused("custom-code", "its configuration asks servers to run code of its own (model_file)")
    if not (isinstance(kind, str) and _MODEL_TYPE.fullmatch(kind)):
        raise Refused("bad-config", "its configuration names no model_type")
    runtime = Runtime()
    model = runtime.build(config)
    runtime.quantize(model, config)
    known = "quantization" in config or not _quantized_elsewhere(config)
    # Before the passes: some models keep an array of theirs where parameters are.
    weight_bytes = sum(array.nbytes for _, array in runtime.flatten(model.parameters())) if known else None
    caches = [runtime.caches_after(model, tokens) for tokens in (SHORT, LONG)]
    cost = _cost(*caches)
    return {"weight_bytes": weight_bytes, **cost, "mlx_lm": runtime.version, "working_set": runtime.working_set()}


class Runtime:
    """What is used of mlx and mlx_lm; private names of theirs are in here and nowhere else. Raises Refused."""

    def __init__(self) -> None:
        try:
            self.mx: Any = importlib.import_module("mlx.core")
            self.nn: Any = importlib.import_module("mlx.nn")
            trees: Any = importlib.import_module("mlx.utils")
            self._utils: Any = importlib.import_module("mlx_lm.utils")
            self._cache: Any = importlib.import_module("mlx_lm.models.cache")
            self.version = importlib.metadata.version("mlx-lm")
            self._classes: Callable[..., tuple[Any, Any]] = self._utils._get_classes
        except (ImportError, AttributeError) as error:
            raise Refused("no-runtime", f"mlx_lm cannot be used here: {error}") from error
        self.flatten: Callable[[Any], list[tuple[str, Any]]] = trees.tree_flatten
        self._map_with_path: Callable[..., Any] = trees.tree_map_with_path

    def working_set(self) -> int | None:
        """Bytes that Metal recommends to keep resident at most; None where there is no Metal (mlx 0.32, CPU build)."""
        try:
            value = self.mx.device_info().get("max_recommended_working_set_size")
        except (AttributeError, RuntimeError):
            return None
        return value if isinstance(value, int) and value > 0 else None

    def build(self, config: dict[str, Any]) -> Any:
        """The model in the type that its configuration declares, bfloat16 where it declares none."""
        decode = getattr(self._utils, "_decode_tagged_floats", None)
        config = decode(config) if decode else config
        try:
            model_class, arguments = self._classes(config)
        except (ValueError, AttributeError) as error:
            if config.get("auto_map"):
                raise Refused("custom-code", "mlx_lm has no such model, and its author's code is not run") from error
            raise Refused("unsupported-model", str(error)) from error
        try:
            model = model_class(arguments.from_dict(config))
        except Exception as error:
            raise Refused("bad-config", f"mlx_lm cannot build it: {type(error).__name__}: {error}") from error
        kind = getattr(self.mx, declared_type(config))
        casts = getattr(model, "cast_predicate", lambda _: True)

        def cast(path: str, array: Any) -> Any:
            return array.astype(kind) if casts(path) and self.mx.issubdtype(array.dtype, self.mx.floating) else array

        model.update(self._map_with_path(cast, model.parameters()))
        model.eval()
        return model

    def quantize(self, model: Any, config: Mapping[str, Any]) -> None:
        """Replace the layers that mlx_lm quantised, by the settings that it left in the configuration."""
        settings = config.get("quantization")
        if settings is None:
            return
        keeps = getattr(model, "quant_predicate", None)

        def chosen(path: str, module: Any) -> Any:
            if path in settings:
                return settings[path]
            if not hasattr(module, "to_quantized") or module.weight.shape[-1] % settings["group_size"]:
                return False
            # Settings that a model chooses for a layer are in the configuration; that it chooses none is not.
            return keeps is None or bool(keeps(path, module))

        try:
            more = {"mode": settings["mode"]} if "mode" in settings else {}
            self.nn.quantize(model, settings["group_size"], settings["bits"], class_predicate=chosen, **more)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Refused("bad-config", f"mlx_lm cannot quantise it so: {error}") from error

    def caches_after(self, model: Any, tokens: int) -> list[Any]:
        """The parts of a fresh cache after that many tokens, lists of caches taken apart."""
        caches = self._cache.make_prompt_cache(model)
        try:
            with self._nothing_evaluated():
                model(self.mx.zeros((1, tokens), dtype=self.mx.int32), cache=caches)
        except Refused:
            raise
        except Exception as error:
            raise Refused("failed", f"a pass over {tokens} tokens failed: {type(error).__name__}: {error}") from error
        return list(_parts(caches))

    @contextlib.contextmanager
    def _nothing_evaluated(self) -> Iterator[None]:
        """Let whoever asks for a value fail: computing one would take the memory of the whole model."""

        def refuse(*_: Any, **__: Any) -> None:
            raise Refused("not-lazy", "its code computes while it is read")

        places = [(self.mx, "eval"), (self.mx, "async_eval")]
        places += [
            (self.mx.array, name) for name in ("item", "tolist", "__bool__", "__int__", "__float__", "__array__")
        ]
        kept = [(place, name, getattr(place, name)) for place, name in places if hasattr(place, name)]
        try:
            for place, name, _ in kept:
                setattr(place, name, refuse)
            yield
        finally:
            for place, name, value in kept:
                setattr(place, name, value)


def declared_type(config: Mapping[str, Any]) -> str:
    """The floating type that a configuration declares, at the top or for its text part."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for name in ("torch_dtype", "dtype"):
            if part.get(name) in _TYPES:
                return str(part[name])
    return _TYPES[0]


def _quantized_elsewhere(config: Mapping[str, Any]) -> bool:
    """Whether another program quantised it: which layers it has chosen is in its weights alone."""
    text = config.get("text_config")
    return "quantization_config" in config or (isinstance(text, Mapping) and "quantization_config" in text)


def _parts(caches: Any) -> Iterator[Any]:
    for cache in caches:
        inner = getattr(cache, "caches", None)
        if cache is None:
            continue
        if inner is None:
            yield cache
        else:
            yield from _parts(inner)


def _cost(short: list[Any], long: list[Any]) -> dict[str, Any]:
    """Growing, bounded and constant bytes, of the same parts after two lengths."""
    per_token, fixed = 0, 0
    windows: dict[int, int] = {}
    kinds: dict[str, int] = {}
    for before, after in zip(short, long, strict=True):
        kinds[type(after).__name__] = kinds.get(type(after).__name__, 0) + 1
        first, last = _bytes(before), _bytes(after)
        slope = math.ceil((last - first) / (LONG - SHORT))
        bound = next(
            (
                value
                for name in ("max_size", "chunk_size")
                if isinstance(value := getattr(after, name, 0), int) and value
            ),
            None,
        )
        if slope <= 0:
            fixed += last
        elif bound is None:
            per_token += slope
            fixed += max(0, last - slope * LONG)
        else:
            windows[bound] = windows.get(bound, 0) + slope
    listed = [{"per_token": windows[bound], "tokens": bound} for bound in sorted(windows)]
    return {"per_token": per_token, "windows": listed, "fixed": fixed, "kinds": kinds}


def _bytes(cache: Any) -> int:
    return int(cache.nbytes) if not cache.empty() else 0


def _leave_with_the_caller() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    """Answer the question on standard input."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    # The folder of this file holds names that some library may mean differently.
    own = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [place for place in sys.path if os.path.realpath(place) != own]
    try:
        request = json.loads(_first_line())
        threading.Thread(target=_leave_with_the_caller, daemon=True).start()
        if not (isinstance(request, dict) and isinstance(request.get("config"), dict)):
            raise Refused("bad-request", "no object with a config")
        answer = measure(request["config"])
    except ValueError as error:
        answer = {"error": f"no JSON: {error}", "kind": "bad-request"}
    except Refused as error:
        answer = {"error": str(error), "kind": error.kind}
    with os.fdopen(answers, "w") as file:
        file.write(json.dumps(answer) + "\n")
    os._exit(0)  # nothing that was built is worth taking apart


def _first_line() -> bytes:
    """Read without a buffer, so that the end of the file is seen by whoever waits for it."""
    read = bytearray()
    while not read.endswith(b"\n") and (part := os.read(0, 65536)):
        read += part
    return bytes(read)


if __name__ == "__main__":
    main()
