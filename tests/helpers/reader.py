"""A folder as a user has it after reading the documents, and commands typed in it as they are."""

import shlex
import shutil

import numpy as np
from PIL import Image

from tests.helpers import annotators, forked, videos
from tests.helpers.documents import ROOT, fences

PACKAGE = "python -m pip install -e . && "
BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
"""A backbone of the suite for sets of one's own; the file holds a smaller one."""
COPIES = ("host_a", "host_b", "before", "after")
"""Folders of examples that hold copies of the results."""


def furnish(folder):
    """Puts a user's images, annotations, method, weights and the published records in a folder."""
    (folder / "bolts.yaml").write_text(fences("README.md", "yaml")[0])
    (folder / "my_method.py").write_text(fences("README.md", "python")[0])
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for number in range(count):
            label = np.kron(random.integers(0, 3, (4, 4)), np.ones((16, 16))).astype(np.uint8)
            noise = random.integers(0, 60, (64, 64, 3))
            image = (label[..., None] * 90 + noise).astype(np.uint8)
            for kind, pixels in (("images", image), ("labels", label)):
                path = folder / "bolts" / kind / split / f"{split}{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    (folder / "photos").mkdir()
    for path in (folder / "bolts/images/test").iterdir():
        Image.open(path).save(folder / "photos" / f"{path.stem}.jpg")
    videos.clip(folder / "drive.mp4")
    annotators.coco(folder, annotators.shapes(), "packed")
    for suite in ("demo", "small"):
        shutil.copytree(ROOT / "results/published" / suite, folder / "results/published" / suite)
    (folder / "data").mkdir()
    (folder / "weights").mkdir()
    packaged = ROOT / "benchmark/weights/demo_vit.safetensors"
    shutil.copyfile(packaged, folder / "weights" / f"{BACKBONE}.safetensors")
    return folder


def words_of(command, home):
    """A command as words, with what is in the folder in place of ids and names of examples."""
    runs = [path.parent.name for path in sorted((home / "results/demo").rglob("record.json"))]
    here = {"DIR": home / "data", "my_set": "bolts", "my_set.yaml": "bolts.yaml"}
    here |= dict(zip(("3f2a", "91c0"), runs, strict=False))
    if "my_method.py" in command:
        here["my_method"] = "stagescale"
    words = shlex.split(command.removeprefix(PACKAGE))
    assert words[:3] == ["python", "-m", "benchmark"]
    for word in {"A", "B", *(f"{name}/results" for name in COPIES)} & set(words):
        shutil.copytree(home / "results/demo", home / word / "demo", dirs_exist_ok=True)
    return [here.get(word, word) for word in words[3:]]


def failures(table, home, may_find):
    """Commands that end otherwise than they should, with what they printed.

    Args:
        table: words to add, by command.
        home: of `furnish`.
        may_find: commands that may end with 1, which says what they found.
    """
    wrong = []
    for command, more in table.items():
        done = forked.call(*words_of(command, home), *more, cwd=home)
        expected = (0, 1) if command in may_find else (0,)
        if done.returncode not in expected or "Traceback" in done.stderr:
            wrong.append(f"{command} {more}: {done.returncode}\n{done.stdout}{done.stderr}")
    return wrong
