"""Clip once where Clip, Relu, Max and Min with constant bounds follow each other.

x ─ Relu ─ Clip(max=6) ─ op        ⇒   x ─ Clip(0, 6) ─ op
x ─ Max(0.5) ─ Min(0.2) ─ op       ⇒   x ─ Clip(0.2, 0.2) ─ op

Each of them is min(max(x, low), high), as the specification of Clip says even where low > high; one after the
other they are min(max(x, l), h) with l and h the bounds of the first, clipped by the second. NaN passes
through all of them. A missing bound of Clip is the dtype's largest number, of the others infinity.
"""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.constants import array_of, constant_tensor, is_const
from fuseonnx.core.pattern import AnyOf, Pattern, any_of, const, maybe, op, var
from fuseonnx.core.rule import Match, Rule

_BOUNDS_ARE_INPUTS = 11
_TYPED = 12
"""The opset from which Clip takes more than floats."""
_CLIPPED = {
    ir.DataType.FLOAT,
    ir.DataType.DOUBLE,
    ir.DataType.INT8,
    ir.DataType.UINT8,
    ir.DataType.INT32,
    ir.DataType.UINT32,
    ir.DataType.INT64,
    ir.DataType.UINT64,
}
"""What onnxruntime has a kernel of Clip for."""

Bounds = tuple[float, float]


def guard(m: Match) -> str | None:
    """Keep out of bounds that are tensors or unknown, and of dtypes for which there is no Clip."""
    if _kinds(m) <= {"Relu"}:
        return ""
    if m["x"].dtype is None or ("Clip" not in _kinds(m) and m["x"].dtype not in _CLIPPED):
        return "there is no Clip for this dtype"
    if m["x"].dtype != ir.DataType.FLOAT and m.opset < _TYPED:
        return "Clip is for floats before opset 12"
    return "a bound is no known number" if _bounds(m) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Clip once; where there is no bound on one side, Max or Min say so."""
    bounds = _bounds(m)
    assert bounds is not None
    low, high = bounds
    dtype = _dtype(m)
    if m.opset < _BOUNDS_ARE_INPUTS:
        attributes: Attributes = {"min": float(low), "max": float(high)}
        return new.op("Clip", m["x"], attributes=attributes)
    if bounds == (0, math.inf) and "Relu" in _kinds(m):
        return new.op("Relu", m["x"])
    if high == math.inf:
        return new.op("Max", m["x"], new.const(np.array(low, dtype)))
    if low == -math.inf:
        return new.op("Min", m["x"], new.const(np.array(high, dtype)))
    return new.op("Clip", m["x"], new.const(np.array(low, dtype)), new.const(np.array(high, dtype)))


def _kinds(m: Match) -> set[str]:
    return {m.node("first").op_type, m.root.op_type}


def _dtype(m: Match) -> np.dtype[np.generic]:
    assert m["x"].dtype is not None
    return m["x"].dtype.numpy()


def _bounds(m: Match) -> Bounds | None:
    """Return the bounds of the two together, the low one not above the high one."""
    first, second = _bounds_of(m, m.node("first")), _bounds_of(m, m.root)
    if first is None or second is None:
        return None
    low, high = (_clipped(_clipped(bound, first), second) for bound in first)
    return None if m.opset < _BOUNDS_ARE_INPUTS and math.inf in (-low, high) else (low, high)


def _clipped(x: float, bounds: Bounds) -> float:
    return min(max(x, bounds[0]), bounds[1])


def _bounds_of(m: Match, node: ir.Node) -> Bounds | None:
    """Return the bounds that one operator puts on x, as Python numbers; None if they are unknown."""
    if node.op_type == "Relu":
        return 0, math.inf
    if node.op_type == "Clip":
        lowest, largest = _range(_dtype(m))
        low = _number(node, 1, m) if len(node.inputs) > 1 and node.inputs[1] else lowest
        high = _number(node, 2, m) if len(node.inputs) > 2 and node.inputs[2] else largest
        if m.opset < _BOUNDS_ARE_INPUTS:
            low, high = node.attributes.get_float("min", lowest), node.attributes.get_float("max", largest)
        return None if low is None or high is None else (low, high)
    bound = _number(node, 1 if is_const(node.inputs[1]) else 0, m)
    if bound is None:
        return None
    return (bound, math.inf) if node.op_type == "Max" else (-math.inf, bound)


def _number(node: ir.Node, index: int, m: Match) -> float | None:
    """Return a constant input of one element that does not raise the rank of x; not NaN."""
    value = node.inputs[index]
    if value is None or not is_const(value):
        return None
    tensor = constant_tensor(value)
    if tensor.size != 1 or (len(tensor.shape) > 0 and len(tensor.shape) > (rank(m["x"]) or 0)):
        return None
    number = array_of(value).reshape(-1)[0]
    exact: float = number.item() if isinstance(number, np.generic) else float(number)
    return None if math.isnan(exact) else exact


def _range(dtype: np.dtype[np.generic]) -> Bounds:
    if np.issubdtype(dtype, np.integer):
        return np.iinfo(dtype.name).min, np.iinfo(dtype.name).max
    limits = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return float(limits.min), float(limits.max)


def _bounded(x: Pattern, name: str) -> AnyOf:
    """Match one of the four operators; c is the constant of Max or Min, low and high those of Clip."""
    return any_of(
        op("Relu", x, name=name),
        op(("Max", "Min"), x, const(f"{name}_c"), name=name),
        op("Clip", x, maybe(const(f"{name}_low")), maybe(const(f"{name}_high")), name=name),
    )


RULE = Rule("merge_clips", _bounded(_bounded(var("x"), "first"), "second"), replace, guard)
