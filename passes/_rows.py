"""Shared by merge_leading_axes: regions of operators that treat every row alike, and their borders.

A value [b, s, c] is a stack of b·s rows of c numbers; b and s are its leading dims. An operator is row-wise
if each row of its results depends on the same row of its operands alone: it may see them as one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import onnx_ir as ir

from fuseonnx.analysis.expr import Number
from fuseonnx.analysis.shapes import static_shape
from fuseonnx.analysis.site import Dims
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.constants import is_const

_UNARY = frozenset(
    {
        *("Abs", "Cast", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "IsNaN"),
        *("LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus"),
        *("Softsign", "Sqrt", "Swish", "Tanh"),
    }
)
_BROADCAST = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "PRelu", "Where"})
_LAST_AXIS = {"LayerNormalization": -1, "RMSNormalization": -1, "Softmax": -1, "LogSoftmax": -1, "Split": 0}
"""Operators that work along the last axis if their `axis` says so, and its default (of Softmax, since 13)."""

_GEMM_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16})
_SHAPE_HAS_END = 15


class Target(NamedTuple):
    """What a Reshape leads to: constant dims, which may follow the computed leading dims of a region."""

    computed: bool
    dims: tuple[int, ...]


class Exit(NamedTuple):
    """A result of the region that others use.

    Attributes:
        value: the result.
        reshapes: the Reshapes that read it, and where they lead to now; None if they do nothing any more.
        back: the shape it had, where anything else uses it.
    """

    value: ir.Value
    reshapes: dict[ir.Node, Target | None]
    back: Target | None

    def targets(self) -> list[Target]:
        """Return all targets."""
        return [each for each in (*self.reshapes.values(), self.back) if each is not None]


class Region(NamedTuple):
    """Row-wise operators with the same leading dims: for each, which inputs are rows."""

    lead: Dims
    nodes: dict[ir.Node, tuple[int, ...]]

    def entries(self) -> dict[ir.Value, None]:
        """Return the rows that come from outside."""
        found: dict[ir.Value, None] = {}
        for node, rows in self.nodes.items():
            for index in rows:
                value = node.inputs[index]
                assert value is not None
                if value.producer() not in self.nodes:
                    found[value] = None
        return found

    def reads(self, node: ir.Node, index: int) -> bool:
        """Whether a use of a value is one as rows."""
        return index in self.nodes.get(node, ())


def grow(seed: ir.Node) -> Region | None:
    """Return the region around a node, in the order of the graph; None if it is not row-wise."""
    dims = dims_of(seed.outputs[0])
    if dims is None or len(dims) < 3 or 0 in dims:
        return None
    region, pending = Region(dims[:-1], {}), [seed]
    while pending:
        node = pending.pop()
        rows = None if node in region.nodes else _rows(node, region.lead)
        if rows is None:
            continue
        region.nodes[node] = rows
        for index in rows:
            value = node.inputs[index]
            assert value is not None
            pending.extend(_around(value, seed.graph))
        for output in node.outputs:
            pending.extend(_around(output, seed.graph))
    if not region.nodes or any(_last(value) is None for value in region.entries()):
        return None
    return region


def exits_of(region: Region, opset: int) -> list[Exit] | None:
    """Return the results that others use; None if the shape of one cannot be said."""
    exits = []
    for node in region.nodes:
        for value in node.outputs:
            outside = [use.node for use in value.uses() if not region.reads(use.node, use.idx)]
            if not outside and not value.is_graph_output():
                continue
            reshapes = {user: _leads_to(user, value, region) for user in outside if _reshapes(user, value)}
            others = value.is_graph_output() or len(reshapes) < len(outside)
            dims = dims_of(value)
            assert dims is not None
            found = Exit(value, reshapes, _target(dims, region.lead) if others else None)
            if (others and found.back is None) or _IMPOSSIBLE in reshapes.values():
                return None
            exits.append(found)
    if any(each.computed for found in exits for each in found.targets()) and (
        opset < _SHAPE_HAS_END or shape_source(region) is None
    ):
        return None
    return exits


def nodes_saved(region: Region, exits: Sequence[Exit]) -> int:
    """Return how many nodes fewer there are after the change; negative if there are more."""
    saved = sum(_becomes_gemm(node) for node in region.nodes)
    saved -= sum(_cost(value, region) for value in region.entries())
    saved += sum(target is None for each in exits for target in each.reshapes.values())
    saved -= sum(each.back is not None for each in exits)
    computed = {target for each in exits for target in each.targets() if target.computed}
    return saved - (len(computed) + 1 if computed else 0)


def shape_source(region: Region) -> ir.Value | None:
    """Return a value that has the leading dims and is there before the region, whatever becomes of it."""
    for value in region.entries():
        node, rows = next(iter(region.nodes.items()))
        if value in [node.inputs[index] for index in rows] and _cost(value, region) > 0:
            return value
    return None


def unreshaped(value: ir.Value) -> ir.Value:
    """Return the operand of the Reshape that makes a value, else the value."""
    producer = value.producer()
    if producer is None or producer.op_type != "Reshape" or producer.domain or producer.inputs[0] is None:
        return value
    return producer.inputs[0]


def is_matrix_of(source: ir.Value, value: ir.Value) -> bool:
    """Whether a Reshape of `source` to `value` only splits its rows into stacks."""
    dims = dims_of(source)
    return dims is not None and len(dims) == 2 and dims[1] == _last(value)


def matrix_shape(value: ir.Value) -> ir.Shape:
    """Return the shape of the rows of a value as one matrix."""
    return ir.Shape([None, _last(value)])


_IMPOSSIBLE = Target(computed=False, dims=())


def _around(value: ir.Value, graph: ir.Graph | None) -> Iterator[ir.Node]:
    for node in (value.producer(), *value.consumers()):
        if node is not None and node.graph is graph:
            yield node


def _rows(node: ir.Node, lead: Dims) -> tuple[int, ...] | None:
    """Return which inputs of a node are rows with these leading dims; None if the node is not row-wise."""
    if node.domain or node.device_configurations or not _have(node.outputs, lead):
        return None
    inputs = [(index, value) for index, value in enumerate(node.inputs) if value is not None]
    if node.op_type in _BROADCAST:
        rows = tuple(index for index, value in inputs if _have((value,), lead))
        fits = all(index in rows or _is_one_row(value) for index, value in inputs)
        return rows if rows and fits else None
    if node.op_type in _UNARY:
        return (0,) if _have(node.inputs[:1], lead) else None
    if node.op_type == "Concat":
        last = node.attributes.get_int("axis") in (-1, len(lead))
        return tuple(index for index, _ in inputs) if last and _have(node.inputs, lead) else None
    if node.op_type == "MatMul":
        weights = static_shape(node.inputs[1])
        return (0,) if _have(node.inputs[:1], lead) and weights and len(weights) == 2 else None
    if node.op_type in _LAST_AXIS and _have(node.inputs[:1], lead):
        return (0,) if node.attributes.get_int("axis", _LAST_AXIS[node.op_type]) in (-1, len(lead)) else None
    return None


def _have(values: Sequence[ir.Value | None], lead: Dims) -> bool:
    """Whether all values have these leading dims, and one more."""
    for value in values:
        dims = dims_of(value)
        if dims is None or dims[:-1] != lead or len(dims) != len(lead) + 1:
            return False
    return True


def _is_one_row(value: ir.Value) -> bool:
    """Whether a value is the same for all rows: one number, or a constant row."""
    dims = dims_of(value)
    return dims == () or (dims is not None and is_const(value) and all(dim == 1 for dim in dims[:-1]))


def _last(value: ir.Value) -> int | None:
    dims = dims_of(value)
    return dims[-1] if dims and isinstance(dims[-1], int) and dims[-1] > 0 else None


def _reshapes(user: ir.Node, value: ir.Value) -> bool:
    return (
        user.op_type == "Reshape"
        and not user.domain
        and user.inputs[0] is value
        and user.inputs[1] is not value
    )


def _leads_to(reshape: ir.Node, value: ir.Value, region: Region) -> Target | None:
    """Return the target that says what a Reshape gives; None if the matrix of rows itself is its result."""
    result = reshape.outputs[0]
    dims = dims_of(result)
    if dims is None:
        return _IMPOSSIBLE
    if len(dims) == 2 and dims[1] == _last(value) and not result.is_graph_output():
        return None
    return _target(dims, region.lead) or _IMPOSSIBLE


def _target(dims: Dims, lead: Dims) -> Target | None:
    """Return a target for dims of which at most one is unknown, or only leading ones are."""
    if 0 in dims:
        return None
    constant = _with_wildcard(dims)
    if constant.count(-1) <= 1:
        return Target(computed=False, dims=constant)
    rest = _with_wildcard(dims[len(lead) :])
    return Target(computed=True, dims=rest) if dims[: len(lead)] == lead and -1 not in rest else None


def _with_wildcard(dims: Sequence[Number]) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else -1 for dim in dims)


def _becomes_gemm(node: ir.Node) -> bool:
    """Whether a node is a MatMul whose only user adds a bias to it."""
    product = node.outputs[0]
    users = list(product.consumers())
    if node.op_type != "MatMul" or len(users) != 1 or users[0].op_type != "Add" or users[0].domain:
        return False
    bias = next((value for value in users[0].inputs if value is not product), None)
    fits = bias is not None and is_const(bias) and _is_one_row(bias)
    return fits and product.dtype in _GEMM_TYPES and not product.is_graph_output()


def _cost(value: ir.Value, region: Region) -> int:
    """Return how many nodes it takes to have a value that enters as one matrix: 1, 0, or -1."""
    if is_const(value):
        return 0
    source = unreshaped(value)
    inside = all(region.reads(use.node, use.idx) for use in value.uses()) and not value.is_graph_output()
    if source is value:
        return 1
    return (0 if is_matrix_of(source, value) else 1) - inside
