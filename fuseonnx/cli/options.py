"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
InputShapeOption = Annotated[
    list[str],
    typer.Option(metavar="NAME=1,3,224,224", help="Shape of an input in the comparison. Repeatable."),
]
SamplesOption = Annotated[
    str | None,
    typer.Option("--inputs", metavar="NPZ", help="Compare on real inputs too: an .npz file, or a folder."),
]
ExternalDataOption = Annotated[
    bool, typer.Option("--external-data", help="Put the weights into a file of their own.")
]

ProviderOption = Annotated[
    str,
    typer.Option(
        metavar="cpu|cuda|tensorrt|NAME", help="Execution provider; NAME is another of onnxruntime's."
    ),
]
ProviderOptionOption = Annotated[
    list[str],
    typer.Option(
        "--provider-option",
        metavar="KEY=VALUE|@FILE",
        help="Option of the provider, or a file with one a line. Repeatable.",
    ),
]
ThreadsOption = Annotated[
    int, typer.Option(min=0, metavar="N", help="Threads inside an operator. [0: onnxruntime's choice]")
]
AllowFallbackOption = Annotated[
    bool,
    typer.Option("--allow-fallback", help="Accept that nodes run on the CPU, not on the provider."),
]

ExampleOption = Annotated[
    list[str],
    typer.Option(
        "--input",
        metavar="[NAME=]1x3x224x224:float32",
        help="Export: shape and type of an example input, for PyTorch. Repeatable.",
    ),
]
BatchOption = Annotated[
    str | None,
    typer.Option(metavar="dynamic|N", help="Export: size of axis 0. [default: as the model or example says]"),
]
DynamicOption = Annotated[
    list[str],
    typer.Option(metavar="NAME:0=batch,2=height", help="Export: dynamic axes of an input. Repeatable."),
]
OpsetOption = Annotated[
    int | None, typer.Option(metavar="N", help="Export: opset. [default: what the exporter writes best]")
]
InputNamesOption = Annotated[str, typer.Option(metavar="A,B", help="Export: names of the inputs, in order.")]
OutputNamesOption = Annotated[
    str, typer.Option(metavar="A,B", help="Export: names of the outputs, in order.")
]
SignatureOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Export: which signature of a SavedModel.")
]
ExporterOption = Annotated[
    Literal["dynamo", "torchscript"] | None,
    typer.Option(help="Export: PyTorch's exporter. [default: dynamo, then torchscript]"),
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Export: load files that can run code of their own, such as pickles.")
]
