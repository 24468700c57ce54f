"""What the files of the two service managers say, judged by those who read them, and what launchctl's words mean."""

import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters.service import plist, unit
from reconciler.adapters.service.description import described
from reconciler.adapters.service.launchd import Launchd
from reconciler.adapters.service.systemd import Systemd
from reconciler.model.observed import Absent, Present, Unknown
from reconciler.model.problem import ReconcilerError
from reconciler.model.service import Service, ServiceRun
from reconciler.model.transcript import Transcript
from reconciler.ports.errors import ObservationError

ANALYZE = shutil.which("systemd-analyze")
WORDS = st.text(st.characters(codec="utf-8", min_codepoint=0x20, exclude_characters="\x7f"), max_size=12)
SERVICES = st.builds(
    Service,
    argv=st.lists(WORDS, min_size=1, max_size=4).map(tuple),
    environment=st.dictionaries(st.from_regex(r"[A-Z_]{1,6}", fullmatch=True), WORDS, max_size=3),
    log=WORDS.map(lambda text: f"/{text.strip()}/service.log"),
)
ODD = Service(
    argv=(sys.executable, "-c", "two words", '"', "\\", "$HOME", "${HOME}", "%h %", ";", "", "it's", "ünï"),
    environment={"PATH": "/usr/bin:/bin", "ODD": 'a "b" $c %d \\e'},
    log="/tmp/100% $HOME/service.log",
)


@given(SERVICES)
def test_both_files_say_all_of_a_service(service: Service) -> None:
    assert plist.described(plist.plist(service)) == service
    assert unit.described(unit.unit(service)) == service


def test_launchd_keeps_it_running_and_leaves_its_servers_alone() -> None:
    entries = plistlib.loads(plist.plist(ODD).encode())
    assert entries["ProgramArguments"] == list(ODD.argv)
    assert entries["EnvironmentVariables"] == {**ODD.environment, "RECONCILER_SERVICE": "launchd"}
    assert (entries["StandardOutPath"], entries["StandardErrorPath"]) == (ODD.log, ODD.log)
    told = {"AbandonProcessGroup", "KeepAlive", "RunAtLoad"}
    assert {name for name, value in entries.items() if value is True} == told
    assert (entries["ThrottleInterval"], entries["ExitTimeOut"]) == (10, 30)
    assert (entries["Label"], entries["WorkingDirectory"]) == ("reconciler.watch", "/")


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("service", [ODD, Service(argv=(sys.executable,), environment={}, log="/tmp/log")])
def test_systemd_takes_the_unit_without_a_word(tmp_path: Path, service: Service) -> None:
    assert verified(tmp_path, unit.unit(service)) == (0, "")


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze here")
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("KillMode=process", "KillMode=one"), ("OOMPolicy", "OOMPolicies"), (sys.executable, "/no/python")],
)
def test_systemd_would_notice_a_mistake(tmp_path: Path, right: str, wrong: str) -> None:
    text = unit.unit(ODD)
    assert right in text
    assert verified(tmp_path, text.replace(right, wrong))[1]


