"""Memory, platform and runtimes of the machine that runs the tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.adapters.cache.digests import Digests
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.machine import (
    WORKING_SET,
    LocalMachine,
    container_limits,
    memory_total,
    metal_limit,
    package_is_here,
    working_set,
)
from reconciler.model.host import HostFile, Runtime
from reconciler.model.observed import Absent, HostFacts, Observation, Present, Unknown

GIB = 2**30
ROOT = Path(__file__).resolve().parents[2]


def looked(host_file: HostFile, *backends: str) -> HostFacts:
    return LocalMachine(host_file, "state").look(backends)


def runtime(*command: str) -> Observation[tuple[str, ...]]:
    return looked(HostFile(runtimes={"other": Runtime(command=command)}), "other").runtimes["other"]


def test_the_facts() -> None:
    facts = looked(HostFile(accept_cpu=True), "mlx-lm")
    assert facts.platform == sys.platform
    assert facts.accept_cpu
    assert facts.template_folder == os.path.abspath("state/templates")
    assert facts.runtimes == {"mlx-lm": Present(value=(sys.executable, "-m", "mlx_lm", "server"))}


def test_looking_imports_no_runtime() -> None:
    program = (
        "import sys\n"
        "from reconciler.adapters import gateway_files, host_file, listeners, processes, state_dir\n"
        "from reconciler.adapters.cache import hf_cache\n"
        "from reconciler.adapters.machine import LocalMachine\n"
        "from reconciler.model.host import HostFile\n"
        "LocalMachine(HostFile(), 'state').look(['mlx-lm'])\n"
        "listeners.LocalListeners().look(range(8100, 8140))\n"
        "print(*sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    slow = {"mlx", "mlx_lm", "psutil", "huggingface_hub", "asyncio", "aiohttp", "pydantic", "subprocess"}
    assert not (slow | {"sqlite3", "ctypes", "importlib.util", "random"}) & set(run.stdout.split())


def test_a_runtime_of_the_host_file(tmp_path: Path) -> None:
    program = tmp_path / "server"
    assert runtime(str(program), "--x") == Absent()
    program.write_text("#!/bin/sh\n")
    assert runtime(str(program)) == Absent()
    program.chmod(0o700)
    assert runtime(str(program), "--x") == Present(value=(str(program), "--x"))
    assert runtime(str(tmp_path)) == Absent()
    assert isinstance(runtime("server"), Unknown)


def test_a_backend_that_nobody_named_is_absent() -> None:
    assert looked(HostFile(), "mlx-vlm").runtimes == {"mlx-vlm": Absent()}


def test_the_host_file_may_name_another_mlx_lm() -> None:
    host_file = HostFile(runtimes={"mlx-lm": Runtime(command=("/bin/sh", "x"))})
    assert looked(host_file, "mlx-lm").runtimes["mlx-lm"] == Present(value=("/bin/sh", "x"))


def test_whether_a_package_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert package_is_here("pytest")
    assert not package_is_here("no_such_package")
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert package_is_here("broken_package")


def test_memory_is_known_here() -> None:
    total = memory_total()
    assert isinstance(total, Present)
    assert GIB // 4 < total.value < 64 * 1024 * GIB


def test_a_container_has_the_memory_that_it_was_given(tmp_path: Path) -> None:
    for name, text in (("a", "1073741824\n"), ("b", "max\n"), ("c", "")):
        (tmp_path / name).write_text(text)
    assert container_limits(str(tmp_path / name) for name in "abcd") == [GIB]


@pytest.mark.parametrize(
    ("total", "wired_mb", "limit"),
    [
        (36 * GIB, 0, 24 * GIB),
        (64 * GIB, 0, 48 * GIB),
        (512 * GIB, 0, 384 * GIB),
        (64 * GIB, 57_344, 56 * GIB),
        (16 * GIB, 999_999, 16 * GIB),
    ],
)
def test_what_metal_keeps_resident(total: int, wired_mb: int, limit: int) -> None:
    assert metal_limit(total, wired_mb) == limit


def test_what_metal_itself_recommends_goes_before_the_usual_share_and_not_before_the_wired_limit() -> None:
    assert metal_limit(64 * GIB, 0, 51 * GIB) == 51 * GIB
    assert metal_limit(64 * GIB, 57_344, 51 * GIB) == 56 * GIB
    assert metal_limit(32 * GIB, 0, 51 * GIB) == 32 * GIB


def test_what_metal_recommends_is_known_once_it_was_measured(tmp_path: Path) -> None:
    digests = Digests(tmp_path)
    assert working_set(digests) is None
    digests.remember_measure(WORKING_SET, {"bytes": 51 * GIB})
    assert working_set(Digests(tmp_path)) == 51 * GIB


if sys.platform == "darwin":

    def test_sysctl() -> None:
        from reconciler.adapters.darwin import sysctl_number, sysctl_text

        assert (sysctl_number("hw.memsize") or 0) > GIB
        assert len(sysctl_text("kern.bootsessionuuid") or "") == 36
        assert sysctl_number("no.such.name") is None


def test_the_clock() -> None:
    clock = SystemClock()
    first = clock.now()
    assert first <= clock.now()
    chances = [clock.jitter() for _ in range(200)]
    assert all(0 <= chance < 1 for chance in chances)
    assert len(set(chances)) == 200
    assert min(chances) < 0.3
    assert max(chances) > 0.7
