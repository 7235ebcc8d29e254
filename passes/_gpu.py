"""Shared by the rewrites of operators that a GPU has no kernel for: the types between, and the axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import array_of, is_const

_AXES_ARE_INPUTS = 18


def cast(new: Builder, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return `value` as another dtype; a constant is cast at once."""
    if value.dtype is dtype:
        return value
    if is_const(value):
        return new.const(array_of(value).astype(dtype.numpy()), value)
    return new.op("Cast", value, attributes={"to": int(dtype)})


def in_float32(
    new: Builder, form: Callable[[Sequence[ir.Value]], ir.Value], inputs: Sequence[ir.Value]
) -> ir.Value:
    """Return what `form` makes of inputs of one dtype, as that dtype.

    float16 is computed in float32, as onnxruntime does on the CPU: several steps in float16 would round more
    than the one operator.
    """
    dtype = inputs[0].dtype
    assert dtype is not None
    result = form([cast(new, value, ir.DataType.FLOAT) for value in inputs])
    return result if dtype is ir.DataType.FLOAT else new.op("Cast", result, attributes={"to": int(dtype)})


def number(new: Builder, value: float) -> ir.Value:
    """Add a float32 constant without axes."""
    return new.const(np.array(value, np.float32))


def reduced(new: Builder, op_type: str, x: ir.Value, axes: Sequence[int], opset: int) -> ir.Value:
    """Reduce `axes` of x to 1 by ReduceMean, ReduceL1 or ReduceL2."""
    if opset < _AXES_ARE_INPUTS:
        return new.op(op_type, x, attributes={"axes": axes})
    return new.op(op_type, x, new.const(np.array(axes, np.int64)))
