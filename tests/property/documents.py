"""Desired states as the strict reader would let them through, and host files to go with them."""

from collections.abc import Mapping
from typing import Final

from hypothesis import strategies as st

from reconciler.model.desired import (
    Desired,
    DesiredState,
    FrontSpec,
    Gateways,
    LiteLlmSpec,
    ModelSpec,
    Policy,
    Source,
)
from reconciler.model.host import HostFile, Memory

LABELS: Final = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
ALIASES: Final = ("fast", "deep", "small", "eyes")
REPOS: Final = ("org/one", "org/two", "org/three")
TEAM: Final = range(8100, 8106)
EXPERIMENTAL: Final = range(8120, 8124)
TEMPLATES: Final[Mapping[str, str]] = {"templates/a.jinja": "{{ a }}", "templates/b.jinja": "{{ b }}"}


def often(value: bool, times: int = 4) -> st.SearchStrategy[bool]:
    """`value`, all but one time in `times`."""
    return st.sampled_from([*[value] * (times - 1), not value])


def weighted(**shares: int) -> st.SearchStrategy[str]:
    """One of the names, by its share; the first is what shrinking goes to."""
    return st.sampled_from([name.replace("_", "-") for name, share in shares.items() for _ in range(share)])


@st.composite
def models(draw: st.DrawFn, port: object, aliases: tuple[str, ...]) -> ModelSpec:
    """One model on a given port, under given aliases."""
    flavour = draw(weighted(plain=30, options=3, template=3, other_backend=3, unmet=1, forced=1))
    return ModelSpec(
        source=Source(repo=draw(st.sampled_from(REPOS)), revision=draw(st.sampled_from([None, None, "main", "dev"]))),
        port=port,  # type: ignore[arg-type]
        backend="mlx-openai-server" if flavour == "other-backend" else None,
        chat_template=draw(st.sampled_from(sorted(TEMPLATES))) if flavour == "template" else None,
        options={"decode_concurrency": draw(st.sampled_from([1, 4]))} if flavour == "options" else {},
        requires=("vision",) if flavour == "unmet" else (),
        convert="force" if flavour == "forced" else "auto",
        context_length=draw(st.sampled_from([None, None, 4_096, 65_536])),
        aliases=aliases,
        priority=draw(st.sampled_from([0, 0, 0, 5, -5])),
        activation="on-demand" if draw(often(False, 7)) else "always",
    )


def gateways() -> st.SearchStrategy[Gateways]:
    """None, the front door, LiteLLM at the servers, or LiteLLM through the front door."""
    front = FrontSpec(port=1234)
    return st.sampled_from(
        [
            Gateways(front=front),
            Gateways(litellm=LiteLlmSpec(mode="direct")),
            Gateways(),
            Gateways(front=front, litellm=LiteLlmSpec()),
            Gateways(front=front, litellm=LiteLlmSpec(mode="direct")),
        ]
    )


@st.composite
def desired_states(draw: st.DrawFn, least: int = 0, most: int = 6) -> Desired:
    """Unique ports and aliases, declared ranges: what `desired.check` lets through."""
    size = draw(st.sampled_from([n for n in (2, 1, 3, 3, 4, 2, 5, 0, 6) if least <= n <= most]))
    labels = draw(st.permutations(LABELS))[:size]
    ports = iter(draw(st.permutations(TEAM)))
    owners = [draw(st.sampled_from([None, *labels])) for _ in ALIASES] if labels else []
    specs = {}
    for label in labels:
        kind = draw(weighted(explicit=8, auto=3, none=1))
        port = next(ports) if kind == "explicit" else kind
        aliases = tuple(alias for alias, owner in zip(ALIASES, owners, strict=False) if owner == label)
        specs[label] = draw(models(port, aliases))
    state = DesiredState(
        version=1,
        ports={"team": f"{TEAM[0]}-{TEAM[-1]}", "experimental": f"{EXPERIMENTAL[0]}-{EXPERIMENTAL[-1]}"},
        models=specs,
        gateways=draw(gateways()),
        policy=Policy(prune=draw(often(True))),
    )
    return Desired(state=state, revision="worktree:0", templates=TEMPLATES, provenance={})


@st.composite
def host_files(draw: st.DrawFn, need: int, tight: bool) -> HostFile:
    """Budgets from ample to hopeless, measured against what everything together would `need`."""
    share = draw(st.sampled_from([60, 45, 80, 100] if tight else [None, None, 400, 100, 75, 50, 30, 5]))
    budget = f"{need * share // 100}B" if share is not None else None
    return HostFile(memory=Memory(budget=budget), max_launches=draw(st.sampled_from([2, 1, 8])))
