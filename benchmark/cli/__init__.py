"""The command line: one file per verb. Nothing heavy is imported before a verb needs it."""

import os
import sys

import typer

from benchmark.cli import list as list_verb
from benchmark.cli import plan, pretrain, report, run, show
from benchmark.errors import UserError

app = typer.Typer(
    name="python -m benchmark",
    help="Compare parameter-efficient tuning methods of frozen vision backbones on segmentation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", epilog=run.EXAMPLES)(run.run)
app.command("plan", epilog=plan.EXAMPLES)(plan.plan)
app.command("report", epilog=report.EXAMPLES)(report.report)
app.command("list", epilog=list_verb.EXAMPLES)(list_verb.list_things)
app.command("show", epilog=show.EXAMPLES)(show.show)
app.command("pretrain", epilog=pretrain.EXAMPLES)(pretrain.pretrain)


def main() -> None:
    """Runs the command line; a user's error is one line and exit code 2."""
    # Threads that spin while they wait for each other collapse when other work shares the cores
    # (two threads on two busy cores: ten times slower). Read when torch loads OpenMP, later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
