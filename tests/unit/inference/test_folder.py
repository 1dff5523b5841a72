"""A folder of masks: filled in several goes, never with masks of two runs or of other images."""

import csv
import os
import shutil
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import UserError
from benchmark.core.record import Task
from benchmark.data.given import image_of
from benchmark.data.palette import colour_table
from benchmark.inference.folder import Folder
from benchmark.inference.inputs import find_inputs
from benchmark.inference.pictures import overlay
from tests.helpers.videos import clip

pytestmark = pytest.mark.no_torch


class Network:
    """Calls a pixel 1 where its red is above 127, and 2 where it is above 200."""

    task = Task(classes=("dark", "bright", "white"))
    classes = task.classes
    palette = colour_table((), 3, "test")

    def __init__(self, run="run1"):
        self.record = SimpleNamespace(run_id=run, benchmark="tiny")
        self.delta_sha256 = 64 * run[-1]
        self.predicted = 0

    def read(self, given):
        return image_of(given, self.task)

    def predict_array(self, image):
        self.predicted += 1
        return ((image[..., 0] > 127).astype(np.uint8) + (image[..., 0] > 200)).astype(np.uint8)


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 6, 3)).astype(np.uint8)).save(path)
    return tmp_path / "photos"


def fill(out, *given, network=None, overlays=False, force=False, own_values=False):
    network, problems, told = network or Network(), [], []
    folder = Folder(out, network, overlays, force, own_values)
    inputs = find_inputs(given, [out / "masks", out / "overlays"])
    outcome = folder.fill(inputs, told.append, problems.append)
    assert outcome.unread == len(problems)
    return network.predicted, outcome, problems


def table(out):
    with (out / "classes.csv").open() as file:
        return list(csv.DictReader(file))


def content(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file()
    }


def test_the_value_of_a_pixel_is_its_class(photos, tmp_path):
    out = tmp_path / "out"
    assert fill(out, photos)[0] == 3
    for path in photos.rglob("*.png"):
        with Image.open(out / "masks" / path.relative_to(photos)) as mask:
            assert mask.mode == "P"
            assert mask.getpalette()[:768] == Network.palette.ravel().tolist()
            expected = Network().predict_array(np.asarray(Image.open(path)))
            assert np.array_equal(np.asarray(mask), expected)
    rows = table(out)
    assert [row["mask"] for row in rows] == ["masks/a/0.png", "masks/a/1.png", "masks/b/0.png"]
    assert rows[0]["image"] == "../photos/a/0.png"
    for row in rows:
        mask = np.asarray(Image.open(out / row["mask"]))
        for value, name in enumerate(Network.classes):
            assert float(row[name]) == pytest.approx((mask == value).mean(), abs=1e-6)


class Described(Network):
    """Knows what labels of its set store."""

    def __init__(self, *values):
        super().__init__()
        self.task = Task(classes=("dark", "bright", "white"), values=values)


@pytest.mark.parametrize("values", [(255, 0, 128), ("#FF0000", "#00FF00", "#0000FE")])
def test_masks_may_store_what_labels_of_the_set_store(photos, tmp_path, values):
    out, network = tmp_path / "out", Described(*values)
    fill(out, photos, network=network, own_values=True)
    written = content(out)
    with Image.open(out / "masks/a/0.png") as mask:
        assert mask.mode == ("L" if values[0] == 255 else "RGB")
        pixels = np.asarray(mask)
    classes = Network().predict_array(np.asarray(Image.open(photos / "a/0.png")))
    for index, value in enumerate(values):
        stored = value if isinstance(value, int) else list(bytes.fromhex(value[1:]))
        assert np.all(pixels[classes == index] == stored) and (classes == index).any()
    predicted, _, _ = fill(out, photos, network=network, overlays=True, own_values=True)
    assert predicted == 3 and content(out).items() >= written.items()  # counted before, too
    fill(tmp_path / "plain", photos, network=Described(*values), overlays=True)
    shown = content(tmp_path / "plain")["overlays/a/0.jpg"]
    assert content(out)["overlays/a/0.jpg"] == shown
    assert content(out)["classes.csv"] == content(tmp_path / "plain")["classes.csv"]


def test_masks_of_other_values_do_not_mix(photos, tmp_path):
    out, network = tmp_path / "out", Described(0, 128, 255)
    for first, second in ((False, True), (True, False)):
        fill(out, photos, network=network, own_values=first, force=True)
        with pytest.raises(UserError, match="of run run1 with other values; choose another --out"):
            fill(out, photos, network=network, own_values=second)
    with pytest.raises(UserError, match="--own-values: what labels of tiny store is not known"):
        fill(tmp_path / "other", photos, own_values=True)