def verified(folder: Path, text: str) -> tuple[int, str]:
    """What systemd says about a unit."""
    path = folder / "reconciler.service"
    path.write_text(text)
    run = subprocess.run(
        [str(ANALYZE), "--user", "--man=no", "verify", str(path)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def test_servers_of_systemd_outlive_the_watch() -> None:
    lines = unit.unit(ODD).splitlines()
    assert {"KillMode=process", "OOMPolicy=continue", "Restart=always", "RestartSec=10"} <= set(lines)
    assert "WantedBy=default.target" in lines


# ------------------------------------------------------------------------------------------------------- what it holds


def made(environ: Mapping[str, str], desired: str = "") -> Service:
    words = ("watch", "-c", "/x/ensemble.yaml")
    return described(words, Path("/state"), desired.encode(), environ, "/opt/it/bin/python")


def test_a_service_has_absolute_paths_and_its_log_in_the_state_directory() -> None:
    service = made({"PATH": ".:bin:/usr/bin::/bin:/usr/bin", "HF_HOME": "~/hf", "HOME": "/home/me"})
    assert service.argv[:4] == ("/opt/it/bin/python", "-P", "-m", "reconciler")
    assert service.argv[4:] == ("watch", "-c", "/x/ensemble.yaml")
    assert service.log == "/state/logs/_watch.log"
    assert service.environment == {"PATH": "/usr/bin:/bin", "HF_HOME": os.path.expanduser("~/hf")}


def test_a_service_has_what_the_watch_depends_on_and_no_secret() -> None:
    kept = {
        "HF_HUB_CACHE": "/hub",
        "RECONCILER_STATE": "/state",
        "RECONCILER_HOST_FILE": "/host.yaml",
        "XDG_CONFIG_HOME": "/config",
        "MODEL__FAST__SOURCE": "acme/other",
        "MLX_PRECONVERTED_ORGS": "acme",
        "MODELS": "/models",
    }
    left = {
        "HF_TOKEN": "hf_0123456789abcdefghij",
        "HF_ENDPOINT": "https://me:word@hub.example",
        "MLX_CONVERT_CMD": "convert --key sk-0123456789abcdefghij {src}",
        "https_proxy": "http://me:word@proxy.example",
        "OPENAI_API_KEY": "x",
        "RECONCILER_CONFIG": "/elsewhere",
        "LANG": "de_DE",
        "NOT_NAMED": "/x",
    }
    service = made({**kept, **left}, "source: {path: '${env.MODELS}/a'}")
    assert {name: text for name, text in service.environment.items() if name != "PATH"} == kept


def test_a_path_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(ReconcilerError) as refused:
        described(("watch", "-c", "/x\n/y"), Path("/state"), b"", {}, "/bin/python")
    assert refused.value.reference == "service-impossible"


# ------------------------------------------------------------------------------------------------- what launchctl says

RUNNING = """gui/501/reconciler.watch = {
\tactive count = 1
\tpath = /Users/me/Library/LaunchAgents/reconciler.watch.plist
\ttype = LaunchAgent
\tstate = running

\tprogram = /opt/it/bin/python
\targuments = {
\t\t/opt/it/bin/python
\t\tpid = 7
\t}

\tstdout path = /Users/me/Library/Application Support/reconciler/logs/service.log
\tenvironment = {
\t\tOSLogRateLimit => 64
\t\tXPC_SERVICE_NAME => reconciler.watch
\t}

\tdomain = gui/501 [100020]
\tasid = 100020
\tminimum runtime = 10
\texit timeout = 30
\truns = 1
\tpid = 66468
\timmediate reason = speculative
\tforks = 3
\tlast exit code = (never exited)

\tresource coalition = {
\t\tID = 292895
\t\tstate = active
\t\tpid = 12
\t}
}
"""
ENDED = RUNNING.replace("running", "spawn scheduled").replace("\tpid = 66468\n", "")
ENDED = ENDED.replace("(never exited)", "78: EX_CONFIG")
NO_SERVICE = 'Bad request.\nCould not find service "reconciler.watch" in domain for user gui: 501\n'


def launchd(code: int, out: str = "", err: str = "") -> Launchd:
    """launchd as it is seen when every question gets one answer."""
    return Launchd("/nowhere", 501, lambda words: Transcript(code=code, out=out, err=err))


def test_the_pid_of_the_service_is_its_own() -> None:
    assert launchd(0, RUNNING).run() == Present(value=ServiceRun(pid=66468, detail="running"))


def test_a_service_that_keeps_ending_says_how() -> None:
    said = "spawn scheduled, last ended with code 78: EX_CONFIG"
    assert launchd(0, ENDED).run() == Present(value=ServiceRun(pid=None, detail=said))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (112, "Bad request.\nCould not find domain for user gui: 501"),
        (113, "Could not find domain for user gui: 501"),
        (1, "Operation not permitted"),
        (64, ""),
        (-9, ""),
    ],
)
def test_only_what_launchd_does_not_know_is_absent(code: int, said: str) -> None:
    assert launchd(113, err=NO_SERVICE).run() == Absent()
    assert isinstance(launchd(code, err=said).run(), Unknown)


def test_text_that_nobody_knows_is_a_service_without_a_process() -> None:
    assert launchd(0, "???").run() == Present(value=ServiceRun(pid=None, detail="in no known state"))


def test_a_manager_that_is_not_installed_is_unknown() -> None:
    def nobody(words: Sequence[str]) -> Transcript:
        raise ObservationError(f"there is no program {words[0]} on the PATH")

    assert isinstance(Launchd("/nowhere", 501, nobody).run(), Unknown)
    assert isinstance(Systemd("/nowhere", "me", nobody).run(), Unknown)
    assert Systemd("/nowhere", "me", nobody).advice() == ""
