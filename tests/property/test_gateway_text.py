"""Whatever the routes: what is written is read back, by us and by every YAML."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from io import StringIO
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from reconciler.gateways.litellm import HEADER, LiteLlm, refusal
from reconciler.model.names import LABEL, OPTION
from reconciler.model.routes import Route, Upstream

from .profile import worlds

FRONT = "http://127.0.0.1:1234/v1"
ODD = ("no", "y", "null", "~", "1", "1e3", "0x1f", "017", "1_000", "8:00", ".inf", "<<", "=", "- a", "a: b", " ", "#")

names = st.sampled_from(["no", "y", "null", "1", "1.5", "0x1f", "1e3", "a--b"]) | st.from_regex(
    LABEL.regex, fullmatch=True
).filter(lambda name: len(name) < 40)
texts = st.sampled_from(ODD) | st.text(st.characters(codec="utf-8"), max_size=30)
keys = st.sampled_from(["no", "Yes", "null", "reasoning_effort", "top_k"]) | st.from_regex(OPTION.regex, fullmatch=True)
scalars = (
    texts
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.sampled_from([1e-05, 1e16, 5e-324, -1.5e300, 0.1])
)
hosts = st.sampled_from(["127.0.0.1", "::1", "fe80::1", "localhost", "studio.local"])
tokens = st.none() | st.integers(1, 2**24)


@st.composite
def routes(draw: st.DrawFn) -> tuple[Route, ...]:
    """Routes sorted by label, under names that occur once."""
    pool = draw(st.lists(names, unique=True, max_size=8))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(pool) - 1)), max_size=5)) - {len(pool)})
    groups = [pool[low:high] for low, high in zip([0, *cuts], [*cuts, len(pool)], strict=True)] if pool else []
    made = [
        Route(
            label=label,
            aliases=tuple(aliases),
            upstream=draw(upstreams()),
            context_length=draw(tokens),
            max_output_tokens=draw(tokens),
            request_params=draw(params()),
        )
        for label, *aliases in groups
    ]
    return tuple(sorted(made, key=lambda route: route.label))


def upstreams() -> st.SearchStrategy[Upstream | None]:
    served = texts.filter(bool)
    return st.none() | st.builds(Upstream, host=hosts, port=st.integers(1235, 65535), served_name=served)


def params() -> st.SearchStrategy[dict[str, Any]]:
    allowed = st.tuples(keys, scalars).filter(lambda pair: refusal(*pair) is None)
    return st.lists(allowed, max_size=4).map(dict)


def typed(value: object) -> object:
    """The content with its types, so that 1, 1.0 and true differ."""
    if is_dataclass(value):
        return {f.name: typed(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {typed(key): typed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [typed(inner) for inner in value]
    return type(value).__name__, repr(value)


@worlds(150)
@given(routes())
def test_what_is_written_is_read(made: tuple[Route, ...]) -> None:
    writer = LiteLlm(front=FRONT)
    text = writer.write(made)
    assert writer.read(text) == made
    assert typed(writer.read(text)) == typed(made)
    assert writer.read(text.replace("\n", "\r\n")) == made


@worlds(100)
@given(routes())
def test_the_same_routes_are_the_same_bytes(made: tuple[Route, ...]) -> None:
    text = LiteLlm(front=FRONT).write(made)
    shuffled = tuple(
        Route(**{f.name: getattr(r, f.name) for f in fields(r)} | {"request_params": backwards(r.request_params)})
        for r in made
    )
    assert LiteLlm(front=FRONT).write(shuffled) == text
    assert text.startswith(HEADER)
    assert text.isascii()
    assert text.endswith("\n")


@worlds(60)
@given(routes())
def test_every_yaml_reads_the_same(made: tuple[Route, ...]) -> None:
    text = LiteLlm(front=FRONT).write(made)
    read = yaml.safe_load(text)
    assert typed(YAML(typ="safe", pure=True).load(StringIO(text))) == typed(read)
    assert list(read) == ["model_list"]
    names_of = [entry["model_name"] for entry in read["model_list"]]
    ids = [entry["model_info"]["id"] for entry in read["model_list"]]
    assert sorted(names_of) == sorted(name for route in made for name in (route.label, *route.aliases))
    assert len(set(ids)) == len(ids)
    for entry in read["model_list"]:
        assert entry["litellm_params"]["api_base"].startswith("http://")
        assert not any(str(v).startswith("os.environ/") for v in entry["litellm_params"].values())


def backwards(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(reversed(list(values.items())))
