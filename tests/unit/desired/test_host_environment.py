"""What the environment adds to the host file, and that the file wins."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from reconciler.desired.host_environment import VARIABLES, with_environment
from reconciler.model.host import ColdVolume, Converter, HostFile
from reconciler.model.problem import ExitCode, ReconcilerError

from .reading import problems

SHELF = ColdVolume(path="/Volumes/shelf", id="ab" * 16)
HOST = HostFile(volumes={"shelf": SHELF, "other": SHELF}, offload_to="shelf")
COMMAND = "convert --in '{src}' --to {dest} --name \"a b\""
SPLIT = ("convert", "--in", "{src}", "--to", "{dest}", "--name", "a b")


@pytest.mark.parametrize("environ", [{}, dict.fromkeys(VARIABLES, ""), dict.fromkeys(VARIABLES, " "), {"PATH": "/bin"}])
def test_without_a_variable_the_file_is_as_it_was(environ: Mapping[str, str]) -> None:
    assert with_environment(HOST, environ) == HOST
    assert with_environment(HostFile(), environ) == HostFile()


def test_the_host_of_the_volume_for_base_weights_comes_from_the_environment() -> None:
    made = with_environment(HOST, {"MLX_OFFLOAD_HOST": "me@mini.local"})
    assert made == replace(HOST, volumes={"shelf": replace(SHELF, host="me@mini.local"), "other": SHELF})


def test_a_host_of_the_file_wins_and_without_a_volume_there_is_nothing_to_reach() -> None:
    named = replace(HOST, volumes={"shelf": replace(SHELF, host="studio")})
    for host in (named, replace(HOST, offload_to=None), HostFile()):
        assert with_environment(host, {"MLX_OFFLOAD_HOST": "mini"}) == host


@pytest.mark.fault("S35")
@pytest.mark.parametrize(
    "text",
    [
        "volumes: {shelf: {path: /x, host: evil}}",
        "offload_to: shelf",
        "policy: {offload_host: evil}",
        "models: {a: {source: {repo: a/b}, port: none, offload: evil}}",
        "models: {a: {source: {repo: a/b}, port: none, offload: {host: evil}}}",
        "hosts: {studio: {offload_to: evil}}",
    ],
)
def test_no_commit_says_where_weights_go(text: str) -> None:
    assert problems(f"version: 1\n{text}\n" if "models" in text else f"version: 1\nmodels: {{}}\n{text}\n")


@pytest.mark.fault("S20")
@pytest.mark.parametrize("name", ["-oProxyCommand=x", "mini; touch x", "$(touch x)", "a b", "mini/x", "me@-x", "@mini"])
def test_a_host_that_is_none_is_refused(name: str) -> None:
    for host in (HOST, HostFile()):
        assert refused(host, "MLX_OFFLOAD_HOST", name)


@pytest.mark.req("S1-78")
def test_the_converter_of_the_environment_is_split_into_words_once() -> None:
    assert with_environment(HOST, {"MLX_CONVERT_CMD": COMMAND}).converter.command == SPLIT
    own = replace(HOST, converter=Converter(command=("own", "{dest}")))
    assert with_environment(own, {"MLX_CONVERT_CMD": COMMAND}) == own


@pytest.mark.parametrize("text", ["convert '{dest}", "convert {src}", "{repo} {dest}", "convert {dest} {model}", "''"])
def test_a_command_that_cannot_be_one_is_refused(text: str) -> None:
    assert refused(HOST, "MLX_CONVERT_CMD", text)


def test_organisations_and_hints_are_lists_with_commas() -> None:
    made = with_environment(HOST, {"MLX_PRECONVERTED_ORGS": "acme, mlx-community,", "MLX_PRECONVERTED_HINTS": "4bit"})
    assert made.converter == Converter(preconverted_orgs=("acme", "mlx-community"), preconverted_hints=("4bit",))
    own = replace(HOST, converter=Converter(preconverted_orgs=("own",), preconverted_hints=()))
    assert with_environment(own, {"MLX_PRECONVERTED_ORGS": "acme", "MLX_PRECONVERTED_HINTS": "4bit"}) == own


@pytest.mark.parametrize("variable", ["MLX_PRECONVERTED_ORGS", "MLX_PRECONVERTED_HINTS"])
@pytest.mark.parametrize("text", ["a b", "mlx;x", "*", "a,-b", "a/b"])
def test_a_word_that_is_no_plain_name_is_refused(variable: str, text: str) -> None:
    assert refused(HOST, variable, text)


def refused(host: HostFile, variable: str, text: str) -> bool:
    with pytest.raises(ReconcilerError, match=f"the environment variable {variable} .*nothing was changed") as raised:
        with_environment(host, {variable: text})
    assert (raised.value.reference, raised.value.code) == ("bad-variable", ExitCode.ENVIRONMENT)
    return True
