"""The host file: every field may be left out, and none may be misunderstood."""

import pytest

from reconciler.model.host import HostFile
from reconciler.model.problem import InvalidDocument

from .reading import host, host_problems, only, said

ID = "ab" * 16
FULL = """version: 1
name: studio
accept_cpu: true
bind: 127.0.0.1
memory: {budget: 96GiB, reserve: 4GiB}
max_launches: 4
start_timeout: 15m
runtimes:
  mlx-openai-server: {command: [/opt/server/bin/server, launch]}
roots:
  models: /opt/models
gateways:
  litellm: {include: /opt/litellm/reconciler.yaml, drain: 5s}
"""


def test_every_field_is_read() -> None:
    read = host(FULL)
    assert read.name == "studio"
    assert read.accept_cpu
    assert (read.memory.budget, read.memory.reserve) == ("96GiB", "4GiB")
    assert (read.max_launches, read.start_timeout) == (4, "15m")
    assert read.runtimes["mlx-openai-server"].command == ("/opt/server/bin/server", "launch")
    assert read.roots == {"models": "/opt/models"}
    assert read.gateways.litellm is not None
    assert read.gateways.litellm.drain == "5s"


@pytest.mark.parametrize("text", ["version: 1\n", "version: 1\nmemory: {}\nroots: {}\n", "max_launches: 2\n"])
def test_what_is_left_out_is_the_default(text: str) -> None:
    assert host(text) == HostFile()


@pytest.mark.fault("D01", "D02", "D04", "D05", "D06", "D09", "D10", "D16")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1 empty"),
        ("version: 2\nname: [\n", "3:1 syntax"),
        ("version: 2\nmodels: {}\n", "1:10 newer-version"),
        ("version: 1\nname: &a x\n", "2:7 alias"),
        ("version: 1\nname: x\nname: z\n", "3:1 duplicate-key"),
        ("version: 1\n\tname: x\n", "2:1 syntax"),
        ("version: 1\naccept_cpu: yes\n", "2:13 ambiguous-scalar"),
        ("version: 1\naccept_cpu: 1\n", "2:13 wrong-type"),
        ("version: 1\nmax_launchs: 3\n", "2:1 unknown-field"),
        ("version: 1\nmodels: {}\n", "2:1 unknown-field"),
        ("version: 1\nmax_launches: 0\n", "2:15 out-of-range"),
        ("version: 1\nmax_launches: 65\n", "2:15 out-of-range"),
        ("version: 1\nname: Studio\n", "2:7 bad-value"),
        ("version: 1\nstart_timeout: 600\n", "2:16 wrong-type"),
        ("version: 1\nstart_timeout: 0s\n", "2:16 out-of-range"),
        ("version: 1\nmemory: {budget: 96GB}\n", "2:18 bad-value"),
        ("version: 1\nmemory: {budget: 0B}\n", "2:18 out-of-range"),
        ("version: 1\nmemory: {budget: 103079215104}\n", "2:18 wrong-type"),
        ("version: 1\nbind: localhost\n", "2:7 bad-address"),
        ("version: 1\nbind: 127.0.0.1:80\n", "2:7 bad-address"),
        ("version: 1\nruntimes: {x: {}}\n", "2:12 missing-field"),
        ("version: 1\nruntimes: {x: {command: []}}\n", "2:25 too-short"),
        ("version: 1\nruntimes: {x: {command: server --flag}}\n", "2:25 wrong-type"),
        ("version: 1\nruntimes: {x: {command: [bin/server]}}\n", "2:26 bad-command"),
        ("version: 1\nruntimes: {x: {command: ['~/server']}}\n", "2:26 bad-command"),
        ("version: 1\nruntimes: {x: {command: ['--flag']}}\n", "2:26 bad-command"),
        ("version: 1\nroots: {models: models}\n", "2:17 bad-value"),
        ("version: 1\nroots: {models: ~/models}\n", "2:17 bad-value"),
        ("version: 1\nroots: {models: /a/../b}\n", "2:17 path-not-plain"),
        ("version: 1\nroots: {models: ''}\n", "2:17 bad-value"),
        ("version: 1\nroots: {my-models: /opt}\n", "2:9 bad-name"),
        ('version: 1\nroots: {models: "/a\\nb"}\n', "2:17 bad-value"),
        ("version: 1\ngateways: {litellm: {}}\n", "2:12 missing-field"),
        ("version: 1\ngateways: {litellm: {include: router.yaml}}\n", "2:31 bad-value"),
        (f"version: 1\nvolumes: {{a: {{path: /a/../b, id: {ID}}}}}\n", "2:21 path-not-plain"),
        (f"version: 1\nvolumes: {{a: {{path: //a, id: {ID}}}}}\n", "2:21 path-not-plain"),
        (f"version: 1\nvolumes: {{a: {{path: /a, id: {ID}, host: -oProxyCommand=x}}}}\n", "2:69 bad-value"),
        ("version: 1\nvolumes: {a: {path: /a, id: 12}}\n", "2:29 wrong-type"),
        ("version: 1\nvolumes: {a: {path: /a}}\noffload_to: a\n", "2:11 missing-field"),
        (f"version: 1\nvolumes: {{shelf: {{path: /a, id: {ID}}}}}\noffload_to: self\n", "3:13 unknown-volume"),
        ("version: 1\noffload_to: shelf\n", "2:13 unknown-volume"),
        ("version: 1\nmodel_folders: [/a, /a/../b]\n", "2:21 path-not-plain"),
        ("version: 1\nconverter: {command: [convert, '{src}']}\n", "2:22 bad-command"),
        ("version: 1\nconverter: {command: [convert, '{dest}', '{model}']}\n", "2:22 bad-command"),
        ("version: 1\nconverter: {command: ['{repo}', '{dest}']}\n", "2:22 bad-command"),
        ("version: 1\nnotify: [{on: [held]}]\n", "2:10 receiver-not-one"),
        ("version: 1\nnotify: [{command: [say], webhook: 'http://a/'}]\n", "2:10 receiver-not-one"),
        ("version: 1\nnotify:\n- command: [say]\n- command: [bin/say]\n", "4:13 bad-command"),
        ("version: 1\nnotify: [{command: []}]\n", "2:20 too-short"),
        ("version: 1\nnotify: [{command: say}]\n", "2:20 wrong-type"),
        ("version: 1\nnotify: say\n", "2:9 wrong-type"),
        ("version: 1\nnotify: [{webhook: 'ftp://a/'}]\n", "2:20 bad-value"),
        ("version: 1\nnotify: [{webhook: 'https:///hooks'}]\n", "2:20 bad-address"),
        ("version: 1\nnotify: [{webhook: 'https://a:port/'}]\n", "2:20 bad-address"),
        ("version: 1\nnotify: [{webhook: 'https://a/', on: [paused, hold]}]\n", "2:47 unknown-choice"),
        ("version: 1\nnotify: [{webhook: 'https://a/', on: []}]\n", "2:38 too-short"),
        ("version: 1\nnotify: [{webhook: 'https://a/', timeout: 0s}]\n", "2:43 out-of-range"),
        ("version: 1\n<<<<<<< HEAD\n", "2:1 merge-conflict"),
    ],
)
def test_a_mistake_is_reported_at_its_place(text: str, expected: str) -> None:
    assert said(host_problems(text)) == [expected]


