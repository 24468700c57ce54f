"""The schemas in the repository are the generated ones, and every document in it is valid by reader and schema."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator

from reconciler.desired.host import parse_host
from reconciler.desired.parse import Parsed, parse
from reconciler.desired.schema import SCHEMAS, render
from reconciler.model.bundle import REGULAR, Bundle, BundleFile
from reconciler.model.problem import InvalidDocument

ROOT: Final = Path(__file__).resolve().parents[2]
EXAMPLE: Final = ROOT / "desired-state" / "ensemble.yaml"
HOST: Final = ROOT / "desired-state" / "host.example.yaml"
PAGE: Final = ROOT / "docs" / "label-vs-artifact.md"
STORIES: Final = sorted((ROOT / "tests" / "golden").glob("*/desired.yaml"))
ROOTS: Final = {"models": "/opt/models"}


def is_valid(schema: str, text: str) -> bool:
    """Whether the schema in the repository accepts a text."""
    document: Any = yaml.safe_load(text)
    written = json.loads((ROOT / "schemas" / schema).read_text(encoding="utf-8"))
    return Draft202012Validator(written).is_valid(document)


def read(text: str, files: dict[str, BundleFile] | None = None) -> Parsed:
    """The text through the reader."""
    bundle = Bundle(name="ensemble.yaml", revision="worktree:0", text=text.encode(), files=files or {})
    return parse(bundle, roots=ROOTS, environ={}, overrides={})


def beside(path: Path) -> dict[str, BundleFile]:
    """The templates that lie beside a desired file."""
    return {
        file.relative_to(path.parent).as_posix(): BundleFile(mode=REGULAR, content=file.read_bytes())
        for file in sorted(path.parent.rglob("*.jinja"))
    }


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_the_generated_one(name: str) -> None:
    path = ROOT / "schemas" / name
    assert path.is_file(), "run make schemas"
    assert path.read_text(encoding="utf-8") == render(SCHEMAS[name]()), "run make schemas and read the difference"


def test_there_is_no_other_schema() -> None:
    assert {path.name for path in (ROOT / "schemas").iterdir()} == set(SCHEMAS)


@pytest.mark.req("S0-28")
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_explains_every_field(name: str) -> None:
    schema = SCHEMAS[name]()
    Draft202012Validator.check_schema(schema)
    for noun in (schema, *schema.get("$defs", {}).values()):
        for field, entry in noun.get("properties", {}).items():
            assert entry.get("description"), field
    if name == "desired-state.v1.json":
        repo = schema["$defs"]["Source"]["properties"]["repo"]["description"]
        assert "never the API label" in repo


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.parent.name)
def test_the_desired_state_of_a_story_is_valid(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    read(text, beside(path))
    assert is_valid("desired-state.v1.json", text)


@pytest.mark.req("S1-101", "S1-102", "S1-103")
def test_the_example_is_valid_and_has_the_models_that_are_known_to_run() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    parsed = read(text, beside(EXAMPLE))
    assert parsed.warnings == ()
    assert is_valid("desired-state.v1.json", text)
    models = parsed.desired.state.models
    expected = {
        "mlx-gpt-oss-120b-mxfp4-q4": ("mlx-community/gpt-oss-120b-MXFP4-Q4", 8100),
        "mlx-gemma-3-27b-it-qat-4bit": ("mlx-community/gemma-3-27b-it-qat-4bit", 8101),
        "mlx-gpt-oss-20b-mxfp4-q4": ("mlx-community/gpt-oss-20b-MXFP4-Q4", 8102),
    }
    assert expected.items() <= {label: (m.source.repo, m.port) for label, m in models.items()}.items()
    assert "auto" in {model.port for model in models.values()}


@pytest.mark.req("S0-16")
def test_the_example_denies_the_family_that_went_stale() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    stale = text.replace("mlx-community/gemma-3-27b-it-qat-4bit", "mlx-community/gemma-2-27b-it-4bit")
    with pytest.raises(InvalidDocument) as refused:
        read(stale, beside(EXAMPLE))
    assert [problem.reference for problem in refused.value.problems] == ["source-denied"]


def test_what_the_example_has_in_comments_is_valid_as_well() -> None:
    """Whoever takes a `#` away must not meet an error."""
    text = EXAMPLE.read_text(encoding="utf-8")
    finetune = re.sub(r"(?m)^  # (?=(  )*(my-finetune|source|path|port): ?)", "  ", text)
    finetune = re.sub(r"(?m)^  # (  source:|    path:|  port:)", r"  \1", finetune)
    assert "\n  my-finetune:\n    source:\n      path: ${root.models}/my-finetune\n" in finetune
    template = finetune.replace("# chat_template:", "chat_template:")
    files = {"templates/gemma.jinja": BundleFile(mode=REGULAR, content=b"{{ messages }}")}
    models = read(template, files).desired.state.models
    assert models["my-finetune"].source.path == "/opt/models/my-finetune"
    assert models["mlx-gemma-3-27b-it-qat-4bit"].chat_template == "templates/gemma.jinja"


def test_the_host_example_is_valid_with_and_without_its_comments() -> None:
    text = HOST.read_text(encoding="utf-8")
    for given in (text, re.sub(r"(?m)^( *)# (name|budget):", r"\1\2:", text)):
        parse_host(given.encode(), HOST.name)
        assert is_valid("host.v1.json", given)


@pytest.mark.parametrize(("path", "schema"), [(EXAMPLE, "desired-state.v1.json"), (HOST, "host.v1.json")])
def test_an_example_begins_with_the_line_that_editors_read(path: Path, schema: str) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema=../schemas/{schema}"
    assert (path.parent / first.rpartition("=")[2]).resolve() == ROOT / "schemas" / schema


EXAMPLES_OF_THE_PAGE: Final = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.req("S0-28")
@pytest.mark.parametrize("text", EXAMPLES_OF_THE_PAGE)
def test_an_example_of_the_page_on_labels_is_what_it_says(text: str) -> None:
    refused = re.match(r"# refused: ([a-z-]+)\n", text)
    if refused is None:
        assert read(text).warnings == ()
        assert is_valid("desired-state.v1.json", text)
        return
    with pytest.raises(InvalidDocument) as found:
        read(text)
    assert [problem.reference for problem in found.value.problems] == [refused[1]]
    assert not is_valid("desired-state.v1.json", text)


@pytest.mark.req("S0-28")
def test_the_page_has_examples() -> None:
    assert len(EXAMPLES_OF_THE_PAGE) == 4
