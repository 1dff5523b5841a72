"""What the documents say is true: files, modules and links exist, tables are those of the code."""

import importlib
import importlib.util
import re

import pytest
import yaml

from tests.helpers import documents
from tests.helpers.documents import DOCUMENTS, ROOT, links, read
from tests.unit.test_architecture import FLOORS, arrows

pytestmark = pytest.mark.no_torch

TOP = ("benchmark/", "methods/", "results/", "reports/", "tests/")
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w.-]+\.(?:py|toml|cff))`")
USERS = {"my_method.py", "reports/demo/index.html", "timing/", "tables/", "figures/"}
USERS |= {
    "images/",
    "labels/",
    "tuning/",
    ".grid/slurm/",
    "masks/NAME.png",
    "masks/NAME/000000.png",
}
USERS |= {"overlays/NAME.jpg", "overlays/NAME.mp4"}
USERS |= {"backbone/embed.onnx", "tasks/RUN_ID/"}
"""What users make, or a command."""
MODULE = re.compile(r"\b(?:benchmark|methods|tests)(?:\.[a-zA-Z_]\w*)+\b")
FILES = {"py", "md", "yaml"}
NOT_IN_GIT = {".svg", ".pdf", ".tex"}


def test_the_readme_is_short_and_holds_the_two_commands():
    text = read("README.md")
    assert len(text.split()) <= 900
    assert text.count("![") == 1
    assert (
        "\npython -m pip install -e . && python -m benchmark run --methods spm,vpt,lora\n" in text
    )
    assert "\npython -m pip install -e '.[test]' && python -m pytest\n" in text


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_resolve(document):
    folder = (ROOT / document).parent
    assert not [target for target in links(document) if not (folder / target).exists()]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_headings_resolve(document):
    folder = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)\s]*#[^)\s]+)\)", documents.prose(document)):
        path, _, heading = target.partition("#")
        text = (folder / path).read_text("utf-8") if path else read(document)
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        known = {re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in headings}
        assert heading in known, target


@pytest.mark.parametrize("name", ["demo", "small"])
def test_links_of_published_reports_lead_to_what_git_holds(name):
    document = f"reports/published/{name}/README.md"
    found = {(ROOT / document).parent / target for target in links(document)}
    assert not [path for path in found if not path.exists() or path.suffix in NOT_IN_GIT]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_exist(document):
    folder = (ROOT / document).parent
    places = (ROOT, folder, ROOT / "benchmark")
    named = set(PATH.findall(read(document))) - USERS
    assert not [p for p in named if not any((place / p).exists() for place in places)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_modules_exist(document):
    text = read(document)
    if document == "CHANGELOG.md":  # the first column holds names of before
        text = re.sub(r"^\| [^|]* \|", "", text, flags=re.MULTILINE)
    missing = []
    for name in sorted(set(MODULE.findall(text))):
        if name.rpartition(".")[2] not in FILES and not is_there(name):
            missing.append(name)
    assert not missing


def is_there(name):
    """A module, or something in one."""
    module, _, inside = name.rpartition(".")
    try:
        if importlib.util.find_spec(name) is not None:
            return True
    except ModuleNotFoundError:
        pass
    try:
        return hasattr(importlib.import_module(module), inside)
    except ModuleNotFoundError:
        return False


def test_former_names_in_the_changelog_are_told_to_who_imports_them():
    moved = yaml.safe_load((ROOT / "benchmark/planning/moved.yaml").read_text())
    for former in re.findall(r"^\| (`benchmark[^|]*) \|", read("CHANGELOG.md"), re.MULTILINE):
        names = MODULE.findall(former)
        assert names and not set(names) - set(moved), former


def test_the_table_of_methods_is_that_of_the_classes():
    again = "run `python -m tests.helpers.documents`"
    assert documents.written_table() == documents.methods_table(), again


def test_the_costs_of_published_runs_are_those_of_the_records():
    again = "run `python -m tests.helpers.documents`"
    assert read("benchmark/planning/published_costs.yaml") == documents.published_costs(), again


def test_the_picture_shows_the_rooms_and_true_arrows():
    (picture,) = documents.fences("benchmark/README.md", "mermaid")
    rooms = re.findall(r'^ +(\w+)\["', picture, re.MULTILINE)
    assert set(rooms) == set(FLOORS) and len(rooms) == len(FLOORS)
    for room in rooms:
        assert f'{room}["{room}: ' in picture
    drawn = re.findall(r"^ +(\w+) --> (\w+)$", picture, re.MULTILINE)
    below = {r: {to for _, to in arrows(ROOT / "benchmark" / r)} - {r} for r in FLOORS}
    assert not [(a, b) for a, b in drawn if b not in below[a]]
    reached = {}
    for room in FLOORS:
        direct = {b for a, b in drawn if a == room}
        reached[room] = direct.union(*(reached[b] for b in direct))
        assert below[room] <= reached[room], f"{room} imports more than the arrows lead to"


def test_quoted_speeds_are_those_that_were_measured():
    section = read("benchmark/README.md").partition("\n## Speed\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(rows) > 5
    assert not set(rows) - set(read("reports/speed/README.md").splitlines())
