import itertools

import numpy as np
import torch

from benchmark.core.spec import Protocol
from benchmark.data.base import IGNORE, Example
from benchmark.data.batches import at_working_scale, batches, to_tensor
from benchmark.models.normalise import Normalise


def examples(n=5, size=(40, 60)):
    random = np.random.default_rng(0)
    return [
        Example(
            str(i),
            random.integers(0, 256, (*size, 3), dtype=np.uint8),
            random.integers(0, 3, size, dtype=np.uint8),
        )
        for i in range(n)
    ]


def equal(a, b):
    assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and a.ids == b.ids


def take(n, seed=0, workers=0, **fields):
    protocol = Protocol(**({"batch_size": 2, "crop": 32} | fields))
    return list(itertools.islice(batches(examples(), protocol, seed, workers), n))


def test_shapes_types_and_range():
    images, labels, ids = take(1)[0]
    assert len(ids) == 2 and set(ids) <= set("01234")
    assert images.shape == (2, 3, 32, 32) and images.dtype == torch.uint8
    assert labels.shape == (2, 32, 32) and labels.dtype == torch.uint8
    assert set(labels.unique().tolist()) <= {0, 1, 2, IGNORE}


def test_the_same_seed_gives_the_same_batches_and_another_does_not():
    for a, b in zip(take(4), take(4), strict=True):
        equal(a, b)
    assert not torch.equal(take(1)[0][0], take(1, seed=1)[0][0])


def test_workers_change_no_batch_and_no_other_stream():
    torch.manual_seed(7)
    alone = take(5)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    helped = take(5, workers=2)
    assert torch.equal(torch.rand(1), drawn)
    for a, b in zip(alone, helped, strict=True):
        equal(a, b)


def test_skipped_batches_are_those_that_were_taken():
    protocol = Protocol(batch_size=2, crop=32)
    for skip in (1, 3):
        rest = batches(examples(), protocol, 0, skip=skip)
        for a, b in zip(take(6)[skip:], rest, strict=False):
            equal(a, b)


def test_bytes_become_what_the_backbone_was_pretrained_on():
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, 16, 16)
    values = Normalise((0.5, 0.25, 0), (0.25, 0.5, 1))(image)
    assert values.dtype == torch.float32
    for channel, (mean, std) in enumerate([(0.5, 0.25), (0.25, 0.5), (0, 1)]):
        expected = (image[channel].double() / 255 - mean) / std
        assert torch.allclose(values[channel].double(), expected, atol=1e-6)


def test_every_example_is_seen_once_an_epoch():
    # Each example is one flat colour, so that a crop tells where it came from.
    flat = [
        Example(str(i), np.full((32, 32, 3), 20 * i, np.uint8), np.zeros((32, 32), np.uint8))
        for i in range(6)
    ]
    protocol = Protocol(batch_size=3, crop=32, scale_min=1, scale_max=1)
    seen = [
        round(float(image.float().mean()), 3)
        for images, *_ in itertools.islice(batches(flat, protocol, 0), 2)
        for image in images
    ]
    assert len(set(seen)) == 6


def test_no_zoom_and_no_flip_is_a_plain_window_of_the_image():
    protocol = {"scale_min": 1, "scale_max": 1, "flip": False}
    (images, labels, _), *_ = take(1, **protocol)
    whole = [(to_tensor(e.image), torch.from_numpy(e.label)) for e in examples()]
    for image, label in zip(images, labels, strict=True):
        assert any(
            torch.equal(image, x[:, t : t + 32, s : s + 32])
            and torch.equal(label, y[t : t + 32, s : s + 32])
            for x, y in whole
            for t in range(9)
            for s in range(29)
        )


def test_what_an_image_lacks_of_a_crop_is_void():
    (_, labels, _), *_ = take(1, crop=64, scale_min=1, scale_max=1, flip=False)
    assert (labels[:, 40:] == IGNORE).all()
    assert (labels[:, :40, :60] != IGNORE).all()


class Half:
    def scale(self, height, width):
        return 0.5


def test_working_scale_resizes_both():
    example = Example("a", np.zeros((41, 60, 3), np.uint8), np.full((41, 60), 2, np.uint8))
    small = at_working_scale(Half(), example)
    assert small.image.shape == (20, 30, 3) and small.label.shape == (20, 30)
    assert (small.label == 2).all() and small.label.dtype == small.image.dtype == np.uint8
