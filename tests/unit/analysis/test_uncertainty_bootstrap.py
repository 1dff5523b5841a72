"""The resampled mIoU against slow and independent computations, and the variance made of it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmark.analysis.leaderboard import t_interval
from benchmark.analysis.uncertainty import estimate
from benchmark.analysis.uncertainty.bootstrap import Resampled, draw_images, mious
from benchmark.analysis.uncertainty.estimate import Estimate, mean, over_seeds
from benchmark.results.metrics import class_iou
from tests.helpers.simulated import World, miou

WORLD = World(presence=0.3)


def one_run(images: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    label, easy = WORLD.labels(images, random), WORLD.images(images, random)
    return WORLD.run(label, easy, random)


def pair(run: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    union = run["prediction"] + run["label"] - run["intersection"]
    return run["intersection"].astype(np.float32), union.astype(np.float32)


def test_replicates_equal_a_loop_over_drawn_images():
    runs = [one_run(7), {**one_run(7), "prediction": one_run(7, 1)["prediction"]}]
    weights = draw_images("one", np.array([f"i{n}" for n in range(7)]), 50)
    drawn = mious(weights, runs[0]["label"] > 0, [pair(run) for run in runs])
    assert drawn.shape == (2, 50)
    for row, run in zip(drawn, runs, strict=True):
        for times, value in zip(weights, row, strict=True):
            rows = np.repeat(np.arange(7), times.astype(int))
            assert value == pytest.approx(miou({k: v[rows] for k, v in run.items()}), abs=1e-6)


def test_some_draws_lack_a_class():
    run = one_run(5)
    run["label"][:, 3] = 0
    run["label"][0, 3] = 90
    weights = draw_images("one", np.array(list("abcde")), 100)
    present = (weights @ (run["label"] > 0)) > 0
    assert 0 < present[:, 3].mean() < 1  # what the loop above is about


def test_draws_depend_on_benchmark_and_images_alone():
    ids = np.array(["a", "b", "c"])
    assert (draw_images("one", ids, 20) == draw_images("one", ids, 20)).all()
    assert (draw_images("one", ids, 20) != draw_images("two", ids, 20)).any()
    assert (draw_images("one", ids, 20) != draw_images("one", ids[::-1], 20)).any()
    assert (draw_images("one", ids, 20).sum(1) == 3).all()


def test_variance_over_images_equals_that_of_scipy():
    run = one_run(60)
    counts = np.stack([run["intersection"], run["prediction"], run["label"]], axis=1)

    def score(index: np.ndarray) -> float:
        names = ("intersection", "prediction", "label")
        return miou({k: counts[index, i] for i, k in enumerate(names)})

    theirs = stats.bootstrap(
        (np.arange(60),), score, n_resamples=4000, vectorized=False, method="percentile", rng=1
    )
    weights = np.random.default_rng(2).multinomial(60, np.full(60, 1 / 60), 4000)
    ours = mious(weights.astype(np.float32), run["label"] > 0, [pair(run)])[0]
    assert ours.std(ddof=1) == pytest.approx(theirs.standard_error, rel=0.08)
    assert np.quantile(ours, (0.025, 0.975)) == pytest.approx(
        theirs.confidence_interval, abs=0.1 * theirs.standard_error
    )


def test_metrics_equal_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(3)
    truth, guess = random.integers(0, 5, (2, 6, 20, 30))
    matrix = metrics.confusion_matrix(truth.ravel(), guess.ravel(), labels=range(5))
    hits = np.diag(matrix)
    expected = hits / (matrix.sum(0) + matrix.sum(1) - hits)
    assert class_iou(counted(truth, guess, 5)) == pytest.approx(expected)


@pytest.mark.slow  # its import takes many seconds
def test_metrics_equal_torchmetrics():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    random = np.random.default_rng(4)
    truth, guess = random.integers(0, 5, (2, 6, 20, 30))
    expected = functional.multiclass_jaccard_index(
        torch.tensor(guess), torch.tensor(truth), num_classes=5, average=None
    )
    assert class_iou(counted(truth, guess, 5)) == pytest.approx(expected.numpy())


def counted(truth: np.ndarray, guess: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Per-image counts (N, K) of label maps (N, H, W), one class after the other."""
    here = [(truth == k, guess == k) for k in range(classes)]
    return {
        "intersection": np.stack([(t & g).sum((1, 2)) for t, g in here], axis=1),
        "prediction": np.stack([g.sum((1, 2)) for _, g in here], axis=1),
        "label": np.stack([t.sum((1, 2)) for t, _ in here], axis=1),
    }


def resampled(drawn: np.ndarray, scores: np.ndarray, images: int = 11) -> Resampled:
    """A block with replicates made by hand."""
    sample = World().experiment(np.random.default_rng(0), scores.shape[1], 3, len(scores))
    object.__setattr__(sample.block, "miou", scores)
    return Resampled(sample.block, images, drawn.astype(np.float32), [])


