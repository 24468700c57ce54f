"""A converter's command says where to write and names nothing that does not exist, and words stay words."""

import pytest

from reconciler.model.placeholders import check_command, filled


@pytest.mark.req("S1-80")
@pytest.mark.parametrize(
    "words",
    [
        ("/opt/convert", "{dest}"),
        ("convert", "--from={src}", "--to={dest}", "--name", "{repo}"),
        ("convert", "{dest}", '{"bits": 4}', "{ dest }", "}{"),
    ],
)
def test_a_command_that_says_where_to_write_is_taken(words: tuple[str, ...]) -> None:
    assert check_command(words) is None


@pytest.mark.req("S1-80")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "names no program"),
        (("", "{dest}"), "names no program"),
        (("convert", "{src}"), "does not say {dest}"),
        (("convert", "{dest"), "does not say {dest}"),
        (("convert", "{dest}", "{foo}"), "{foo} is none of its placeholders {repo}, {src}, {dest}"),
        (("convert", "{dest}", "x{}y"), "{} is none of its placeholders"),
        (("convert", "{dest}", "{0}"), "{0} is none of its placeholders"),
        (("convert", "{dest}", "{src!r}"), "{src!r} is none of its placeholders"),
        (("convert", "{DEST}"), "{DEST} is none of its placeholders"),
        (("{src}/convert.sh", "{dest}"), "cannot depend on what is converted"),
    ],
)
def test_another_command_is_refused_in_one_sentence(words: tuple[str, ...], said: str) -> None:
    problem = check_command(words)
    assert problem is not None
    assert said in problem


def test_a_value_stays_in_its_word_and_is_not_looked_at_again() -> None:
    values = {"repo": "a/b", "src": "/a b/{dest}", "dest": "/d; rm -rf $HOME"}
    words = ("convert", "{src}", "--out={dest}/x", "{repo}{repo}", '{"a": 1}')
    assert filled(words, values) == ("convert", "/a b/{dest}", "--out=/d; rm -rf $HOME/x", "a/ba/b", '{"a": 1}')
