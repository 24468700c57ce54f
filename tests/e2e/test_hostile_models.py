"""Models that mean harm, and what a server is given that a stranger could ask it for."""

import http.client
import json
from typing import Any

import psutil
import pytest

from reconciler.model.problem import ExitCode
from tests.e2e.ensemble import Ensemble, listening
from tests.e2e.test_broken_models import kept_out

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(240)]


def evil_class(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"model_file": "evil.py"}


def evil_map(config: dict[str, Any]) -> dict[str, Any]:
    return config | {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Model", "AutoModelForCausalLM": "evil.Model"},
    }


@pytest.mark.fault("S03", "S04")
def test_s03_s04_no_code_of_a_model_is_run(ensemble: Ensemble) -> None:
    labels = ("class", "map", "words")
    marker = ensemble.home.root / "was-run"
    ensemble.models(*labels, "sound")
    for label in labels:
        ensemble.put(label, "evil.py", f"open({str(marker)!r}, 'w').close()\nclass Model: pass\n".encode())
    for label, change in (("class", evil_class), ("map", evil_map)):
        config = json.loads((ensemble.snapshot(label) / "config.json").read_text())
        ensemble.put(label, "config.json", json.dumps(change(config)).encode())
    words = json.loads((ensemble.snapshot("words") / "tokenizer_config.json").read_text())
    words |= {"tokenizer_class": "Model", "auto_map": {"AutoTokenizer": ["evil.Model", None]}}
    ensemble.put("words", "tokenizer_config.json", json.dumps(words).encode())
    ensemble.declare(*labels, "sound")
    ensemble.env |= {"MLX_LM_TRUST_REMOTE_CODE": "1", "HF_HUB_TRUST_REMOTE_CODE": "1"}
    ensemble.apply(ExitCode.BLOCKED)
    assert not marker.exists()
    for label in ("map", "words"):
        kept_out(ensemble, label, {"sound"})
        assert ensemble.launches(label) == 1, "it was the server that refused"
        assert ensemble.explain(label)["attempt"]["permanent"]
    # An older mlx-lm would run this one when it loads it, so no server is given it.
    assert ensemble.launches("class") == 0
    assert ensemble.status("class")["reference"] == "custom-code"
    assert "code of its own (evil.py)" in ensemble.status("class")["reason"]
    assert "tokenizer" in ensemble.status("words")["reason"]


SECRETS = {
    "HF_TOKEN": "hf_SixteenCanaryLetters",
    "HUGGING_FACE_HUB_TOKEN": "hf_AnotherCanaryToken",
    "LITELLM_MASTER_KEY": "sk-canary-of-the-gateway",
    "OPENAI_API_KEY": "sk-canary-of-a-provider",
}


@pytest.mark.fault("S09", "S10", "S15", "S16")
def test_s09_s10_s15_s16_a_server_is_reached_from_here_alone_and_knows_no_secret(ensemble: Ensemble) -> None:
    ensemble.models("alpha")
    ensemble.declare("alpha")
    ensemble.env |= SECRETS
    ensemble.apply()
    pid, port = ensemble.pid("alpha"), ensemble.port("alpha")
    assert listening(pid) == {("127.0.0.1", port)}
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        environ = process.environ()
        assert not environ.keys() & SECRETS.keys()
        held = " ".join([*environ.values(), *process.cmdline()])
        assert not [value for value in SECRETS.values() if value in held]
    for method in ("OPTIONS", "GET"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(method, "/v1/models", headers={"Origin": "https://evil.example"})
        allowed = connection.getresponse().getheader("Access-Control-Allow-Origin")
        connection.close()
        assert allowed not in ("*", "https://evil.example")
    written = b"".join(p.read_bytes() for p in (ensemble.home.root / "state").rglob("*") if p.is_file())
    assert not [value for value in SECRETS.values() if value.encode() in written]
