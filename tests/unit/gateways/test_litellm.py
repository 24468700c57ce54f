"""LiteLLM's managed file, byte for byte, and what is refused in either direction."""

from collections.abc import Callable

import pytest

from reconciler.gateways.base import DAMAGED, FOREIGN, NEWER, UNWRITABLE, GatewayTextError, GatewayWriter
from reconciler.gateways.litellm import GATEWAY, HEADER, LiteLlm
from reconciler.model.desired import Scalar
from reconciler.model.routes import Route, Upstream

DEEP = Route(
    label="mlx-gpt-oss-120b",
    aliases=("deep",),
    upstream=Upstream(host="127.0.0.1", port=8100, served_name="default_model"),
    context_length=131072,
    max_output_tokens=65536,
    request_params={"temperature": 1e-05, "reasoning_effort": "low", "top_k": 40, "logprobs": False},
)
SMALL = Route(
    label="smol",
    upstream=Upstream(host="::1", port=8101, served_name="/models/smol"),
    request_params={},
)
ASLEEP = Route(label="qwen-vl", context_length=4096, request_params={})
TWO = """\
# Written by reconciler (LiteLLM, format 1). Do not edit: the next change of a route replaces this file.
# LiteLLM's own configuration names it under `include:`; what is yours belongs there.
model_list:
  - model_name: "mlx-gpt-oss-120b"
    litellm_params:
      model: "openai/default_model"
      api_base: "http://127.0.0.1:8100/v1"
      api_key: "none"
      use_chat_completions_api: true
      logprobs: false
      reasoning_effort: "low"
      temperature: 1.0e-05
      top_k: 40
    model_info:
      id: "reconciler/mlx-gpt-oss-120b"
      managed_by: "reconciler"
      max_input_tokens: 131072
      max_output_tokens: 65536
  - model_name: "deep"
    litellm_params:
      model: "openai/default_model"
      api_base: "http://127.0.0.1:8100/v1"
      api_key: "none"
      use_chat_completions_api: true
      logprobs: false
      reasoning_effort: "low"
      temperature: 1.0e-05
      top_k: 40
    model_info:
      id: "reconciler/mlx-gpt-oss-120b/deep"
      managed_by: "reconciler"
      max_input_tokens: 131072
      max_output_tokens: 65536
  - model_name: "smol"
    litellm_params:
      model: "openai//models/smol"
      api_base: "http://[::1]:8101/v1"
      api_key: "none"
      use_chat_completions_api: true
    model_info:
      id: "reconciler/smol"
      managed_by: "reconciler"
"""


def refused(work: Callable[[], object]) -> GatewayTextError:
    with pytest.raises(GatewayTextError) as caught:
        work()
    return caught.value


def with_param(name: str, value: object) -> Route:
    params: dict[str, Scalar] = {name: value}  # type: ignore[dict-item]
    return Route(label="smol", upstream=SMALL.upstream, request_params=params)


@pytest.mark.req("S1-84")
def test_two_routes() -> None:
    writer: GatewayWriter = GATEWAY()
    assert writer.kind == "litellm"
    assert writer.write((DEEP, SMALL)) == TWO
    assert writer.read(TWO) == (DEEP, SMALL)


def test_no_routes_are_a_file_that_litellm_can_include() -> None:
    assert LiteLlm().write(()) == HEADER + "model_list: []\n"
    assert LiteLlm().read(LiteLlm().write(())) == ()


@pytest.mark.parametrize("text", ["", "\n \n", "model_list: []", "model_list:\n", " model_list: []\r\n"])
def test_what_a_person_makes_so_that_litellm_starts_is_nobodys(text: str) -> None:
    assert LiteLlm().read(text) == ()


def test_through_the_front_door_the_backend_is_never_named() -> None:
    writer = LiteLlm(front="http://127.0.0.1:1234/v1")
    text = writer.write((ASLEEP,))
    assert '      model: "openai/qwen-vl"\n      api_base: "http://127.0.0.1:1234/v1"\n' in text
    assert writer.read(text) == (ASLEEP,)
    moved = Upstream(host="127.0.0.1", port=1234, served_name="qwen-vl")
    for other in (LiteLlm(), LiteLlm(front="http://127.0.0.1:1235/v1")):
        (route,) = other.read(text)
        assert route.upstream == moved  # differs from what is wanted, and its port may still be used


