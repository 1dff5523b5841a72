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


def test_the_harness_names_no_method():
    names = set(methods.METHODS) - {"full", "linear"}  # also English words and a decoder
    pattern = re.compile(rf"\b({'|'.join(names)})\b")
    for path in (ROOT / "benchmark").rglob("*.py"):
        tree = ast.parse(path.read_text())
        texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
        names_used = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name)]
        for text in (*texts, *names_used):
            is_prose = isinstance(text, str) and (" " in text or "\n" in text)
            assert not isinstance(text, str) or is_prose or not pattern.search(text), (path, text)


def test_what_reads_results_needs_no_torch():
    modules = "benchmark.results, benchmark.statistics, benchmark.pareto, benchmark.store"
    code = f"import sys, {modules}, benchmark.reporting.report; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_no_file_is_long():
    for folder in ("benchmark", "methods"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path
