"""What an examination thinks of file systems, versions, ports, downloads, git, the clock and the service."""

from dataclasses import replace

import pytest

from reconciler.model.desired import DesiredState, FrontSpec, Gateways, ModelSpec, Source
from reconciler.model.doctor import (
    ClockState,
    Complaint,
    Disk,
    Finding,
    GitState,
    Install,
    Leftover,
    LentPorts,
    Listening,
    Opinion,
    Owned,
    StateFolder,
)
from reconciler.model.hook import NEEDED, Hook, HookStanding
from reconciler.model.host import HostFile, StatusPage
from reconciler.model.observed import Absent, Observation, Present, Unknown
from reconciler.model.service import FileStanding, ServiceRun
from reconciler.planning.doctor import cache, ports, source, state, versions
from reconciler.planning.service import ServiceReport

OK, WARNING, PROBLEM, UNKNOWN = Opinion.OK, Opinion.WARNING, Opinion.PROBLEM, Opinion.UNKNOWN
Said = list[tuple[Opinion, str]]
SOUND: Said = [(OK, "")]


def said(findings: "list[Finding]") -> Said:
    for finding in findings:
        assert bool(finding.fix) == (finding.opinion in (WARNING, PROBLEM)), finding
    return [(finding.opinion, finding.reference) for finding in findings]


# ---------------------------------------------------------------------------------------------------------- state, disk

GOOD = StateFolder(
    path="/state",
    tried="/state",
    kind="apfs",
    excludes=True,
    inherits=True,
    frees=True,
    replaces=True,
    folds_case=True,
    full_sync=True,
)


@pytest.mark.fault("X06")
@pytest.mark.parametrize("kind", ["nfs", "nfs4", "smbfs", "cifs", "fuse.sshfs", "webdav", "9p"])
def test_x06_a_state_directory_on_a_network_is_a_problem_even_where_its_locks_seem_to_work(kind: str) -> None:
    assert said(list(state.file_system(replace(GOOD, kind=kind)))) == [(PROBLEM, "state-on-network")]


@pytest.mark.parametrize("kind", ["apfs", "ext4", "btrfs", "zfs", "xfs", "overlay", ""])
def test_a_disk_that_behaves_is_sound(kind: str) -> None:
    assert said(list(state.file_system(replace(GOOD, kind=kind)))) == SOUND


@pytest.mark.parametrize("field", ["excludes", "inherits", "frees", "replaces"])
def test_whatever_a_lock_or_a_rename_lacks_is_a_problem(field: str) -> None:
    lacking = replace(GOOD, **{field: False})  # type: ignore[arg-type]
    assert said(list(state.file_system(lacking))) == [(PROBLEM, "state-unsafe")]
    both = list(state.file_system(replace(lacking, kind="nfs")))
    assert said(both) == [(PROBLEM, "state-on-network"), (PROBLEM, "state-unsafe")]


@pytest.mark.parametrize(
    ("folder", "reference"),
    [
        (replace(GOOD, kind="tmpfs"), "state-in-memory"),
        (replace(GOOD, path="/Users/me/Library/Mobile Documents/x"), "state-synchronised"),
        (replace(GOOD, full_sync=False), "no-full-sync"),
    ],
)
def test_what_may_lose_state_is_a_warning(folder: StateFolder, reference: str) -> None:
    assert said(list(state.file_system(folder))) == [(WARNING, reference)]


@pytest.mark.parametrize(
    ("ours", "mode", "expected"),
    [
        (True, 0o700, SOUND),
        (True, 0o600, SOUND),
        (True, 0o755, [(WARNING, "state-readable")]),
        (True, 0o720, [(PROBLEM, "state-writable")]),
        (True, 0o602, [(PROBLEM, "state-writable")]),
        (False, 0o700, [(PROBLEM, "state-foreign")]),
    ],
)
def test_the_state_directory_is_its_owners_alone(ours: bool, mode: int, expected: Said) -> None:
    assert said(list(state.owners([Owned(path="/state", ours=ours, mode=mode)]))) == expected


def test_a_state_directory_that_is_not_there_yet_is_sound() -> None:
    assert said(list(state.owners([]))) == SOUND


