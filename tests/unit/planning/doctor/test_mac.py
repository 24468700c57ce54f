"""What only a Mac says: good transcripts, bad ones and odd ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.doctor import Finding, LentPorts, Listening, Opinion
from reconciler.model.host import HostFile, Memory
from reconciler.model.observed import Observation, Present, Unknown
from reconciler.model.transcript import Transcript
from reconciler.planning.doctor import mac
from tests.transcripts.mac import FOLDER, recorded, transcript

GIB = 2**30
OK, WARNING, PROBLEM, UNKNOWN = Opinion.OK, Opinion.WARNING, Opinion.PROBLEM, Opinion.UNKNOWN
NOBODY: Observation[int] = Unknown(reason="nobody has measured it")


def budget(text: str | None) -> HostFile:
    return HostFile(memory=Memory(budget=text))


def references(findings: list[Finding]) -> list[tuple[Opinion, str]]:
    return [(finding.opinion, finding.reference) for finding in findings]


def test_every_recorded_command_is_one_that_is_asked() -> None:
    asked = {mac.WIRED, mac.LENT, mac.SOCKETS, mac.POWER, mac.DISK_ENCRYPTION, mac.AUTOMATIC_LOGIN}
    asked |= {("launchctl", "print", "gui/501")}
    assert {recorded(path.stem)[0] for path in FOLDER.glob("*.txt")} == asked


# --------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("said", "declared", "usable", "expected"),
    [
        ("wired-default", None, NOBODY, (OK, "")),
        ("wired-default", "96GiB", Present(value=96 * GIB), (OK, "")),
        ("wired-default", "100GiB", Present(value=96 * GIB), (WARNING, "budget-over-wired-limit")),
        ("wired-default", "100GiB", NOBODY, (UNKNOWN, "not-seen")),
        ("wired-raised", "100GiB", Present(value=96 * GIB), (OK, "")),
        ("wired-raised", "110GiB", NOBODY, (PROBLEM, "budget-over-wired-limit")),
        ("wired-everything", None, NOBODY, (PROBLEM, "wired-limit-too-high")),
        ("wired-unheard-of", None, NOBODY, (OK, "")),
    ],
)
def test_the_wired_limit_is_compared_with_the_budget(
    said: str, declared: str | None, usable: Observation[int], expected: tuple[Opinion, str]
) -> None:
    assert references(list(mac.wired_limit(transcript(said), budget(declared), usable))) == [expected]


def test_the_way_out_is_a_higher_limit_where_that_leaves_enough_and_else_a_smaller_budget() -> None:
    (raised,) = mac.wired_limit(transcript("wired-raised"), budget("110GiB"), NOBODY)
    assert raised.fix.startswith("sudo sysctl iogpu.wired_limit_mb=112640")
    (smaller,) = mac.wired_limit(transcript("wired-raised"), budget("126GiB"), NOBODY)
    assert smaller.fix == "set memory.budget to 107GiB in the host file"


def test_a_mac_that_does_not_say_its_memory_is_unknown() -> None:
    (found,) = mac.wired_limit(Transcript(code=1, out="", err="sysctl: unknown oid"), budget("1GiB"), NOBODY)
    assert found.opinion is UNKNOWN


# ---------------------------------------------------------------------------------------------------------------- ports


def test_the_ports_that_are_lent() -> None:
    assert mac.lent_ports(transcript("ports-lent")) == LentPorts(first=49152, last=65535)


@pytest.mark.parametrize("text", ["", "net.inet.ip.portrange.first: 49152\n", "net.inet.ip.portrange.first: x\n"])
def test_half_a_range_is_none(text: str) -> None:
    assert mac.lent_ports(Transcript(code=0, out=text)) is None


def test_listeners_are_told_from_connections_and_wide_ones_from_the_rest() -> None:
    found = mac.listening(transcript("sockets"))
    assert found is not None
    assert [entry for entry in found if entry.wide] == [
        Listening(port=8101, wide=True),
        Listening(port=8102, wide=True),
        Listening(port=5000, wide=True),
        Listening(port=5000, wide=True),
    ]
    assert {entry.port for entry in found if not entry.wide} == {8100, 7575, 8103, 8104}


@pytest.mark.parametrize("said", [Transcript(code=1, out=""), Transcript(code=0, out="no such option\n")])
def test_a_netstat_that_gives_no_list_is_not_an_empty_list(said: Transcript) -> None:
    assert mac.listening(said) is None


# -------------------------------------------------------------------------------------------------- login, sleep, power


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("domain", (OK, "")),
        ("domain-missing", (PROBLEM, "launchd-domain-missing")),
        ("domain-forbidden", (UNKNOWN, "not-seen")),
    ],
)
def test_the_domain_of_launchd(said: str, expected: tuple[Opinion, str]) -> None:
    assert references(list(mac.launchd_domain(transcript(said), 501))) == [expected]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("power-desk", (OK, "")),
        ("power-sleep-disabled", (OK, "")),
        ("power-factory", (WARNING, "mac-sleeps")),
        ("filevault-off", (UNKNOWN, "not-seen")),
    ],
)
def test_a_mac_that_sleeps(said: str, expected: tuple[Opinion, str]) -> None:
    assert references(list(mac.sleep(transcript(said)))) == [expected]


@pytest.mark.parametrize(
    ("encryption", "login", "power", "expected"),
    [
        ("filevault-off", "login-automatic", "power-desk", [(OK, "")]),
        ("filevault-off", "login-automatic", "power-factory", [(WARNING, "no-restart")]),
        ("filevault-off", "login-automatic", "power-sleep-disabled", [(UNKNOWN, "not-seen")]),
        ("filevault-off", "login-by-hand", "power-desk", [(WARNING, "no-automatic-login")]),
        ("filevault-on", "login-by-hand", "power-desk", [(WARNING, "filevault-on")]),
        ("filevault-on", "login-automatic", "power-factory", [(WARNING, "no-restart"), (WARNING, "filevault-on")]),
        ("filevault-odd", "login-automatic", "power-desk", [(UNKNOWN, "not-seen")]),
        ("filevault-off", "filevault-odd", "power-desk", [(UNKNOWN, "not-seen")]),
    ],
)
def test_what_a_restart_without_a_person_brings(
    encryption: str, login: str, power: str, expected: list[tuple[Opinion, str]]
) -> None:
    found = mac.unattended(transcript(encryption), transcript(login), transcript(power))
    assert references(list(found)) == expected


@given(st.text(), st.text(), st.integers(-2, 255))
def test_no_text_is_taken_for_a_good_answer(out: str, err: str, code: int) -> None:
    said = Transcript(code=code, out=out, err=err)
    findings = [*mac.wired_limit(said, budget("1GiB"), NOBODY), *mac.sleep(said), *mac.unattended(said, said, said)]
    assert OK not in {finding.opinion for finding in findings}
    assert mac.lent_ports(said) is None
    assert not mac.listening(said)