def test_every_mistake_is_reported_in_one_run_and_nothing_is_changed() -> None:
    text = FULL.replace("96GiB", "96GB").replace("bind: 127.0.0.1", "bind: here").replace("/opt/models", "models")
    with pytest.raises(InvalidDocument) as refused:
        host(text)
    assert "nothing was changed" in refused.value.message
    assert said(refused.value.problems) == ["4:7 bad-address", "5:18 bad-value", "11:11 bad-value"]


def test_an_address_of_every_kind_is_read() -> None:
    for address in ("127.0.0.1", "0.0.0.0", "::1", "fd00::1"):
        assert host(f'version: 1\nbind: "{address}"\n').bind == address


def test_an_empty_file_says_what_to_write() -> None:
    assert "version: 1" in only(host_problems("# nothing yet\n")).message
    assert "models" not in only(host_problems("")).message


def test_a_volume_that_is_not_there_is_told_with_the_name_that_was_meant() -> None:
    text = f"version: 1\nvolumes: {{shelf: {{path: /a, id: {ID}}}}}\noffload_to: self\n"
    assert only(host_problems(text)).message.endswith("no volume of this file; did you mean 'shelf'?")
    assert host(text.replace("self", "shelf")).offload_to == "shelf"


def test_who_is_told_what_is_read() -> None:
    everything, some = host(
        "version: 1\nnotify:\n- webhook: https://chat.example/hooks/abc?x=y\n"
        "- {command: [/usr/local/bin/tell, --loud], on: [held, paused], timeout: 5s}\n"
    ).notify
    assert everything.on == ("held", "degraded", "rolled_back", "blocked", "paused")
    assert (everything.webhook, everything.command) == ("https://chat.example/hooks/abc?x=y", None)
    assert (some.on, some.command, some.timeout) == (("held", "paused"), ("/usr/local/bin/tell", "--loud"), "5s")


@pytest.mark.fault("S17")
def test_an_address_that_is_wrong_is_not_shown_as_it_may_be_a_secret() -> None:
    told = only(host_problems("version: 1\nnotify: [{webhook: 'https:///services/T0/B0/s3cr3t'}]\n"))
    assert "s3cr3t" not in told.message
