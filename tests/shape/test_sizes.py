"""No file and no function outgrows what a reader can hold."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("reconciler", "tests", "benchmarks", "tools", ".ci")
FILE_LINES = 400
FUNCTION_LINES = 60


def sources() -> Iterator[Path]:
    """Every Python file and every script of the repository."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and (path.suffix in {".py", ".sh"} or is_script(path)):
                yield path


def is_script(path: Path) -> bool:
    """Whether a file without a suffix names its interpreter."""
    return not path.suffix and path.read_bytes()[:2] == b"#!"


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a module, methods and inner ones included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """A function's lines, from `def` to its last statement."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_files_are_under_400_lines() -> None:
    counts = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    too_long = [f"{path.relative_to(ROOT)}: {count}" for path, count in counts.items() if count >= FILE_LINES]
    assert not too_long, "\n".join(too_long)


def test_functions_are_under_60_lines() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}: {length(function)}"
        for path in sources()
        if path.suffix == ".py"
        for function in functions(ast.parse(path.read_text(encoding="utf-8")))
        if length(function) >= FUNCTION_LINES
    ]
    assert not too_long, "\n".join(too_long)


def test_there_is_something_to_measure() -> None:
    assert any(path.parent.name == "shape" for path in sources())
