"""The wheel holds all that an installed package needs, and works outside the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser

import pytest

import benchmark
from tests.helpers.forked import ROOT

pytest.importorskip("setuptools", minversion="77")

pytestmark = [pytest.mark.slow, pytest.mark.no_torch]

PACKAGES = ("benchmark", "methods")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy without what lies about here, and the copy."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for package in PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    listed = {
        path.relative_to(source).as_posix()
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "-q"]
    subprocess.run([*command, "--no-build-isolation", "-w", str(out)], check=True)
    (path,) = out.glob("*.whl")
    return path, listed


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs the script of the unpacked wheel, in an empty folder and without the checkout."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel[0]) as archive:
        archive.extractall(site)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BENCHMARK_", "PYTHON"))}

    def run(*words, **environment):
        code = "import sys; sys.argv[0] = 'petseg-bench'; from benchmark.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path_factory.mktemp("empty"),
            env=kept | {"PYTHONPATH": str(site)} | environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return run


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    path, source = wheel
    with zipfile.ZipFile(path) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        entries = ConfigParser()
        entries.read_string(archive.read(entry).decode())
    assert held <= source
    assert {name for name in source - held if not name.endswith(".md")} == set()
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert dict(entries["console_scripts"]) == {"petseg-bench": "benchmark.cli:main"}


def test_the_script_works_without_the_checkout(installed):
    assert installed("--version") == f"petseg-bench {benchmark.__version__}\n"
    found = json.loads(installed("list", "--json"))
    assert {one["name"] for one in found["suites"]} >= {"demo", "own"}
    assert [one["name"] for one in found["backbones"] if one["packaged"]] == ["demo_vit"]
    words = {"COMP_WORDS": "petseg-bench exp", "COMP_CWORD": "1"}
    assert installed(_PETSEG_BENCH_COMPLETE="complete_bash", **words) == "export\n"
