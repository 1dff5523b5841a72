"""The command line: one file per verb. Nothing heavy is imported before a verb needs it."""

import inspect
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
import yaml

import benchmark
from benchmark.cli import (
    check,
    compare,
    data,
    doctor,
    evaluate,
    export,
    plan,
    predict,
    pretrain,
    profile,
    quickstart,
    recommend,
    report,
    reproduce,
    results,
    run,
    serve,
    show,
    speed,
    status,
    terminal,
    timing,
    tune,
)
from benchmark.cli import list as list_verb
from benchmark.core.errors import UserError, in_a_line, plain, printable
from benchmark.core.files import CHANGED, is_of_changed_files

_SCRIPT = "petseg-bench"
_IS_SCRIPT = Path(sys.argv[0]).stem == _SCRIPT

app = typer.Typer(
    name=_SCRIPT if _IS_SCRIPT else "python -m benchmark",
    help="Compare parameter-efficient tuning methods of frozen vision backbones on segmentation."
    "\n\nOptions that are not typed come from --config FILE, then from BENCHMARK_DATA and "
    "BENCHMARK_WEIGHTS, then from petseg.yaml in the working folder.",
    no_args_is_help=True,
    add_completion=_IS_SCRIPT,  # a shell completes the names of programs
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_EXAMPLES = yaml.safe_load((Path(__file__).parent / "examples.yaml").read_text())
_VERBS: dict[str, Callable[..., None]] = {
    "quickstart": quickstart.quickstart,
    "run": run.run,
    "plan": plan.plan,
    "tune": tune.tune,
    "evaluate": evaluate.evaluate,
    "export": export.export,
    "status": status.status,
    "report": report.report,
    "recommend": recommend.recommend,
    "serve": serve.serve,
    "predict": predict.predict,
    "list": list_verb.list_things,
    "show": show.show,
    "compare": compare.compare,
    "reproduce": reproduce.reproduce,
    "doctor": doctor.doctor,
    "check": check.check,
    "pretrain": pretrain.pretrain,
    "profile": profile.profile,
    "speed": speed.speed,
    "timing": timing.timing,
}


def _epilog(name: str) -> str:
    lines = [line.replace("[", r"\[") for line in _EXAMPLES[name]]
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(lines)


def _reflowed(verb: Callable[..., None]) -> str:
    """The docstring, a line a paragraph: the terminal's width says where lines end."""
    paragraphs = inspect.cleandoc(verb.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(text.split()) for text in paragraphs)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"{_SCRIPT} {benchmark.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


app.info.epilog = _epilog("benchmark")
for _name, _verb in _VERBS.items():
    app.command(_name)(_verb)
app.add_typer(data.app, name="data", epilog=_epilog("data"))
app.add_typer(results.app, name="results", epilog=_epilog("results"))
for _app, _prefix in ((app, ""), (data.app, "data "), (results.app, "results ")):
    for _command in _app.registered_commands:
        assert _command.callback is not None
        _command.help = _reflowed(_command.callback)
        _command.epilog = _epilog(f"{_prefix}{_command.name or _command.callback.__name__}")


_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""Of click, or of the copy of click that later versions of typer hold."""


def main() -> None:
    """Runs the command line; a user's error is one line and exit code 2.

    So is an error of the system on a path that a user named: too long, or not to be entered.
    """
    warnings.showwarning = in_a_line  # type: ignore[assignment]
    terminal.settle()
    # As Ctrl-C does: what is half written is removed on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        code = app(standalone_mode=False, prog_name=app.info.name)
        sys.stdout.flush()
        raise SystemExit(code)
    except BrokenPipeError:  # who reads the output, as `head` does, wants no more of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except UserError as error:
        problem = str(error)
    except _UsageError as error:
        problem = _told(error)
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        problem = printable(f"{where}{error.strerror or error}; check the path")
    except Exception as error:
        if not is_of_changed_files(error):
            raise
        problem = CHANGED
    if problem:
        print(f"error: {problem}", file=sys.stderr)
    raise SystemExit(2)


_LISTS = ("--methods", "--benchmarks", "--backbones", "--seeds", "--fraction")
"""Options whose values are joined with commas."""


def _commas(words: Sequence[str]) -> str:
    """The option as it should be typed where spaces stand for the commas of a list, else empty."""
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name not in _LISTS:
            continue
        values = [value] if equals else []
        for other in words[place + 1 :]:
            if other.startswith("-"):
                break
            values.append(other)
        if len(values) > 1:
            joined = ",".join(part for text in values if (part := text.strip(",")))
            return f"{name} {shlex.quote(joined) if set('[|*?') & set(joined) else joined}"
    return ""


def _told(error: Exception) -> str:
    """What is wrong with what was typed; empty where nothing was typed and help was shown."""
    message = plain(" ".join(error.format_message().split()).rstrip("."))  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    if message.startswith("Got unexpected extra argument") and (fix := _commas(sys.argv[1:])):
        message += f"; write {fix}"
    verb = context.command_path if context else app.info.name
    return message and printable(f"{message}; see `{verb} --help`")
