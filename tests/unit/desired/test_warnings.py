"""What is accepted and still worth a sentence, and what a person is told about a file as a whole."""

import pytest

from reconciler.model.problem import InvalidDocument

from .reading import bundle, one_model, problems, read, said, state


@pytest.mark.req("S0-38")
def test_a_path_of_one_machine_in_git_is_a_warning_with_its_line() -> None:
    text = one_model(source="{path: /Users/me/models/x}", draft="{path: /Users/me/d}")
    parsed = read(bundle(text))
    assert said(parsed.warnings) == ["4:20 machine-path-in-git", "5:19 machine-path-in-git"]
    assert [p.severity for p in parsed.warnings] == ["warning", "warning"]
    assert "ensemble.yaml:4:20: warning: " in parsed.warnings[0].located("ensemble.yaml")
    assert read(bundle(text, tracked=False)).warnings == ()
    fine = one_model(source="{path: '${root.m}/x'}")
    assert read(fine, roots={"m": "/Users/me"}).warnings == ()


def test_errors_are_counted_without_warnings() -> None:
    with pytest.raises(InvalidDocument, match="has 1 problem; the last good state stays in force") as refused:
        read(one_model(source="{path: /x}", moved_from="8100"))
    assert {p.severity for p in refused.value.problems} == {"error", "warning"}


def test_nothing_is_said_twice() -> None:
    """What the reader refused is not refused again for its type, nor its absence reported."""
    assert said(problems(one_model(source="no", port="*x", priority="&y 3"))) == [
        "4:13 ambiguous-scalar",
        "5:11 alias",
        "6:15 alias",
    ]


def test_one_wrong_model_does_not_hide_what_others_do() -> None:
    text = (
        "version: 1\nmodels:\n"
        "  a: {source: {repo: o/n}, port: 8100}\n"
        "  b: {source: {repo: o/n}, port: 8100, aliases: [wrong]}\n"
        "  wrong: {source: {repo: o/n}, port: 80}\n"
        "hosts: {h: {models: [a, b, wrong]}, Bad: {models: [a]}}\n"
    )
    assert said(problems(text)) == [
        "4:34 duplicate-port",
        "4:50 alias-is-label",
        "5:38 out-of-range",
        "6:37 bad-name",
    ]


def test_spelled_out_defaults_order_and_comments_mean_nothing() -> None:
    short = "version: 1\nmodels: {a: {source: {repo: o/n}}}\n"
    long = (
        "# a comment\nhosts: {}\nmodels:\n  a:\n    offload: auto # the default\n    port: none\n    moved_from: null\n"
        "    aliases: []\n    options: {}\n    source: {path: null, repo: 'o/n', revision: ~}\n    priority: 0\n"
        "policy: {prune: true, deny_sources: []}\ngateways: {front: null}\ngroups: {}\nversion: 1\n"
    )
    assert state(short) == state(long)
    assert read(bundle(short)).warnings == ()
