"""Plain folders of photographs and masks, as somebody has them who begins."""

import numpy as np
from PIL import Image


def plain(folder, count=20, side=48, classes=3):
    """Writes photographs and masks of the same names; every label holds every class."""
    for number in range(count):
        random = np.random.default_rng(number)
        label = random.integers(0, classes, (4, 4))
        label.ravel()[:classes] = range(classes)
        label = np.kron(label, np.ones((side // 4, side // 4))).astype(np.uint8)
        noise = random.integers(0, 60, (side, side, 3))
        image = (label[..., None] * (190 // classes) + noise).astype(np.uint8)
        for kind, pixels in (("photos", image), ("masks", label)):
            path = folder / kind / f"p{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder
