"""Registries as mlxctl writes them, with made-up models."""

import json
from typing import Any, Final

HUB: Final = "/opt/models/hub"
COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"


def snapshot(repo: str, commit: str = COMMIT) -> str:
    """The folder of a snapshot in the model cache."""
    return f"{HUB}/models--{repo.replace('/', '--')}/snapshots/{commit}"


def entry(repo: str, model_id: str, port: int | None = None, **more: Any) -> dict[str, Any]:
    """An entry as `init` and `load` of mlxctl make it."""
    return {
        "repo_id": repo,
        "model_id": model_id,
        "cache_path": snapshot(repo),
        "format": "mlx",
        "port": port,
        **more,
    }


def lane(port: int, slug: str | None = None) -> dict[str, Any]:
    """What version 2 has of one port: an idle one, or one that is believed to serve."""
    target = None if slug is None else {"target_slug": slug, "repo_id": None, "expected_served_model_identity": slug}
    return {
        "port": port,
        "desired_target": target,
        "actual_serving_target": target,
        "last_known_good_target": target,
        "actual_served_model_identity": slug,
        "health_state": "down" if slug is None else "serving",
        "reconciliation_state": "converged",
        "last_failure": {},
        "last_transition_time": None,
    }


FAST: Final = entry("acme/Fast-4B-4bit", "mlx-fast-4b-4bit", 8101, context_length=32768, max_output_tokens=8192)
DEEP: Final = entry(
    "acme/gpt-oss-Deep-8bit",
    "mlx-gpt-oss-deep-8bit",
    8100,
    source_path=snapshot("acme/gpt-oss-Deep-8bit"),
    chat_template="/opt/templates/gpt-oss.jinja",
    tool_call_parser="harmony",
    reasoning_parser="harmony",
    context_length=131072,
    max_output_tokens=65536,
    request_params={"reasoning_effort": "low", "top_p": 0.9, "seed": 7},
)
KEPT: Final = entry("acme/Kept", "mlx-kept")
VLLM: Final = {"profile": "generic", "max_model_len": 32768, "async_scheduling": False}


def v1(*entries: dict[str, Any], **keyed: dict[str, Any]) -> dict[str, Any]:
    """A registry of version 1."""
    return {"version": 1, "models": {given["model_id"]: given for given in entries} | keyed}


def v2(*entries: dict[str, Any]) -> dict[str, Any]:
    """A registry of version 2: the same, with what mlxctl believes of all its ports."""
    served = {given["port"]: given["model_id"] for given in entries}
    lanes = {str(port): lane(port, served.get(port)) for port in range(8100, 8140)}
    return v1(*({**given, "vllm": VLLM} for given in entries)) | {"version": 2, "lanes": lanes}


def text(document: Any) -> bytes:
    """The bytes that mlxctl would write."""
    return json.dumps(document, indent=2).encode()
