from pathlib import Path
from benchmark.data.fake.drawing import *
from benchmark.data.fake.small import *
import os
def truncate(path, share=0.5):
    os.truncate(path, int(path.stat().st_size * share))
def write_all(root):
    for write in WRITERS.values():
        write(root)
    return root
