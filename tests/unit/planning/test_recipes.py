"""Whether a model is converted, by which recipe, and what its result will be."""

import pytest

from reconciler.model.desired import ModelSpec, Quantization, Source
from reconciler.model.host import Converter
from reconciler.model.names import LaunchRef, PathRef, RepoRef
from reconciler.model.observed import Artifact, Conversion, Recipe
from reconciler.planning import recipes
from tests.unit.planning.conftest import Tell

HOST = Converter()
HEAD = "version: 1\nports: {team: 8100-8119}\nmodels:\n"
MLX, BASE, FOLDER = (
    RepoRef(repo="mlx-community/Base", revision="main"),
    RepoRef(repo="acme/base", revision="main"),
    PathRef(path="/weights/base"),
)


def spec(**fields: object) -> ModelSpec:
    return ModelSpec(source=Source(repo="acme/base"), **fields)  # type: ignore[arg-type]


def plan_of(tell: Tell, repo: str, settings: str, *, converted: str = "null") -> list[str]:
    """The verbs of a plan for one model that is here."""
    model = f"  fast:\n    source: {{repo: {repo}}}\n    port: 8100\n{settings}"
    observed = f"artifacts: {{{repo}@main: {{converted: {converted}}}}}\n"
    return [action.kind for action in tell(HEAD + model, observed).actions]


@pytest.mark.parametrize(
    ("reference", "says", "expected"),
    [
        (MLX, True, True),
        (MLX, False, False),
        (MLX, None, True),
        (BASE, True, True),
        (BASE, False, False),
        (BASE, None, False),
        (RepoRef(repo="acme/Base-MLX-4bit", revision="main"), None, True),
        (FOLDER, True, True),
        (FOLDER, False, False),
        (FOLDER, None, True),
    ],
)
@pytest.mark.req("S1-66", "S1-77")
def test_files_say_it_first_and_the_name_second(reference: LaunchRef, says: bool | None, expected: bool) -> None:
    assert recipes.is_converted(spec(), reference, says, HOST) is expected


@pytest.mark.req("S1-66")
@pytest.mark.parametrize("converted", ["true", "null"])
def test_a_preconverted_repository_is_not_converted(tell: Tell, converted: str) -> None:
    assert plan_of(tell, "mlx-community/base", "", converted=converted) == ["launch"]


@pytest.mark.req("S1-72")
def test_force_converts_even_what_is_converted(tell: Tell) -> None:
    assert plan_of(tell, "mlx-community/base", "    convert: force\n", converted="true") == ["convert", "launch"]


@pytest.mark.req("S1-73")
@pytest.mark.parametrize("preconverted", ["auto", "no", "yes"])
def test_skip_never_converts(tell: Tell, preconverted: str) -> None:
    settings = f"    convert: skip\n    preconverted: '{preconverted}'\n"
    assert "convert" not in plan_of(tell, "acme/base", settings, converted="false")


@pytest.mark.req("S1-75")
def test_what_is_declared_preconverted_is_not_converted(tell: Tell) -> None:
    assert plan_of(tell, "acme/base", "    preconverted: 'yes'\n", converted="false") == ["launch"]


@pytest.mark.req("S1-76")
def test_what_is_declared_not_preconverted_is_converted_under_auto(tell: Tell) -> None:
    settings = "    preconverted: 'no'\n"
    assert plan_of(tell, "mlx-community/base", settings, converted="true") == ["convert", "launch"]


@pytest.mark.req("S1-77")
@pytest.mark.parametrize(("converted", "expected"), [("true", ["launch"]), ("false", ["convert", "launch"])])
def test_auto_looks(tell: Tell, converted: str, expected: list[str]) -> None:
    assert plan_of(tell, "acme/base", "    preconverted: auto\n", converted=converted) == expected
    assert plan_of(tell, "acme/base", "", converted=converted) == expected


@pytest.mark.req("S1-81")
@pytest.mark.parametrize("owner", ["mlx-community", "MLX-Community", "mlx", "MLX", "ml-explore", "ML-Explore"])
def test_an_organisation_matches_in_any_case(owner: str) -> None:
    host = Converter(preconverted_hints=())
    assert recipes.is_converted(spec(), RepoRef(repo=f"{owner}/base", revision="main"), None, host)


