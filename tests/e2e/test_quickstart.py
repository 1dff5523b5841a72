"""`quickstart`, as somebody types it who has a folder of photographs and masks."""

import re
import shlex

import pytest

from tests.helpers.folders import plain
from tests.helpers.forked import call
from tests.helpers.tiny import typed

TINY = [*typed(steps=2, crop=36, batch_size=2), "--suite=demo", "--methods=linear"]


def commands(out):
    """The commands that it printed, as words, with one job: there is a test on every core."""
    lines = [line.removeprefix("$ ") for line in out.splitlines() if line.startswith("$ ")]
    assert all(line.startswith("python -m benchmark ") for line in lines)
    return [shlex.split(line)[3:] for line in lines]


@pytest.mark.slow
def test_from_a_folder_to_the_answer(tmp_path):
    plain(tmp_path / "my set")
    done = call("quickstart", "my set", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = commands(done.stdout)
    verbs = ["data describe", "data audit", "data preview", "plan --plugin", "run --plugin"]
    verbs += ["report --plugin", "quickstart my set", "recommend --suite"]
    (run,) = (path.parent.name for path in tmp_path.glob("results/demo/*/*/*/*/record.json"))
    verbs += [f"predict {run}", f"export {run}"]
    assert [" ".join(words[:2]) for words in printed] == verbs
    for words in printed[-3:-1]:  # as they are printed
        used = call(*words, cwd=tmp_path)
        assert used.returncode == 0, used.stdout + used.stderr
    # The folder holds training images, too: one test image shows how it is done.
    assert len(list((tmp_path / f"labelled-{run}/masks").iterdir())) == 1
    assert "1 run to train: at least" in done.stdout
    report, _, answer = done.stdout.partition("\nnext\n")
    assert re.search(r"Answer: demo_vit, .*\n  The only finished method: linear, mIoU", report)
    assert "so there is nothing to compare it with" in report
    assert "train more seeds" in answer
    page = tmp_path / answer.strip().splitlines()[-1].removeprefix("page: ")
    assert page == tmp_path / "reports/demo/index.html" and page.exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        "my set", "my_set.yaml", "my_set.png", "results", "reports", f"labelled-{run}",
    }  # fmt: skip

    said = (tmp_path / "my_set.yaml").read_text()
    (tmp_path / "my_set.yaml").write_text(f"# edited\n{said}")
    again = call("quickstart", "my set", *TINY, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 run selected: 1 already done, 0 to train" in again.stdout
    assert (tmp_path / "my_set.yaml").read_text() == f"# edited\n{said}"


@pytest.mark.slow
def test_what_it_prints_can_be_typed_by_hand(tmp_path):
    plain(tmp_path / "mine")
    tiny = [*typed(steps=2, batch_size=2), "--suite=demo", "--methods=linear"]
    words = ("quickstart", "mine", *tiny, "--out", "trial", "--plan-only", "--seeds", "0,1")
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "trial").iterdir()} == {"mine.yaml", "mine.png"}
    # The images have 48 px, and crops of the suite 96.
    assert all("crop=48" in words for words in commands(done.stdout) if words[0] in ("plan", "run"))
    assert done.stdout.count("(--set crop=96 keeps the suite's)") == 1
    assert "not run yet:" in done.stdout and "2 runs to train: at least" in done.stdout
    (tmp_path / "trial" / "mine.yaml").unlink()
    for command in commands(done.stdout):
        typed_by_hand = call(*command, cwd=tmp_path)
        assert typed_by_hand.returncode == 0, typed_by_hand.stdout + typed_by_hand.stderr
    assert (tmp_path / "trial/reports/demo/index.html").exists()
    again = call(*words[:-3], *words[-2:], cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 runs selected: 2 already done, 0 to train" in again.stdout
    assert "every other method" not in again.stdout  # there is none


@pytest.mark.parametrize("accept", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_the_audit_finds_can_be_accepted(tmp_path, accept):
    plain(tmp_path / "mine")
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nfolder: mine\nimages: photos\nmasks: masks\nclasses: [a, b, c, d]\n"
        "splits: [0.6, 0.1, 0.3]\n"
    )
    words = ["quickstart", "mine", *TINY, *(["--accept-audit"] if accept else [])]
    done = call(*words, cwd=tmp_path)
    assert "classes absent from the train split (1): d" in done.stdout
    assert done.returncode == (0 if accept else 2), done.stdout + done.stderr
    assert (tmp_path / "results").exists() == accept
    if not accept:
        line = "error: the audit found serious faults, listed above; correct the files or mine.yaml"
        assert done.stderr.startswith(line) and done.stderr.count("\n") == 1


def nothing_cached():
    """No weights in timm's cache, whatever this machine has."""
    from benchmark.models import find_weights

    find_weights.cached_weights = lambda name: None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere",), "the folder nowhere is missing"),
        # Before the long look at the folder.
        (("mine", "--methods=lorra"), "unknown method 'lorra'; did you mean 'lora'?"),
        (("mine",), "no pretrained backbone found: add --weights DIR, a folder that holds one of"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(tmp_path, words, told):
    plain(tmp_path / "mine")
    done = call("quickstart", *words, cwd=tmp_path, prepare=nothing_cached)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {told}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_what_stores_too_much_is_made_smaller_or_left_out_before_it_trains(tmp_path):
    plain(tmp_path / "mine")
    words = ("quickstart", "mine", *TINY, "--plan-only", "--methods", "lora,linear")
    done = call(*words, "--max-stored", "300kB", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    says = (
        r"lora stores [\d.]+ kB, over --max-stored 300kB: lora\[rank=(\d)\] \(([\d.]+) kB\) takes"
    )
    ((rank, size),) = re.findall(says, done.stdout)
    assert float(size) <= 300
    (line,) = (
        line for line in done.stdout.splitlines() if line.startswith("$ python -m benchmark run")
    )
    assert f"--methods 'lora[rank={rank}],linear'" in line
    (also,) = re.findall(r"not chosen, but within it: (.+)", done.stdout)
    found = dict(re.findall(r"([\w\[\]=]+) \(([\d.]+) kB\)", also))
    assert "norm" in found and "full" not in found and all(float(x) <= 300 for x in found.values())
    assert any("[" in label for label in found)
    (methods,) = re.findall(r"to compare these too: --methods (.+)", done.stdout)
    assert shlex.split(methods) == [",".join([f"lora[rank={rank}]", "linear", *found])]
    # The sizes are those of runs, and one rank more is too much.
    done = call(*words[:-1], f"lora[rank={rank}|{int(rank) + 1}]", cwd=tmp_path)
    stored = re.findall(r"(?m)^ *lora\[rank=\d\] .* ([\d.]+) kB *$", done.stdout)
    assert stored[0] == size and float(stored[1]) > 300
    # What cannot be probed is no answer to the question of size: `run` says why it fails.
    unlike = (*words[:-1], "lora,linear,lora[targets=conv]")
    done = call(*unlike, "--max-stored", "300kB", cwd=tmp_path)
    assert "run --plugin" in done.stdout and "lora[targets=conv]" in done.stdout.splitlines()[-2]
    for limit, says in (
        ("1kB", "no method fits --max-stored 1kB: the smallest, linear, stores"),
        ("2x", "--max-stored 2x: nothing has run yet"),
        ("much", "write a number above 0"),
    ):
        done = call(*words, "--max-stored", limit, cwd=tmp_path)
        assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
