"""The metrics are what Prometheus can read, whatever is in a name."""

import re
from collections import Counter
from dataclasses import replace
from typing import Final

import pytest

from reconciler.surface.page.metrics import metrics
from tests.surface.test_document import STUDIO

_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL: Final = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
_SAMPLE: Final = re.compile(rf"({_NAME})(\{{{_LABEL}(?:,{_LABEL})*\}})? (-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)")


def read(text: str) -> dict[str, str]:
    """Every sample by its name and labels; fails where the text is not in the format."""
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    helped: Counter[str] = Counter()
    found: dict[str, str] = {}
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            helped[line.split(" ")[2]] += 1
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in ("gauge", "counter")
            assert (kind == "counter") == name.endswith("_total")
            kinds[name] = kind
        else:
            sample = _SAMPLE.fullmatch(line)
            assert sample is not None, line
            assert sample[1] in kinds, f"{line} comes before its type"
            key = f"{sample[1]}{sample[2] or ''}"
            assert key not in found, f"{key} is said twice"
            found[key] = sample[3]
    assert set(helped) == set(kinds)
    assert set(helped.values()) == {1}
    return found


def test_a_machine_is_said_in_numbers() -> None:
    found = read(metrics(STUDIO, {"failed": 2}, {"gemma-3-27b": 1}))
    about = f'version="{STUDIO.tool_version}",revision="{STUDIO.source.revision}",generation="14",mode="commit"'
    assert found[f"reconciler_info{{{about}}}"] == "1"
    assert found['reconciler_server_up{label="qwen3-coder-30b",port="8101"}'] == "1"
    assert found['reconciler_server_up{label="gemma-3-27b",port="8102"}'] == "0"
    assert found['reconciler_server_health{label="gemma-3-27b",health="Degraded"}'] == "1"
    assert found['reconciler_server_health{label="gemma-3-27b",health="Healthy"}'] == "0"
    assert found['reconciler_server_synced{label="qwen3-4b"}'] == "0"
    assert found['reconciler_server_memory_bytes{label="qwen3-4b"}'] == str(int(8.6 * 2**30))
    assert 'reconciler_server_memory_bytes{label="llama-3.3-70b"}' not in found, "it has none"
    assert found['reconciler_events_total{kind="failed"}'] == "2"
    assert found['reconciler_server_launches_total{label="gemma-3-27b"}'] == "1"
    assert found["reconciler_source_paused"] == "0"
    assert found["reconciler_last_reconcile_timestamp_seconds"] == "1000000"
    assert found["reconciler_memory_reserved_bytes"] == str(STUDIO.memory.reserved)


@pytest.mark.fault("S31")
@pytest.mark.parametrize("name", ['a"b', "a\\", "a\nb", 'x"} 1\nreconciler_evil 1', "a\\n", "{}", "ü"])
def test_a_name_cannot_leave_its_quotes(name: str) -> None:
    servers = tuple(replace(server, label=f"{name}{n}") for n, server in enumerate(STUDIO.servers))
    found = read(metrics(replace(STUDIO, servers=servers), {name: 1}, {name: 1}))
    assert len(found) == len(read(metrics(STUDIO, {"a": 1}, {"b": 1})))
    assert not [key for key in found if key.startswith("reconciler_evil")]


def test_nothing_declared_is_no_error() -> None:
    assert read(metrics(replace(STUDIO, servers=(), gateways=()), {}, {}))
