import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.planning.catalogue import DECODERS
from benchmark.results import provenance

pytestmark = pytest.mark.no_torch

ROOT = Path(__file__).resolve().parents[3]


def asked_in(folder):
    code = "from benchmark.results.provenance import git_state; print(git_state())"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_copy_inside_another_checkout_does_not_claim_its_commit(tmp_path):
    shutil.copytree(ROOT / "benchmark", tmp_path / "benchmark")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    assert asked_in(tmp_path) == "(None, None)"
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "ours"], check=True)
    assert asked_in(tmp_path).endswith(", False)")
    errors = tmp_path / "benchmark" / "core" / "errors.py"
    errors.write_text(errors.read_text() + "\n")
    assert asked_in(tmp_path).endswith(", True)")


@pytest.mark.parametrize(
    ("module", "counts"),
    [
        ("benchmark.engine.train", True),
        ("benchmark.data.batches", True),
        ("benchmark.models.backbone", True),
        ("benchmark.models.decoders.smp", True),
        ("benchmark.models.decoders.setr", False),  # another decoder
        ("benchmark.engine.evaluate", False),
        ("benchmark.results.store", False),
    ],
)
def test_only_the_source_of_training_counts_for_a_checkpoint(tmp_path, monkeypatch, module, counts):
    decoder = DECODERS.get("fpn")
    before = provenance.training_sha256.__wrapped__(decoder)
    find, changed = provenance._file_of, tmp_path / "changed.py"
    changed.write_text(find(module).read_text() + "CHANGED = 1\n")
    monkeypatch.setattr(
        provenance, "_file_of", lambda name: changed if name == module else find(name)
    )
    assert (provenance.training_sha256.__wrapped__(decoder) != before) is counts


def test_source_is_what_it_does():
    code = 'import os\n\ndef f(x):\n    """Adds."""\n    return x + 1  # one\n'
    same = "from os import path\ndef f(x):\n    import sys\n    return (x+1)\n"
    meant = provenance.meaning(code.encode())
    assert provenance.meaning(same.encode()) == meant
    for other in (
        code.replace("+ 1", "+ 2"),
        code.replace("f(x)", "f(x=1)"),
        code + "Y = 'text'\n",
    ):
        assert provenance.meaning(other.encode()) != meant


@pytest.mark.parametrize(
    ("then", "now", "wanted"),
    [("tree:a", "tree:b", True), ("a", "tree:b", False), (None, "tree:b", False), ("a", "b", True)],
)
def test_only_hashes_of_one_scheme_are_compared(then, now, wanted):
    assert provenance.comparable(then, now) is wanted