def test_masks_of_one_class_alone_are_told(photos, tmp_path):
    for name in ("a/0.png", "a/1.png"):
        Image.new("RGB", (6, 8)).save(photos / name)
    place = Folder(tmp_path / "out", Network())
    place.fill(find_inputs([photos], []), lambda _: None, print)
    assert place.hint().startswith("2 of 3 masks show dark alone: if the images hold more, the net")
    shutil.copyfile(photos / "b/0.png", photos / "a/0.png")
    place.fill(find_inputs([photos], []), lambda _: None, print)
    assert not place.hint()


def test_a_class_in_black_leaves_the_image_as_it_is(photos):
    image = np.full((2, 3, 3), 90, np.uint8)
    shown = overlay(image, np.array([[0, 0, 1]] * 2, np.uint8), colour_table((), 3, "test"))
    assert (shown[:, :2] == 90).all() and (shown[:, 2] == [109, 45, 45]).all()


def test_overlays_show_the_classes_over_the_image(photos, tmp_path):
    out = tmp_path / "out"
    fill(out, photos / "a/0.png", overlays=True)
    with Image.open(out / "overlays/0.jpg") as shown:
        assert shown.size == (6, 8)
    assert fill(out, photos / "a/0.png", overlays=True)[0] == 0


def test_what_is_there_is_skipped_and_an_overlay_is_made_of_it(photos, tmp_path):
    out = tmp_path / "out"
    fill(out, photos)
    before = content(out)
    predicted, outcome, _ = fill(out, photos)
    assert (predicted, outcome.written, outcome.skipped) == (0, 0, 3)
    assert content(out) == before
    predicted, _, _ = fill(out, photos, overlays=True)
    assert predicted == 0
    assert len(list((out / "overlays").rglob("*.jpg"))) == 3


def test_a_changed_image_or_run_is_made_again(photos, tmp_path):
    out = tmp_path / "out"
    fill(out, photos, overlays=True)
    status = (photos / "a/0.png").stat()
    os.utime(photos / "a/0.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fill(out, photos)[0] == 1
    assert not (out / "overlays/a/0.jpg").exists()  # it showed the former mask
    assert (out / "overlays/b/0.jpg").exists()
    assert fill(out, photos, network=Network("run2"), force=True)[0] == 3
    assert not (out / "overlays/b/0.jpg").exists()
    assert fill(out, photos, network=Network("run2"))[0] == 0


def test_an_image_beside_a_folder_of_its_name(photos, tmp_path):
    out = tmp_path / "out"
    Image.new("RGB", (4, 4)).save(photos / "a.png")
    assert fill(out, photos)[0] == 4
    Image.new("RGB", (5, 4)).save(photos / "a/0.png")
    assert fill(out, photos)[0] == 1
    Image.new("RGB", (5, 4)).save(photos / "a.png")
    assert fill(out, photos)[0] == 1


def test_masks_of_a_former_run_are_gone_before_the_first_new_one(photos, tmp_path):
    out = tmp_path / "out"
    fill(out, photos)

    class Stopped(Network):
        def predict_array(self, image):
            there = [path.name for path in (out / "masks").rglob("*.png")]
            assert not there and not (out / "classes.csv").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(out, photos, network=Stopped("run2"), force=True)
    assert fill(out, photos, network=Network("run2"))[0] == 3


def test_it_goes_on_where_it_was_stopped(photos, tmp_path):
    class Stopped(Network):
        def predict_array(self, image):
            if self.predicted == 2:
                raise KeyboardInterrupt
            return super().predict_array(image)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fill(whole, photos)
    with pytest.raises(KeyboardInterrupt):
        fill(parts, photos, network=Stopped())
    assert len(table(parts)) == 2
    assert fill(parts, photos)[0] == 1
    assert content(parts) == content(whole)


def test_files_that_cannot_be_read_are_named_and_the_others_are_done(photos, tmp_path):
    (photos / "a/bad.jpg").write_bytes(b"no image")
    (photos / "a/cut.png").write_bytes((photos / "a/0.png").read_bytes()[:40])
    os.symlink(tmp_path / "nowhere.png", photos / "a/gone.png")
    predicted, outcome, problems = fill(tmp_path / "out", photos)
    assert (predicted, outcome.unread) == (3, 3)
    assert [line.partition(" ")[0] for line in problems] == [
        str(photos / name) for name in ("a/bad.jpg", "a/cut.png", "a/gone.png")
    ]
    assert not any("\n" in line for line in problems)


def test_results_inside_the_folder_of_the_images_are_no_images(photos):
    assert fill(photos / "out", photos, overlays=True)[0] == 3
    assert fill(photos / "out", photos, overlays=True)[0] == 0
    assert fill(photos, photos, overlays=True)[0] == 3
    assert fill(photos, photos, overlays=True)[0] == 0


def test_images_of_the_same_run_may_be_added(photos, tmp_path):
    out = tmp_path / "out"
    fill(out, photos / "a/0.png")
    assert fill(out, photos / "a")[0] == 1
    assert len(table(out)) == 2


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (lambda out, photos: fill(out, photos / "b"), "0.png is the mask of .*b/0.png; choose"),
        (
            lambda out, photos: fill(out, photos / "a", network=Network("run2"), overlays=True),
            "out holds 2 masks of run run2; choose another --out, or add --force to replace them",
        ),
        (
            lambda out, photos: fill(out, photos, network=Network("run2")),
            "a/0.png was made by run run2 of an image that is not named now; choose",
        ),
        (
            lambda out, photos: (
                (out / "masks").mkdir(parents=True)
                or Image.new("P", (3, 3)).save(out / "masks/0.png")
            ),
            "0.png is no mask of `predict`; choose",
        ),
    ],
)
def test_what_is_not_to_be_replaced_is_refused(photos, tmp_path, before, message):
    out = tmp_path / "out"
    before(out, photos)
    former = content(out)
    with pytest.raises(UserError, match=message):
        fill(out, photos / "a")
    assert content(out) == former