@pytest.mark.parametrize(
    ("free", "expected"),
    [(0, (PROBLEM, "disk-full")), (2**30, (WARNING, "disk-low")), (3 * 2**30, (OK, ""))],
)
def test_the_reserve_of_the_host_file_is_what_should_be_left(free: int, expected: tuple[Opinion, str]) -> None:
    assert said(list(state.room([Disk(what="models", path="/hub", free=free)], HostFile()))) == [expected]


# ------------------------------------------------------------------------------------------------------------- versions


def installed(package: str, version: str, prefix: str = "/env", *found: str) -> Install:
    return Install(package=package, version=version, prefix=prefix, found=found or ("the PATH",))


@pytest.mark.parametrize(
    ("package", "version", "expected"),
    [
        ("mlx-lm", "0.31.3", (PROBLEM, "mlx-lm-runs-model-code")),
        ("mlx-lm", "0.32.0rc1", (PROBLEM, "mlx-lm-runs-model-code")),
        ("mlx-lm", "0.32.0", (OK, "")),
        ("mlx-lm", "0.32", (OK, "")),
        ("mlx-lm", "1.0", (OK, "")),
        ("mlx-lm", "", (UNKNOWN, "not-seen")),
        ("psutil", "7.0.0", (PROBLEM, "psutil-start-times")),
        ("psutil", "7.1.0", (OK, "")),
        ("litellm", "1.82.6", (WARNING, "litellm-outdated")),
        ("litellm", "1.82.7", (PROBLEM, "litellm-compromised")),
        ("litellm", "1.82.8", (PROBLEM, "litellm-compromised")),
        ("litellm", "1.83.14.post1", (WARNING, "litellm-outdated")),
        ("litellm", "1.84.0", (OK, "")),
        ("litellm", "1.109.1", (OK, "")),
        ("mlx-vlm", "0.4.4", (WARNING, "mlx-vlm-hangs")),
        ("mlx-vlm", "0.7.10", (OK, "")),
    ],
)
def test_known_faults(package: str, version: str, expected: tuple[Opinion, str]) -> None:
    assert said(list(versions.faults([installed(package, version)]))) == [expected]


@pytest.mark.fault("X11")
def test_x11_a_psutil_whose_start_times_move_is_a_problem() -> None:
    (found,) = versions.faults([installed("psutil", "6.1.1", "/opt/it")])
    assert found.fix == "'/opt/it/bin/python' -m pip install 'psutil>=7.1'"


@pytest.mark.fault("S30")
def test_s30_nothing_is_started_in_a_compromised_environment() -> None:
    (found,) = versions.faults([installed("litellm", "1.82.8", "/opt/it's")])
    assert "without starting anything in it" in found.fix
    assert "'/opt/it'\\''s'" in found.fix
    assert "pip install" not in found.fix


def test_packages_that_nobody_judges_are_passed_over() -> None:
    assert list(versions.faults([installed("requests", "1.0")])) == []


@pytest.mark.parametrize(
    ("older", "newer"), [("0.9", "0.10"), ("1.0", "1.0.1"), ("1.0.dev1", "1.0"), ("1.0b2", "1.0"), ("", "0.1")]
)
def test_versions_are_compared_by_number(older: str, newer: str) -> None:
    assert versions.is_below(older, newer)
    assert not versions.is_below(newer, older)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (installed("mlx-lm", "0.32.2", "/other"), SOUND),
        (installed("mlx-lm", "0.31.3", "/other"), [(WARNING, "backend-twice")]),
        (installed("mlx-lm", "", "/other"), [(WARNING, "backend-twice")]),
        (installed("mlx-openai-server", "1.8.1", "/other"), SOUND),
    ],
)
def test_a_backend_in_two_versions_is_a_warning(other: Install, expected: Said) -> None:
    used = installed("mlx-lm", "0.32.2", "/env", "this environment")
    assert said(list(versions.several([used, other]))) == expected


def test_the_host_file_says_which_install_is_used() -> None:
    own = installed("mlx-lm", "0.32.2", "/own", "this environment")
    named = installed("mlx-lm", "0.33.0", "/named", "the host file")
    (found,) = versions.several([own, named])
    assert found.text.startswith("servers run mlx-lm 0.33.0 in /named")


# ---------------------------------------------------------------------------------------------------------------- ports

STATE = DesiredState(
    version=1,
    ports={"team": "8100-8119"},
    models={"fast": ModelSpec(source=Source(repo="acme/fast"), port=8100)},
    gateways=Gateways(front=FrontSpec(port=1234)),
)
CLAIMS = ports.claims(STATE, HostFile())
LINUX = LentPorts(first=32768, last=60999)


