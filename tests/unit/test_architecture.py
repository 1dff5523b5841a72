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
    modules = "benchmark.results.load, benchmark.analysis.leaderboard, benchmark.analysis.pareto, benchmark.results.store"
    code = f"import sys, {modules}, benchmark.reporting.report; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
