"""What stands at each index of a tensor of integers or bools, where that is an affine function of the index.

Positions, masks and index tensors are: Range(0, n, 1) holds i, and ConstantOfShape, a comparison of positions
that always has the same outcome, and whatever is gathered from these hold one number. A bool is 0 or 1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.dims import clamped
from fuseonnx.analysis.expr import Number, Smaller, add, at_least, multiply, subtract, surely_equal
from fuseonnx.analysis.site import Dims
from fuseonnx.analysis.symbolic import dims_of, elements_of, integers_of
from fuseonnx.core.constants import constant_tensor, is_const

_DEPTH = 48
_MAX_CONSTANT = 1 << 14
_TYPES = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})


class Affine(NamedTuple):
    """`start` + the sum over the axes of `slopes[axis]` * index[axis].

    An axis of size 1 has slope 0. Where the tensor is empty this says nothing.
    """

    start: Number
    slopes: Dims

    @property
    def is_uniform(self) -> bool:
        """Whether the same number stands everywhere."""
        return not any(self.slopes)


def content_of(value: ir.Value | None, depth: int = _DEPTH) -> Affine | None:
    """Return what stands in a value, None if that is not known to be affine in the index."""
    dims = dims_of(value)
    if value is None or dims is None or value.dtype not in _TYPES or not depth:
        return None
    if is_const(value):
        return _constant(value)
    elements, node = elements_of(value), value.producer()
    if elements is not None:
        return _progression(elements, len(dims))
    rule = _RULES.get(node.op_type) if node is not None and not node.domain else None
    if rule is None or node is None or value is not node.outputs[0]:
        return None
    with contextlib.suppress(LookupError, ValueError, ArithmeticError):  # the node is wrong in itself
        made = rule(node, lambda each: content_of(each, depth - 1))
        return None if made is None else _flat_on_ones(made, dims)
    return None
