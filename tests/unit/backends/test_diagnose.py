"""What the end of a server's log says: tails of real logs of mlx-lm 0.32.2, shortened, with paths of nowhere."""

from collections.abc import Sequence

import pytest

from reconciler.backends.base import Diagnosis
from reconciler.backends.logs.python import LONGEST
from reconciler.backends.mlx_lm import MlxLm
from reconciler.backends.mlx_openai_server import MlxOpenAiServer

RECORD = "2026-11-21 07:15:29,340"
LISTENING = [
    "/venv/mlx_lm/server.py:1894: UserWarning: mlx_lm.server is not recommended for production as it only implements "
    "basic security checks.",
    "  warnings.warn(",
    f"{RECORD} - INFO - Starting httpd at 127.0.0.1 on port 53909...",
]
ASKED = [
    '127.0.0.1 - - [21/Nov/2026 07:15:29] "POST /v1/chat/completions HTTP/1.1" 404 -',
    '127.0.0.1 - - [21/Nov/2026 07:15:30] "GET /health HTTP/1.1" 503 -',
]
HEALTHY = [
    *LISTENING,
    f"{RECORD} - INFO - Prompt Cache: 0 sequences, 0.00 GB",
    f"{RECORD} - INFO - - assistant: 0 sequences, 0.00 GB",
    '127.0.0.1 - - [21/Nov/2026 07:15:29] "POST /v1/chat/completions HTTP/1.1" 200 -',
    f"{RECORD} - INFO - Prompt processing progress: 20/21",
]
CAUSE = ["", "The above exception was the direct cause of the following exception:", ""]
LOAD = ("/venv/mlx_lm/utils.py", 456, "load_model", "weights.update(mx.load(wf))")
STRICT = ("/venv/mlx/nn/layers/base.py", 191, "load_weights", 'raise ValueError(f"Missing {num_missing} parameters")')
PARSE = ("/python/json/decoder.py", 353, "raw_decode", "obj, end = self.scan_once(s, idx)")
CONFIG = ("/venv/mlx_lm/utils.py", 365, "load_config", "config = _decode_tagged_floats(json.load(f))")
CLASSES = ("/venv/mlx_lm/utils.py", 225, "_get_classes", "raise ValueError(msg) from e")
TOKENIZER = ("/venv/transformers/tokenization_utils_base.py", 1961, "_from_pretrained", "tokenizer = cls(*init_inputs)")
BIND = ("/python/socketserver.py", 472, "server_bind", "self.socket.bind(self.server_address)")
IMPORT = ("/venv/mlx_lm/utils.py", 39, "<module>", "resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 4096))")

NO_TOKENIZER = (
    "ValueError: Couldn't instantiate the backend tokenizer from one of: \n"
    "(1) a `tokenizers` library serialization file, \n"
    "(2) a slow tokenizer instance to convert or \n"
    "(3) an equivalent slow tokenizer class to instantiate and convert. "
)
CUT_DATA = (
    "RuntimeError: [load_safetensors] Tensor 'lm_head.weight' invalid data offsets (189056, 230016) exceeding the size "
    "of the file. Perhaps an incomplete download or corrupt file?"
)
CUT_HEADER = (
    "RuntimeError: [load_safetensors] The JSON header is 2144 bytes long but the file is only 1000 bytes. Perhaps an "
    "incomplete download or corrupt file?"
)
GONE = "[METAL] Command buffer execution failed: Insufficient Memory (8:kIOGPUCommandBufferCallbackErrorOutOfMemory)"

Frame = tuple[str, int, str, str]


def traceback(said: str, *frames: Frame) -> list[str]:
    """As Python prints it: the class with its modules, and a text of one or more lines."""
    above = [f'  File "{file}", line {number}, in {name}\n    {code}' for file, number, name, code in frames]
    return "\n".join(["Traceback (most recent call last):", *above, said]).splitlines()


def died(said: str, *frames: Frame) -> list[str]:
    """As `logging.exception` writes it: the text, then the traceback."""
    text = said.partition(": ")[2]
    return [
        *f"{RECORD} - ERROR - mlx_lm.server generation thread died: {text}".splitlines(),
        *traceback(said, *frames),
        *LISTENING,
        *ASKED,
    ]


def seen(lines: Sequence[str]) -> Diagnosis:
    """What mlx-lm's log says, which is the same where the log is shown in part: not its empty lines."""
    found = MlxLm().diagnose(lines)
    assert found is not None
    assert found == MlxLm().diagnose([line.rstrip() for line in lines if line.strip()])
    assert len(found.message) <= LONGEST
    assert not found.message.endswith(".")
    return found


