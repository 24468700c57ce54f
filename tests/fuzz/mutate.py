"""Mutations of documents: bytes, lines, tokens that are trouble for parsers, and values that are for checks."""

from random import Random
from typing import Final

DESIRED: Final = b"""# yaml-language-server: $schema=../schemas/desired-state.v1.json
version: 1
ports: {team: 8100-8119, experimental: 8120-8139}
defaults: {backend: mlx-lm, context_length: 131072}
models:
  mlx-gpt-oss-120b:
    source: {repo: mlx-community/gpt-oss-120b-MXFP4-Q4, revision: "0123abc"}
    port: 8100   # the first
    moved_from: 8101
    backend: mlx-openai-server
    chat_template: templates/gpt-oss.jinja
    tool_call_parser: harmony
    options: {decode_concurrency: 4, temp: 0.7, log_level: 'INFO'}
    request_params: {reasoning_effort: low, seed: 7}
    aliases: [deep, "think"]
    requires: [tools, offline]
    priority: -10
  qwen-vl:
    source:
      path: ${root.models}/qwen-vl
    draft: {path: "${env.DRAFTS}/small"}
    port: auto
    activation: on-demand
    group: vision
    idle_ttl: 15m
    convert: {bits: 4, group_size: 64, mode: affine, dtype: bfloat16}
    offload: never
groups: {vision: {resident: 1}}
gateways:
  front: {port: 1234}
  litellm: {exposure: labels, mode: front, optillm: {enabled: false}}
policy:
  prune: true
  deny_sources:
  - "*gemma-2*"
  - >-
    *folded*
    text
hosts:
  studio: {models: [mlx-gpt-oss-120b]}
  mini:
    models:
    - qwen-vl
"""

HOST: Final = b"""version: 1
name: studio
accept_cpu: true
bind: 127.0.0.1
memory: {budget: 96GiB, reserve: 4GiB}
max_launches: 2
start_timeout: 10m
runtimes:
  mlx-openai-server: {command: [/opt/server/bin/server, "launch", '--quiet']}
roots: {models: /opt/models, more_of_them: "/Volumes/Models"}
gateways:
  litellm:
    include: /opt/litellm/reconciler.yaml
    drain: 1.5s
"""

_WORDS: Final = (
    b"&a |*a|<<: |? |- |: |[|]|{|}|,|\"|'|>|@|`|#|~|%YAML 9.9\n|%TAG ! tag:x,1:\n|---\n|...\n|!!python/object/apply:x "
    b"|!!str |!x |!<y> |\t|\r|\n|  |\x00|\x1b[2J|\xff|\xc3\x28|\xe2\x80\xae|\xe2\x80\xa8|\xc2\x85|\xc2\xa0|\xef\xbb\xbf"
    b'|\xed\xa0\x80|\xf0\x9f\x98\x80|\xd1\x80\xd0\xbe\xd1\x80\xd1\x82|\\ud800|"\\x"|"\\0"|"\\e[0m"|"a\\nb": 1'
    b"|2001-13-45|0o7|1:30|017640|1e3|1e999|.inf|-.nan|no|true|null|=|+1|-0|1.|8100.0|../../etc|/|~/x|${env.X}"
    b"|${root.models}|${|$|<<<<<<< HEAD\n|=======\n|>>>>>>> x\n|version: 2\n|models:\n|models: {}\n|{}: 1|[]: 1"
)
TOKENS: Final = (*_WORDS.split(b"|"), b"|", b"|2-\n", b"9" * 4_400, b"a" * 5_000, b"? " * 9)
"""Pieces with a meaning to some parser, check or terminal."""

VALUES: Final = (
    b"0|1|-1|80|65536|8100|8120|1234|1000000000000000000000|0.0|1.5|true|null|''|auto|none|a|A|a/b|a//b|../a|a\\\\b"
    b"|x@y|-x|--flag|'-1'|{}|[]|[a]|[[]]|{a: 1}|{repo: a/b}|{repo: a}|{path: /a}|{path: a, repo: a/b}|8100-8119"
    b"|9999-8100|1-2|15m|99999999d|4GiB|999999999999999TiB|templates/gpt-oss.jinja|templates/missing.jinja|mlx-lm"
    b"|qwen-vl|mlx-gpt-oss-120b|deep|vision|studio|on-demand|front|hf_ABCDEFGHIJKLMNOPQRST".split(b"|")
)
"""Values that fit somewhere, put where they may not."""


def mutated(base: bytes, random: Random) -> bytes:
    """`base` with a few mutations; the same state of `random` gives the same bytes."""
    data = bytearray(base)
    for _ in range(random.choice((1, 1, 1, 2, 3, 5, 9))):
        random.choice(_MUTATIONS)(data, random)
    return bytes(data)


def _insert(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice(TOKENS) * random.choice((1, 1, 1, 2))


def _delete(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    del data[at : at + random.choice((1, 1, 2, 5, 20, 200))]


def _flip(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at : at + 1] = bytes([random.randrange(256)])


def _cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data) + 1) :]


def _copy(data: bytearray, random: Random) -> None:
    at, start = random.randrange(len(data) + 1), random.randrange(len(data) + 1)
    data[at:at] = data[start : start + random.randrange(40)]


def _nest(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice((b"[", b"{", b"- ", b"? ", b"{a: ", b"a:\n ")) * random.choice((3, 40, 400))


def _lines(data: bytearray, random: Random) -> None:
    """Repeat, drop, swap or indent lines: keys twice, fields in foreign places."""
    lines = bytes(data).split(b"\n")
    first, second = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            lines.insert(second, lines[first])
        case 1:
            del lines[first]
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
        case 3:
            lines[first] = random.choice((b" ", b"  ", b"\t", b"- ")) + lines[first]
        case _:
            random.shuffle(lines)
    data[:] = b"\n".join(lines)


def _value(data: bytearray, random: Random) -> None:
    """Put another value behind some key."""
    colons = [at for at in range(len(data)) if data[at : at + 2] == b": "]
    if colons:
        start = random.choice(colons) + 2
        stops = [at for end in b",}\n" if (at := data.find(end, start)) >= 0]
        data[start : min(stops, default=len(data))] = random.choice(VALUES)


def _key(data: bytearray, random: Random) -> None:
    """Misspell some key, or call it like another one."""
    colons = [at for at in range(len(data)) if data[at : at + 2] == b": "]
    if colons:
        end = random.choice(colons)
        start = end
        while start and (data[start - 1 : start].isalnum() or data[start - 1] in b"_-"):
            start -= 1
        data[start:end] = random.choice(
            (data[start : end - 1], data[start + 1 : end] * 2, b"port", b"source", b"A", b"")
        )


def _line_ends(data: bytearray, random: Random) -> None:
    data[:] = data.replace(b"\n", random.choice((b"\r\n", b"\r", b"\n\n", b" \n")))


_MUTATIONS: Final = (
    *(_insert,) * 5,
    *(_value,) * 5,
    *(_key,) * 3,
    *(_lines,) * 3,
    *(_delete,) * 3,
    *(_flip,) * 3,
    _cut,
    _copy,
    _copy,
    _nest,
    _line_ends,
)
"""How often each is drawn."""
