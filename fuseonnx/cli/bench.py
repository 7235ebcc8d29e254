"""`fuseonnx bench`."""

# ruff: noqa: B006 (the defaults of options are never changed)

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fuseonnx.cli.console import one_line_errors, print_sections, progress
from fuseonnx.cli.options import (
    AllowFallbackOption,
    DebugOption,
    JsonOption,
    ProviderOption,
    ProviderOptionOption,
    ThreadsOption,
)
from fuseonnx.errors import OptionError


def bench(  # noqa: PLR0913, PLR0917
    models: Annotated[list[Path], typer.Argument(metavar="MODEL", help="Models with the same inputs.")],
    batch: Annotated[
        str,
        typer.Option(
            metavar="1,2,4,8", help="Sizes of axis 0, where it is dynamic. [default: that of the inputs]"
        ),
    ] = "",
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="S", help="Time for each model and batch size; less if that is enough."
        ),
    ] = 5.0,
    input_shape: Annotated[
        list[str], typer.Option(metavar="NAME=1,3,224,224", help="Shape of an input. Repeatable.")
    ] = [],
    samples: Annotated[
        str | None,
        typer.Option(
            "--inputs", metavar="NPZ", help="Run on real inputs: an .npz file, or a folder's first."
        ),
    ] = None,
    provider: ProviderOption = "cpu",
    provider_option: ProviderOptionOption = [],
    threads: ThreadsOption = 0,
    allow_fallback: AllowFallbackOption = False,
    cuda_graph: Annotated[bool, typer.Option("--cuda-graph", help="Record the runs as CUDA graphs.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png|svg", help="Draw latencies, and throughput over batch sizes."),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how fast models are: latency, throughput, loading, memory.

    Several models run in turn on the same inputs and are compared with the first; one is called faster or
    slower only if the 95 % confidence interval of the ratio says so.
    """
    from fuseonnx.cli.providers import backend_of
    from fuseonnx.cli.shapes import parse_shapes

    with one_line_errors(str(models[0]), debug=debug):
        from fuseonnx import benchmarking
        from fuseonnx.benchmark_tables import benchmark_heading, benchmark_sections
        from fuseonnx.plots import check_plot, plot_benchmark

        if plot:
            check_plot(plot)
        backend = backend_of(provider, provider_option, threads, allow_fallback)
        with progress(", ".join(map(str, models))) as show:
            found = benchmarking.bench(
                models,
                provider=backend.provider,
                threads=backend.threads,
                allow_fallback=backend.allow_fallback,
                batches=_parse_batches(batch),
                input_shapes=parse_shapes(input_shape, "--input-shape"),
                samples=samples,
                seconds=seconds,
                cuda_graph=cuda_graph,
                on_progress=show,
            )
        if as_json:
            typer.echo(found.to_json())
        else:
            print_sections(benchmark_heading(found), benchmark_sections(found))
        if plot:
            plot_benchmark(found, plot)


def _parse_batches(text: str) -> list[int]:
    sizes = [size.strip() for size in text.split(",")] if text else []
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise OptionError(f"--batch '{text}': write sizes such as 1,2,4,8")
    return [int(size) for size in sizes]
