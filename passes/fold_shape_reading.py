"""Read dims straight from the graph input, or the tensor, that has them side by side.

Unsqueeze(Gather(Shape(x), 1), [0])                          ⇒   Shape(x, start=1, end=2)
Concat(Shape(x)[0:1], Shape(Relu(x))[1:2])                   ⇒   Shape(x, start=0, end=2)
Shape(y), y computed from x: [batch, n] with the same dims   ⇒   Shape(x)

Shape takes no start and end before opset 15. Graph inputs come first, because tensors that nobody asks for
their shape may go.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from fuseonnx.analysis.elements import ON_SHAPES
from fuseonnx.analysis.symbolic import dims_of, elements_of, integers_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import Var, op
from fuseonnx.core.rule import Match, Rule

_START_AND_END = 15
_DEPTH = 4


def guard(m: Match) -> str | None:
    """Keep out unless the result is a run of dims of one tensor."""
    result = m.root.outputs[0]
    elements = elements_of(result)
    if not elements or result.dtype != ir.DataType.INT64 or integers_of(result) is not None:
        return ""
    if result.shape is None or result.shape.rank() != 1:
        return ""
    return None if _source(m) is not None else "the dims stand side by side in no tensor"


def replace(m: Match, new: Builder) -> ir.Value:
    """Ask that tensor."""
    source = _source(m)
    assert source is not None
    x, start, end, rank = source
    return new.op("Shape", x, attributes={} if (start, end) == (0, rank) else {"start": start, "end": end})


def _source(m: Match) -> tuple[ir.Value, int, int, int] | None:
    """Return a tensor, which of its dims the result is, and its rank; None if it reads these already."""
    wanted = elements_of(m.root.outputs[0]) or ()
    for x in _candidates(m.root):
        dims = dims_of(x) or ()
        for start in range(len(dims) - len(wanted) + 1):
            if dims[start : start + len(wanted)] == wanted:
                end = start + len(wanted)
                whole = (start, end) == (0, len(dims))
                is_read = m.root.op_type == "Shape" and m.root.inputs[0] is x
                return (
                    None
                    if is_read or not (whole or m.opset >= _START_AND_END)
                    else (x, start, end, len(dims))
                )
    return None


def _candidates(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the graph inputs, then the tensor whose Shape is read a few steps above."""
    assert node.graph is not None
    yield from (value for value in node.graph.inputs if not value.is_initializer())
    above: ir.Node | None = node
    for _ in range(_DEPTH):
        first = next(iter(above.inputs), None) if above is not None else None
        if first is None or above is None:
            return
        if above.op_type == "Shape" and not above.domain:
            yield first
            return
        above = first.producer()


RULE = Rule("fold_shape_reading", op(tuple(sorted(ON_SHAPES)), each=Var("")), replace, guard)
