"""How large a value can get, whatever is fed: intervals of finite numbers, propagated from the weights.

A value that has a range is finite and no NaN. Integers have the range of their type, floats that are graph
inputs have none. What the rules rest on:

    table lookup          |y| ≤ max |w| ≤ ‖w‖₂ (Frobenius)
    y = x · w             |y| ≤ Σ |x_i| |w_ij| ≤ max |x| · √K · ‖w‖₂ (Cauchy and Schwarz), K the length of a sum
    LayerNormalization    |y| ≤ √C · max |γ| + max |β|, as |x - mean| ≤ √C · standard deviation (C elements)
    RMSNormalization      |y| ≤ √C · max |γ|

with x of a normalization so small that the sum of its squares does not overflow; that rounding does not make
a variance negative is taken for granted. Each range is widened by more than its computation in float32 may
round, and one that may overflow float32 is unknown. A sum that float32 rounds to its largest number is that
number: so a score plus a mask of -3.4e38 is finite, and the sum of two such masks is not.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import static_shape
from fuseonnx.core.constants import constant_tensor, data_of, is_const

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})
_INTEGERS = frozenset({ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT8, ir.DataType.INT8})
_LARGEST = float(np.finfo(np.float32).max)
_OVERFLOWS = 2.0**128 - 2.0**103
"""What float32 rounds to infinity: half a step above its largest number."""
_SMALLEST_DIVISOR = 1e-30
_ROUNDING = 1e-6
"""Relative widening of each result: several units in the last place of float32."""
_SUM_ROUNDING = 1.5
"""Factor that covers what a sum of up to `_LONGEST_SUM` terms rounds, in any order of its terms."""
_LONGEST_SUM = 1 << 22
_SMALL = 1 << 12
"""Elements of a tensor that is read without a thought."""
_CHUNK = 1 << 16


class Range(NamedTuple):
    """All numbers from `low` to `high`, both finite."""

    low: float
    high: float

    @property
    def magnitude(self) -> float:
        """The largest absolute number in it."""
        return max(-self.low, self.high)


_Read = Callable[[ir.Value], Range | None]
_Rule = Callable[[ir.Node, _Read], Range | None]


def ranges_of(values: Sequence[ir.Value], graph: ir.Graph) -> dict[ir.Value, Range]:
    """Return the ranges of those float32 and float64 `values` of `graph` that are surely finite.

    Large weights are read only for values that have a range if all weights are zero.
    """
    likely = _propagate(values, graph, _zero)
    likely_values = [value for value in values if value in likely]
    known = _propagate(likely_values, graph, _by_norm)
    return {value: known[value] for value in likely_values if value in known}


def _propagate(
    values: Iterable[ir.Value], graph: ir.Graph, large: Callable[[ir.Value], Range | None]
) -> dict[ir.Value, Range]:
    """Walk down to `values`, with `large` telling the range of a constant of many elements."""
    upstream = _upstream(values, graph)
    known: dict[ir.Value, Range] = {}

    def read(value: ir.Value) -> Range | None:
        if value not in known:
            found = _at_rest(value, large)
            if found is not None:
                known[value] = found
        return known.get(value)

    for node in graph if upstream else ():
        if node in upstream:
            for output, found in _outcome(node, read).items():
                known[output] = found
    return known


def _upstream(values: Iterable[ir.Value], graph: ir.Graph) -> set[ir.Node]:
    """Return the nodes of `graph` on which `values` depend."""
    pending = [value.producer() for value in values]
    found: set[ir.Node] = set()
    while pending:
        node = pending.pop()
        if node is None or node in found or node.graph is not graph or node.op_type not in _RULES:
            continue
        found.add(node)
        pending += [value.producer() for value in node.inputs if value is not None]
    return found


def _outcome(node: ir.Node, read: _Read) -> dict[ir.Value, Range]:
    outputs = node.outputs if node.op_type == "Split" else node.outputs[:1]
    if node.domain or any(output.dtype not in _FLOATS for output in outputs):
        return {}
    found = None
    with contextlib.suppress(LookupError, ValueError, ArithmeticError, TypeError):  # wrong node, or overflow
        found = _RULES[node.op_type](node, read)
    found = None if found is None else _rounded(found)
    return {} if found is None else dict.fromkeys(outputs, found)


def _rounded(exact: Range) -> Range | None:
    if not exact.magnitude < _OVERFLOWS:  # a NaN is not either
        return None
    low, high = (max(-_LARGEST, min(_LARGEST, bound)) for bound in exact)
    low, high = low - _ROUNDING * abs(low), high + _ROUNDING * abs(high)
    return Range(max(-_LARGEST, low), min(_LARGEST, high))


def _at_rest(value: ir.Value, large: Callable[[ir.Value], Range | None]) -> Range | None:
    """Return the range of a value that no node in reach computes."""
    if is_const(value) and value.dtype in _FLOATS:
        tensor = constant_tensor(value)
        return large(value) if tensor.size > _SMALL else _extremes(data_of(tensor).astype(np.float64))
    if value.dtype is ir.DataType.BOOL:
        return Range(0.0, 1.0)
    if value.dtype in _INTEGERS:
        limits = np.iinfo(value.dtype.numpy())
        return Range(float(limits.min), float(limits.max))
    return None


def _extremes(array: np.ndarray) -> Range | None:
    if not array.size:
        return Range(0.0, 0.0)
    found = Range(float(array.min()), float(array.max()))
    return found if math.isfinite(found.low) and math.isfinite(found.high) else None


def _zero(_value: ir.Value) -> Range:
    return Range(0.0, 0.0)


def _by_norm(value: ir.Value) -> Range | None:
    """Return what the norm of a weight allows each element; it is read once as long as the model lives."""
    tensor = constant_tensor(value)
    norm = tensor.meta.get("fuseonnx.norm")
    if norm is None:
        norm = tensor.meta["fuseonnx.norm"] = _norm(data_of(tensor))
    return Range(-norm, norm) if math.isfinite(norm) else None


def _norm(array: np.ndarray) -> float:
    """Return no less than the Frobenius norm; not finite if an element is not, or its square overflows."""
    flat = array.reshape(-1)
    chunks = (flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK))
    squares = sum(float(np.dot(chunk, chunk)) for chunk in chunks)
    underflow = flat.size * float(np.finfo(np.float32).tiny)
    return math.sqrt(squares * 1.01 + underflow)  # 2^16 roundings of 2^-24 each are less than 1 %
