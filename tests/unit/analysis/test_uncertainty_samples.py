"""From files to samples: what is aligned, what is left out, and that it is said."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest

from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty.bootstrap import Resampled, resample
from benchmark.analysis.uncertainty.samples import blocks
from benchmark.results.counts_archive import Archive
from tests.helpers.simulated import write_counts, write_grid

pytestmark = pytest.mark.no_torch


@pytest.fixture
def stored(tmp_path: Path) -> tuple[pd.DataFrame, Path]:
    """Two methods, three seeds, one benchmark."""
    return write_grid(tmp_path, ["alpha", "beta"], ["one"], images=12), tmp_path


def sample(runs: pd.DataFrame, root: Path) -> Resampled:
    (block,) = blocks(Runs(runs).current, Runs(runs).cells)
    return resample(block, root, 40)


def npz(runs: pd.DataFrame, root: Path, row: int = 0) -> Path:
    return root / runs["folder"][row] / "images.npz"


def rewrite(path: Path, **changes: np.ndarray) -> None:
    with np.load(path) as archive:
        content = {**archive, **changes}
    np.savez_compressed(path, **content)


def test_archive_equals_numpy(tmp_path):
    arrays = {
        "ids": np.array(["a", "bc"]),
        "label": np.arange(6).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "images.npz", **arrays)
        archive = Archive(tmp_path / "images.npz")
        for name, expected in arrays.items():
            assert (archive[name] == expected).all() and archive[name].dtype == expected.dtype
        with pytest.raises(KeyError):
            archive["absent"]


def test_archive_reads_later_versions_of_npy(tmp_path):
    with ZipFile(tmp_path / "images.npz", "w") as archive, archive.open("label.npy", "w") as file:
        np.lib.format.write_array(file, np.arange(6).reshape(2, 3), version=(3, 0))
    assert (Archive(tmp_path / "images.npz")["label"] == [[0, 1, 2], [3, 4, 5]]).all()


def test_archive_unpickles_nothing(tmp_path):
    np.savez(tmp_path / "images.npz", ids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"(?i)object"):
        Archive(tmp_path / "images.npz")["ids"]


def test_fingerprints_tell_contents_apart(tmp_path):
    label = np.arange(6).reshape(2, 3)
    for name, ids in {"a": ["x", "y"], "b": ["x", "y"], "c": ["x", "z"]}.items():
        write_counts(tmp_path / name, ids, {"label": label})
    a, b, c = (
        Archive(tmp_path / name / "images.npz").fingerprint("ids", "label") for name in "abc"
    )
    assert a == b != c


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9, 0.999])
def test_a_flipped_byte_never_becomes_a_number(stored, where):
    runs, root = stored
    whole = sample(runs, root).drawn
    path = npz(runs, root)
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 0xFF
    path.write_bytes(content)
    drawn = sample(runs, root).drawn[0, 0]
    assert np.isnan(drawn).all() or (drawn == whole[0, 0]).all()


def test_all_runs_are_used(stored):
    found = sample(*stored)
    assert found.block.methods == ["alpha", "beta"] and found.block.seeds == [0, 1, 2]
    assert np.isfinite(found.drawn).all() and found.images == 12 and not found.problems


def test_order_of_images_does_not_matter(stored):
    runs, root = stored
    expected = sample(runs, root).drawn
    path = npz(runs, root, 4)
    with np.load(path) as archive:
        content = {name: values[::-1] for name, values in archive.items()}
    np.savez_compressed(path, **content)
    assert sample(runs, root).drawn == pytest.approx(expected)


def test_order_of_runs_does_not_matter(stored):
    runs, root = stored
    expected = sample(runs, root)
    found = sample(runs.sample(frac=1, random_state=3), root)
    assert (found.drawn == expected.drawn).all()
    assert found.block.methods == expected.block.methods


def left_out(runs: pd.DataFrame, root: Path, reason: str) -> None:
    """The first run has no replicates but keeps its score; the others have theirs."""
    found = sample(runs, root)
    assert found.problems == [("alpha seed 0", reason)]
    assert np.isnan(found.drawn[0, 0]).all() and np.isfinite(found.block.miou).all()
    assert np.isfinite(found.drawn[0, 1:]).all() and np.isfinite(found.drawn[1]).all()


def test_missing_file(stored):
    npz(*stored).unlink()
    left_out(*stored, "no images.npz")


@pytest.mark.parametrize("size", [0, 10, 300])
def test_torn_file(stored, size):
    path = npz(*stored)
    path.write_bytes(path.read_bytes()[:size])
    left_out(*stored, "images.npz is damaged")


@pytest.mark.parametrize("name", ["ids", "label"])
def test_a_damaged_reference_is_not_the_end_of_the_others(stored, name):
    path = npz(*stored)
    content = bytearray(path.read_bytes())
    with ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
    content[member.header_offset + 60 + member.compress_size // 2] ^= 0xFF
    path.write_bytes(content)
    left_out(*stored, "images.npz is damaged")


def test_no_arrays(stored):
    np.savez_compressed(npz(*stored), other=np.zeros(3))
    left_out(*stored, "images.npz is damaged")


def test_other_images(stored):
    rewrite(npz(*stored), ids=np.array([f"other-{n}" for n in range(12)]))
    left_out(*stored, "other images")


def test_other_labels(stored):
    with np.load(npz(*stored)) as archive:
        label = archive["label"] + 1
    rewrite(npz(*stored), label=label)
    left_out(*stored, "other labels")


def test_other_shapes(stored):
    rewrite(npz(*stored), prediction=np.zeros((12, 2), dtype=int))
    left_out(*stored, "shapes do not fit")


def test_counts_of_another_run(stored):
    with np.load(npz(*stored)) as archive:
        nothing = np.zeros_like(archive["label"])
    rewrite(npz(*stored), intersection=nothing)
    score = stored[0]["metrics.miou"][0]
    left_out(*stored, f"its counts give 0.0000, its record {score:.4f}")


def test_unknown_folder(stored):
    runs, root = stored
    runs.loc[0, "folder"] = ""
    left_out(runs, root, "its folder is not known")


def test_without_the_column(stored):
    runs, root = stored
    found = sample(runs.drop(columns="folder"), root)
    assert np.isnan(found.drawn).all() and found.images == 0 and len(found.problems) == 6


def test_one_image_cannot_be_resampled(tmp_path):
    runs = write_grid(tmp_path, ["alpha"], ["one"], images=1)
    found = sample(runs, tmp_path)
    assert found.images == 0 and "single test image" in found.problems[0][1]


def test_images_without_labels_are_no_images(tmp_path):
    runs = write_grid(tmp_path, ["alpha", "beta"], ["one"], images=12)
    expected = sample(runs, tmp_path)
    for folder in runs["folder"]:
        with np.load(tmp_path / folder / "images.npz") as archive:
            content = {
                name: np.concatenate([values, np.zeros_like(values[:3])])
                for name, values in archive.items()
            }
        content["ids"][-3:] = ["void-0", "void-1", "void-2"]
        np.savez_compressed(tmp_path / folder / "images.npz", **content)
    found = sample(runs, tmp_path)
    assert found.images == 12
    assert (found.drawn == expected.drawn).all()


def test_a_failed_seed_leaves_its_cell_out(stored):
    runs, root = stored
    runs.loc[0, "status"] = "diverged"
    assert sample(runs, root).block.methods == ["beta"]


def test_seeds_that_a_method_lacks(stored):
    runs, root = stored
    found = sample(runs.drop(index=2), root)
    assert np.isnan(found.block.miou[0, 2]) and np.isnan(found.drawn[0, 2]).all()
    assert not found.problems
