"""What stands in a figure, read back from its artists."""

import numpy as np
from matplotlib.collections import LineCollection


def line_of(axis, label):
    """The line with this label."""
    return next(line for line in axis.lines if line.get_label() == label)


def xy(line):
    """Its points, as [x, y]."""
    return np.column_stack([line.get_xdata(), line.get_ydata()]).astype(float).tolist()


def segments(axis):
    """Ends of the error bars, as ((x, y), (x, y))."""
    found = [part for part in axis.collections if isinstance(part, LineCollection)]
    return [tuple(map(tuple, s)) for part in found for s in part.get_segments()]


def keys_of(figure):
    """Entries of the legend."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def texts_of(figure):
    """Labels and notes outside the panels."""
    return [text.get_text() for text in figure.texts]


def inside(figure):
    """Whether nothing is cut off."""
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
