"""The words of a report, each explained once: below the page, in the README, and on hover."""

import re
from functools import cache

from benchmark.analysis.costs import COSTS

_OWN = {
    "method": "what is trained in or beside the frozen backbone, and how",
    "backbone": "the pretrained network that turns an image into features",
    "decoder": "the layers that turn these features into a class for every pixel; always trained",
    "benchmark": "a data set with its classes and its fixed train, validation and test images",
    "seed": "the number that all random draws of a training derive from; several show how much "
    "results vary by chance",
    "run": "one training: a method on a backbone, a benchmark and a seed",
    "protocol": "the settings that all methods of a comparison share: steps, batch size, crop, "
    "decoder, schedule, ...",
    "group": "runs with the same backbone, weights and protocol; only these are compared",
    "point": "a hundredth: an mIoU of 0.54 is 54 points",
    "mIoU": "overlap of predicted and true pixels (intersection over union), averaged over the "
    "classes; higher is better",
    "IoU": "overlap of predicted and true pixels of a class, divided by all pixels that either has",
    "95 % interval": "where the score would fall in 95 of 100 repetitions with other seeds and "
    "other test images, as far as both were measured",
    "rank": "the places that the tests leave open to a method: the first is 1, plus the number of "
    "methods that are significantly better; the last leaves room for those significantly worse",
    "significant": "too large to be chance: below 5 % by a paired test, corrected for the number "
    "of comparisons (Holm)",
    "may be as good": "the 95 % interval of its difference from the most accurate method includes "
    "zero, without the correction that ranks have",
    "Done": "benchmarks on which the method is finished, of all in the group; seeds are not "
    "counted",
    "task": "a set of classes to segment on the shared backbone, such as one benchmark; each task "
    "stores what its method trains",
    "Under": "the best method that stores less than so much a task; the limits are round numbers "
    "(1, 2 or 5 times a power of ten) beyond which another method becomes the best",
    "Seeds": "the fewest on any benchmark",
    "IQM": "interquartile mean: the mean of the middle half of all runs; outliers do not move it",
    "PPT": "mIoU, reduced for trained backbone parameters; for comparison with published tables",
    "Pareto front": "the methods that no other one beats in both mIoU and cost",
    "average rank": "the place of a method on each benchmark, averaged; 1 is best",
    "critical difference": "average ranks that are closer than this may differ by chance "
    "(Nemenyi test)",
    "Kendall's tau": "whether two orders agree: 1 the same, 0 unrelated, -1 reversed",
    "mIoU per image": "mIoU of each image, averaged over the images",
    "Boundary mIoU": "mIoU of the pixels close to the outline of a class: how exact outlines are",
    "Pixel accuracy": "share of the pixels whose class is right",
    "Mean accuracy": "share of the pixels of a class that are found, averaged over the classes",
    "Frequency-weighted IoU": "IoU averaged over the classes, weighted by their pixels",
    "Calibration error": "how far the predicted probabilities are from how often they are right",
    "Negative log-likelihood": "how surprised the prediction is by the true class; lower is better",
}


def used(text: str) -> dict[str, str]:
    """The terms that are in a text, with what they mean.

    Args:
        text: as people read it, without markup.
    """
    return {term: about for term, about in TERMS.items() if _pattern(term).search(text)}


@cache
def _pattern(term: str) -> re.Pattern[str]:
    # Abbreviations and headings are written in one way, words also at the start of a sentence.
    flags = re.IGNORECASE if term.islower() else re.NOFLAG
    return re.compile(rf"(?<!\w){re.escape(term)}s?(?!\w)", flags)


TERMS: dict[str, str] = _OWN | {cost.heading: cost.about for cost in COSTS if cost.about}
"""By term or heading of a column what it means, without a full stop."""
