"""What placement reads off the values of a model: their sizes, their types, and which are constant."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import onnx_ir as ir

from fuseonnx.analysis.expr import Expr, Number, evaluated
from fuseonnx.analysis.purity import is_deterministic
from fuseonnx.analysis.shapes import static_shape
from fuseonnx.analysis.stats import assumed_shapes, dtype_name
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.constants import is_const
from fuseonnx.core.graph import may_hold_bodies

BATCH = 0
"""The axis along which one entry is a usual size."""


class Sizes:
    """Tells the dims of values, where the dynamic dims of the inputs have the sizes that are assumed."""

    def __init__(self, model: ir.Model, input_shapes: Mapping[str, Sequence[int]]) -> None:
        self._assumed: dict[str, int] = {}
        self._known: dict[str, int] = {}
        self._evaluated: dict[Number, tuple[int | None, bool]] = {}
        self._dims: dict[ir.Value | None, tuple[int | None, ...] | None] = {}
        shapes = assumed_shapes(model, input_shapes)
        for value in model.graph.inputs:
            dims, shape = dims_of(value), shapes.get(value.name or "")
            for axis, (dim, size) in enumerate(zip(dims or (), shape or (), strict=False)):
                if isinstance(dim, Expr):
                    sizes = {name: size for names, _ in dim.terms for name in names}
                    self._assumed |= sizes
                    if axis == BATCH or value.name in input_shapes:
                        self._known |= sizes

    def dims(self, value: ir.Value | None) -> tuple[int | None, ...] | None:
        """Return the sizes of a value, None where one is unknown; None if the rank is."""
        if value not in self._dims:
            dims = dims_of(value)
            self._dims[value] = None if dims is None else tuple(self._size(dim)[0] for dim in dims)
        return self._dims[value]

    def filled(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """Return the sizes of a value, 1 where one is unknown; None if the rank is."""
        dims = self.dims(value)
        return None if dims is None else tuple(1 if dim is None else dim for dim in dims)

    def are_known(self, value: ir.Value) -> bool:
        """Whether the sizes of a value follow from the model, from shapes that were given, and from a batch
        of 1; what else is dynamic may be far larger than assumed.
        """
        dims = dims_of(value)
        return dims is not None and all(self._size(dim)[1] for dim in dims)

    def _size(self, dim: Number) -> tuple[int | None, bool]:
        """Return a size, None if it is unknown, and whether it is more than assumed."""
        if isinstance(dim, int):
            return dim, True
        if dim not in self._evaluated:
            size = evaluated(dim, self._assumed)
            is_known = size is not None and evaluated(dim, self._known) is not None
            self._evaluated[dim] = (size if is_known or (size or 0) > 0 else None, is_known)
        return self._evaluated[dim]


def constant_results(graph: ir.Graph, *, folds_constants: bool) -> set[ir.Value]:
    """Return the results of nodes that onnxruntime turns into initializers before it places any node."""
    constants: set[ir.Value] = set()
    for node in graph:
        if is_const(node.outputs[0] if node.outputs else None) or (
            folds_constants and _is_folded(node, constants)
        ):
            constants.update(node.outputs)
    return constants


def _is_folded(node: ir.Node, constants: Container[ir.Value]) -> bool:
    """Source: onnxruntime's core/optimizer/constant_folding.cc."""
    if (
        node.domain
        or node.op_type == "DequantizeLinear"
        or may_hold_bodies(node)
        or not is_deterministic(node)
    ):
        return False
    if any(value.is_graph_output() for value in node.outputs):
        return False
    if node.op_type == "Shape" and static_shape(node.inputs[0]) is not None:
        return True
    inputs = [value for value in node.inputs if value is not None]
    return bool(inputs) and all(value in constants or is_const(value) for value in inputs)


def type_name(kind: ir.TypeProtocol | None) -> str:
    """Return a type as the kernel table writes it."""
    if isinstance(kind, ir.TensorType):
        return dtype_name(kind.dtype)
    if isinstance(kind, ir.SparseTensorType):
        return f"sparse({dtype_name(kind.dtype)})"
    if isinstance(kind, ir.SequenceType):
        return f"sequence({type_name(kind.elem_type)})"
    if isinstance(kind, ir.OptionalType):
        return f"optional({type_name(kind.elem_type)})"
    return ""