PERMANENT = {
    "missing shard": (
        died("ValueError: Missing 11 parameters: \nlm_head.weight,\nmodel.layers.1.mlp.up_proj.weight.", STRICT),
        "model-incomplete",
        "the weights lack tensors (11): lm_head.weight",
    ),
    "other weights": (
        died("ValueError: Received 9 parameters not in model: \nmodel.layers.1.mlp.up_proj.weight.", STRICT),
        "weights-mismatch",
        "the weights hold tensors that the model does not have (9): model.layers.1.mlp.up_proj.weight",
    ),
    "wrong shape": (
        died("ValueError: Expected shape (256, 64) but received shape (128, 64) for parameter lm_head.weight", STRICT),
        "weights-mismatch",
        "Expected shape (256, 64) but received shape (128, 64) for parameter lm_head.weight",
    ),
    "no weights": (
        died("FileNotFoundError: No safetensors found in /models/m", LOAD),
        "weights-missing",
        "the model's folder holds no model*.safetensors",
    ),
    "link to nothing": (
        died("RuntimeError: [load_safetensors] Failed to open file /models/m/model-00002-of-00002.safetensors", LOAD),
        "weights-missing",
        "model-00002-of-00002.safetensors cannot be opened",
    ),
    "empty shard": (
        died("RuntimeError: [read] Unable to read 8 bytes from file.", LOAD),
        "weights-damaged",
        "a file of the weights is empty or cut off",
    ),
    "cut in the header": (
        died(CUT_HEADER, LOAD),
        "weights-damaged",
        "a file of the weights is damaged: The JSON header is 2144 bytes long but the file is only 1000 bytes",
    ),
    "cut in the data": (
        died(CUT_DATA, LOAD),
        "weights-damaged",
        "a file of the weights is damaged: Tensor 'lm_head.weight' invalid data offsets (189056, 230016) exceeding "
        "the size of the file",
    ),
    "pointer instead of weights": (
        died("RuntimeError: [load_safetensors] Invalid json header length file /models/m/model.safetensors", LOAD),
        "weights-damaged",
        "a file of the weights is damaged: Invalid json header length file /models/m/model.safetensors",
    ),
    "half a config.json": (
        died("json.decoder.JSONDecodeError: Unterminated string starting at: line 11 column 3", CONFIG, PARSE),
        "config-invalid",
        "config.json cannot be read: Unterminated string starting at: line 11 column 3",
    ),
    "no config.json": (
        died("FileNotFoundError: [Errno 2] No such file or directory: '/models/m/config.json'", CONFIG),
        "model-incomplete",
        "config.json is missing",
    ),
    "no model_type": (
        died("KeyError: 'model_type'", CLASSES),
        "config-invalid",
        "config.json does not name a model_type",
    ),
    "no hidden_size": (
        died(
            "TypeError: ModelArgs.__init__() missing 1 required positional argument: 'hidden_size'",
            ("/venv/mlx_lm/models/base.py", 15, "from_dict", "return cls("),
        ),
        "config-invalid",
        "config.json lacks 'hidden_size'",
    ),
    "no tokenizer": (
        died(NO_TOKENIZER, TOKENIZER),
        "tokenizer-broken",
        "the model's folder holds no tokenizer that can be loaded (tokenizer.json)",
    ),
    "half a tokenizer.json": (
        [
            f"{RECORD} - ERROR - mlx_lm.server generation thread died: Failed to parse tokenizer.json: line 26",
            *traceback("json.decoder.JSONDecodeError: Unterminated string starting at: line 26", PARSE),
            *CAUSE,
            *traceback(
                "json.decoder.JSONDecodeError: Failed to parse tokenizer.json: line 26",
                ("/venv/mlx_lm/utils.py", 630, "load_tokenizer", "return _load_tokenizer("),
            ),
        ],
        "tokenizer-broken",
        "the tokenizer cannot be loaded: Failed to parse tokenizer.json: line 26",
    ),
    "tokenizer.json of another kind": (
        died("Exception: data did not match any variant of untagged enum ModelUntagged", TOKENIZER),
        "tokenizer-broken",
        "the tokenizer cannot be loaded: data did not match any variant of untagged enum ModelUntagged",
    ),
    "architecture": (
        [
            f"{RECORD} - ERROR - mlx_lm.server generation thread died: Model type weirdo not supported.",
            *traceback(
                "ModuleNotFoundError: No module named 'mlx_lm.models.weirdo'",
                ("<frozen importlib._bootstrap>", 1140, "_find_and_load_unlocked", ""),
            ),
            *CAUSE,
            *traceback("ValueError: Model type weirdo not supported.", CLASSES),
        ],
        "architecture-unsupported",
        "this version of mlx-lm does not know the architecture weirdo",
    ),
    "code of its own": (
        died(
            "ValueError: The model at /models/m requires importing and running a custom module ('its.py') to build its "
            "architecture. This is disabled by default.",
            LOAD,
        ),
        "custom-code-refused",
        "the model wants to run code of its own, which is refused",
    ),
    "no folder": (
        died(
            "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
            "'namespace/repo_name': '/models/m'. Use `repo_type` argument if needed.",
            ("/venv/huggingface_hub/utils/_validators.py", 133, "validate_repo_id", "raise HFValidationError("),
        ),
        "model-not-found",
        "no model's folder is at /models/m",
    ),
    "unknown flag": (
        ["usage: __main__.py [-h] [--model MODEL]", "__main__.py: error: unrecognized arguments: --nope=1"],
        "flag-refused",
        "the program refuses its command line: unrecognized arguments: --nope=1",
    ),
    "limit of open files": (
        traceback("ValueError: not allowed to raise maximum limit", IMPORT),
        "descriptor-limit",
        "the hard limit of open files is lower than the server program asks for",
    ),
    "no module": (
        ["/venv/bin/python: No module named mlx_lm.nope"],
        "runtime-broken",
        "the installation of the server program is broken: No module named mlx_lm.nope",
    ),
    "broken import": (
        traceback("ImportError: dlopen(libfoo.dylib): image not found", IMPORT),
        "runtime-broken",
        "the installation of the server program is broken: dlopen(libfoo.dylib): image not found",
    ),
}

