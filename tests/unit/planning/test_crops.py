"""Images that are smaller than the crop are told before anything is trained."""

import numpy as np
import pytest

from benchmark.core.spec import load_suites
from benchmark.data.audit.audit import audit
from benchmark.data.audit.padding import find_padding, patch_of, sizes_of
from benchmark.planning import crops, plugins
from benchmark.planning.catalogue import BENCHMARKS
from benchmark.planning.plan import Selection, plan
from tests.helpers.folders import plain

pytestmark = pytest.mark.no_torch


def of(*sides, crop=224, patches=()):
    return find_padding(np.array([(side, side) for side in sides], float), crop, patches)


def test_the_largest_crop_that_fits_the_median_image():
    found = of(120, 120, 300)
    assert (found.side, found.crop, found.fitting) == (120, 224, 112)
    assert found.share == pytest.approx(2 / 3 * (1 - (120 / 224) ** 2))
    assert found.fix == "add --set crop=112"


@pytest.mark.parametrize(
    ("sides", "crop"), [((120, 300, 300), 224), ((120,), 112), ((220,), 224), ((), 224)]
)
def test_nothing_is_said_where_images_are_large_enough_or_nearly_so(sides, crop):
    assert of(*sides, crop=crop) is None


def test_the_longer_side_counts_too():
    narrow = find_padding(np.array([(120.0, 500.0)]), 224)
    assert narrow.side == 120 and narrow.share == pytest.approx(1 - 120 / 224)


@pytest.mark.parametrize(
    ("side", "patches", "fitting"),
    [(150, [16], 144), (150, [14], 112), (100, [14], 98), (150, [16, 14], 112), (40, [1], 32)],
)
def test_a_crop_is_a_multiple_of_the_patches(side, patches, fitting):
    assert of(side, patches=patches).fitting == fitting


def test_images_too_small_for_any_crop_are_to_be_enlarged():
    found = of(20)
    assert found.fitting == 0 and "`scale: 4`" in found.fix


def test_patches_by_the_name_of_a_backbone():
    assert patch_of("vit_small_patch14_dinov2.lvd142m") == 14
    assert patch_of("mobilenetv2_100.ra_in1k") == 1


@pytest.fixture
def blood(tmp_path, forgotten):
    """A function that describes 20 images of 120 px, with more lines of YAML."""
    plain(tmp_path / "blood", side=120)

    def described(*more):
        lines = ["name: blood", "folder: blood", "images: photos", "masks: masks"]
        lines += ["classes: [a, b, c]", "splits: [0.6, 0.1, 0.3]", *more]
        (tmp_path / "blood.yaml").write_text("\n".join(lines))
        plugins.load_files([tmp_path / "blood.yaml"])
        return BENCHMARKS.get("blood")(None)

    return described


def cells(**fields):
    return plan(Selection(suite="own", backbones="demo_vit", methods="linear", **fields))


def test_plan_and_run_name_the_crop(blood):
    blood()
    (text,) = crops.notes(cells(), None)
    assert text == (
        "blood: most images (120 px) are smaller than the crop (224 px), so about 71 % of a crop "
        "is padding; add --set crop=112"
    )
    assert crops.notes(cells(protocol={"crop": "112"}), None) == []


def test_what_counts_is_the_size_that_the_network_sees(blood):
    found = blood("scale: 2")
    assert sizes_of(found).tolist() == [[240, 240]] * 12
    assert crops.notes(cells(), None) == []


def test_sets_that_come_with_a_suite_have_a_settled_protocol(blood):
    blood()
    assert crops.notes(plan(Selection(protocol={"crop": 4096})), None) == []


def test_an_unreadable_set_is_left_to_other_checks(blood, tmp_path):
    blood()
    for label in (tmp_path / "blood/masks").iterdir():
        label.write_bytes(b"no image")
    assert crops.notes(cells(), None) == []
    for label in (tmp_path / "blood/masks").iterdir():
        label.unlink()
    assert crops.notes(cells(), None) == []


def test_an_audit_compares_with_the_suite(blood):
    found = blood()
    (finding,) = audit(found, suite=load_suites()["own"]).findings
    assert finding.severity == "warning"
    assert "(120 px) are smaller than the crop of suite own (224 px)" in finding.what
    assert finding.fix == "add --set crop=112 to `plan` and `run`"
    assert audit(found).findings == ()
