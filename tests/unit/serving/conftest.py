import io

import numpy as np
import pytest
from PIL import Image

from benchmark.inference.tasks import Tasks
from tests.helpers.networks import store_network


@pytest.fixture(scope="session")
def tasks(tmp_path_factory):
    """Three tasks on one backbone, of which one passes alone."""
    root, found = tmp_path_factory.mktemp("served"), Tasks("demo_vit", device="cpu")
    for name, method, benchmark in (
        ("cells", "spm", "cells"),
        ("streets", "linear", "streets"),
        ("lora", "lora", "cells"),
    ):
        found.add(name, store_network(root, method, benchmark))
    return found


def picture(height=60, width=80, mode="RGB", kind="PNG", seed=0):
    """A file with an image of coarse noise."""
    random = np.random.default_rng(seed)
    channels = len(mode) if mode in ("RGB", "RGBA", "LA") else 1
    small = random.integers(0, 256, (-(-height // 8), -(-width // 8), channels), np.uint8)
    values = small.repeat(8, 0).repeat(8, 1)[:height, :width]
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(values if channels > 1 else values[..., 0])
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()
