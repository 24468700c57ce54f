"""What mlx_lm itself makes of tiny models of many types: bytes that it writes, bytes that its caches really take.

    python -m tests.programs.measure_architectures FOLDER

Prints one JSON object, name -> what was predicted by `reconciler/programs/model_memory.py` and what was seen. All of
it in one process, because importing mlx takes longer than building a tiny model. FOLDER is for the files.
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.programs.tiny_architectures import MXFP4_TOO, REFUSED, RUN, TABLE

PREFILL_STEP: Final = 256
LENGTHS: Final = (512, 1024)
PROGRAM: Final = Path(__file__).resolve().parents[2] / "reconciler" / "programs" / "model_memory.py"
AFFINE: Final = {"group_size": 64, "bits": 4, "mode": "affine"}
MXFP4: Final = {"group_size": 32, "bits": 4, "mode": "mxfp4"}


class Makers:
    """mlx_lm, and the program under test."""

    def __init__(self, folder: Path) -> None:
        import mlx.core as mx
        import mlx_lm.utils
        from mlx.utils import tree_flatten, tree_map_with_path
        from mlx_lm.models.cache import make_prompt_cache

        spec = importlib.util.spec_from_file_location("model_memory", PROGRAM)
        assert spec is not None
        assert spec.loader is not None
        self.program = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.program)
        self.mx, self.utils, self.cache = mx, mlx_lm.utils, make_prompt_cache
        self.flatten: Callable[..., Any] = tree_flatten
        self.map = tree_map_with_path
        self.folder = folder

    def build(self, config: Mapping[str, Any]) -> Any:
        """A model with random weights, cast as `mlx_lm.convert` does."""
        own: dict[str, Any] = json.loads(json.dumps(config))
        model_class, arguments = self.utils._get_classes(own)
        model = model_class(arguments.from_dict(own))
        kind = getattr(self.mx, config.get("torch_dtype", "bfloat16"))
        casts = getattr(model, "cast_predicate", lambda _: True)

        def cast(path: str, array: Any) -> Any:
            return array.astype(kind) if casts(path) and self.mx.issubdtype(array.dtype, self.mx.floating) else array

        model.update(self.map(cast, model.parameters()))
        return model

    def written(self, name: str, model: Any, config: Mapping[str, Any]) -> dict[str, Any]:
        """What mlx_lm writes of a model, and what it has in memory when it reads that again."""
        place = self.folder / name
        self.utils.save_model(place, model)
        (place / "config.json").write_text(json.dumps(config))
        loaded, _ = self.utils.load_model(place, lazy=True)
        return {
            "config": config,
            "predicted": self.program.measure(json.loads(json.dumps(config))),
            "written": sum(map(_tensor_bytes, place.glob("*.safetensors"))),
            "loaded": sum(array.nbytes for _, array in self.flatten(loaded.parameters())),
        }

    def quantized(self, name: str, config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        """The same after `mlx_lm` has quantised it, with the configuration that it then writes."""
        model, own = self.utils.quantize_model(self.build(config), dict(config), **settings)
        return self.written(f"{name}-{settings['mode']}", model, own)

    def run(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Bytes that the cache really takes while prompts are read, at most; float32 runs on every processor."""
        config = {**config, "torch_dtype": "float32"}
        if isinstance(inner := config.get("text_config"), dict):
            config["text_config"] = {**inner, "torch_dtype": "float32"}
        model = self.build(config)
        taken = {}
        for length in LENGTHS:
            caches, most = self.cache(model), 0
            for _ in range(0, length, PREFILL_STEP):
                tokens = self.mx.zeros((1, PREFILL_STEP), dtype=self.mx.int32)
                self.mx.eval(model(tokens, cache=caches), [cache.state for cache in caches])
                most = max(most, sum(cache.nbytes for cache in caches))
            taken[str(length)] = most
        return {"config": config, "predicted": self.program.measure(json.loads(json.dumps(config))), "taken": taken}

    def refusal(self, config: Mapping[str, Any]) -> str:
        """The kind of the reason for which a configuration is not measured; empty: it is."""
        try:
            self.program.measure(dict(config))
        except self.program.Refused as error:
            return str(error.kind)
        return ""


def _tensor_bytes(path: Path) -> int:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    return path.stat().st_size - 8 - header


def main() -> None:
    """Everything, printed as JSON."""
    out, sys.stdout = sys.stdout, sys.stderr
    makers = Makers(Path(sys.argv[1]))
    found: dict[str, Any] = {}
    for name, config in TABLE.items():
        found[name] = {
            "plain": makers.written(name, makers.build(config), config),
            "affine": makers.quantized(name, config, AFFINE),
        }
        if name in RUN:
            found[name]["run"] = makers.run(config)
    for name in MXFP4_TOO:
        found[name]["mxfp4"] = makers.quantized(name, TABLE[name], MXFP4)
    found["refused"] = {name: makers.refusal(config) for name, (config, _) in REFUSED.items()}
    json.dump(found, out)


if __name__ == "__main__":
    main()
