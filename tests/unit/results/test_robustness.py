"""Scores on corrupted images: means over what was asked for, whatever was measured before."""

import numpy as np
import pytest

from benchmark.core.errors import UserError
from benchmark.data.corruptions import CORRUPTIONS
from benchmark.execution.reevaluate import choose, corrupted
from benchmark.results import robustness

pytestmark = pytest.mark.no_torch

GROUPS = {name: corruption.group for name, corruption in CORRUPTIONS.items()}


def counts(*pairs):
    """One image of two classes; the share of right pixels falls with the severity."""
    out = {}
    for name, severity in pairs:
        right = np.array([[100 - 10 * severity, 100]])
        out |= {
            f"{name}/{severity}/intersection": right,
            f"{name}/{severity}/prediction": np.array([[100, 100]]),
            f"{name}/{severity}/label": np.array([[100, 100]]),
        }
    return out


def expected(severity):
    right = 100 - 10 * severity
    return (right / (200 - right) + 1) / 2


def made(*pairs, clean=0.9):
    return robustness.make("r", "test", clean, GROUPS, counts(*pairs), version=1)


def test_means_by_group_and_severity():
    found = made(("fog", 1), ("fog", 3), ("snow", 3), ("contrast", 5))
    assert found.mean() == pytest.approx((expected(1) + 2 * expected(3) + expected(5)) / 4)
    assert found.mean(group="weather") == pytest.approx((expected(1) + 2 * expected(3)) / 3)
    assert found.mean(severity=3) == pytest.approx(expected(3))
    assert found.mean(group="noise") is None
    assert found.relative_drop == pytest.approx(1 - found.mean() / 0.9)


def test_a_comparison_is_on_the_same_pairs():
    alone, mixed = made(("fog", 1)), made(("fog", 1), ("snow", 5))
    assert mixed.only([("fog", 1)]).mean() == alone.mean() != mixed.mean()
    assert made(("fog", 1)).only([]).relative_drop is None


def test_what_is_written_is_read(tmp_path):
    pairs = [("fog", 1), ("snow", 3)]
    robustness.write(tmp_path, made(*pairs), counts(*pairs))
    assert robustness.read(tmp_path) == made(*pairs)
    again = robustness.read_counts(tmp_path, 1)
    assert list(again) == list(counts(*pairs))
    for key, array in counts(*pairs).items():
        np.testing.assert_array_equal(again[key], array)
    assert robustness.read_names(tmp_path / "robustness.npz") == set(again)
    assert robustness.read_counts(tmp_path, 2) == {}, "another version of the corruptions"


def test_counts_that_an_earlier_version_stored_are_read(tmp_path):
    pairs = [("fog", 1), ("snow", 3)]
    robustness.write(tmp_path, made(*pairs), counts(*pairs))
    np.savez_compressed(tmp_path / "robustness.npz", **counts(*pairs))
    again = robustness.read_counts(tmp_path, 1)
    assert robustness.read_names(tmp_path / "robustness.npz") == set(again) == set(counts(*pairs))
    np.testing.assert_array_equal(again["snow/3/intersection"], [[70, 100]])


def test_many_pairs_take_little_space(tmp_path):
    pairs = [(name, severity) for name in CORRUPTIONS for severity in (1, 3, 5)]
    drawn = np.random.default_rng(0).integers(0, 9000, (3, 40, 7))
    kinds = zip(("intersection", "prediction", "label"), drawn, strict=True)
    every = {f"{c}/{s}/{kind}": array for kind, array in kinds for c, s in pairs}
    robustness.write(tmp_path, made(*pairs), every)
    assert (tmp_path / "robustness.npz").stat().st_size < 3 * drawn.nbytes


def test_nothing_measured_is_written_and_read(tmp_path):
    robustness.write(tmp_path, made(), {})
    assert robustness.read_counts(tmp_path, 1) == {}
    assert robustness.read_names(tmp_path / "robustness.npz") == set()


@pytest.mark.parametrize("content", [b"", b"PK", b"nonsense"])
def test_damaged_counts_are_measured_again(tmp_path, content):
    robustness.write(tmp_path, made(("fog", 1)), counts(("fog", 1)))
    (tmp_path / "robustness.npz").write_bytes(content)
    assert robustness.read_counts(tmp_path, 1) == {}


def test_corruptions_are_chosen_by_name_and_group():
    assert choose(None) == list(CORRUPTIONS)
    assert choose("fog,noise,fog") == ["fog", "gaussian_noise", "shot_noise", "impulse_noise"]
    for text in ("frog", ","):
        with pytest.raises(UserError):
            choose(text)


def test_every_run_sees_the_same_corrupted_pixels():
    from benchmark.data import available
    from benchmark.data.base import read_example

    benchmark = available()["cells"]()
    examples = [read_example(benchmark, id) for id in benchmark.ids("test")[:3]]
    once = list(corrupted(examples, "impulse_noise", 3))
    again = list(corrupted(examples[::-1], "impulse_noise", 3))[::-1]
    for clean, a, b in zip(examples, once, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.label, clean.label)
        assert (a.image != clean.image).any()