def test_a_folder_that_cannot_be_written_is_one_line(photos, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file/below", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=r"--out .* cannot be written \(") as caught:
            Folder(out, Network())
        assert "\n" not in str(caught.value)


def test_a_video_becomes_a_folder_of_masks_and_a_video(tmp_path):
    out, source = tmp_path / "out", clip(tmp_path / "drive.mp4")
    assert fill(out, source, overlays=True)[0] == 5
    masks = sorted((out / "masks/drive").glob("*.png"))
    assert [path.stem for path in masks] == [f"{number:06}" for number in range(5)]
    assert [int(np.median(Image.open(path))) for path in masks] == [0, 0, 0, 1, 2]
    with av.open(str(out / "overlays/drive.mp4")) as shown, av.open(str(source)) as video:
        ours, theirs = list(shown.decode(video=0)), list(video.decode(video=0))
        assert [float(frame.time) for frame in ours] == [float(frame.time) for frame in theirs]
        assert (ours[0].width, ours[0].height) == (theirs[0].width, theirs[0].height)
    assert {row["image"] for row in table(out)} == {"../drive.mp4"} and len(table(out)) == 5
    assert fill(out, source, overlays=True)[1].skipped == 5


def test_a_video_goes_on_at_the_frame_where_it_was_stopped(tmp_path):
    class Stopped(Network):
        def predict_array(self, image):
            if self.predicted == 2:
                raise KeyboardInterrupt
            return super().predict_array(image)

    out, source = tmp_path / "out", clip(tmp_path / "drive.mp4")
    with pytest.raises(KeyboardInterrupt):
        fill(out, source, network=Stopped(), overlays=True)
    assert len(list((out / "masks/drive").glob("*.png"))) == 2
    assert list((out / "overlays").iterdir()) == []
    predicted, outcome, _ = fill(out, source, overlays=True)
    assert (predicted, outcome.skipped, outcome.written) == (3, 2, 3)
    (out / "masks/drive/000001.png").unlink()
    assert fill(out, source)[0] == 1
    assert fill(out, source, network=Network("run2"), force=True)[0] == 5
    assert not (out / "overlays/drive.mp4").exists()


def test_videos_that_cannot_be_read_are_named(tmp_path):
    whole = clip(tmp_path / "whole.mp4", 30).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/none.mp4").write_bytes(b"no video")
    (tmp_path / "in/cut.mp4").write_bytes(whole[: len(whole) // 2])
    _, outcome, problems = fill(tmp_path / "out", tmp_path / "in")
    assert outcome.unread == 2
    assert all("is truncated or damaged" in line and "\n" not in line for line in problems)


def test_videos_without_the_package_say_what_to_install(monkeypatch):
    from benchmark.inference import video

    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"python -m pip install 'petseg-bench\[video\]'"):
        video.require_av()


@pytest.mark.parametrize("name", [b"\xff\xfe.png", "ü😀 [a]\n.png".encode(), 251 * b"n" + b".png"])
def test_odd_names_of_files(photos, tmp_path, name):
    path = os.fsencode(photos) + b"/a/" + name
    os.rename(photos / "a/0.png", path)
    out = tmp_path / "out"
    assert fill(out, photos, overlays=True)[0] == 3
    assert fill(out, photos, overlays=True)[0] == 0
    assert os.path.exists(os.fsencode(out) + b"/masks/a/" + name)
    assert len(table(out)) == 3


def test_a_name_that_leaves_no_room_for_a_suffix_is_one_line(photos, tmp_path):
    path = photos / ("n" * 255)
    (photos / "a/0.png").rename(path)
    _, outcome, (problem,) = fill(tmp_path / "out", photos, path)
    assert outcome.written == 2 and problem.endswith("is too long for that of a mask; rename it")
