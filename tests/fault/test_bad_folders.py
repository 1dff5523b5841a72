"""What somebody who begins may point at: each is one line and exit code 2, for every verb."""

import errno
import os
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.data import available, cache
from benchmark.data.base import BENCHMARKS
from benchmark.execution import splits
from benchmark.planning import plugins
from tests.helpers.folders import plain
from tests.helpers.tiny import typed as fields

SAID = "name: mine\nfolder: mine\nimages: photos\nmasks: masks\nclasses: [a, b, c]\n"
SHARES = "splits: [0.6, 0.1, 0.3]\n"
TINY = [*fields(steps=2, crop=36, batch_size=2), "--methods=linear"]
RUN = ["run", "--plugin", "mine.yaml", "--suite=demo", "--benchmarks", "mine", *TINY, "--jobs", "1"]


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Types a command line in a folder of its own; returns exit code, output and error."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(plugins, "_TYPED", dict(plugins._TYPED))
    monkeypatch.chdir(tmp_path)
    before = dict(available())

    def call(*arguments):
        BENCHMARKS.clear()
        BENCHMARKS.update(before)
        plugins._TYPED.clear()
        splits.open_benchmark.cache_clear()
        splits._OPEN.clear()
        monkeypatch.setattr("sys.argv", ["python -m benchmark", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            main()
        return exit.value.code or 0, *capsys.readouterr()

    yield call
    BENCHMARKS.clear()
    BENCHMARKS.update(before)


def one_line(answer, *parts):
    code, out, err = answer
    assert code == 2, (code, out, err)
    assert err.startswith("error: ") and err.count("\n") == 1, err
    for part in parts:
        assert part in err, err


def remove(folder, kind):
    shutil.rmtree(folder / kind)
    (folder / kind).mkdir()


def empty(folder):
    remove(folder, "photos")
    remove(folder, "masks")


def no_masks(folder):
    remove(folder, "masks")


def no_images(folder):
    remove(folder, "photos")


def twins(folder):
    image = Image.open(folder / "photos" / "p03.png")
    image.save(folder / "photos" / "p03.jpg")


def three_images(folder):
    shutil.rmtree(folder)
    plain(folder, 3)


def mixed_stuff(folder):
    shutil.rmtree(folder)
    for name in ("Documents/letter.txt", "Music/song.mp3", ".cache/x", "Downloads/setup.exe"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"x")
    for name in ("Pictures/holiday.jpg", "Desktop/screen.png", "Pictures/2020/cat.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(len(name)).integers(0, 256, (40, 40, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / name)


BAD = {
    empty: ("holds no images", "there are no images in"),
    no_masks: ("no image has a label of its name (20 in photos)", "images without a label (20)"),
    no_images: ("no image has a label of its name (20 in masks)", "labels without an image (20)"),
    twins: ("files of the same name (1): ", "files of the same name (1): "),
    three_images: ("3 images are too few for a val split", "3 images are too few for a val split"),
    mixed_stuff: ("no image has a label of its name", "photos of the images is missing"),
}
"""What `describe` and `quickstart` say, and the verbs that take a YAML file."""


@pytest.mark.no_torch
@pytest.mark.parametrize("damage", BAD, ids=lambda damage: damage.__name__)
def test_describe_and_quickstart(damage, typed, tmp_path):
    damage(plain(tmp_path / "mine"))
    one_line(typed("data", "describe", "mine"), BAD[damage][0])
    one_line(typed("quickstart", "mine"), BAD[damage][0])
    assert not (tmp_path / "mine.yaml").exists() and not (tmp_path / "results").exists()


@pytest.mark.parametrize("damage", BAD, ids=lambda damage: damage.__name__)
def test_audit_preview_and_run(damage, typed, tmp_path):
    damage(plain(tmp_path / "mine"))
    (tmp_path / "mine.yaml").write_text(SAID + SHARES)
    words = ("mine", "--plugin", "mine.yaml")
    audited = typed("data", "audit", *words)
    if damage is twins:  # the others are read, and all that is wrong with them is listed
        assert audited[0] == 1 and "serious files of the same name" in audited[1]
    else:
        one_line(audited, BAD[damage][1])
    one_line(typed("data", "preview", *words), BAD[damage][1])
    one_line(typed(*RUN), BAD[damage][1])
    assert not (tmp_path / "results").exists()


def test_one_class(typed, tmp_path):
    plain(tmp_path / "mine", classes=1)
    one_line(typed("data", "describe", "mine"), "all 20 labels hold one value only")
    one_line(typed("quickstart", "mine"), "all 20 labels hold one value only")
    (tmp_path / "mine.yaml").write_text(SAID.replace("[a, b, c]", "[a]") + SHARES)
    assert typed("data", "audit", "mine", "--plugin", "mine.yaml")[0] == 1
    one_line(typed(*RUN), "the set has one class only, a: ", "--accept-audit")
    one_line(typed("quickstart", "mine", *TINY), "the audit found serious faults, listed above")


def test_a_missing_mask_stops_quickstart_after_all_faults_are_listed(typed, tmp_path):
    plain(tmp_path / "mine")
    for number in (1, 2, 3, 4):
        (tmp_path / "mine" / "masks" / f"p{number:02}.png").unlink()
    (tmp_path / "mine" / "photos" / "p09.png").unlink()
    answer = typed("quickstart", "mine", *TINY)
    one_line(answer, "the audit found serious faults, listed above; correct the files or mine.yaml")
    told = " ".join(answer[1].split())
    assert "images without a label (4)" in told and "labels without an image (1)" in told
    before = (tmp_path / "mine.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(f"# mine\n{before}")
    one_line(typed("quickstart", "mine", *TINY), "the audit found serious faults")
    assert (tmp_path / "mine.yaml").read_text().startswith("# mine\n")


def test_a_yaml_file_of_another_folder_is_not_taken(typed, tmp_path):
    plain(tmp_path / "mine")
    (tmp_path / "mine.yaml").write_text(SAID.replace("folder: mine", "folder: other"))
    one_line(typed("quickstart", "mine"), "mine.yaml describes other, not mine; choose another")
    (tmp_path / "mine.yaml").write_text("name: [")
    one_line(typed("quickstart", "mine"), "not YAML")
    one_line(typed("quickstart", "nowhere"), "the folder nowhere is missing")
    one_line(
        typed("quickstart", "mine.yaml"), "mine.yaml is a file; name the folder", "`data import`"
    )
    remove(tmp_path / "mine", "masks")
    (tmp_path / "mine" / "coco.json").write_text("{}")
    (tmp_path / "mine.yaml").unlink()
    one_line(typed("quickstart", "mine"), "if mine/coco.json holds annotations, convert them by")


@pytest.fixture
def read_only(tmp_path):
    """A folder that may not be written, also by root."""
    if os.geteuid() == 0:
        return "/proc/self"
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    return folder


def test_a_folder_that_may_not_be_written(typed, tmp_path, read_only):
    plain(tmp_path / "mine")
    one_line(typed("quickstart", "mine", "--out", read_only), str(read_only))
    one_line(typed("data", "describe", "mine", "--to", f"{read_only}/mine.yaml"), "--to")
    (tmp_path / "mine.yaml").write_text(SAID + SHARES)
    words = ("data", "preview", "mine", "--plugin", "mine.yaml")
    one_line(typed(*words, "--out", f"{read_only}/mine.png"), f"{read_only}/mine.png")
    one_line(typed(*RUN, "--results", f"{read_only}/results"), f"{read_only}")


def test_no_room_for_the_cache_is_one_line_and_no_end(typed, tmp_path, monkeypatch):
    plain(tmp_path / "mine")
    (tmp_path / "mine.yaml").write_text(SAID + SHARES)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache, "_build", full)
    code, _, err = typed(*RUN)
    assert code == 0, err
    lines = err.splitlines()
    assert len(lines) == 2  # train and test
    for line in lines:
        assert line.startswith("warning: mine: the ") and "No space left on device" in line
        assert "make room there or name another folder by BENCHMARK_CACHE" in line