@pytest.mark.req("S1-81")
@pytest.mark.parametrize("owner", ["mlx-community2", "my-mlx", "ml-explorer", "acme"])
def test_an_organisation_matches_exactly(owner: str) -> None:
    host = Converter(preconverted_hints=())
    assert host.preconverted_orgs == ("mlx-community", "mlx", "ml-explore")
    assert not recipes.is_converted(spec(), RepoRef(repo=f"{owner}/base", revision="main"), None, host)


@pytest.mark.req("S1-82")
@pytest.mark.parametrize(("repo", "expected"), [("acme/Base-MLX", True), ("acme/smlx1", True), ("acme/m-l-x", False)])
def test_a_hint_is_a_part_of_the_repositorys_name_in_any_case(repo: str, expected: bool) -> None:
    reference = RepoRef(repo=repo, revision="main")
    assert HOST.preconverted_hints == ("mlx",)
    assert recipes.is_converted(spec(), reference, None, Converter(preconverted_orgs=())) is expected
    assert not recipes.is_converted(spec(), reference, None, Converter(preconverted_orgs=(), preconverted_hints=()))
    # Weak evidence: what the files say goes before it.
    assert not recipes.is_converted(spec(), reference, False, HOST)


@pytest.mark.parametrize(
    ("convert", "expected"),
    [
        (Quantization(bits=4), ("bits=4",)),
        (Quantization(dtype="bfloat16", group_size=32, bits=8), ("bits=8", "group_size=32", "dtype=bfloat16")),
        (Quantization(mode="mxfp4"), ("bits=4", "mode=mxfp4")),
        (Quantization(group_size=32), ("bits=4", "group_size=32")),
        (Quantization(mode="mxfp8"), ("bits=8", "mode=mxfp8")),
        (Quantization(), ()),
        ("force", ()),
        ("skip", None),
        ("auto", None),
    ],
)
def test_settings_are_said_in_one_order(convert: object, expected: tuple[str, ...] | None) -> None:
    assert recipes.arguments(spec(convert=convert), MLX, True, HOST) == expected


def test_a_recipe_is_of_the_source_the_commit_the_settings_and_the_converter() -> None:
    one = recipes.recipe(BASE, "c1", ("bits=4",), HOST, "mlx-lm 1")
    same = recipes.recipe(RepoRef(repo="acme/base", revision="v1"), "c1", ("bits=4",), HOST, "mlx-lm 1")
    assert one.key == same.key
    custom = Converter(command=("tool", "{src}", "{dest}"))
    others = [
        recipes.recipe(BASE, "c2", ("bits=4",), HOST, "mlx-lm 1"),
        recipes.recipe(BASE, "c1", ("bits=8",), HOST, "mlx-lm 1"),
        recipes.recipe(BASE, "c1", ("bits=4",), HOST, "mlx-lm 2"),
        recipes.recipe(BASE, "c1", ("bits=4",), custom, "mlx-lm 1"),
        recipes.recipe(FOLDER, "c1", ("bits=4",), HOST, "mlx-lm 1"),
    ]
    assert len({one.key, *(other.key for other in others)}) == len(others) + 1
    assert others[3].converter == ""
    assert (others[4].source, others[4].revision) == ("/weights/base", "")


def made(recipe: Recipe, at: float) -> Conversion:
    return Conversion(recipe=recipe, artifact=Artifact(identity=f"recipe:{recipe.key}", path="/made"), made_at=at)


def test_the_last_one_made_counts_whichever_version_made_it() -> None:
    old = made(recipes.recipe(BASE, "c1", ("bits=4",), HOST, "mlx-lm 1"), 1.0)
    new = made(recipes.recipe(BASE, "c1", ("bits=4",), HOST, "mlx-lm 2"), 2.0)
    other = made(recipes.recipe(BASE, "c2", ("bits=4",), HOST, "mlx-lm 2"), 3.0)
    every = (old, new, other)
    assert recipes.made_by(every, ("bits=4",), HOST, "c1") == new
    assert recipes.made_by(every, ("bits=4",), HOST, None) == other
    assert recipes.made_by(every, ("bits=8",), HOST, None) is None
    assert recipes.made_by(every, ("bits=4",), Converter(command=("tool",)), None) is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), 1600),
        (("dtype=float16",), 1600),
        (("dtype=float32",), 3200),
        (("bits=4",), 450),
        (("bits=8",), 850),
        (("bits=4", "group_size=32"), 500),
        (("mode=mxfp4",), 450),
    ],
)
def test_the_size_of_a_result_is_estimated_by_its_bits(settings: tuple[str, ...], expected: int) -> None:
    assert recipes.result_bytes(1600, settings) == expected