@pytest.mark.parametrize("front", ["https://api.example.com/v1", "http://127.0.0.1:1234", "os.environ/FRONT", ""])
def test_a_front_door_elsewhere_is_a_mistake_of_the_wiring(front: str) -> None:
    with pytest.raises(ValueError, match="is not a URL"):
        LiteLlm(front=front)


@pytest.mark.parametrize(
    ("routes", "says"),
    [
        ((ASLEEP,), "no server for 'qwen-vl'"),
        ((DEEP, Route(label="deep", upstream=SMALL.upstream, request_params={})), "'deep' twice"),
        ((SMALL, SMALL), "'smol' twice"),
        ((Route(label="smol", aliases=("smol",), upstream=SMALL.upstream, request_params={}),), "'smol' twice"),
        ((Route(label="a/b", upstream=SMALL.upstream, request_params={}),), "'a/b'"),
        ((Route(label="a", aliases=("B\n",), upstream=SMALL.upstream, request_params={}),), r"'B\n'"),
        *[
            ((Route(label="a", upstream=Upstream(host=host, port=port, served_name=name), request_params={}),), says)
            for host, port, name, says in [
                ("evil.example/v1#", 8100, "x", "which is none"),
                ("user@host", 8100, "x", "which is none"),
                ("", 8100, "x", "which is none"),
                ("[::1]", 8100, "x", "which is none"),
                ("127.0.0.1", 0, "x", "which is none"),
                ("127.0.0.1", 65536, "x", "which is none"),
                ("127.0.0.1", 8100, "", "without a proper name"),
                ("127.0.0.1", 8100, "\ud800", "without a proper name"),
            ]
        ],
    ],
)
def test_routes_that_cannot_be_said_are_refused(routes: tuple[Route, ...], says: str) -> None:
    error = refused(lambda: LiteLlm().write(routes))
    assert error.reference == UNWRITABLE
    assert says in error.message


def test_a_server_that_looks_like_the_front_door_is_refused() -> None:
    route = Route(label="a", upstream=Upstream(host="127.0.0.1", port=1234, served_name="a"), request_params={})
    assert "front door" in refused(lambda: LiteLlm(front="http://127.0.0.1:1234/v1").write((route,))).message


@pytest.mark.fault("S14")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_base", "https://api.example.com/v1"),
        ("api_key", "x"),
        ("base_url", "https://api.example.com/v1"),
        ("model", "gpt-5"),
        ("custom_llm_provider", "anthropic"),
        ("litellm_credential_name", "work"),
        ("aws_secret_access_key", "x"),
        ("mock_response", "I answer without a model"),
        ("user", "os.environ/LITELLM_MASTER_KEY"),
        ("user", "sk-" + "a1" * 12),
        ("user", "hf_" + "a1" * 12),
        ("seed", 2**256),
        ("top_p", float("nan")),
        ("top_p", float("inf")),
        ("stop", None),
        ("stop", ["a"]),
        ("stop", "\udfff"),
        ("", 1),
    ],
)
def test_parameters_that_redirect_leak_or_are_no_scalars_are_refused(name: str, value: object) -> None:
    error = refused(lambda: LiteLlm().write((with_param(name, value),)))
    assert error.reference == UNWRITABLE
    assert not isinstance(value, str) or value not in error.message


@pytest.mark.fault("G19")
def test_text_cannot_leave_its_quotes() -> None:
    odd = 'x"\n    api_base: "https://api.example.com\\\x00\x85\u2028\ufeff\U0001f600#: - {'
    text = LiteLlm().write((with_param("user", odd),))
    assert text.isascii()
    assert len(text.splitlines()) == len(LiteLlm().write((with_param("user", "x"),)).splitlines())
    assert LiteLlm().read(text) == (with_param("user", odd),)


