"""Shared by the folds over a distance: large weights that are scaled when the model is saved, not before.

They need not be held in memory until then, nor be written by one scale to be read by the next. That the
result fits its dtype is known from the largest magnitude of the old weights, which each scale changes by its
factors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import ml_dtypes
import numpy as np
import onnx_ir as ir

from fuseonnx.core.constants import array_of, constant_tensor, contiguous, data_of
from fuseonnx.passes._affine import Vector
from fuseonnx.passes._change import Change

_LATE_BYTES = 1 << 20
_LARGEST = "fuseonnx.largest"


class Late(NamedTuple):
    """Weights that are yet to be computed.

    Attributes:
        tensor: computes them.
        low: a lower bound of the largest magnitude among them.
        high: an upper bound.
    """

    tensor: ir.LazyTensor
    low: float
    high: float

    def remember(self, value: ir.Value) -> None:
        """Note the bounds with the value that holds the weights."""
        value.meta[_LARGEST] = self.low, self.high


def scaled_late(old: ir.Value, change: Change, compute: Callable[[Vector], Vector]) -> Late | None:
    """Return weights after a scale (or its inverse); None if they are small, or might not fit their dtype."""
    tensor = constant_tensor(old)
    if tensor.nbytes < _LATE_BYTES:
        return None
    factors = np.abs(np.concatenate([change.values, 1 / change.values]))
    low, high = _largest(old)
    low, high = low * float(factors.min()), high * float(factors.max())
    limits = ml_dtypes.finfo(tensor.dtype.numpy())  # type: ignore[no-untyped-call]
    if not (float(limits.smallest_normal) <= low and high <= float(limits.max)):
        return None

    def scaled() -> ir.TensorProtocol:
        return ir.Tensor(contiguous(compute(cast("Vector", data_of(tensor))).astype(tensor.dtype.numpy())))

    lazy = ir.LazyTensor(scaled, dtype=tensor.dtype, shape=ir.Shape(tuple(tensor.shape.numpy())), cache=False)
    return Late(lazy, low, high)


def _largest(value: ir.Value) -> tuple[float, float]:
    """Return bounds of the largest magnitude among weights."""
    if _LARGEST not in value.meta:
        array = array_of(value)
        largest = max(float(array.max()), -float(array.min()))
        value.meta[_LARGEST] = largest, largest
    low, high = value.meta[_LARGEST]
    return low, high
