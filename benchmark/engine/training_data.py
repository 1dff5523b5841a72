"""What a method may know of the images that it is trained on."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.data.examples import Examples


@dataclass(frozen=True)
class TrainingSplit:
    """Satisfies `methods.TrainingData` for the examples of a run.

    Attributes:
        examples: those that the run trains on.
        num_classes: K.
    """

    examples: Examples
    num_classes: int

    def class_frequencies(self) -> Tensor:
        """Shares (K,) of the classes among the labelled pixels; equal where none is labelled."""
        counts = np.zeros(256, np.int64)
        for example in self.examples:
            counts += np.bincount(example.label.ravel(), minlength=256)
        found = torch.from_numpy(counts[: self.num_classes]).double()
        total = found.sum()
        equal = torch.full_like(found, 1 / self.num_classes)
        return (found / total if total > 0 else equal).float()
