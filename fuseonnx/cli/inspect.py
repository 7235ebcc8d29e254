"""`fuseonnx inspect`."""

# ruff: noqa: B006 (the defaults of options are never changed)

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fuseonnx.cli.console import one_line_errors, print_sections, progress
from fuseonnx.cli.options import DebugOption, JsonOption

if TYPE_CHECKING:
    from fuseonnx.cli.inspection import Inspection, Port
    from fuseonnx.markdown import Section

_METADATA_WIDTH = 40


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX model.")],
    input_shape: Annotated[
        list[str],
        typer.Option(metavar="NAME=1,3,224,224", help="Shape of an input, to count FLOPs with. Repeatable."),
    ] = [],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what a model is, and what would be rewritten.

    Lists its inputs and outputs, operators, biggest weights, an estimate of what a run costs, and how often
    each rewrite would apply (a dry run: nothing is written).
    """
    from fuseonnx.cli.shapes import parse_shapes

    with one_line_errors(str(model), debug=debug):
        from fuseonnx.cli.inspection import look_into

        with progress(str(model)) as show:
            inspection = look_into(model, parse_shapes(input_shape, "--input-shape"), show)
        if as_json:
            typer.echo(json.dumps(dataclasses.asdict(inspection), indent=2))
        else:
            print_sections(str(model), _sections(inspection))


def _sections(inspection: Inspection) -> Iterator[Section]:
    from fuseonnx.markdown import Section, human_bytes

    facts = (
        ("opsets", ", ".join(f"{domain} {version}" for domain, version in inspection.opsets.items())),
        ("IR version", str(inspection.ir_version)),
        ("producer", f"{inspection.producer_name} {inspection.producer_version}".strip()),
        ("file", human_bytes(inspection.stats.file_bytes)),
        ("nodes placed", ", ".join(f"{count} on {device}" for device, count in inspection.devices.items())),
        *((key, _shortened(text)) for key, text in inspection.metadata.items()),
    )
    yield Section("Model", ("", ""), tuple(fact for fact in facts if fact[1]), "ll")
    for title, ports in (("Inputs", inspection.inputs), ("Outputs", inspection.outputs)):
        yield Section(title, ("name", "type", "shape"), tuple(map(_port_row, ports)), "lll")
    yield _cost(inspection)
    operators = tuple((op, str(count)) for op, count in inspection.stats.ops.items())
    yield Section("Operators", ("operator", "nodes"), operators, "lr")
    weights = tuple(
        (weight.name, weight.dtype, _dims(weight.shape), human_bytes(weight.nbytes))
        for weight in inspection.biggest_weights
    )
    if weights:
        yield Section("Biggest weights", ("name", "type", "shape", "size"), weights, "lllr")
    rewrites = tuple((use.name, str(use.fired)) for use in inspection.rewrites if use.fired)
    notes = () if rewrites else ("nothing",)
    yield Section("What optimize would rewrite", ("rule", "times"), rewrites, "lr", notes)


def _port_row(port: Port) -> tuple[str, str, str]:
    shape = "any rank" if port.shape is None else _dims(port.shape)
    return port.name, port.type, f"{shape}, optional" if port.optional else shape


def _dims(shape: Iterable[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _shortened(text: str) -> str:
    """Return the first line or what fits on one."""
    line = text.strip().partition("\n")[0][:_METADATA_WIDTH]
    return line if line == text.strip() else f"{line}... ({len(text):,} characters)"


def _cost(inspection: Inspection) -> Section:
    from fuseonnx.markdown import Section, human_bytes

    stats, cost = inspection.stats, inspection.cost
    rows = (
        ("nodes", f"{stats.nodes:,}"),
        ("parameters", f"{stats.parameters:,}"),
        ("weights", human_bytes(stats.weight_bytes)),
        ("FLOPs of a run, estimated", f"{cost.flops:,}"),
        ("bytes read and written in a run, estimated", human_bytes(cost.bytes_moved)),
    )
    notes = [
        f"{name} is counted as {_dims(shape)}; --input-shape {name}=... counts another size"
        for name, shape in cost.assumed.items()
    ]
    if cost.uncounted:
        notes.append(f"{cost.uncounted} nodes are not counted: their shapes cannot be inferred")
    return Section("Size and cost", ("", ""), rows, "lr", tuple(notes))