PASSING = {
    "lost bind": (traceback("OSError: [Errno 98] Address already in use", BIND), "port-lost"),
    "lost bind on macOS": (traceback("OSError: [Errno 48] Address already in use", BIND), "port-lost"),
    "no such address": (traceback("OSError: [Errno 99] Cannot assign requested address", BIND), "address-missing"),
    "Metal aborts": (
        [f"libc++abi: terminating due to uncaught exception of type std::runtime_error: {GONE}"],
        "out-of-memory",
    ),
    "Metal raises": (died(f"RuntimeError: {GONE}.", LOAD), "out-of-memory"),
    "too big a buffer": (
        died(
            "RuntimeError: [metal::malloc] Attempting to allocate 48736917632 bytes which is greater than the maximum "
            "allowed buffer size of 30150672384 bytes.",
            LOAD,
        ),
        "out-of-memory",
    ),
    "allocator": (died("RuntimeError: [malloc_or_wait] Unable to allocate 64 bytes.", LOAD), "out-of-memory"),
    "another abort": (
        [
            "terminate called after throwing an instance of 'std::runtime_error'",
            "  what():  [METAL] Command buffer execution failed: Caused GPU Timeout Error",
        ],
        "crashed",
    ),
    "unknown class": (died("adapters.AdapterError: no such adapter", LOAD), "load-failed"),
}


@pytest.mark.parametrize("name", PERMANENT)
def test_what_must_fail_again_is_named_and_permanent(name: str) -> None:
    lines, cause, message = PERMANENT[name]
    assert seen(lines) == Diagnosis(cause=cause, message=message, permanent=True)


@pytest.mark.parametrize("name", PASSING)
def test_what_may_pass_is_named_and_tried_again(name: str) -> None:
    lines, cause = PASSING[name]
    found = seen(lines)
    assert (found.cause, found.permanent) == (cause, False)


def test_an_unknown_exception_is_shown() -> None:
    assert seen(died("adapters.AdapterError: no\x1b[31m such adapter", LOAD)).message == (
        "it ended with: AdapterError: no?[31m such adapter"
    )


def test_a_record_that_is_not_yet_whole_is_read() -> None:
    found = seen(
        [f"{RECORD} - ERROR - mlx_lm.server generation thread died: Missing 2 parameters: ", "lm_head.weight,"]
    )
    assert (found.cause, found.message) == ("model-incomplete", "the weights lack tensors (2): lm_head.weight")


def test_a_traceback_whose_beginning_is_cut_off_is_read() -> None:
    for name in ("missing shard", "no tokenizer", "half a config.json", "architecture"):
        lines, cause, _ = PERMANENT[name]
        start = next(number for number, line in enumerate(lines) if line.startswith("  File"))
        assert seen(lines[start:]).cause == cause


def test_the_end_of_a_long_list_of_tensors_is_read() -> None:
    names = [f"model.layers.{number}.mlp.up_proj.weight," for number in range(30)]
    assert seen([*names, "model.norm.weight.", *ASKED]) == Diagnosis(
        cause="weights-mismatch",
        message="the weights and the program's idea of the model differ in tensors such as model.norm.weight",
        permanent=True,
    )


