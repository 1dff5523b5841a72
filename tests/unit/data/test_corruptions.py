import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmark.core.errors import UserError
from benchmark.data import available
from benchmark.data.corruptions import CORRUPTIONS, blur, corrupt, digital, weather

pytestmark = pytest.mark.no_torch

RANDOM = {
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "motion_blur",
    "snow",
    "fog",
}
GREY = np.full((120, 160, 3), 0.5)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A street with texture, light and shadow, (H, W, 3) uint8."""
    streets = available()["streets"](None)
    image, _ = streets.read(streets.ids("train")[0])
    return image


def test_the_set() -> None:
    groups: dict[str, list[str]] = {}
    for name, corruption in CORRUPTIONS.items():
        assert corruption.name == name and len(corruption.severities) == 5
        groups.setdefault(corruption.group, []).append(name)
    assert groups == {
        "noise": ["gaussian_noise", "shot_noise", "impulse_noise"],
        "blur": ["defocus_blur", "motion_blur", "gaussian_blur"],
        "weather": ["snow", "fog", "brightness"],
        "digital": ["contrast", "pixelate", "jpeg_compression"],
    }


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(32, 32), (33, 71), (190, 65)])
def test_any_size_and_the_same_again(name: str, size: tuple[int, int]) -> None:
    image = rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    before = image.copy()
    for severity in range(1, 6):
        out = corrupt(image, name, severity, rng(3))
        assert out.shape == image.shape and out.dtype == np.uint8
        np.testing.assert_array_equal(out, corrupt(image, name, severity, rng(3)))
        assert (out != image).any()
        same = np.array_equal(out, corrupt(image, name, severity, rng(4)))
        assert same == (name not in RANDOM)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)])
def test_degenerate_sizes(name: str, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 200, np.uint8)
    assert corrupt(image, name, 5, rng()).shape == image.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_large_image(name: str) -> None:
    tile = rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert corrupt(np.tile(tile, (16, 32, 1)), name, 5, rng()).shape == (1024, 2048, 3)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_grows(name: str, scene: np.ndarray) -> None:
    # The mean over draws: a single veil of fog may be thicker than the next severity's.
    distances = [
        np.mean(
            [
                np.square(corrupt(scene, name, severity, rng(seed)).astype(float) - scene).mean()
                for seed in range(8 if name in RANDOM else 1)
            ]
        )
        for severity in range(1, 6)
    ]
    assert distances[0] > 0
    # As published, snow of severity 3 has fewer flakes than that of 2, but larger ones.
    steps = distances[::2] if name == "snow" else distances
    assert (np.diff(steps) > 0).all(), distances


@pytest.mark.parametrize("severity", range(1, 6))
def test_noise_has_the_published_strength(severity: int) -> None:
    sigma = [0.08, 0.12, 0.18, 0.26, 0.38][severity - 1]
    photons = [60, 25, 12, 5, 3][severity - 1]
    share = [0.03, 0.06, 0.09, 0.17, 0.27][severity - 1]

    def apply(name: str) -> np.ndarray:
        corruption = CORRUPTIONS[name]
        return corruption.apply(GREY, rng(), *corruption.severities[severity - 1])

    # Reference: the same normal draws scaled by hand.
    expected = 0.5 + sigma * rng().standard_normal(GREY.shape)
    np.testing.assert_allclose(apply("gaussian_noise"), expected, rtol=0, atol=1e-12)
    assert apply("gaussian_noise").std() == pytest.approx(sigma, rel=0.02)
    # A Poisson count k of mean m has variance m, so k / photons has variance 0.5 / photons.
    shot = apply("shot_noise")
    assert shot.mean() == pytest.approx(0.5, abs=0.01)
    assert shot.var() == pytest.approx(0.5 / photons, rel=0.04)
    np.testing.assert_allclose(shot * photons, np.rint(shot * photons), atol=1e-9)
    impulse = apply("impulse_noise")
    assert set(np.unique(impulse)) == {0.0, 0.5, 1.0}
    assert (impulse != 0.5).mean() == pytest.approx(share, rel=0.05)
    assert (impulse == 0).mean() == pytest.approx((impulse == 1).mean(), rel=0.1)


def test_shot_noise_leaves_black_alone() -> None:
    assert not digital.shot_noise(np.zeros((9, 9, 3)), rng(), 3).any()


@pytest.mark.parametrize("severity", range(1, 6))
def test_jpeg_is_pillow_s_at_the_published_quality(severity: int, scene: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene).save(buffer, "JPEG", quality=[25, 18, 15, 10, 7][severity - 1])
    expected = np.asarray(Image.open(buffer))
    np.testing.assert_array_equal(corrupt(scene, "jpeg_compression", severity, rng()), expected)


def test_brightness_by_hand() -> None:
    image = np.array([[[0, 0, 0], [40, 80, 160], [255, 0, 0], [250, 125, 0]]], np.uint8)
    # Severity 3 adds 0.3 * 255 = 76.5 to the largest of the three, and scales the others along.
    assert corrupt(image, "brightness", 3, rng()).tolist() == [
        [[76, 76, 76], [59, 118, 236], [255, 0, 0], [255, 128, 0]]
    ]


def test_contrast_by_hand() -> None:
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = (200, 100, 0)
    # Severity 2 keeps 0.3 of the distance to the means 100, 50 and 0.
    assert corrupt(image, "contrast", 2, rng()).tolist() == [[[70, 35, 0], [130, 65, 0]]]


def test_pixelate_by_hand() -> None:
    image = np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4)[..., None], 3, axis=2)
    # Severity 2 halves the sides: each 2 x 2 square becomes its mean, rounded half up.
    expected = np.kron([[3, 5], [11, 13]], np.ones((2, 2)))
    np.testing.assert_array_equal(corrupt(image, "pixelate", 2, rng())[..., 0], expected)


def test_fog_keeps_the_brightest_value() -> None:
    image = np.full((64, 64, 3), 0.2)
    image[0, 0] = 0.8
    veil = weather.plasma(64, 2, rng())
    out = weather.fog(image, rng(), 1.5, 2)
    np.testing.assert_allclose(out, (image + 1.5 * veil[..., None]) * 0.8 / 2.3)
    assert out.max() <= 0.8


def test_plasma_is_rougher_where_it_decays_slowly() -> None:
    def roughness(decay: float) -> float:
        clouds = weather.plasma(100, decay, rng())
        assert clouds.shape == (128, 128) and clouds.min() == 0 and clouds.max() == 1
        return float(np.abs(np.diff(clouds)).mean())

    assert roughness(1.4) > 2 * roughness(2)


BLURS = ("defocus_blur", "motion_blur", "gaussian_blur")


@pytest.mark.parametrize("name", BLURS)
@pytest.mark.parametrize("severity", range(1, 6))
def test_blur_keeps_the_mean_and_the_place(name: str, severity: int) -> None:
    corruption = CORRUPTIONS[name]
    point = np.zeros((161, 161, 3))
    point[80, 80] = 1
    out = corruption.apply(point, rng(severity), *corruption.severities[severity - 1])
    np.testing.assert_allclose(out.sum(axis=(0, 1)), 1, atol=1e-9)
    assert out.min() > -1e-9
    np.testing.assert_allclose(ndimage.center_of_mass(out[..., 0]), (80, 80), atol=1e-6)
    flat = corruption.apply(GREY, rng(severity), *corruption.severities[severity - 1])
    np.testing.assert_allclose(flat, GREY, atol=1e-9)


@pytest.mark.parametrize("name", BLURS)
def test_nothing_wraps_around_the_edges(name: str) -> None:
    image = np.zeros((100, 140, 3), np.uint8)
    image[:, :4], image[:4] = 255, 255
    out = corrupt(image, name, 5, rng())
    assert out[:40, :40].any()
    assert not out[60:, 60:].any()


def test_convolution_equals_the_direct_sum() -> None:
    image, kernel = rng(0).random((20, 31, 3)), rng(1).random((7, 5))
    expected = np.stack([ndimage.convolve(image[..., c], kernel, mode="reflect") for c in range(3)])
    np.testing.assert_allclose(blur.convolve(image, kernel), np.moveaxis(expected, 0, 2))


def test_defocus_disc_by_hand() -> None:
    point = np.zeros((41, 41, 3))
    point[20, 20] = 1
    out = blur.defocus_blur(point, rng(), 3, 0.1)[..., 0]
    # 29 points of the grid lie within 3 px of the centre.
    assert (out > 1e-6).sum() == 29
    np.testing.assert_allclose(out[out > 1e-6], 1 / 29, rtol=1e-6)


def test_streak_is_as_long_and_as_slanted_as_asked() -> None:
    kernel = blur.streak(10, 1e6, 0)
    assert (kernel > 1e-9).sum() == 21
    np.testing.assert_allclose(kernel[21, 11:32], 1 / 21, rtol=1e-6)
    y, x = np.nonzero(blur.streak(20, 15, 45) > 1e-3)
    assert np.corrcoef(x, y)[0, 1] > 0.99


def test_snow_falls_and_only_brightens(scene: np.ndarray) -> None:
    out = corrupt(scene, "snow", 3, rng())
    assert (out.astype(int) - scene).min() >= -1
    # Flakes on black: what they brighten is drawn out from top to bottom.
    flakes = corrupt(np.zeros((200, 200, 3), np.uint8), "snow", 5, rng(1))[..., 0].astype(float)
    assert np.abs(np.diff(flakes, axis=1)).mean() > 1.5 * np.abs(np.diff(flakes, axis=0)).mean()


def test_bad_requests() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UserError, match=r"unknown corruption 'fogg'; did you mean 'fog'\?"):
        corrupt(image, "fogg", 1, rng())
    for severity in (0, 6):
        with pytest.raises(UserError, match=f"severity {severity} does not exist"):
            corrupt(image, "fog", severity, rng())
    for bad in (image[..., 0], image / 255.0):
        with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8"):
            corrupt(bad, "fog", 1, rng())


def test_importing_is_light() -> None:
    code = "import sys, benchmark.data.corruptions; print({'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_digital_functions_take_what_the_others_give() -> None:
    # Floats that came from bytes must return to the same bytes.
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    out = digital.pixelate(image / 255.0, rng(), 1.0)
    np.testing.assert_array_equal(np.rint(255 * out), image)
