"""Where the real data and weights are, for the tests that need them."""

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _root(variable: str, name: str) -> Path:
    path = Path(os.environ.get(variable) or SHARED / name)
    if not path.is_dir():
        pytest.skip(f"{variable} is not set, or is no folder")
    return path


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The real data root; skips the test where there is none."""
    return _root("BENCHMARK_DATA", "data")


@pytest.fixture(scope="session")
def weights_root() -> Path:
    """The folder of the real weights; skips the test where there is none."""
    return _root("BENCHMARK_WEIGHTS", "weights")


def pytest_configure() -> None:
    # The models of the tests are tiny: threads would only wait for each other.
    torch.set_num_threads(1)
