"""Chat templates come from the same revision, as plain text, and from nowhere else."""

import pytest

from reconciler.model.bundle import BundleFile

from .reading import bundle, one_model, only, problems, read, said

PATH = "templates/a.jinja"
TEXT = one_model(chat_template=PATH)
AT = "5:20"


def with_file(content: bytes = b"{{ messages }}", mode: int = 0o100644) -> dict[str, BundleFile | str]:
    return {PATH: BundleFile(mode=mode, content=content)}


def test_a_template_is_read_from_the_bundle() -> None:
    desired = read(bundle(TEXT, {PATH: "{{ messages }}\r\n\u00e9", "other.jinja": "unused"})).desired
    assert desired.templates == {PATH: "{{ messages }}\r\n\u00e9"}


@pytest.mark.fault("S06")
@pytest.mark.parametrize(
    ("path", "reference"),
    [
        ("../secret.jinja", "template-traversal"),
        ("templates/../../secret.jinja", "template-traversal"),
        ("templates/..", "template-traversal"),
        ("/etc/passwd", "template-absolute"),
        ("//etc/passwd", "template-absolute"),
        ("~/secret.jinja", "template-home"),
        ("~root/secret.jinja", "template-home"),
        ("templates\\secret.jinja", "template-backslash"),
        ('"a\\0.jinja"', "invisible-character"),
        ('"a\\n.jinja"', "bad-value"),
        ("./a.jinja", "bad-value"),
        ("templates//a.jinja", "bad-value"),
        ("templates/", "bad-value"),
        ("-a.jinja", "bad-value"),
        (".git/config", "bad-value"),
        ('""', "bad-value"),
        ("a b.jinja", "bad-value"),
        ("\u0430.jinja", "bad-value"),
        ("${env.HOME}/a.jinja", "bad-value"),
    ],
)
def test_s06_a_template_cannot_leave_its_folder(path: str, reference: str) -> None:
    hostile = {
        name: "secret" for name in ("../secret.jinja", "/etc/passwd", "~/secret.jinja", ".git/config", "./a.jinja")
    }
    found = problems(bundle(one_model(chat_template=path), hostile))
    assert said(found) == [f"{AT} {reference}"]
    assert only(found).where == "models.a.chat_template"


@pytest.mark.fault("S06", "D14")
@pytest.mark.parametrize(
    ("mode", "reference"),
    [
        (0o120000, "template-link"),
        (0o100755, "template-executable"),
        (0o160000, "template-submodule"),
        (0o040000, "template-folder"),
        (0o100664, "template-mode"),
        (0o010644, "template-mode"),
    ],
)
def test_d14_a_template_is_a_plain_file(mode: int, reference: str) -> None:
    found = problems(bundle(TEXT, with_file(mode=mode)))
    assert said(found) == [f"{AT} {reference}"]
    assert "100644" in only(found).message


@pytest.mark.fault("D23")
def test_d23_a_pointer_of_git_lfs_is_not_the_template() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    assert said(problems(bundle(TEXT, with_file(pointer)))) == [f"{AT} template-lfs"]


@pytest.mark.parametrize(
    ("content", "reference"),
    [
        (b"x" * (2**20 + 1), "template-too-large"),
        (b"ok \xff", "template-not-utf-8"),
        (b"ok \0", "template-not-text"),
    ],
)
def test_a_template_is_text_of_a_modest_size(content: bytes, reference: str) -> None:
    assert said(problems(bundle(TEXT, with_file(content)))) == [f"{AT} {reference}"]


def test_the_greatest_template_is_read() -> None:
    assert len(read(bundle(TEXT, with_file(b"x" * 2**20))).desired.templates[PATH]) == 2**20


@pytest.mark.req("S1-13")
def test_a_missing_template_is_refused_with_the_one_that_was_meant() -> None:
    found = problems(bundle(TEXT, {"templates/b.jinja": ""}))
    assert said(found) == [f"{AT} template-missing"]
    assert "did you mean templates/b.jinja?" in only(found).message


@pytest.mark.fault("D30")
def test_d30_templates_that_differ_in_case_only_are_refused() -> None:
    text = (
        "version: 1\nmodels:\n"
        "  a: {source: {repo: o/n}, chat_template: A.jinja}\n"
        "  b: {source: {repo: o/n}, chat_template: a.jinja}\n"
        "  c: {source: {repo: o/n}, chat_template: a.jinja}\n"
    )
    found = problems(bundle(text, {"A.jinja": "1", "a.jinja": "2"}))
    assert said(found) == ["4:43 template-case", "5:43 template-case"]
    assert "A.jinja" in found[0].message


@pytest.mark.fault("D30")
def test_d30_labels_that_differ_in_case_only_cannot_be_written() -> None:
    assert said(problems("version: 1\nmodels:\n  fast: {source: {repo: o/n}}\n  Fast: {source: {repo: o/n}}\n")) == [
        "4:3 bad-name"
    ]


def test_two_models_may_share_a_template() -> None:
    text = "version: 1\nmodels:\n" + "".join(
        f"  {n}: {{source: {{repo: o/n}}, chat_template: {PATH}}}\n" for n in "abc"
    )
    assert read(bundle(text, {PATH: "x"})).desired.templates == {PATH: "x"}


def test_a_broken_template_of_two_models_is_reported_at_both() -> None:
    text = "version: 1\nmodels:\n" + "".join(f"  {n}: {{source: {{repo: o/n}}, chat_template: x}}\n" for n in "ab")
    assert said(problems(text)) == ["3:43 template-missing", "4:43 template-missing"]
