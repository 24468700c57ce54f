"""Faults of ports, provoked with real sockets and processes; and hostile words on their way into a command line."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.adapters.inquiry import MISSES, Pace
from reconciler.adapters.listeners import LocalListeners
from reconciler.model.desired import Desired, DesiredState, Gateways, LiteLlmSpec, ModelSpec, Source, launch_reference
from reconciler.model.event import EventKind
from reconciler.model.host import HostFile, Memory
from reconciler.model.names import server_subject
from reconciler.model.observed import Absent, Artifact, Health, Present
from tests.adapters.asking import (
    COMPLETION,
    EPOCH,
    FRAMES,
    REPEAT,
    Counting,
    FreePorts,
    Stub,
    asking,
    in_a_loop,
    listening,
    server,
)
from tests.adapters.asking import until as soon
from tests.adapters.conftest import Listen
from tests.adapters.servers import Servers, until
from tests.unit.desired.reading import NOTHING, bundle, problems, read
from tests.world.drive import Edit, Scenario, apply, facts, planner
from tests.world.truth import Gateway, Truth

LINUX = sys.platform == "linux"
WAYS = [pytest.param(True, id="connecting")] + ([pytest.param(False, id="netlink")] if LINUX else [])
NO_PORT = f"{FRAMES}OSError: [Errno 98] Address already in use\n"
SERVER = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"choices": [{"message": {}}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
Program = tuple["subprocess.Popen[bytes]", int]


@pytest.fixture
def program() -> Iterator[Program]:
    """A server in a process of its own that gives completions, and its port."""
    arguments = [sys.executable, "-S", "-c", SERVER]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as it:
        assert it.stdout is not None
        yield it, int(it.stdout.readline())
        it.kill()


# ------------------------------------------------------------------------------------------------------ a lost port


@pytest.mark.fault("P03", "R04")
@in_a_loop
async def test_p03_a_lost_bind_is_seen_by_the_log_at_once(tmp_path: Path, free_ports: FreePorts) -> None:
    log = tmp_path / "log"
    log.write_text(NO_PORT)
    async with asking() as asker:
        found = await asker.becomes(server(free_ports(1)[0], log=log), Health.ZOMBIE)
        assert (found.cause, found.permanent) == ("port-lost", False)
        assert asker.now == EPOCH, "nobody waited for the start timeout"


@pytest.mark.fault("P03")
@in_a_loop
async def test_p03_a_stranger_on_the_port_is_not_asked() -> None:
    async with listening(COMPLETION) as stub, asking() as asker:
        found = await asker.becomes(server(stub.port, pid=os.getppid()), Health.ZOMBIE)
        assert found.cause == "port-lost"
        assert f"pid {os.getpid()}" in found.detail
        assert stub.asked == []


@pytest.mark.fault("P03")
@in_a_loop
async def test_p03_a_port_that_went_to_another_is_lost(program: Program) -> None:
    async with asking() as asker:
        process = server(program[1])
        found = await asker.becomes(process, Health.ZOMBIE, asker.proof(process, 1))
        assert found.cause == "port-lost"
        assert f"pid {program[0].pid}" in found.detail


@pytest.mark.fault("P08")
@in_a_loop
async def test_p08_a_wedged_server_is_condemned_only_while_its_log_stands_still(
    program: Program, tmp_path: Path
) -> None:
    busy, log = 2 * MISSES, tmp_path / "log"
    log.write_text("")
    backend = Counting(lambda: log.write_text("." * min(backend.count, busy)))
    pace = Pace(shortest=0.1, longest=0.1, repeat=0.1, misses=0.4)
    async with asking(backend, pace) as asker:
        process = server(program[1], pid=program[0].pid, log=log)
        proof = asker.proof(process, 1)
        os.kill(program[0].pid, signal.SIGSTOP)
        asker.prober.judged(process, proof)
        await soon(lambda: backend.count == busy, "more questions than it may miss")
        assert asker.prober.judged(process, proof).health is Health.SERVING
        found = await asker.becomes(process, Health.ZOMBIE, proof)
        assert (found.cause, backend.count) == ("unresponsive", busy + MISSES)
        assert "3 times in a row" in found.detail


@pytest.mark.fault("P08")
@in_a_loop
async def test_p08_a_server_that_goes_on_again_keeps_its_proof(
    program: Program,
) -> None:
    backend = Counting(lambda: os.kill(program[0].pid, signal.SIGCONT) if backend.count == MISSES else None)
    async with asking(backend, Pace(shortest=0.5, longest=0.5, misses=1.6)) as asker:
        process = server(program[1], pid=program[0].pid)
        os.kill(program[0].pid, signal.SIGSTOP)
        proof = asker.proof(process, REPEAT)
        found = await asker.says(process, lambda it: it.proved_at == asker.now, proof)
        assert (found.health, backend.count) == (Health.SERVING, MISSES)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
@in_a_loop
async def test_a_server_with_an_ipv6_address_is_asked_there() -> None:
    """The host file may say `bind: ::1`."""
    stub = Stub(COMPLETION)
    await stub.listen(host="::1")
    async with asking() as asker, asyncio.timeout(5):
        await asker.becomes(replace(server(stub.port), host="::1"), Health.SERVING)
    stub.vanish()


@pytest.mark.fault("S32")
@in_a_loop
async def test_s32_an_answer_without_an_end_is_not_read_to_the_end() -> None:
    """A loop that keeps forty models up must not be ended by what one of them says."""
    enough, sent, closed = 16 * 2**20, 0, asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(OSError):
            while sent <= enough and not closed.is_set():
                writer.write(b"x" * 2**16)
                await writer.drain()
                sent += 2**16
        writer.close()
        closed.set()

    listener = await asyncio.start_server(endless, "127.0.0.1", 0)
    async with asking() as asker, asyncio.timeout(20):
        asker.prober.judged(server(listener.sockets[0].getsockname()[1]), None)
        await closed.wait()
    listener.close()
    assert sent <= enough


# -------------------------------------------------------------------------------------------------- what takes a port


@pytest.mark.fault("P04")
@pytest.mark.parametrize("by_connecting", WAYS)
def test_p04_a_port_in_time_wait_is_free(by_connecting: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        port = listener.getsockname()[1]
        client.connect(("127.0.0.1", port))
        accepted, _ = listener.accept()
        accepted.close()  # whoever closes first is left in TIME_WAIT
        assert client.recv(1) == b""
    with socket.socket() as probe, pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
        probe.bind(("127.0.0.1", port))  # what a probe without SO_REUSEADDR sees
    assert LocalListeners(by_connecting=by_connecting).look([port])[port] == Absent()


@pytest.mark.fault("P07")
@pytest.mark.parametrize("by_connecting", WAYS)
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_p07_a_wildcard_listener_takes_the_port(listen: Listen, host: str, by_connecting: bool) -> None:
    """On macOS a bind to 127.0.0.1 beside it succeeds, and the two share the requests."""
    port = listen(host)
    answer = LocalListeners(by_connecting=by_connecting).look([port])[port]
    assert isinstance(answer, Present)
    assert answer.value.pid in {os.getpid(), None}


@pytest.mark.skipif(not LINUX, reason="netlink is Linux")
@pytest.mark.fault("P07")
def test_p07_a_wildcard_listener_beside_ours_is_nobodys_in_particular(listen: Listen) -> None:
    port = listen("127.0.0.1", shared=True)
    program = (
        "import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1);"
        "s.bind(('0.0.0.0', int(sys.argv[1]))); s.listen(); print(); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-u", "-c", program, str(port)], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        other.stdout.readline()
        answer = LocalListeners().look([port])[port]
        other.kill()
    assert isinstance(answer, Present)
    assert answer.value.pid is None
    assert f"pid {other.pid}" in str(answer.value.command)


def swapped(count: int) -> Scenario:
    """Servers of which each gets the port of the next, by one edit, with memory for no more than there are."""
    labels, gib = [f"model-{number}" for number in range(count)], 2**30
    before = {label: 8100 + at for at, label in enumerate(labels)}
    after = {label: 8100 + (at + 1) % count for at, label in enumerate(labels)}
    models = {label: ModelSpec(source=Source(repo=f"org/{label}"), port=port) for label, port in before.items()}
    state = DesiredState(version=1, models=models, gateways=Gateways(litellm=LiteLlmSpec(mode="direct")))
    first = Desired(state=state, revision="worktree:0", templates={}, provenance={})
    moved = {label: replace(spec, port=after[label], moved_from=before[label]) for label, spec in models.items()}
    second = replace(first, state=replace(state, models=moved), revision="worktree:1")
    artifacts = {
        f"org/{label}@main": Present(
            value=Artifact(identity=label, path=f"/hub/{label}", weight_bytes=3 * gib, converted=True)
        )
        for label in labels
    }
    truth = Truth(artifacts=dict(artifacts), gateways={"litellm": Gateway(drain=5.0)})
    scenario = Scenario(desired=first, host_file=HostFile(), truth=truth, edits=(Edit(after=60.0, desired=second),))
    needs = [target.need.total for target in planner().decide(facts(scenario)).view.targets.values() if target.need]
    return replace(scenario, host_file=HostFile(memory=Memory(budget=f"{sum(needs)}B"), max_launches=count))


@pytest.mark.fault("P12")
@pytest.mark.parametrize("count", [2, 3])
def test_p12_servers_that_swap_their_ports_are_started_when_the_owners_are_gone(count: int) -> None:
    """The rules of the world look at every effect: one port has one server, and the budget holds."""
    scenario = swapped(count)
    run = apply(scenario)
    assert run.ending.settled
    live = {label: r.process.port for label, r in run.world.truth.records.items() if r.live(run.world.now)}
    assert live == {label: spec.port for label, spec in scenario.last.state.models.items()}
    edited = next(e.number for e in run.world.history if e.kind is EventKind.REVISION and e.number > 1)
    later = [event for event in run.world.history if event.number > edited]
    for label, spec in scenario.last.state.models.items():
        owner = next(o for o, old in scenario.desired.state.models.items() if old.port == spec.port)
        gone = [e.number for e in later if (e.action, e.kind) == ("stop", EventKind.DONE) and _of(e.subject, owner)]
        starts = [
            e.number for e in later if (e.action, e.kind) == ("launch", EventKind.STARTED) and _of(e.subject, label)
        ]
        assert len(gone) == len(starts) == 1
        assert gone[0] < starts[0], f"{label} was started before {owner} was gone"


def _of(subject: str, label: str) -> bool:
    return subject == server_subject(label)


# ------------------------------------------------------------------------------------------------------ hostile words

MARK = "{mark}"
HOSTILE = [
    *("x/y --upload-repo z", "x/y --trust-remote-code", "--trust-remote-code", "-x", "--model=/etc", "x --", "--", "-"),
    *("$(touch {mark})", "`touch {mark}`", ";touch {mark}", "x;touch {mark};", "x && touch {mark}", "x | tee {mark}"),
    *("x\ntouch {mark}\n", "x\rtouch {mark}", "> {mark}", "x > {mark}", "$HOME", "${HOME}", "${env.HOME}", "%HOME%"),
    *("x\0y", "\0", "x\x1b[31m", "x\x07", "x\x7f", "x\x85y", "\u2028", "\u2029x", "\ufeffx", "x\u202ey", "\u200b"),
    *("\u2013\u2013trust-remote-code", "\u2212\u2212model", "\uff0dx", "\u2010x", "org\u2215name", "\u043erg/name"),
    *("'", '"', "'; touch {mark}; '", '"; touch {mark}; "', "x'y", "\\", "\\x", "x\\\ny", "a b", " a", "a ", "\ta", ""),
    *("*", "?", "[a-z]*", "~", "~root", "!!", "#x", "&x", "{a,b}", "$IFS", "$'\\n'", "../../etc/passwd", "..", "."),
    *("/etc/passwd", "//x", "http://host/x", "file:///etc/passwd", "@x", "@/etc/passwd", "x@y@z", "%0a", "%s%n", "=x"),
]
POSITIONS: Mapping[str, Callable[[str], dict[str, str]]] = {
    "repo": lambda it: {"source": f"{{repo: {it}}}"},
    "revision": lambda it: {"source": f"{{repo: org/name, revision: {it}}}"},
    "path": lambda it: {"source": f"{{path: {it}}}"},
    "draft": lambda it: {"draft": f"{{repo: {it}}}"},
    "template": lambda it: {"chat_template": it},
    "option": lambda it: {"options": f"{{log_level: {it}}}"},
    "option name": lambda it: {"options": f"{{{it}: 1}}"},
    "tool parser": lambda it: {"tool_call_parser": it},
    "reasoning parser": lambda it: {"reasoning_parser": it},
    "backend": lambda it: {"backend": it},
    "alias": lambda it: {"aliases": f"[{it}]"},
    "parameter": lambda it: {"request_params": f"{{seed: {it}}}"},
    "label": lambda it: {},
}


def written(position: str, word: str, backend: str) -> str:
    """A document with the word, quoted, at a position."""
    quoted = json.dumps(word)
    label = quoted if position == "label" else "a"
    fields = {"source": "{repo: org/name}", "port": "8100", "backend": backend, **POSITIONS[position](quoted)}
    lines = "".join(f"    {name}: {value}\n" for name, value in fields.items())
    return f"version: 1\nmodels:\n  {label}:\n{lines}"


def argv(position: str, word: str, backend: str, environ: Mapping[str, str] = NOTHING) -> tuple[str, ...] | None:
    """The command line that the planner makes of it; None where it makes none."""
    files = {word: "{{ messages }}"} if position == "template" else {}
    desired = read(bundle(written(position, word, backend), files), environ=environ).desired
    models = desired.state.models.values()
    references = {str(launch_reference(source)) for spec in models for source in (spec.source, spec.draft) if source}
    truth = Truth(
        artifacts={
            # A folder is loaded from where it is, a repository from the cache.
            name: Present(
                value=Artifact(identity="c0ffee", path=name if name.startswith("/") else "/hub/it", converted=True)
            )
            for name in references
        }
    )
    [target] = (
        planner().decide(facts(Scenario(desired=desired, host_file=HostFile(), truth=truth))).view.targets.values()
    )
    assert (target.order is None) == bool(target.problems)
    return None if target.order is None else target.order.argv


@pytest.mark.fault("S01")
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("backend", ["mlx-lm", "mlx-openai-server"])
def test_s01_a_hostile_word_is_refused_or_one_argument(position: str, backend: str) -> None:
    plain = argv("alias", "plain", backend)
    assert plain is not None
    words = [word.replace(MARK, "/m") for word in HOSTILE]
    accepted = 0
    for word in [*words, *(f"/models/{word}" for word in words if position == "path")]:
        refusal = problems(bundle(written(position, word, backend), {word: "x"} if position == "template" else {}))
        if refusal:
            assert all(problem.line and problem.column for problem in refusal), (word, refusal)
            continue
        made = argv(position, word, backend)
        if made is None:
            continue  # refused by the planner, with the name of the option or parser
        accepted += 1
        extra = [argument for argument in made if argument not in plain]
        assert len(extra) <= 1, (word, extra)
        assert len(made) <= len(plain) + 1, (word, made)
        assert not [a for a in made if a.startswith("-") and "=" not in a and a not in plain], (word, made)
        if position == "path":
            assert extra in ([f"--model={word}"], [f"--model-path={word}"]), (word, extra)
    assert accepted >= (40 if position == "path" else 0), "the words of this test are no test"


@pytest.mark.fault("S01")
def test_s01_a_folder_from_the_environment_is_one_argument() -> None:
    for word in ("/x --trust-remote-code", "/x;touch /m", "/$(touch /m)", "/x 'y' \"z\"", "/\u2013x", "/--x"):
        made = argv("path", "${env.DIR}/it", "mlx-lm", {"DIR": word})
        assert made is not None
        assert f"--model={word}/it" in made
        assert len(made) == len(argv("path", "/plain", "mlx-lm") or ())


@pytest.fixture
def servers(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Iterator[Servers]:
    made = Servers(tmp_path, free_ports)
    yield made
    made.close()


@pytest.mark.fault("S01")
def test_s01_no_shell_reads_an_argument(servers: Servers, tmp_path: Path) -> None:
    program = "import json, sys; print(json.dumps(sys.argv[1:]), flush=True); sys.stdin.read()"
    mark = tmp_path / "mark"
    words = [word.replace(MARK, str(mark)) for word in HOSTILE if "\0" not in word]
    arguments = [*words, *(f"--model={word}" for word in words)]
    order = servers.order("fast", argv=(sys.executable, "-S", "-c", program, *arguments))
    asyncio.run(servers.processes.launch(order))
    until(lambda: servers.log("fast").endswith("]\n"), "it has said what it was given")
    assert json.loads(servers.log("fast")) == arguments
    assert not mark.exists()
