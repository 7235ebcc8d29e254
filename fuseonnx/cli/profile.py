"""`fuseonnx profile`."""

# ruff: noqa: B006 (the defaults of options are never changed)

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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

if TYPE_CHECKING:
    from fuseonnx.profiling import ProfileKeywords
    from fuseonnx.runtime.profile import Profile, ProfileDiff


def profile(  # noqa: PLR0913, PLR0917
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model.")],
    other: Annotated[
        Path | None,
        typer.Argument(metavar="OTHER", help="Another one with the same inputs, to compare with."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="TRACE.json",
            help="Keep the trace, for chrome://tracing or Perfetto. [default: not kept]",
        ),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, metavar="N", help="Runs to record, after a warm-up.")] = 20,
    top: Annotated[int, typer.Option(min=0, metavar="N", help="Slowest nodes to list, of one model.")] = 15,
    level: Annotated[
        Literal["default", "off"], typer.Option(help="onnxruntime's graph optimizations.")
    ] = "default",
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
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show where the time of a model goes: by operator and by node, as onnxruntime runs it.

    Of two models, which run in turn on the same inputs, it shows what became faster or slower. `fuseonnx
    bench` tells which of them is faster, and how sure that is.
    """
    from fuseonnx.cli.providers import backend_of
    from fuseonnx.cli.shapes import parse_shapes

    with one_line_errors(str(model), debug=debug):
        from fuseonnx.profiling import compare_profiles, profile

        backend = backend_of(provider, provider_option, threads, allow_fallback)
        with progress(str(model)) as show:
            options: ProfileKeywords = {
                "runs": runs,
                "input_shapes": parse_shapes(input_shape, "--input-shape"),
                "samples": samples,
                "trace": output,
                "provider": backend.provider,
                "threads": backend.threads,
                "allow_fallback": backend.allow_fallback,
                "optimized": level == "default",
                "on_progress": show,
            }
            found = compare_profiles(model, other, **options) if other else profile(model, **options)
        if as_json:
            typer.echo(found.to_json())
        else:
            _print(found, top)


def _print(found: Profile | ProfileDiff, top: int) -> None:
    from fuseonnx.profile_tables import diff_heading, diff_sections, profile_heading, profile_sections
    from fuseonnx.runtime.profile import ProfileDiff

    if isinstance(found, ProfileDiff):
        print_sections(diff_heading(found), diff_sections(found))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout and sys.stdout.isatty() else None
        print_sections(profile_heading(found), profile_sections(found, top=top, width=width))
