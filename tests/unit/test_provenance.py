import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def asked_in(folder):
    code = "from benchmark.provenance import git_state; print(git_state())"
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
