"""Class counts simulated with known effects of methods, seeds and images; whole results of them.

Pixels of class k in image i are recognised with the probability sigmoid(skill + method + seed +
image + seed x image); those that are not are predicted as another class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.analysis.uncertainty.bootstrap import Resampled, mious
from benchmark.analysis.uncertainty.samples import Block
from benchmark.results.metrics import class_iou
from tests.helpers.records import frame, record


@dataclass(frozen=True)
class World:
    """Standard deviations on the scale of log odds, and the shape of the labels."""

    classes: int = 4
    skill: float = 1.2
    seed: float = 0.25
    image: float = 0.8
    interaction: float = 0.4
    presence: float = 0.8

    def labels(self, images: int, random: np.random.Generator) -> np.ndarray:
        """(N, K) pixels; every image has the first class."""
        sizes = random.lognormal(7.0, 0.7, (images, self.classes))
        there = random.random((images, self.classes)) < self.presence
        there[:, 0] = True
        return (sizes * there).astype(np.int64)

    def images(self, images: int, random: np.random.Generator) -> np.ndarray:
        """(N, K) how easy each class is in each image, for all runs alike."""
        return random.normal(0, self.image, (images, self.classes))

    def run(
        self, label: np.ndarray, easy: np.ndarray, random: np.random.Generator, method: float = 0.0
    ) -> dict[str, np.ndarray]:
        """Counts of one training: its seed's effect and its interaction with images are drawn."""
        classes = label.shape[1]
        odds = self.skill - 0.3 * np.arange(classes) + method + easy
        odds = odds + random.normal(0, self.seed, classes)
        odds = odds + random.normal(0, self.interaction, label.shape)
        right = np.round(label / (1 + np.exp(-odds))).astype(np.int64)
        wrong = label - right
        # What is missed goes to the next class, so that the pixels of an image stay as many.
        return {"intersection": right, "prediction": right + np.roll(wrong, 1, 1), "label": label}

    def experiment(
        self,
        random: np.random.Generator,
        seeds: int,
        images: int,
        methods: int = 1,
        replicates: int = 300,
        benchmark: str = "one",
    ) -> Resampled:
        """A resampled block of methods that do not differ, without files."""
        label, easy = self.labels(images, random), self.images(images, random)
        runs = [self.run(label, easy, random) for _ in range(methods * seeds)]
        scores = np.array([miou(run) for run in runs]).reshape(methods, seeds)
        weights = random.multinomial(images, np.full(images, 1 / images), replicates)
        pairs = [
            (run["intersection"], run["prediction"] + label - run["intersection"]) for run in runs
        ]
        counts = [(a.astype(np.float32), b.astype(np.float32)) for a, b in pairs]
        drawn = mious(weights.astype(np.float32), label > 0, counts)
        names = [f"m{index}" for index in range(methods)]
        folders = np.full(scores.shape, "", dtype=object)
        block = Block(("net", "none", "0"), benchmark, names, list(range(seeds)), scores, folders)
        return Resampled(block, images, drawn.reshape(methods, seeds, replicates), [])

    def truth(self, random: np.random.Generator, runs: int = 1000, images: int = 1000) -> float:
        """Expected mIoU of a run on a split without end."""
        return float(
            np.mean(
                [
                    miou(self.run(label, self.images(images, random), random))
                    for label in (self.labels(images, random) for _ in range(runs))
                ]
            )
        )


def miou(counts: dict[str, np.ndarray]) -> float:
    """Of counts summed over images."""
    return float(np.nanmean(class_iou(counts)))


def write_counts(folder: Path, ids: Sequence[str], counts: dict[str, np.ndarray]) -> None:
    """An images.npz as the store writes it, with the counts that inference needs."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "images.npz", ids=np.array(ids), **counts)


def write_grid(
    root: Path,
    methods: Sequence[str] = ("alpha", "beta", "gamma"),
    benchmarks: Sequence[str] = ("one", "two"),
    backbones: Sequence[str] = ("net",),
    seeds: int = 3,
    images: int = 30,
    world: World | None = None,
    step: float = 0.15,
    protocols: Sequence[str] = ("0123456789ab",),
) -> pd.DataFrame:
    """Writes record.json and images.npz of a whole grid, and returns its table of runs.

    Args:
        root: the results folder.
        methods: the first is the worst, each next is better by `step` log odds and trains more.
        benchmarks: each has images of its own.
        backbones: each has effects of its own.
        seeds: of every method.
        images: of every benchmark.
        world: what counts are like.
        step: between methods.
        protocols: hashes.

    Returns:
        What `load_results` returns for the folder, with `folder`.
    """
    world = world or World()
    rows, folders = [], []
    for benchmark in benchmarks:
        shared = np.random.default_rng(list(benchmark.encode()))
        label, easy = world.labels(images, shared), world.images(images, shared)
        ids = [f"{benchmark}-{index:04d}" for index in range(images)]
        for protocol in protocols:
            for backbone in backbones:
                for rank, method in enumerate(methods):
                    for seed in range(seeds):
                        cell = f"{protocol}/{benchmark}/{backbone}/{method}/{seed}"
                        random = np.random.default_rng(list(cell.encode()))
                        counts = world.run(label, easy, random, step * rank)
                        one = record(
                            method,
                            benchmark,
                            miou=miou(counts),
                            seed=seed,
                            inserted=1000 * rank,
                            backbone=backbone,
                            protocol_hash=protocol,
                            run_id=f"{len(rows):012x}",
                        )
                        folder = Path(one.suite, benchmark, backbone, method, one.run_id)
                        write_counts(root / folder, ids, counts)
                        text = one.model_dump_json()
                        (root / folder / "record.json").write_text(text, encoding="utf-8")
                        rows.append(one)
                        folders.append(str(folder))
    return frame(rows).assign(folder=folders)
