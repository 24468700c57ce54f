"""A pytest plug-in that counts which requirements and faults have passing tests.

A test says `@pytest.mark.req("S1-44")` or `@pytest.mark.fault("D01")`. The ids travel in user properties of
the test, so that a worker process can hand them to the process that prints. A row counts as covered when at
least one of its tests ran and every one that ran passed: a skipped test proves nothing.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable
from enum import StrEnum

import pytest

from tests.requirements_catalogue import requirement_ids, seed_of, waived

FAULT = re.compile(r"[A-Z]\d{2}")
MARKERS = ("req", "fault")


class Result(StrEnum):
    """How one test ended."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"


def ids_of(item: pytest.Item, marker: str) -> Iterable[str]:
    """The ids that a test names with one marker, its class's and module's included."""
    return sorted({str(name) for mark in item.iter_markers(marker) for name in mark.args})


class Coverage:
    """Checks the ids while tests are collected and adds up the results while they run."""

    def __init__(self, requirements: Iterable[str], waived_rows: Iterable[str]) -> None:
        self.requirements = tuple(requirements)
        self.waived = frozenset(waived_rows)
        self._known = frozenset(self.requirements)
        self._tests: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._results: dict[str, Result] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_pycollect_makeitem(self) -> Generator[None, object, object]:
        """Refuse a test that names an id which does not exist, as an error of its module."""
        made = yield
        for item in made if isinstance(made, list) else [made]:
            if isinstance(item, pytest.Item):
                self._check(item)
        return made

    def _check(self, item: pytest.Item) -> None:
        for name in ids_of(item, "req"):
            if name not in self._known:
                raise pytest.Collector.CollectError(f"{item.name}: {name!r} is not a row of docs/requirements.csv")
        for name in ids_of(item, "fault"):
            if not FAULT.fullmatch(name):
                raise pytest.Collector.CollectError(f"{item.name}: {name!r} is not a fault id such as 'D01'")

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Put the ids where reports carry them from a worker to the controller."""
        item.user_properties.extend((marker, name) for marker in MARKERS for name in ids_of(item, marker))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the worst of a test's three phases."""
        for marker, name in report.user_properties:
            if marker in MARKERS:
                self._tests[marker, str(name)].add(report.nodeid)
        before = self._results.get(report.nodeid, Result.PASSED)
        ranks = list(Result)
        self._results[report.nodeid] = max(before, Result(report.outcome), key=ranks.index)

    def ids(self, marker: str, result: Result) -> frozenset[str]:
        """The ids whose tests came, at worst, to this result."""
        ranks = list(Result)
        return frozenset(
            name
            for (kind, name), tests in self._tests.items()
            if kind == marker and max((self._results[test] for test in tests), key=ranks.index) is result
        )

    def lines(self) -> Iterable[str]:
        """The closing lines, for the tests that this run ran."""
        covered = self.ids("req", Result.PASSED)
        rows = Counter(map(seed_of, self.requirements))
        done = Counter(map(seed_of, covered))
        seeds = "  ".join(f"{seed} {done[seed]}/{count}" for seed, count in rows.items())
        yield f"requirements covered: {seeds}  all {len(covered)}/{rows.total()} ({len(self.waived)} waived)"
        if skipped := self.ids("req", Result.SKIPPED):
            yield f"requirements with a skipped test, not counted: {' '.join(sorted(skipped))}"
        faults = self.ids("fault", Result.PASSED)
        letters = Counter(name[0] for name in faults)
        kinds = "".join(f"{letter} {count}  " for letter, count in sorted(letters.items()))
        yield f"faults covered: {kinds}all {len(faults)}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the closing lines; a worker has no terminal and never comes here."""
        for line in self.lines():
            terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Start counting."""
    rows = requirement_ids()
    config.pluginmanager.register(Coverage(rows, [name for name, _ in waived()]), "requirements-coverage")
