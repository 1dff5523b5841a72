"""Five segmentation benchmarks drawn from a seed: no files, no download, the same on every machine.

They exist so that the demo and the tests run anywhere. Colours and light are random in each image,
so that classes differ by texture, shape and surroundings.
"""
