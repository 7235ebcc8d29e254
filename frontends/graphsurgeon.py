"""onnx-graphsurgeon, the guest format: its graphs as models, and functions on them as passes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard

import onnx
import onnx_ir as ir

from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass, Rule, Step
from fuseonnx.errors import OptionError

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def is_surgeon_graph(model: object) -> TypeGuard[gs.Graph]:
    """Whether an object is an onnx-graphsurgeon graph; nobody can hold one without having imported it."""
    surgeon = sys.modules.get("onnx_graphsurgeon")
    return surgeon is not None and isinstance(model, surgeon.Graph)


def from_surgeon(graph: gs.Graph) -> onnx.ModelProto:
    """Return the model of a graph."""
    import onnx_graphsurgeon as gs

    model: onnx.ModelProto = gs.export_onnx(graph.copy())
    model.ir_version = min(model.ir_version, 10)
    return model


def to_surgeon(model: onnx.ModelProto) -> gs.Graph:
    """Return the graph of a model.

    Raises:
        OptionError: onnx-graphsurgeon is not installed.
    """
    try:
        import onnx_graphsurgeon as gs
    except ImportError as error:
        raise OptionError(
            "onnx-graphsurgeon is not installed: pip install 'fuseonnx[graphsurgeon]'"
        ) from error
    return gs.import_onnx(model)


def as_step(rule: Step | Callable[[gs.Graph], gs.Graph | None]) -> Step:
    """Return a rule or pass as it is, and a function on an `onnx_graphsurgeon.Graph` as a pass."""
    return rule if isinstance(rule, Rule | GraphPass) else as_graph_pass(rule)


def as_graph_pass(function: Callable[[gs.Graph], gs.Graph | None]) -> GraphPass:
    """Make a pass of a function that changes a graph in place, or returns a new one. It runs once a model."""
    name = getattr(function, "__name__", type(function).__name__)

    def run(model: ir.Model, journal: Journal) -> None:
        has_run = any(application.rule == name for application in journal.applied)
        if has_run or not journal.admits(name, name):
            return
        proto = ir.to_proto(model)
        for tensor in proto.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                tensor.CopyFrom(_inline(model.graph.initializers[tensor.name]))
        graph = to_surgeon(proto)
        changed = function(graph)
        rewritten = ir.from_proto(from_surgeon(graph if changed is None else changed)).graph
        for old, new in ((model.graph.inputs, rewritten.inputs), (model.graph.outputs, rewritten.outputs)):
            if [value.name for value in old] != [value.name for value in new]:
                raise OptionError(f"{name} changes the model's inputs or outputs; they must stay as they are")
        rewritten.meta.update(model.graph.meta)
        model.graph = rewritten
        journal.record(name, name)

    return GraphPass(name, run)


def _inline(value: ir.Value) -> onnx.TensorProto:
    assert value.const_value is not None
    return ir.to_proto(ir.Tensor(value.const_value.numpy(), name=value.name))
