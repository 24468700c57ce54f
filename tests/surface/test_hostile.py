"""Whatever a file, a log or a process says: on the page it is a text, and some of it is not there at all."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any, Final

import pytest

from reconciler.model.base import plain
from reconciler.model.ledger import Suspension
from reconciler.model.observed import Listener, Present
from reconciler.model.view import Facts
from reconciler.surface.page.html import page
from reconciler.surface.page.markup import element
from reconciler.surface.page.withheld import Withheld
from tests.surface import studio
from tests.surface.served import ask, serving
from tests.surface.test_document import STUDIO, made

HOSTILE: Final = (
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    '" onload="alert(1)" x="',
    "</title></svg></table></pre><img src=x onerror=alert(1)>",
    "<!-- --><style>*{display:none}</style>",
    "]]><?xml ?>&lt;script&gt;&#x3c;b&#x3e;",
    "javascript:alert(1)",
    "\x1b[2J\x07\r\nSet-Cookie: a=b\x00",
    "\u202egnp.exe\u2066",
    "</script><base href=//evil.example>",
)
_VOID: Final = {"meta", "link", "br"}


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes; every one must end where it should."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.values: dict[str, set[str]] = {}
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag, tuple(name for name, _ in attrs)] += 1
        for name, value in attrs:
            self.values.setdefault(name, set()).add(value or "")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def structure(text: str) -> Structure:
    """What a browser would make of it, as far as it is well formed."""
    found = Structure()
    found.feed(text)
    found.close()
    assert found._open == []
    return found


def hostile(value: Any, text: str) -> Any:
    """The same noun with this text in every place that has one."""
    if isinstance(value, str):
        return text if value else value
    if isinstance(value, tuple):
        return tuple(hostile(entry, text) for entry in value)
    if isinstance(value, Mapping):
        return dict.fromkeys([text], 1)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: hostile(getattr(value, f.name), text) for f in fields(value)})
    return value


@pytest.mark.fault("S31")
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text: str) -> None:
    harmless = re.sub(r"[^:\s]", "w", text)
    benign, found = structure(page(hostile(STUDIO, harmless), "0")), structure(page(hostile(STUDIO, text), text))
    assert found.found == benign.found
    assert text.replace("\r\n", "\n") in found.text.replace("\r\n", "\n")
    assert found.values["src"] == {"/page.js"}
    assert found.values["href"] <= {"/page.css", "/icon.svg", "/status.json", "/metrics", "#ensemble"}


def test_an_attribute_is_a_text_too() -> None:
    assert element("p", title="a\"b'<c>&") == '<p title="a&quot;b&#x27;&lt;c&gt;&amp;"></p>'
    assert (
        element("p", "<b>", element("b", "&"), None, hidden=True, data_x=None) == "<p hidden>&lt;b&gt;<b>&amp;</b></p>"
    )


@pytest.mark.fault("S31")
def test_what_a_terminal_would_obey_is_written_out() -> None:
    """Everywhere: in the page, in its JSON and in the metrics."""
    seen = _loud(studio.facts(), "\x1b[2J\u202e\x07\x00 end")

    async def main() -> None:
        async with serving(studio.tick(seen)) as served:
            for path in ("/", "/status.json", "/metrics"):
                body = (await ask(served.port, path)).body.decode()
                assert not [c for c in body if ord(c) < 0x20 and c != "\n"]
                assert "\u202e" not in body
            assert r"\x1b[2J\u202e" in (await ask(served.port)).body.decode()

    asyncio.run(main())


def _loud(seen: Facts, text: str) -> Facts:
    """These facts with a server whose log says something, and a suspension whose reason does."""
    servers, ledger = seen.observed.servers, seen.ledger
    loud = {label: replace(server, detail=text) for label, server in servers.items()}
    suspensions = {label: replace(s, reason=text) for label, s in ledger.suspensions.items()}
    return replace(seen, observed=replace(seen.observed, servers=loud), ledger=replace(ledger, suspensions=suspensions))


# -------------------------------------------------------------------------------------------------- withheld

SECRETS: Final = ("hf_abcdefghijklmnopqrstuvwx", "correct-horse", "s3cr3t-value", "lovelace")


def _private(seen: Facts) -> Facts:
    """The same machine of somebody who puts secrets where they may well be."""
    runtime = "/Users/ada/env/bin/python -m server --api-key correct-horse --license s3cr3t-value"
    label = "qwen3-4b"
    server = seen.observed.servers[label]
    server = replace(server, fields={**server.fields, "runtime": runtime}, command=(runtime, "--token=correct-horse"))
    said = (
        "HF_TOKEN=s3cr3t-value failed for /Users/ada/models with --api-key correct-horse, hf_abcdefghijklmnopqrstuvwx"
    )
    others = {k: replace(s, detail=said) if k == "gemma-3-27b" else s for k, s in seen.observed.servers.items()}
    listener = Present(value=Listener(port=8104, pid=77, command="/Users/ada/bin/ollama"))
    observed = replace(
        seen.observed,
        servers={**others, label: server},
        listeners={**seen.observed.listeners, 8104: listener},
    )
    stopped = Suspension(since=seen.now - 60, reason="lunch", by="lovelace")
    ledger = replace(seen.ledger, suspensions={"qwen3-coder-30b": stopped})
    return replace(seen, observed=observed, ledger=ledger)


@pytest.mark.fault("S13")
def test_neither_home_nor_secrets_nor_arguments_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/Users/ada")

    async def main() -> None:
        async with serving(studio.tick(_private(studio.facts())), studio.happened()) as served:
            for path in ("/", "/status.json", "/metrics"):
                body = (await ask(served.port, path)).body.decode()
                assert "/Users/ada" not in body, path
                assert not [secret for secret in SECRETS if secret in body], path
            found = (await ask(served.port, "/status.json")).data
            assert found["file"] == "~/ensemble/desired-state/ensemble.yaml"
            assert found["plan"]["command"] == "reconciler apply -c ~/ensemble/desired-state/ensemble.yaml"
            servers = {server["label"]: server for server in found["servers"]}
            assert servers["qwen3-4b"]["runtime"] == "~/env/bin/python"
            assert "pid 77 (~/bin/ollama)" in servers["mistral-small-24b"]["found"]

    asyncio.run(main())


def test_the_documents_of_these_tests_would_show_it_otherwise() -> None:
    """What is looked for above is there before it is taken out."""
    text = json.dumps(plain(made(_private(studio.facts()))))
    assert all(secret in text for secret in ("/Users/ada", *SECRETS))


@pytest.mark.fault("S13")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/Users/ada", "~"),
        ("/Users/ada/x y", "~/x y"),
        ("in /Users/ada/x: no", "in ~/x: no"),
        ("'/Users/ada/x y'", "~/'x y'"),
        ("reconciler plan -c '/Users/ada/a b.yaml'", "reconciler plan -c ~/'a b.yaml'"),
        ("/Users/adam/x", "/Users/adam/x"),
        ("/Volumes/Users/ada/x", "/Volumes/Users/ada/x"),
        ("file:/private/ada/x", "file:~/x"),
        ("--max-tokens 100", "--max-tokens 100"),
        ("2 x 8192 tokens)", "2 x 8192 tokens)"),
        ("--api-key=abc --port 1", "--api-key=[secret] --port 1"),
        ("--hf-token 'a b' x", "--hf-token [secret] x"),
        ("OPENAI_API_KEY=abc; x", "OPENAI_API_KEY=[secret]; x"),
        ("https://ada:pw@host/x", "https://[secret]@host/x"),
        ("a\nb\x1b[0m", "a\nb\\x1b[0m"),
        ("run --license abc now", "run ... now"),
        ("", ""),
    ],
)
def test_what_is_shown_of_a_text(text: str, shown: str) -> None:
    assert Withheld(("/Users/ada", "/private/ada"), {"run --license abc": "run ..."}).text(text) == shown


def test_a_machine_without_a_home_loses_nothing() -> None:
    assert Withheld(("/", "")).text("/x and /") == "/x and /"
