"""Random streams with names, so that a consumer that draws more numbers moves no other stream."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream `names` of a run with this seed; stable across machines."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for the stream `names`."""
    return np.random.default_rng(derive(seed, *names))


@contextmanager
def torch_stream(seed: int, *names: str | int) -> Iterator[None]:
    """Torch's global generator follows the stream `names` inside the block, untouched outside."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, *names))
        yield
