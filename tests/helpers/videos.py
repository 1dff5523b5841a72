"""Small videos."""

import av
import numpy as np


def clip(path, frames=5, size=(36, 48)):
    """Writes a video (H, W) whose frames become brighter, from black to white; returns its path."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = size
        for number in range(frames):
            image = np.full((*size, 3), 255 * number // (frames - 1), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
