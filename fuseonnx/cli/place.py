"""`fuseonnx place`."""

# ruff: noqa: B006 (the defaults of options are never changed)

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fuseonnx.cli.console import one_line_errors, print_sections, progress
from fuseonnx.cli.options import DebugOption, JsonOption


def place(  # noqa: PLR0913, PLR0917
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model, best one that was optimized.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.onnx",
            help="Write the placement into a copy of the model. [default: only report]",
        ),
    ] = None,
    provider: Annotated[str, typer.Option(metavar="cuda", help="Execution provider on the GPU.")] = "cuda",
    pin: Annotated[
        list[str],
        typer.Option(
            metavar="PATTERN=cpu|cuda",
            help="Where nodes have to run: 'NonMaxSuppression=cpu', 'name:/model/head/*=cuda'. Repeatable;"
            " a later one outranks an earlier one.",
        ),
    ] = [],
    input_shape: Annotated[
        list[str], typer.Option(metavar="NAME=1,3,224,224", help="Shape of an input. Repeatable.")
    ] = [],
    standard: Annotated[
        bool,
        typer.Option("--standard", help="Also write ONNX's own fields for devices (IR version 11)."),
    ] = False,
    no_rewrite: Annotated[
        bool, typer.Option("--no-rewrite", help="Do not decompose operators that have no CUDA kernel.")
    ] = False,
    top: Annotated[int, typer.Option(min=0, metavar="N", help="Copies and blocks to list.")] = 15,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png|svg", help="Draw the blocks and the copies between them.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell which nodes of a model run on the GPU and which on the CPU, why, and what is copied between them.

    Needs no GPU: nothing is run. With -o the placement that costs least is written into a copy of the model,
    as annotations that onnxruntime obeys in a session of `fuseonnx.load_session`, and in `bench`, `verify`,
    `profile` and `optimize` with --provider.
    """
    from fuseonnx.cli.shapes import parse_shapes

    with one_line_errors(str(model), debug=debug):
        from fuseonnx import placing
        from fuseonnx.placement_picture import plot_placement
        from fuseonnx.placement_tables import placement_heading, placement_sections
        from fuseonnx.plots import check_plot

        if plot:
            check_plot(plot)
        with progress(str(model)) as show:
            report = placing.place(
                model,
                output,
                provider=provider,
                rules=pin,
                input_shapes=parse_shapes(input_shape, "--input-shape"),
                standard=standard,
                rewrite=not no_rewrite,
                on_progress=show,
            ).report
        if plot:
            plot_placement(report, plot)
        if as_json:
            typer.echo(report.to_json())
        else:
            print_sections(placement_heading(report), placement_sections(report, top=top))
