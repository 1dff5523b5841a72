"""What most commands import; the server of `tests.helpers.forked` does so before it forks."""

from importlib import import_module

for name in (
    "matplotlib.pyplot",
    "pandas",
    "peft",
    "rich.live",
    "safetensors.torch",
    "seaborn",
    "timm",
    "torch.utils.flop_counter",
    "benchmark.cli",
    "benchmark.execution.environment",
    "benchmark.execution.grid",
    "benchmark.reporting.report",
    "benchmark.execution.cell",
    "tests.helpers.tiny",
):
    import_module(name)

# As tests.conftest: nothing hangs on what a busy machine happens to measure.
import_module("benchmark.engine.compute").GAIN = float("inf")
