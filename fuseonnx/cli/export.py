"""`fuseonnx export`."""

# ruff: noqa: B006 (the defaults of options are never changed)

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fuseonnx.cli.console import one_line_errors, print_sections, progress
from fuseonnx.cli.options import (
    BatchOption,
    DebugOption,
    DynamicOption,
    ExampleOption,
    ExporterOption,
    ExternalDataOption,
    InputNamesOption,
    InputShapeOption,
    JsonOption,
    OpsetOption,
    OutputNamesOption,
    SamplesOption,
    SignatureOption,
    TrustOption,
)


def export(  # noqa: PLR0913, PLR0917
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A model, or package.module:function.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Result. [default: SOURCE.onnx]")
    ] = None,
    example: ExampleOption = [],
    batch: BatchOption = None,
    dynamic: DynamicOption = [],
    opset: OpsetOption = None,
    input_names: InputNamesOption = "",
    output_names: OutputNamesOption = "",
    signature: SignatureOption = None,
    exporter: ExporterOption = None,
    trust: TrustOption = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not compare the answers with the framework's.")
    ] = False,
    input_shape: InputShapeOption = [],
    samples: SamplesOption = None,
    external_data: ExternalDataOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn a Keras, TensorFlow or PyTorch model into ONNX, and prove that it answers alike.

    SOURCE is a .keras or .h5 file, a SavedModel folder, a frozen .pb, .tflite, .pt2 or TorchScript file, or
    package.module:function, where the function returns a model. The ONNX model is run on onnxruntime and
    compared with the framework before it is written.
    """
    from fuseonnx.cli.exports import export_keywords
    from fuseonnx.cli.shapes import parse_shapes

    with one_line_errors(source, debug=debug):
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

        import fuseonnx
        from fuseonnx.markdown import export_sections, heading

        with progress(source) as show:
            report = fuseonnx.export(
                source,
                _file(source, output),
                verify=not no_verify,
                input_shapes=shapes,
                samples=samples,
                external_data=external_data,
                on_progress=show,
                **keywords,
            ).report
        if as_json:
            typer.echo(report.to_json())
        else:
            print_sections(heading(report), export_sections(report))


def _file(source: str, output: str | None) -> Path | None:
    from fuseonnx.frontends import default_output

    if output and (output.endswith(("/", os.sep)) or Path(output).is_dir()):
        return Path(output) / default_output(Path(source), ".onnx").name
    return Path(output) if output else None
