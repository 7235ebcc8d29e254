"""`fuseonnx verify`."""

# ruff: noqa: B006 (the defaults of options are never changed)

from __future__ import annotations

from typing import Annotated, Any

import typer

from fuseonnx.cli.console import FAILED, one_line_errors, print_error, print_sections, progress
from fuseonnx.cli.options import (
    AllowFallbackOption,
    BatchOption,
    DebugOption,
    DynamicOption,
    ExampleOption,
    ExporterOption,
    InputNamesOption,
    InputShapeOption,
    JsonOption,
    OpsetOption,
    OutputNamesOption,
    ProviderOption,
    ProviderOptionOption,
    SamplesOption,
    SignatureOption,
    ThreadsOption,
    TrustOption,
)

DIFFERENT = 1


def verify(  # noqa: PLR0913, PLR0917
    original: Annotated[
        str, typer.Argument(metavar="A", help="The model that counts: ONNX or a framework's.")
    ],
    candidate: Annotated[str, typer.Argument(metavar="B", help="The model that is compared with it.")],
    samples: SamplesOption = None,
    inputs_from: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Compare on what a function yields: mappings of input name to array, or (inputs, labels).",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="NPY|NPZ",
            help="Class of each row of the inputs: gives top-1 and top-5 accuracy. [default: 'label' in NPZ]",
        ),
    ] = None,
    labels_output: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Output with the scores. [default: the first float one of rank 2]"),
    ] = None,
    input_shape: InputShapeOption = [],
    provider: ProviderOption = "cpu",
    provider_option: ProviderOptionOption = [],
    threads: ThreadsOption = 0,
    allow_fallback: AllowFallbackOption = False,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Find the first tensor that differs, and the rule that did it.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Other names or another order of outputs are a difference.")
    ] = False,
    example: ExampleOption = [],
    batch: BatchOption = None,
    dynamic: DynamicOption = [],
    opset: OpsetOption = None,
    input_names: InputNamesOption = "",
    output_names: OutputNamesOption = "",
    signature: SignatureOption = None,
    exporter: ExporterOption = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare the answers of two models, and say how far apart they are.

    A runs in its own framework, or on the CPU with onnxruntime's optimizations off; B runs on --provider with
    them off and at the default level. B passes if it is within the rounding noise that A itself has.

    Exit code: 0 if the answers are the same, 1 if they differ, 2 if they could not be compared.
    """
    from fuseonnx.cli.exports import export_keywords
    from fuseonnx.cli.providers import backend_of
    from fuseonnx.cli.shapes import parse_shapes

    with one_line_errors(f"{original}, {candidate}", debug=debug):
        keywords = export_keywords(
            example=example,
            batch=batch,
            dynamic=dynamic,
            opset=opset,
            input_names=input_names,
            output_names=output_names,
            signature=signature,
            exporter=exporter,
            trust=trust,
        )
        shapes = parse_shapes(input_shape, "--input-shape")
        backend = backend_of(provider, provider_option, threads, allow_fallback)

        from fuseonnx.comparing import verify as compare
        from fuseonnx.comparison_tables import comparison_heading, comparison_sections

        with progress(f"{original} = {candidate}") as show:
            comparison = compare(
                original,
                candidate,
                samples=_samples(samples, inputs_from),
                labels=labels,
                labels_output=labels_output,
                input_shapes=shapes,
                provider=backend.provider,
                threads=threads,
                allow_fallback=allow_fallback,
                strict=strict,
                bisect=bisect,
                on_progress=show,
                **keywords,
            )
        if comparison.verification.status == "skipped":
            print_error(comparison.verification.reason)
            raise typer.Exit(FAILED)
        if as_json:
            typer.echo(comparison.to_json())
        else:
            print_sections(comparison_heading(comparison), comparison_sections(comparison))
        raise typer.Exit(0 if comparison.same else DIFFERENT)


def _samples(path: str | None, function: str | None) -> Any:
    from fuseonnx.errors import OptionError
    from fuseonnx.importing import samples_from

    if path and function:
        raise OptionError("give --inputs or --inputs-from, not both")
    return samples_from(function) if function else path
