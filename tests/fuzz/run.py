"""Reads many mutated documents: `python -m tests.fuzz.run [COUNT [SEED]]`; COUNT 1 repeats the one of a failure."""

import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import Final

from reconciler.desired.host import parse_host
from reconciler.desired.parse import parse
from reconciler.model.bundle import REGULAR, Bundle, BundleFile
from reconciler.model.problem import ExitCode, InvalidDocument, Problem

from .mutate import DESIRED, HOST, mutated

FILES: Final = {"templates/gpt-oss.jinja": BundleFile(mode=REGULAR, content=b"{{ messages }}")}
ENVIRON: Final = {"DRAFTS": "/opt/drafts", "MODEL__QWEN_VL__SOURCE": "", "MODEL__DEEP__SOURCE": "a/b"}
ROOTS: Final = {"models": "/opt/models"}


def read_desired(text: bytes) -> tuple[Problem, ...]:
    """Warnings of an accepted desired file."""
    bundle = Bundle(name="ensemble.yaml", revision="worktree:0", text=text, files=FILES)
    return parse(bundle, roots=ROOTS, environ=ENVIRON, overrides={}).warnings


def read_host(text: bytes) -> tuple[Problem, ...]:
    """An accepted host file has no warnings."""
    parse_host(text, "host.yaml")
    return ()


KINDS: Final[tuple[tuple[Callable[[bytes], tuple[Problem, ...]], bytes], ...]] = (
    (read_desired, DESIRED),
    (read_desired, DESIRED),
    (read_desired, DESIRED),
    (read_host, HOST),
)


@dataclass
class Outcome:
    """What many documents came to."""

    counts: Counter[str] = field(default_factory=Counter)
    references: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    worst: tuple[float, int] = (0.0, 0)
    """Seconds and seed of the slowest."""


def document(seed: int) -> tuple[Callable[[bytes], tuple[Problem, ...]], bytes]:
    """The document of a seed, and how it is read."""
    random = Random(seed)
    read, base = random.choice(KINDS)
    return read, mutated(base, random)


def run(count: int, first: int = 0) -> Outcome:
    """Read the documents of `count` seeds."""
    outcome = Outcome()
    for seed in range(first, first + count):
        read, text = document(seed)
        began = perf_counter()
        try:
            problems = read(text)
            result = "accepted"
        except InvalidDocument as refused:
            problems, result = refused.problems, "refused"
            coded = refused.code in (ExitCode.INVALID, ExitCode.ENVIRONMENT)
            if not coded or not any(p.severity == "error" for p in problems):
                outcome.failures.append(f"seed {seed}: refused without an error")
        except Exception:
            outcome.failures.append(f"seed {seed}: {traceback.format_exc()}")
            continue
        outcome.worst = max(outcome.worst, (perf_counter() - began, seed))
        outcome.counts[result] += 1
        outcome.references.update({problem.reference for problem in problems})
        outcome.failures += [f"seed {seed}: {said}" for problem in problems if (said := misreported(problem, text))]
    return outcome


def misreported(problem: Problem, text: bytes) -> str | None:
    """What is wrong with a problem: characters that a terminal obeys, or a place outside of the text."""
    line = problem.located("ensemble.yaml")
    if not line.isascii() or not line.isprintable():
        return f"unprintable: {line!r}"
    if problem.line is not None:
        rows = text.count(b"\n") + text.count(b"\r") + text.count(b"\xc2\x85") + text.count(b"\xe2\x80\xa8") + 2
        if problem.column is None or not 1 <= problem.line <= rows or not 1 <= problem.column <= len(text) + 1:
            return f"outside of the text: {line}"
    return None


def main(arguments: list[str]) -> int:
    """Run, print what came of it, and return 1 after a failure."""
    count = int(arguments[0]) if arguments else 100_000
    first = int(arguments[1]) if len(arguments) > 1 else 0
    outcome = run(count, first)
    for failure in outcome.failures[:20]:
        print(failure)
    seconds, slowest = outcome.worst
    told = ", ".join(f"{number} {result}" for result, number in sorted(outcome.counts.items()))
    print(f"{count} documents from seed {first}: {told}, {len(outcome.failures)} failures")
    print(f"{len(outcome.references)} different references; the slowest took {seconds * 1000:.0f} ms (seed {slowest})")
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