def test_interaction_is_taken_off_once():
    # Images move both seeds alike by +-2, and by +-1 in opposite ways: only the first is theirs.
    both, apart = np.array([2, 2, -2, -2]), np.array([1, -1, 1, -1])
    sample = resampled(np.array([[both + apart, both - apart]]), np.array([[0.4, 0.5]]))
    common, own = 16 / 3, 4 / 3  # variances over the four replicates
    # var(mean) = common; interaction in it: 2 * own / (2 - 1) / 2, as if it were that of two seeds.
    assert sample.covariance[0, 0] == pytest.approx((common - own) * 11 / 10)


def test_one_run_keeps_all_of_its_variance():
    sample = resampled(np.array([[[1.0, 2.0, 3.0, 4.0]]]), np.array([[0.5]]))
    assert sample.covariance[0, 0] == pytest.approx(np.var([1, 2, 3, 4], ddof=1) * 11 / 10)
    one = estimate.method_mean(sample, 0)
    assert one.covers == "images" and one.dof == pytest.approx(10)
    assert math.isnan(one.p())


def test_covariance_makes_the_variance_of_a_difference():
    random = np.random.default_rng(5)
    drawn = random.normal(size=(2, 3, 50))
    sample = resampled(drawn, random.random((2, 3)))
    alone = resampled((drawn[0] - drawn[1])[None], random.random((1, 3)))
    c = sample.covariance
    assert c[0, 0] + c[1, 1] - 2 * c[0, 1] == pytest.approx(alone.covariance[0, 0], rel=1e-4)


def test_without_counts_the_interval_is_the_t_interval_of_the_seeds():
    scores = np.array([[0.41, 0.44, 0.40], [0.5, np.nan, 0.6]])
    sample = resampled(np.full((2, 3, 9), np.nan), scores, images=0)
    one = estimate.method_mean(sample, 0)
    low, high = one.interval()
    assert one.covers == "seeds" and one.dof == 2
    assert (high - low) / 2 == pytest.approx(t_interval(scores[0]))
    assert estimate.method_mean(sample, 1).value == pytest.approx(0.55)


def test_seeds_are_paired_where_both_have_the_same_ones():
    ours, theirs = [0.40, 0.50, 0.60, 0.47, 0.52, 0.44], [0.30, 0.41, 0.49, 0.44, 0.35, 0.52]
    scores = np.array([ours, theirs, [*theirs[:5], np.nan]])
    sample = resampled(np.full((3, 6, 9), np.nan), scores, images=0)
    same = estimate.difference(sample, 0, 1)
    assert same.p() == pytest.approx(stats.ttest_rel(scores[0], scores[1]).pvalue)
    other = estimate.difference(sample, 0, 2)
    welch = stats.ttest_ind(ours, theirs[:5], equal_var=False)
    assert other.p() == pytest.approx(welch.pvalue)
    assert other.value == pytest.approx(np.mean(ours) - np.mean(theirs[:5]))


def test_mean_of_estimates_by_hand():
    a = Estimate(0.4, ((0.04, 8.0),), seeds=True, images=True)
    b = Estimate(0.6, ((0.08, 9.0), (0.01, 10.0)), seeds=True, images=False)
    both = mean([a, b])
    assert both.value == pytest.approx(0.5)
    assert both.variance == pytest.approx(0.13 / 4)
    assert both.dof == pytest.approx(0.13**2 / (0.04**2 / 8 + 0.08**2 / 9 + 0.01**2 / 10))
    assert both.covers == "seeds"
    low, high = both.interval()
    assert (low, high) == pytest.approx(
        stats.t.interval(0.95, both.dof, 0.5, math.sqrt(both.variance))
    )


VARIANCE = st.floats(1e-8, 1)


@given(VARIANCE, VARIANCE, st.integers(1, 9), st.integers(10, 200))
def test_more_uncertainty_never_makes_an_interval_narrower(seeds, images, few, many):
    alone = Estimate(0.5, ((seeds, few),), seeds=True)
    both = Estimate(0.5, ((seeds, few), (images, many)), seeds=True, images=True)
    assert both.interval()[1] >= alone.interval()[1] * (1 - 1e-6)
    assert few * (1 - 1e-6) <= both.dof <= few + many
    assert both.p() >= 0.05 or alone.p() < 0.0501


def test_nothing_known_is_no_interval():
    nothing = Estimate(0.5)
    assert all(map(math.isnan, nothing.interval())) and nothing.covers == "nothing"
    assert over_seeds(np.array([0.4])) == ()


def test_equal_scores_are_certain():
    assert Estimate(0.0, ((0.0, 2.0),), seeds=True).p() == 1
    assert Estimate(0.1, ((0.0, 2.0),), seeds=True).p() == 0
