"""Where the real data and weights are, and the table of what the contract found."""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

# Read when libraries are loaded, here and in what the tests start: there is a test on every core,
# and everything is tiny, so that threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import peft  # noqa: F401 - makes tensors when it is imported, which tests marked no_torch may not
import pytest
import torch
from rich.console import Console
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.engine import compute

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
    # One cache for all processes of a test run, and never the user's.
    if "PETSEG_TEST_CACHE" not in os.environ:
        os.environ["PETSEG_TEST_CACHE"] = tempfile.mkdtemp(prefix="petseg-test-cache-")
    os.environ["BENCHMARK_CACHE"] = os.environ["PETSEG_TEST_CACHE"]
    torch.set_num_threads(1)
    # How a run computes must not hang on what a busy machine happens to measure.
    compute.GAIN = float("inf")
    # Building models makes many objects that are no garbage; looking for some takes long.
    gc.set_threshold(50_000)


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ.pop("PETSEG_TEST_CACHE"), ignore_errors=True)


class Forbidden(TorchDispatchMode):
    """No operator of torch may run."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> None:
        pytest.fail(f"marked no_torch, but computes {func}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    with Forbidden() if item.get_closest_marker("no_torch") else nullcontext():
        return (yield)


_PROPERTY = "contract"
_FOUND: list[tuple[str, str, str, bool]] = []
"""Method, family, refusal and whether something is broken; filled where the summary is written."""


@pytest.fixture
def record_verdict(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Sends a verdict to the summary, also from another process."""

    def record(method: str, family: str, verdict: Any) -> None:
        record_property(_PROPERTY, [method, family, verdict.refusal, bool(verdict.broken)])

    return record


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        _FOUND.extend(tuple(value) for name, value in report.user_properties if name == _PROPERTY)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _FOUND:
        return
    from benchmark.contract import FAMILIES

    families = [f for f in FAMILIES if any(family == f for _, family, _, _ in _FOUND)]
    cells = {
        (method, family): "FAIL" if broken else "-" if refusal else "ok"
        for method, family, refusal, broken in _FOUND
    }
    table = Table("method", *families, box=None)
    names = sorted({method for method, _ in cells}, key=lambda name: (":" in name, name))
    for method in names:
        table.add_row(method.replace("[", r"\["), *(cells.get((method, f), "") for f in families))
    refusals: dict[str, set[str]] = {}
    for _, family, refusal, _ in _FOUND:
        if refusal:
            refusals.setdefault(refusal, set()).add(family)
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(table)
        console.print("-: refused, with the reason; empty: marked slow")
        for reason, where in sorted(refusals.items()):
            console.print(f"  {', '.join(sorted(where))}: {reason}", markup=False, highlight=False)
    terminalreporter.section("method contract")
    terminalreporter.write_line(capture.get())
