"""The part of an ensemble that one host serves."""

import pytest

from reconciler.desired.slice import select
from reconciler.model.problem import ExitCode, ReconcilerError

from .reading import bundle, read

TEXT = """version: 1
models:
  a: {source: {repo: org/a}, port: 8100, chat_template: a.jinja}
  b: {source: {repo: org/b}, port: 8102, chat_template: b.jinja}
  c: {source: {repo: org/c}, port: 8101}
"""
HOSTS = "hosts: {studio: {models: [c, a]}, mini: {models: [b]}, spare: {models: []}}\n"
FILES = {"a.jinja": "{{ a }}", "b.jinja": "{{ b }}"}
ENVIRON = {"MODEL__A__SOURCE": "org/x", "MODEL__B__SOURCE": "org/y"}


@pytest.mark.parametrize("name", [None, "studio"])
def test_without_hosts_every_machine_serves_everything(name: str | None) -> None:
    desired = read(bundle(TEXT, FILES)).desired
    assert select(desired, name) is desired


@pytest.mark.parametrize(
    ("name", "labels", "templates", "overridden"),
    [("studio", ["a", "c"], ["a.jinja"], ["a"]), ("mini", ["b"], ["b.jinja"], ["b"]), ("spare", [], [], [])],
)
def test_a_host_serves_its_labels_with_what_belongs_to_them(
    name: str, labels: list[str], templates: list[str], overridden: list[str]
) -> None:
    part = select(read(bundle(TEXT + HOSTS, FILES), environ=ENVIRON).desired, name)
    assert list(part.state.models) == labels
    assert list(part.templates) == templates
    assert list(part.provenance) == overridden


def test_what_happens_on_another_host_changes_nothing_here() -> None:
    before = select(read(bundle(TEXT + HOSTS, FILES)).desired, "studio")
    edited = TEXT.replace("org/b", "org/other").replace("8102", "8100") + HOSTS
    after = select(read(bundle(edited, FILES)).desired, "studio")
    assert after.state == before.state


@pytest.mark.parametrize(
    ("name", "called"), [(None, "has no name"), ("studoi", "is called 'studoi'"), ("x\x1b", "x\\x1b")]
)
def test_a_machine_that_is_not_among_the_hosts_serves_nothing_by_mistake(name: str | None, called: str) -> None:
    with pytest.raises(ReconcilerError) as refused:
        select(read(bundle(TEXT + HOSTS, FILES)).desired, name)
    assert refused.value.code is ExitCode.INVALID
    assert refused.value.reference == "host-not-in-hosts"
    for word in ("mini, spare, studio", called, "nothing was changed"):
        assert word in refused.value.message
    assert refused.value.message.isprintable()
