from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import DataError
from benchmark.data.audit.preview import WIDTH, contact_sheet, save
from benchmark.data.base import IGNORE, SPLITS, Benchmark, Split
from benchmark.data.fake.small import write_dubai
from benchmark.data.palette import VOID, palette, voc_colours
from benchmark.data.sets.dubai import Dubai

pytestmark = pytest.mark.no_torch


class Many(Benchmark):
    """150 classes, of which an image holds two; one holds class 149, and void."""

    name = "many"
    title = "Many: more classes than colours"
    domain = "test"
    classes = tuple(f"class {k:03}" for k in range(150))
    origin = "memory"
    licence = "none"
    size: tuple[int, int] = (30, 40)

    def ids(self, split: Split) -> list[str]:
        return [f"{split}/{k:03}" for k in range({"train": 40, "val": 10, "test": 10}[split])]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        split, k = id.split("/")
        label = np.full(self.size, SPLITS.index(split), dtype=np.uint8)
        if id == "train/021":
            label[:15, :20], label[15:, 20:] = 149, IGNORE
        return np.full((*self.size, 3), 40 + int(k), dtype=np.uint8), label


def colours(image: Image.Image) -> set[object]:
    return {colour for _, colour in image.getcolors(maxcolors=1 << 24) or []}


def test_voc_colours() -> None:
    table = voc_colours()
    # The development kit's own table: aeroplane, bicycle, person, potted plant, tv monitor.
    assert table[[0, 1, 2, 15, 16, 20]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [192, 128, 128],
        [0, 64, 0],
        [0, 64, 128],
    ]
    assert table[255].tolist() == [224, 224, 192]
    assert len(np.unique(table, axis=0)) == 256


def test_palette_of_a_benchmark() -> None:
    table = palette(Many())
    np.testing.assert_array_equal(table[:IGNORE], voc_colours()[:IGNORE])
    assert tuple(table[IGNORE]) == VOID
    assert table.dtype == np.uint8
    own = palette(Dubai)
    assert own[:5].tolist() == [
        [0x3C, 0x10, 0x98],
        [0x84, 0x29, 0xF6],
        [0x6E, 0xC1, 0xE4],
        [0xFE, 0xDD, 0x3A],
        [0xE2, 0xA9, 0x29],
    ]


@pytest.mark.parametrize(
    "wrong", [("#000000",), ("red",) * 150, ("#00000",) * 150, ("#0000",) * 150]
)
def test_wrong_colours(wrong: tuple[str, ...]) -> None:
    class Wrong(Many):
        colours = wrong

    with pytest.raises(DataError, match="one #RRGGBB for each of its 150 classes"):
        palette(Wrong)


def test_dubai_draws_the_colours_of_its_masks(tmp_path: Path) -> None:
    write_dubai(tmp_path)
    dubai = Dubai(tmp_path)
    id = dubai.ids("train")[0]
    mask = np.asarray(Image.open(dubai.where(id)).convert("RGB"))
    label = dubai.read(id)[1]
    drawn = palette(dubai)[label]
    np.testing.assert_array_equal(drawn[label != IGNORE], mask[label != IGNORE])


def test_rare_class_and_void_are_shown() -> None:
    many = Many()
    sheet = contact_sheet(many, count=8)
    assert sheet.width == WIDTH
    assert sheet.mode == "RGB"
    seen = colours(sheet)
    assert tuple(palette(many)[149]) in seen
    assert VOID in seen
    assert not any(tuple(palette(many)[k]) in seen for k in (57, 101, 131))


def test_choice_follows_the_seed() -> None:
    many = Many()
    first = contact_sheet(many, seed=0)
    assert first.tobytes() == contact_sheet(many, seed=0).tobytes()
    assert first.tobytes() != contact_sheet(many, seed=1).tobytes()


def test_splits_and_count() -> None:
    many = Many()
    seen = colours(contact_sheet(many, count=4, splits=["test"]))
    assert tuple(palette(many)[2]) in seen
    assert tuple(palette(many)[1]) not in seen
    heights = [contact_sheet(many, count=count).height for count in (2, 4, 60, 1000)]
    assert heights[0] < heights[1] < heights[2] == heights[3]


def test_all_150_classes_fit() -> None:
    class Full(Many):
        def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
            label = np.arange(1200, dtype=np.uint8).reshape(30, 40) % 150
            return np.zeros((30, 40, 3), dtype=np.uint8), label

    few, full = contact_sheet(Many(), count=2), contact_sheet(Full(), count=2)
    assert full.width == few.width
    assert 200 < full.height - few.height < 1000


def test_a_value_that_is_no_class_is_drawn() -> None:
    class Strange(Many):
        classes = Many.classes[:10]

    assert tuple(palette(Strange)[149]) in colours(contact_sheet(Strange()))


def test_unreadable_examples_are_passed_over() -> None:
    class Holes(Many):
        def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
            if id != "val/003":
                raise DataError(f"{id} is missing; fetch it again")
            return super().read(id)

    with pytest.warns(UserWarning, match="cannot be read and are left out, such as"):
        sheet = contact_sheet(Holes(), count=20)
    assert tuple(palette(Many)[1]) in colours(sheet)
    with pytest.raises(DataError, match="is missing; fetch it again"):
        contact_sheet(Holes(), count=20, splits=["test"])


def test_empty_split() -> None:
    class Empty(Many):
        def ids(self, split: Split) -> list[str]:
            return []

    with pytest.raises(DataError, match="many: the splits train, val, test are empty"):
        contact_sheet(Empty())


@pytest.mark.parametrize("size", [(7, 300), (300, 7), (1, 1), (900, 1400)])
def test_any_size(size: tuple[int, int]) -> None:
    class Odd(Many):
        pass

    Odd.size = size
    assert contact_sheet(Odd(), count=3).width == WIDTH


def test_save(tmp_path: Path) -> None:
    path = save(Many(), tmp_path / "many.png", count=2)
    with Image.open(path) as image:
        assert image.width == WIDTH
    for bad in (tmp_path / "many.nonsense", path / "inside.png"):
        with pytest.raises(DataError, match=r"ends in \.png"):
            save(Many(), bad, count=2)
