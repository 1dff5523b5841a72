"""`export`: a finished run as files that other software loads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    from benchmark.cli.request import Request


FORMATS = "onnx, torch-export, openvino, merged, peft or folder"
"""What `benchmark.export.formats` knows, which takes torch to ask."""


@options.takes("results", "data", "weights", "plugin")
def export(
    request: "Request",
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run id, or its first characters, or a folder.")
    ],
    out: Annotated[Path, typer.Option(metavar="PATH", help="File or folder to write.")],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help=f"{FORMATS}.",
        ),
    ] = None,
    stages: Annotated[
        bool, typer.Option("--stages", help="The backbone a file a stage, and the task beside it.")
    ] = False,
    push: Annotated[
        str | None,
        typer.Option(metavar="USER/NAME", help="Upload the folder (--format folder) to a hub."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at --out.")] = False,
) -> None:
    """Export a finished run to files that load without this package.

    onnx, torch-export and openvino hold the whole network: they take images in [0, 1] and return
    logits at the size of the image. merged is a plain timm state dict, peft a folder that peft
    loads onto a timm model; both come with the decoder. folder is for a model hub. What was written
    is compared with the network before it is kept, on test images where the data are here.

    --stages writes the backbone once, as one ONNX file a stage. Another run on the same backbone,
    exported to the same folder, adds only what its task needs.

    Exit code 0: written. 2: bad request, or it does not agree with the network.
    """
    if form is None and not stages:
        raise UserError(
            f"write --format NAME ({FORMATS}), or --stages for one file a stage of the backbone"
        )
    if form is not None and stages:
        raise UserError("--format and --stages exclude each other; keep one")
    if push is not None and form != "folder":
        raise UserError("--push needs --format folder")
    from rich.console import Console

    from benchmark.core.format import size_text
    from benchmark.export import formats

    console = Console(highlight=False, soft_wrap=True)
    about = "" if form is None else f", {formats.format_named(form).about}"
    from benchmark.export.trained import open_run

    trained = open_run(run, request.results, request.weights, request.data)
    if form is None:
        from benchmark.export.stage_files import export_stages

        try:
            written = export_stages(trained, out, force)
        except OSError as error:
            raise UserError(f"--out {out} cannot be written ({error.strerror or error})") from error
    else:
        written = formats.export(trained, form, out, force)
    console.print(f"{out}: {size_text(formats.size_of(out))}{about}", markup=False)
    for line in written.lines():
        console.print(line, markup=False)
    if push is not None:
        from benchmark.export.folder import push as upload

        console.print(f"uploaded to {upload(out, push)}", markup=False)
