"""The checks of an examination: whatever cannot be looked at is unknown, and a Mac is asked by its own words."""

import re
from typing import Any

import pytest

from reconciler.engine.doctor import CHECKS, Case
from reconciler.model.doctor import Complaint, Examined, Opinion
from reconciler.model.host import HostFile, Memory
from reconciler.model.observed import Absent, Observation, Present, Unknown
from reconciler.planning.service import ServiceReport
from reconciler.ports.mac import Mac
from tests.transcripts.mac import RecordedMac

REASON = "it is hidden from us"
MAC = ("wired-raised", "ports-lent", "sockets", "power-factory", "filevault-on", "login-by-hand", "domain-missing")


class Everything:
    """An examiner that has one answer to every question."""

    uid = 501

    def __init__(self, answer: "Observation[Any] | Exception") -> None:
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        def look() -> Observation[Any]:
            if isinstance(self._answer, Exception):
                raise self._answer
            return self._answer

        return look


class NoMac:
    """A machine that is no Mac."""

    def ask(self, *words: str) -> Absent:
        return Absent()


def case(answer: "Observation[Any] | Exception", mac: Mac, **more: Any) -> Case:
    """A machine that gives one answer to whatever is asked of it, and is a Mac or none."""
    hidden = ServiceReport(manager="systemd", file="/unit", standing=None, why=REASON, run=Unknown(reason=REASON))
    usual: dict[str, Any] = {
        "host_file": HostFile(),
        "desired": Unknown(reason=REASON),
        "usable": Unknown(reason=REASON),
        "service": lambda: hidden,
        "hooks": lambda: Unknown(reason=REASON),
        "models": "/hub",
    }
    return Case(examiner=Everything(answer), mac=mac, **(usual | more))


def examined(case: Case) -> dict[str, Examined]:
    return {check.name: check.of(case) for check in CHECKS}


def test_names_are_stable_words_and_each_is_there_once() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)


@pytest.mark.parametrize("answer", [Unknown(reason=REASON), OSError(REASON), KeyError(REASON)])
def test_what_cannot_be_looked_at_is_unknown_and_never_ok(answer: "Observation[Any] | Exception") -> None:
    found = examined(case(answer, RecordedMac()))
    assert {one.opinion for one in found.values()} == {Opinion.UNKNOWN}
    for one in found.values():
        assert any(REASON in finding.text or "gave no answer" in finding.text for finding in one.findings), one


def test_what_only_a_mac_has_is_not_applicable_elsewhere() -> None:
    found = examined(case(Absent(), NoMac()))
    elsewhere = {"wired-limit", "launchd-domain", "sleep", "unattended-restart", "wildcard-listeners"}
    assert elsewhere <= {name for name, one in found.items() if one.opinion is Opinion.NOT_APPLICABLE}


def test_a_mac_answers_by_its_transcripts() -> None:
    host_file = HostFile(memory=Memory(budget="110GiB"))
    found = examined(case(Absent(), RecordedMac(*MAC), host_file=host_file))
    said = {name: [finding.reference for finding in one.findings] for name, one in found.items()}
    assert said["wired-limit"] == ["budget-over-wired-limit"]
    assert said["launchd-domain"] == ["launchd-domain-missing"]
    assert said["sleep"] == ["mac-sleeps"]
    assert said["unattended-restart"] == ["no-restart", "filevault-on"]
    assert found["port-ranges"].opinion is Opinion.OK
    assert "none in 49152-65535" in found["port-ranges"].findings[0].text
    assert found["wildcard-listeners"].opinion is Opinion.OK


def test_a_refused_host_file_is_a_problem_and_ends_no_other_check() -> None:
    refused = Complaint(reference="host-file-untrusted", message="others can write it", hint="chmod go-w it")
    found = examined(case(Absent(), RecordedMac(*MAC), host_file=refused))
    assert [f.reference for f in found["host-file"].findings] == ["host-file-untrusted"]
    assert found["wired-limit"].opinion is Opinion.OK


def test_a_desired_state_that_is_invalid_is_a_problem() -> None:
    invalid = Present(value=Complaint(reference="invalid-document", message="2 problems", hint="mend it"))
    found = examined(case(Absent(), NoMac(), desired=invalid))
    assert found["desired-state"].opinion is Opinion.PROBLEM
    assert found["port-ranges"].opinion is Opinion.OK