def test_what_is_declared_and_what_this_machine_adds_are_claims() -> None:
    assert [(claim.what, claim.ports) for claim in CLAIMS] == [
        ("the range team", "8100-8119"),
        ("fast", "8100"),
        ("the front door", "1234"),
        ("the status page", "7575"),
    ]
    assert ports.claims(None, HostFile(status_page=StatusPage(port="none"))) == ()


def test_a_model_in_its_range_is_no_collision() -> None:
    assert said(list(ports.collisions(CLAIMS, LINUX))) == SOUND


def test_the_status_page_is_in_the_way_of_a_range_and_of_the_model_in_it() -> None:
    claimed = ports.claims(STATE, HostFile(status_page=StatusPage(port=8100)))
    found = list(ports.collisions(claimed, LINUX))
    assert said(found) == [(PROBLEM, "ports-collide")] * 2
    assert found[0].text == "the status page (8100) is in the way of the range team (8100-8119)"


@pytest.mark.parametrize(
    ("lent", "expected"),
    [
        (LentPorts(first=8119, last=9000), [(WARNING, "ports-lent")]),
        (LentPorts(first=8120, last=9000), SOUND),
        (LentPorts(first=8110, last=9000, reserved=((8115, 8119), (8000, 8114))), SOUND),
        (LentPorts(first=8110, last=9000, reserved=((8110, 8113), (8115, 8119))), [(WARNING, "ports-lent")]),
        (None, SOUND),
    ],
)
def test_ports_that_the_system_lends_may_be_taken(lent: LentPorts | None, expected: Said) -> None:
    assert said(list(ports.collisions(CLAIMS, lent))) == expected


@pytest.mark.fault("S09")
@pytest.mark.parametrize(
    ("listening", "bind", "expected"),
    [
        ([Listening(port=8100, wide=True)], "127.0.0.1", [(PROBLEM, "port-open")]),
        ([Listening(port=8119, wide=True), Listening(port=8119, wide=True)], "::1", [(PROBLEM, "port-open")]),
        ([Listening(port=8100, wide=True)], "0.0.0.0", [(WARNING, "port-open-by-bind")]),
        ([Listening(port=8100, wide=False), Listening(port=22, wide=True)], "127.0.0.1", SOUND),
        ([], "127.0.0.1", SOUND),
    ],
)
def test_s09_a_port_of_ours_that_is_open_to_the_network_is_found(
    listening: list[Listening], bind: str, expected: Said
) -> None:
    assert said(list(ports.exposed(listening, CLAIMS, HostFile(bind=bind)))) == expected


def test_who_declares_a_single_port_is_named_before_the_range() -> None:
    (found,) = ports.exposed([Listening(port=8100, wide=True)], CLAIMS, HostFile())
    assert "port 8100 (fast)" in found.text


# ---------------------------------------------------------------------------------------------------- downloads, tokens


def left(age: float, *, locked: bool = False, size: int = 2**20) -> Leftover:
    return Leftover(path="/hub/x.incomplete", size=size, age=age, locked=locked)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], SOUND),
        ([left(60)], SOUND),
        ([left(3 * cache.DAY, locked=True)], SOUND),
        ([left(3 * cache.DAY)], [(WARNING, "downloads-left")]),
    ],
)
def test_only_what_nobody_writes_for_a_day_is_left_over(found: list[Leftover], expected: Said) -> None:
    assert said(list(cache.leftovers(found, "/hub"))) == expected


@pytest.mark.fault("H01")
def test_h01_the_bytes_of_orphans_are_counted_apart_from_those_under_way() -> None:
    old, new = left(3 * cache.DAY, size=3 * 2**30), left(10)
    (found,) = cache.leftovers([old, old, new], "/a hub")
    assert "2 unfinished downloads hold 6.0 GiB in /a hub, the oldest for 3 days" in found.text
    assert "1 more (1.0 MiB)" in found.text
    assert found.fix.startswith("find '/a hub' ")


