import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.planning.catalogue import DECODERS
from benchmark.results import provenance

pytestmark = pytest.mark.no_torch

ROOT = Path(__file__).resolve().parents[2]


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
    errors = tmp_path / "benchmark" / "errors.py"
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
    changed.write_text(find(module).read_text() + "# changed\n")
    monkeypatch.setattr(
        provenance, "_file_of", lambda name: changed if name == module else find(name)
    )
    assert (provenance.training_sha256.__wrapped__(decoder) != before) is counts
