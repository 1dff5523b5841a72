"""The rules that keep the data flowing one way."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import methods

ROOT = Path(__file__).resolve().parents[2]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


FLOORS = (
    *("core", "data", "models", "results", "planning", "analysis", "engine", "inference"),
    *("export", "serving", "reporting", "contract", "execution", "profiling", "cli"),
)
"""The rooms of `benchmark/`, from the ground up: each imports from itself and from those below."""


def arrows(package):
    """(file, room that it imports from) of every import of a room in a package."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module == "benchmark":
                names = [f"benchmark.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                package_name, _, rest = name.partition(".")
                if package_name == "benchmark" and rest:
                    yield path, rest.partition(".")[0]


def test_imports_go_down():
    rooms = {folder.name for folder in (ROOT / "benchmark").iterdir() if folder.is_dir()}
    holding_code = {room for room in rooms if (ROOT / "benchmark" / room / "__init__.py").exists()}
    assert holding_code == set(FLOORS)
    up = [
        f"{path.relative_to(ROOT)} imports benchmark.{below}"
        for floor, room in enumerate(FLOORS)
        for path, below in arrows(ROOT / "benchmark" / room)
        if below not in FLOORS[: floor + 1]
    ]
    assert not up


def test_methods_import_nothing_from_the_harness():
    for path in (ROOT / "methods").glob("*.py"):
        assert not [name for name in imports(path) if name.split(".")[0] == "benchmark"], path


WORDS = {"full", "linear", "partial", "norm", "side"}
"""Names that are everyday words or mean a layer or a decoder, too."""


def test_the_harness_names_no_method():
    """Not even in a help text: the examples of the command line are data."""
    names = {name for name in methods.METHODS if ":" not in name} - WORDS
    pattern = re.compile(rf"\b({'|'.join(names)})\b", re.IGNORECASE)
    for path in (ROOT / "benchmark").rglob("*.py"):
        found = pattern.search(path.read_text())
        assert not found, (path, found)


def test_the_harness_uses_no_everyday_name_as_a_value():
    for path in (ROOT / "benchmark").rglob("*.py"):
        texts = [
            n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)
        ]
        assert not {"full", "partial", "side"} & {t for t in texts if isinstance(t, str)}, path


def test_what_reads_results_needs_no_torch():
    modules = "benchmark.results.load, benchmark.results.store, benchmark.analysis.leaderboard"
    code = f"import sys, {modules}, benchmark.reporting.report; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