@pytest.mark.parametrize(
    ("before", "after", "reference"),
    [
        ("# Written by reconciler", "# Written by me", FOREIGN),
        ("format 1)", "format 2)", NEWER),
        ("model_list:\n", "model_list:\n\t- x\n", DAMAGED),
        ("model_list:\n", "model_list: &a\n", None),
        ("model_list:\n", "router_settings: {num_retries: 0}\nmodel_list:\n", FOREIGN),
        ("model_list:\n", "general_settings:\n", FOREIGN),
        ('managed_by: "reconciler"', "managed_by: me", FOREIGN),
        ('id: "reconciler/smol"', "id: smol", FOREIGN),
        ('id: "reconciler/smol"', "id: reconciler/other", FOREIGN),
        ('id: "reconciler/smol"', "id: 7", FOREIGN),
        ('id: "reconciler/smol"', "id: reconciler/smol\n      supports_vision: true", FOREIGN),
        ('api_key: "none"', "api_key: os.environ/OPENAI_API_KEY", FOREIGN),
        ("use_chat_completions_api: true", "use_chat_completions_api: false", FOREIGN),
        ('"http://[::1]:8101/v1"', "os.environ/SMOL_API_BASE", FOREIGN),
        ('"http://[::1]:8101/v1"', "https://api.example.com/v1", FOREIGN),
        ('"http://[::1]:8101/v1"', "http://[::1]:08101/v1", FOREIGN),
        ('"openai//models/smol"', "anthropic/claude", FOREIGN),
        ("max_input_tokens: 131072", "max_input_tokens: many", FOREIGN),
        ("top_k: 40", "top_k: [40]", FOREIGN),
        ("top_k: 40", "top_k: 2026-01-01", FOREIGN),
        ("top_k: 40", "top_k: 2026-99-99", DAMAGED),
        ("top_k: 40", "1: 40", FOREIGN),
        ("top_k: 40", "top_k: *a", DAMAGED),
        ("top_k: 40", "base_url: https://api.example.com", FOREIGN),
        ('model_name: "smol"', "model_name: deep", FOREIGN),
        ("top_k: 40", "top_k: 41", DAMAGED),  # in one of two entries: the alias goes elsewhere than its label
        ('id: "reconciler/mlx-gpt-oss-120b/deep"', "id: reconciler/smol/deep", DAMAGED),
        ('"deep"\n', '"deep"\n    tpm: 3\n', FOREIGN),
        ("  - model_name", "  - 7\n  - model_name", FOREIGN),
    ],
)
def test_a_text_that_is_not_all_ours_is_not_read(before: str, after: str, reference: str | None) -> None:
    assert before in TWO
    text = TWO.replace(before, after, 1)
    if reference is None:
        assert LiteLlm().read(text) == (DEEP, SMALL)
    else:
        assert refused(lambda: LiteLlm().read(text)).reference == reference


def test_a_name_twice_is_not_read() -> None:
    again = TWO[TWO.index('  - model_name: "smol"') :]
    assert refused(lambda: LiteLlm().read(TWO + again)).reference == DAMAGED


@pytest.mark.parametrize("deep", ["[" * 200_000, "- " * 100_000 + "x", "? " * 100_000 + "x"])
def test_deep_nesting_does_not_end_the_process(deep: str) -> None:
    assert refused(lambda: LiteLlm().read(f"{HEADER}model_list:\n  {deep}")).reference == DAMAGED


def test_comments_order_and_line_ends_do_not_matter() -> None:
    lines = TWO.splitlines()
    lines[5], lines[6] = lines[6], lines[5]
    assert LiteLlm().read("\r\n".join([*lines, "# a note", ""])) == (DEEP, SMALL)


def test_other_values_are_other_routes() -> None:
    text = TWO.replace(":8101/", ":8109/").replace("top_k: 40", "top_k: 41")
    deep, small = LiteLlm().read(text)
    assert deep.request_params["top_k"] == 41
    assert small.upstream == Upstream(host="::1", port=8109, served_name="/models/smol")
