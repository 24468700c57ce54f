"""The wheel, installed as a user installs it, without the checkout."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.cli.home import Home, run

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


def pip(python: Path, *args: str) -> None:
    subprocess.run([str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *args], check=True, timeout=800)


def test_the_wheel_works_alone(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT))
    (wheel,) = wheels.glob("reconciler-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip(python, "install", str(wheel))
    home = Home(tmp_path / "home")
    home.root.mkdir()
    (home.root / "host.yaml").write_text("version: 1\naccept_cpu: true\n")
    (home.root / "host.yaml").chmod(0o600)
    home.write("version: 1\nmodels: {}\n")
    script = str(python.with_name("reconciler"))
    for argv in ([script], [str(python), "-m", "reconciler"]):
        result = run([*argv, "plan", "--detailed-exitcode"], home.root, home.environment())
        assert (result.code, result.err) == (0, "")
        assert "Nothing to do." in result.out
    written = run([script, "schema", "--write", "schemas"], home.root, home.environment())
    assert written.code == 0
    for path in (ROOT / "schemas").glob("*.json"):
        assert (home.root / "schemas" / path.name).read_text() == path.read_text()
    for path in (ROOT / "reconciler" / "surface" / "page").iterdir():
        if path.suffix in (".css", ".js", ".svg"):
            (installed,) = (tmp_path / "venv").rglob(f"surface/page/{path.name}")
            assert installed.read_bytes() == path.read_bytes()
    located = run([str(python), "-c", "import reconciler; print(reconciler.__file__)"], home.root, home.environment())
    assert str(tmp_path) in located.out
