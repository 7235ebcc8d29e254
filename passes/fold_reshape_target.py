"""Replace the computed target of a Reshape by a constant, where 0 and -1 can say the same.

x ─ Reshape(Concat(Shape(x)[0:1], [200]))   ⇒   x ─ Reshape([0, 200])
x ─ Reshape(Concat(n, [12, 64]))            ⇒   x ─ Reshape([-1, 12, 64])

A dim of x at its own place is copied, which 0 means. One other dim may be unknown and is left to the element
count, -1; not beside a 0, because an empty tensor leaves it open.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank, static_shape
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.pattern import Var, op, var
from fuseonnx.core.rule import Match, Rule

Positions = npt.NDArray[np.int64]


def guard(m: Match) -> str | None:
    """Keep out if more is unknown than 0 and -1 can say."""
    if m.root.attributes.get_int("allowzero", 0):
        return "0 is no copy with allowzero"
    return "too many dims are unknown" if _target(m) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Reshape to the constant."""
    target = new.const(np.array(_target(m), dtype=np.int64))
    return new.op("Reshape", m["x"], target, attributes=m.root.attributes)


def _target(m: Match) -> list[int] | None:
    """Return the constant target, or None if there is none."""
    dims: list[int | None] = []
    for piece in m.node("target").inputs:
        assert piece is not None
        read = _positions(piece, m["x"])
        if is_const(piece):
            dims.extend(array_of(piece).tolist())
        elif read is not None and read.tolist() == list(range(len(dims), len(dims) + read.size)):
            dims.extend([0] * read.size)
        elif static_shape(piece) == (1,):
            dims.append(None)
        else:
            return None
    if dims.count(None) > 1 or (None in dims and not all(dim is None or dim > 0 for dim in dims)):
        return None
    return [-1 if dim is None else dim for dim in dims]


def _positions(value: ir.Value, x: ir.Value) -> Positions | None:
    """Return which dims of `x` a value holds, or None if it holds anything else."""
    node, axes = value.producer(), rank(x)
    if node is None or node.domain or axes is None or not node.inputs or node.inputs[0] is None:
        return None
    if node.op_type == "Shape":
        start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", axes)
        return np.arange(axes, dtype=np.int64)[start:end] if node.inputs[0] is x else None
    if not all(is_const(each) for each in node.inputs[1:] if each is not None):
        return None
    source = _positions(node.inputs[0], x)
    return None if source is None else _part(node, source)


def _part(node: ir.Node, source: Positions) -> Positions | None:
    """Return what a node with constant parameters lets through of the positions that it is given."""
    if node.op_type == "Cast":
        whole = node.attributes["to"].value in (ir.DataType.INT32, ir.DataType.INT64)
        return source if whole else None
    if node.op_type == "Unsqueeze":
        return source.reshape(-1)
    parameters = [array_of(value).astype(np.int64) for value in node.inputs[1:] if value is not None]
    if node.op_type == "Gather" and source.ndim == 1:
        indices = parameters[0]
        inside = ((-source.size <= indices) & (indices < source.size)).all()
        return np.asarray(source[indices]) if inside else None
    if node.op_type == "Slice" and len(parameters) == len(node.inputs) - 1 >= 2:
        if any(each.size != 1 for each in parameters):
            return None
        bounds = [each.item() for each in (*parameters[:2], *parameters[3:])]
        return source[slice(*bounds)]
    return None


RULE = Rule(
    "fold_reshape_target",
    op("Reshape", var("x"), op("Concat", each=Var(""), name="target", shared=True)),
    replace,
    guard,
)