def test_the_most_recent_failure_counts() -> None:
    bind, weights = PASSING["lost bind"][0], PERMANENT["empty shard"][0]
    assert seen([*bind, *weights]).cause == "weights-damaged"
    assert seen([*weights, *bind]).cause == "port-lost"
    # Without anything between the two, as the threads write them when both fail at once.
    assert seen([line for line in weights if line not in (*LISTENING, *ASKED)] + bind).cause == "port-lost"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        HEALTHY,
        # A template that is none fails at the first request, of which the log keeps the status alone.
        [*LISTENING, *ASKED],
        ["terminate called without an active exception"],
        traceback("KeyboardInterrupt", BIND),
        [*HEALTHY, "model.layers.0.mlp.up_proj.weight,"],
    ],
)
def test_a_log_without_a_failure_says_nothing(lines: list[str]) -> None:
    assert MlxLm().diagnose(lines) is None


def test_a_client_that_goes_away_is_no_failure() -> None:
    ruler = "-" * 40
    lost = traceback("OSError: [Errno 24] Too many open files", BIND)
    lines = [*HEALTHY, ruler, "Exception occurred during processing of request from ('127.0.0.1', 1)", *lost, ruler]
    assert MlxLm().diagnose(lines) is None
    assert MlxLm().diagnose([*HEALTHY, "Exception in thread Thread-3 (auto_conversion):", *lost]) is None
    assert seen([*lines, *PASSING["Metal aborts"][0]]).cause == "out-of-memory"


@pytest.mark.parametrize("name", [*PERMANENT, *PASSING])
def test_text_in_a_debug_record_fakes_nothing(name: str) -> None:
    lines = (PERMANENT[name] if name in PERMANENT else PASSING[name])[0]
    stolen = [line for line in lines if not line.startswith(RECORD) and line not in ASKED]
    assert MlxLm().diagnose([*HEALTHY, f"{RECORD} - DEBUG - Hello", *stolen]) is None
    prompt = "\\n".join(lines)
    body = [f"{RECORD} - DEBUG - Incoming Request Body: {{", '\t"messages": [', f'\t\t"{prompt}"', "\t]", "}"]
    assert MlxLm().diagnose([*HEALTHY, *body, *HEALTHY[-1:]]) is None


def test_a_body_that_is_no_json_ends_no_restarts() -> None:
    body = f"{RECORD} - ERROR - JSONDecodeError: Expecting value: line 1 column 1 (char 0) - Raw body: x"
    architecture = PERMANENT["architecture"][0]
    assert MlxLm().diagnose([*HEALTHY, body, *architecture[1:], *ASKED]) is None
    # A body that imitates records cannot be told from them: it may name a cause and cannot make it permanent.
    assert not seen([*HEALTHY, body, *architecture]).permanent
    assert seen([*architecture, *HEALTHY, body]).permanent


FAILED = "ERROR:    Application startup failed. Exiting."


@pytest.mark.parametrize(
    ("lines", "cause", "permanent"),
    [
        ([FAILED], "load-failed", False),
        (["ERROR: Application startup failed. Exiting."], "load-failed", False),
        (
            ["ERROR:    Traceback (most recent call last):", *traceback("ValueError: x", LOAD)[1:], FAILED],
            "load-failed",
            False,
        ),
        ([*traceback("ModuleNotFoundError: No module named 'mlx_vlm'", IMPORT), FAILED], "runtime-broken", True),
        (traceback("ValueError: not allowed to raise maximum limit", IMPORT), "descriptor-limit", True),
        (["Usage: mlx-openai-server launch [OPTIONS]", "", "Error: No such option: --nope"], "flag-refused", True),
        (["/venv/bin/python: No module named app"], "runtime-broken", True),
        (["ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 80)"], "port-lost", False),
    ],
)
def test_the_last_words_of_mlx_openai_server(lines: list[str], cause: str, permanent: bool) -> None:
    found = MlxOpenAiServer().diagnose(lines)
    assert found is not None
    assert (found.cause, found.permanent) == (cause, permanent)


def test_mlx_openai_server_shows_what_the_worker_raised() -> None:
    found = MlxOpenAiServer().diagnose([*traceback("ValueError: Model type weirdo not supported.", CLASSES), FAILED])
    assert found is not None
    assert found.message == "the worker could not load the model: ValueError: Model type weirdo not supported"


def test_mlx_openai_server_that_started_says_nothing() -> None:
    assert MlxOpenAiServer().diagnose([]) is None
    started = "INFO:     Application startup complete."
    assert MlxOpenAiServer().diagnose([started, *traceback("ImportError: x", IMPORT)]) is None
    assert MlxOpenAiServer().diagnose([*traceback("ValueError: x", LOAD)]) is None
