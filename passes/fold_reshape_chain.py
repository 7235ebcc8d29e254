"""Replace a chain that only reads a tensor in its own order by the Unsqueeze or Squeeze that it amounts to.

x: [b, n] ─ Flatten ─ Gather(rows * n + columns) ─ Reshape([b, 1, 1, n])   ⇒   x ─ Unsqueeze([1, 2])

A Gather reads in order if its indices count from 0 to the end of the axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.content import Contents, row_major
from fuseonnx.analysis.expr import Number, product
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import is_const
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule

_AXES_ARE_AN_INPUT = 13
_RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})


def guard(m: Match) -> str | None:
    """Keep out of constant targets, and where no tensor above has the same dims but for some of size 1."""
    if is_const(m["target"]):
        return ""
    return "no tensor above has these dims" if _source(m) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Add or remove the axes of size 1."""
    source, dims = _source(m), dims_of(m.root.outputs[0])
    assert source is not None and dims is not None
    before = dims_of(source) or ()
    if before == dims:
        return source
    op_type, longer = ("Unsqueeze", dims) if len(dims) > len(before) else ("Squeeze", before)
    axes = _ones(longer)
    if m.opset < _AXES_ARE_AN_INPUT:
        return new.op(op_type, source, attributes={"axes": axes})
    return new.op(op_type, source, new.const(np.array(axes, dtype=np.int64)))


def _source(m: Match) -> ir.Value | None:
    """Return the uppermost tensor from which one node leads to the result."""
    dims = dims_of(m.root.outputs[0])
    if dims is None:
        return None
    found = None
    for value in _chain(m["x"]):
        before = dims_of(value)
        if before is not None and _is_one_step(before, dims):
            found = value
    return found


def _is_one_step(before: Sequence[Number], after: Sequence[Number]) -> bool:
    """Whether the dims are the same, or one of both has none of size 1 and is the other without them."""
    if before == after:
        return True
    shorter, longer = sorted((before, after), key=len)
    return not _ones(shorter) and list(shorter) == [dim for dim in longer if dim != 1]


def _chain(value: ir.Value) -> Iterator[ir.Value]:
    """Yield a value and those above it that hold the same data in the same order."""
    contents = Contents()
    yield value
    while (
        (node := value.producer()) is not None
        and not node.domain
        and node.inputs
        and node.inputs[0] is not None
    ):
        if node.op_type not in _RESHAPES and not (
            node.op_type == "Gather" and _reads_in_order(node, contents)
        ):
            return
        value = node.inputs[0]
        yield value


def _reads_in_order(gather: ir.Node, contents: Contents) -> bool:
    data, indices = (dims_of(value) for value in gather.inputs)
    if data is None or indices is None:
        return False
    axis = gather.attributes.get_int("axis", 0)
    return product(indices) == data[axis] and contents.of(gather.inputs[1]) == row_major(indices)


def _ones(dims: Sequence[Number]) -> list[int]:
    return [axis for axis, dim in enumerate(dims) if dim == 1]


RULE = Rule("fold_reshape_chain", op("Reshape", var("x"), var("target")), replace, guard)
