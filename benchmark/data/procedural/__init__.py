"""Five segmentation benchmarks drawn from a seed: no files, no download, the same on every machine.

They exist so that the demo and the tests run anywhere. Colours and light are drawn anew for each
image, so that a class is told by its texture, its shape and its surroundings.
"""
