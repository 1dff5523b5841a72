"""`pretrain`: makes the weights of the demo backbone."""

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.options import Quiet
from benchmark.core.format import size_text


def pretrain(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the weights.")] = Path(
        "demo_vit.safetensors"
    ),
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Steps (default: as for the shipped weights)."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Pretrain the demo backbone on generated images; the same seed gives the same weights."""
    from rich.progress import Progress, TimeRemainingColumn

    from benchmark.engine import pretrain as recipe

    with Progress(
        *Progress.get_default_columns()[:3], TimeRemainingColumn(), disable=quiet
    ) as bars:
        task = bars.add_task("pretraining", total=steps or recipe.STEPS)

        def show(step: int, total: int, loss: float) -> None:
            bars.update(task, completed=step, total=total, description=f"loss {loss:.3f}")

        path = recipe.pretrain(out, steps=steps or recipe.STEPS, seed=seed, progress=show)
    print(f"wrote {path} ({size_text(path.stat().st_size)})")
