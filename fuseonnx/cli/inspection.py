"""Gathers what `fuseonnx inspect` shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from fuseonnx.analysis.shapes import annotate
from fuseonnx.analysis.stats import (
    Cost,
    Weight,
    biggest_weights,
    dtype_name,
    estimate_flops,
    graph_stats,
)
from fuseonnx.api import plan
from fuseonnx.core import pipeline
from fuseonnx.core.journal import Journal
from fuseonnx.io.load import load
from fuseonnx.passes import STAGES
from fuseonnx.placement.annotate import annotated_devices
from fuseonnx.report import GraphStats, RuleUse


@dataclass(frozen=True)
class Port:
    """A graph input or output."""

    name: str
    type: str
    """An element type such as `float32`, or for anything but a dense tensor its kind: `sequence(float32)`."""
    shape: tuple[int | str, ...] | None
    """Sizes, and symbols (`?` if a dim has none); None if the rank is unknown."""
    optional: bool = False
    """Whether it is an input with a default value."""


@dataclass(frozen=True)
class Inspection:
    """Everything `fuseonnx inspect` has to say about a model."""

    path: str
    sha256: str
    ir_version: int
    opsets: dict[str, int]
    producer_name: str
    producer_version: str
    metadata: dict[str, str]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    stats: GraphStats
    cost: Cost
    biggest_weights: tuple[Weight, ...]
    rewrites: tuple[RuleUse, ...]
    devices: dict[str, int]
    """How many nodes are meant for each device, where the model says so."""


def look_into(
    path: Path, input_shapes: Mapping[str, Sequence[int]], on_progress: Callable[[str], None]
) -> Inspection:
    """Load the model at `path` and describe it; `input_shapes` are the ones that its cost is counted with.

    Raises:
        ModelLoadError: the file is not a usable ONNX model.
        OptionError: `input_shapes` does not fit the model.
    """
    on_progress("load")
    loaded = load(path)
    model = loaded.model
    on_progress("cost")
    cost = estimate_flops(model, input_shapes, simplify=_fold_shapes)
    on_progress("dry run")
    return Inspection(
        path=str(path),
        sha256=loaded.sha256,
        ir_version=model.ir_version,
        opsets={domain or "ai.onnx": version for domain, version in model.opset_imports.items()},
        producer_name=model.producer_name or "",
        producer_version=model.producer_version or "",
        metadata=dict(model.metadata_props),
        inputs=tuple(_port(info, model.graph.initializers) for info in loaded.signature.inputs),
        outputs=tuple(_port(info, {}) for info in loaded.signature.outputs),
        stats=graph_stats(model, loaded.file_bytes),
        cost=cost,
        biggest_weights=tuple(biggest_weights(model)),
        rewrites=plan(path),
        devices=annotated_devices(model),
    )


def _fold_shapes(model: ir.Model) -> None:
    simplify = [stage for stage in STAGES if stage.name == "simplify"]
    pipeline.run(model, simplify, Journal(), analyse=annotate)


def _port(info: onnx.ValueInfoProto, defaults: Mapping[str, object]) -> Port:
    shape = None
    if info.type.tensor_type.HasField("shape"):
        shape = tuple(_dim(dim) for dim in info.type.tensor_type.shape.dim)
    return Port(info.name, _type_name(info.type), shape, optional=info.name in defaults)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"


def _type_name(type_proto: onnx.TypeProto) -> str:
    kind = type_proto.WhichOneof("value")
    if kind == "tensor_type":
        return dtype_name(ir.DataType(type_proto.tensor_type.elem_type))
    if kind == "sparse_tensor_type":
        return f"sparse({dtype_name(ir.DataType(type_proto.sparse_tensor_type.elem_type))})"
    if kind == "sequence_type":
        return f"sequence({_type_name(type_proto.sequence_type.elem_type)})"
    if kind == "optional_type":
        return f"optional({_type_name(type_proto.optional_type.elem_type)})"
    if kind == "map_type":
        key = dtype_name(ir.DataType(type_proto.map_type.key_type))
        return f"map({key}, {_type_name(type_proto.map_type.value_type)})"
    return "undefined"