@pytest.mark.parametrize(
    ("owned", "expected"),
    [
        ([], SOUND),
        ([Owned(path="/t", ours=True, mode=0o600)], SOUND),
        ([Owned(path="/t", ours=True, mode=0o644)], [(WARNING, "token-readable")]),
        ([Owned(path="/t", ours=False, mode=0o600)], [(WARNING, "token-foreign")]),
    ],
)
def test_a_token_is_its_owners_alone(owned: list[Owned], expected: Said) -> None:
    assert said(list(cache.tokens(owned))) == expected


# ----------------------------------------------------------------------------------------------------------- git, clock

GIT = GitState(version="2.39.5", folder="/repo", pinned={"a.b": "false"}, effective={"a.b": "false"})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (GIT, SOUND),
        (replace(GIT, folder=""), SOUND),
        (replace(GIT, version="2.30.2"), [(WARNING, "git-outdated")]),
        (replace(GIT, effective={"a.b": "/bin/evil"}), [(PROBLEM, "git-not-pinned")]),
        (replace(GIT, effective={}), [(PROBLEM, "git-not-pinned")]),
        (
            Complaint(reference="git-missing", message="git cannot be run", hint="install it"),
            [(PROBLEM, "git-missing")],
        ),
    ],
)
def test_git(found: GitState | Complaint, expected: Said) -> None:
    assert said(list(source.git(found))) == expected


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (HookStanding.CURRENT, SOUND),
        (HookStanding.JOINED, SOUND),
        (HookStanding.ABSENT, SOUND),
        (HookStanding.FOREIGN, SOUND),
        (HookStanding.OUTDATED, [(WARNING, "hook-outdated")]),
    ],
)
def test_only_an_outdated_hook_is_a_fault(standing: HookStanding, expected: Said) -> None:
    assert said(list(source.hooks([Hook(name=NEEDED, path="/hooks/post-commit", standing=standing)]))) == expected


NOW = 1_800_000_000.0
UNSEEN: Observation[bool] = Unknown(reason="no timedatectl")


@pytest.mark.parametrize(
    ("now", "last", "synchronised", "expected"),
    [
        (NOW, None, Absent(), SOUND),
        (NOW, NOW + 30, UNSEEN, SOUND),
        (NOW, NOW - 9e6, Present(value=True), SOUND),
        (NOW, NOW + 3600, Present(value=True), [(WARNING, "clock-set-back")]),
        (NOW, None, Present(value=False), [(WARNING, "clock-not-synchronised")]),
        (0.0, None, Present(value=True), [(PROBLEM, "clock-wrong")]),
    ],
)
def test_the_clock(now: float, last: float | None, synchronised: Observation[bool], expected: Said) -> None:
    state_of_it = ClockState(now=now, last_event=last, synchronised=synchronised)
    assert said(list(source.clock(state_of_it))) == expected


# -------------------------------------------------------------------------------------------------------------- service

RUNS = Present(value=ServiceRun(pid=7, detail="running"))
DOWN = Present(value=ServiceRun(pid=None, detail="spawn scheduled"))
GONE: Observation[ServiceRun] = Absent()
UNREACHABLE: Observation[ServiceRun] = Unknown(reason="no session")


@pytest.mark.parametrize(
    ("standing", "run", "expected"),
    [
        (FileStanding.CURRENT, RUNS, SOUND),
        (FileStanding.CURRENT, DOWN, [(PROBLEM, "service-not-running")]),
        (FileStanding.CURRENT, GONE, [(PROBLEM, "service-not-loaded")]),
        (FileStanding.CURRENT, UNREACHABLE, [(UNKNOWN, "not-seen")]),
        (FileStanding.DIFFERS, RUNS, [(WARNING, "service-outdated")]),
        (FileStanding.DIFFERS, DOWN, [(WARNING, "service-outdated"), (PROBLEM, "service-not-running")]),
        (FileStanding.FOREIGN, GONE, [(WARNING, "service-foreign")]),
        (FileStanding.ABSENT, GONE, SOUND),
        (FileStanding.ABSENT, UNREACHABLE, SOUND),
        (FileStanding.ABSENT, RUNS, [(WARNING, "service-file-gone")]),
        (None, GONE, [(UNKNOWN, "not-seen")]),
    ],
)
def test_the_service(standing: FileStanding | None, run: Observation[ServiceRun], expected: Said) -> None:
    report = ServiceReport(manager="systemd", file="/unit", standing=standing, why="denied", differs=("x",), run=run)
    assert said(list(source.service(report))) == expected
