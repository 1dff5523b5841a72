"""`predict`, on a run that is made as a user makes it."""

import csv

import numpy as np
import pytest
from PIL import Image

from tests.fault.torture import PLUGIN
from tests.helpers.documents import ROOT
from tests.helpers.forked import call
from tests.helpers.tiny import typed


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a finished run and some photographs."""
    home = tmp_path_factory.mktemp("home")
    (home / "tiny.py").write_text(PLUGIN)
    sizes = typed(steps=2, crop=36, batch_size=2)
    done = call(
        *("run", "--plugin", "tiny.py", "--suite=demo", "--benchmarks=tiny"),
        *("--methods=lora", *sizes),
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    random = np.random.default_rng(0)
    for name, size in (("a/0.png", (97, 31)), ("a/1.jpg", (1, 1)), ("b/0.png", (40, 40))):
        path = home / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)
    return home


def run_id(home):
    return next(home.glob("results/demo/tiny/*/*/*/record.json")).parent.name


def test_a_folder_of_images(home):
    words = ("predict", run_id(home)[:6], "photos", "--out", "masks")
    done = call(*words, cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    first = done.stdout.splitlines()[0]
    assert first == "3 masks in masks/masks; their classes in masks/classes.csv"
    with Image.open(home / "masks/masks/a/0.png") as mask:
        assert mask.size == (31, 97) and np.asarray(mask).max() < 3
    with (home / "masks/classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [
        f"../photos/{n}" for n in ("a/0.png", "a/1.jpg", "b/0.png")
    ]
    assert all(
        sum(float(row[name]) for name in "abc") == pytest.approx(1, abs=3e-6) for row in rows
    )
    again = call(*words, "--overlay", cwd=home)
    assert again.stdout.startswith("3 masks in masks/masks (3 were there); their")
    assert (home / "masks/overlays/b/0.jpg").exists()


def test_files_that_are_no_images_are_named_and_the_exit_code_says_so(home):
    (home / "mixed").mkdir()
    (home / "mixed/bad.jpg").write_bytes(b"no image")
    Image.new("L", (5, 4)).save(home / "mixed/good.png")
    done = call("predict", run_id(home), "mixed", "--out", "out", cwd=home)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "mixed/bad.jpg is truncated or damaged" in done.stderr
    assert done.stdout.startswith("1 mask in out/masks, 1 file could not be read")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nosuch", "photos", "--out", "x"), "no run 'nosuch' has finished in results"),
        (("RUN", "nowhere", "--out", "x"), "nowhere: no such file or folder; check the path"),
        (("RUN", "photos", "--out", "tiny.py"), "--out tiny.py cannot be written"),
        (("photos", "photos", "--out", "x"), "photos holds no record.json; name the folder"),
        (("RUN", "photos", "--out", "x", "--weights", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_done_is_one_line(home, words, told):
    words = [run_id(home) if word == "RUN" else word for word in words]
    done = call("predict", *words, cwd=home)
    assert done.returncode == 2 and told in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (home / "x").exists()


def test_a_published_record_says_how_to_train_it(home):
    folder = next((ROOT / "results/published/demo").glob("cells/*/lora/*/record.json")).parent
    done = call("predict", folder, "photos", "--out", "x", cwd=home)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "published records come without" in done.stderr
    assert "train it: python -m benchmark run --suite demo --benchmarks cells" in done.stderr
