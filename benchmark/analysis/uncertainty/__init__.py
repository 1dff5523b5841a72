"""Statistics of segmentation results that carry their uncertainty; `assess` makes them all."""

from benchmark.analysis.uncertainty.assess import Assessment, assess

__all__ = ["Assessment", "assess"]
