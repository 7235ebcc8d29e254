"""How large a float32 value can get, whatever is fed: intervals of finite numbers, from the weights down.

A value that has a range is finite and no NaN. Integers have the range of their type; floats that are graph
inputs, and what is computed from them, have none. Each range is widened by more than its computation may
round, and one that may overflow is unknown. A sum that float32 rounds to its largest number is that number: a
score plus a mask of -3.4e38 is finite, the sum of two such masks is not.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.intervals import LARGEST, RULES, Range, UnknownError
from fuseonnx.core.constants import Array, constant_tensor, data_of, is_const

_INTEGERS = frozenset({ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT8, ir.DataType.INT8})
_OVERFLOWS = 2.0**128 - 2.0**103
"""What float32 rounds to infinity: half a step above its largest number."""
_ROUNDING = 1e-6
"""Relative widening of each result: several units in the last place."""
_SMALL = 1 << 12
"""Elements of a constant that is read without a thought."""
_CHUNK = 1 << 16
_KNOWN = "fuseonnx.range"

_OfLarge = Callable[[ir.TensorProtocol], Range]


def ranges_of(values: Sequence[ir.Value], graph: ir.Graph) -> dict[ir.Value, Range]:
    """Return the ranges of those `values` of `graph` that are float32 and surely finite.

    Large weights are read, once, only where there would be a range if they were zero.
    """
    likely = list(_propagate(values, graph, lambda _: Range(0.0, 0.0)))
    return _propagate(likely, graph, _of_data) if likely else {}


def _propagate(values: Sequence[ir.Value], graph: ir.Graph, of_large: _OfLarge) -> dict[ir.Value, Range]:
    upstream = _upstream(values, graph)
    known: dict[ir.Value, Range] = {}

    def read(value: ir.Value | None) -> Range:
        if value is None:
            raise UnknownError
        if value not in known:
            known[value] = _of_type(value, of_large)
        return known[value]

    for node in graph:
        if node in upstream:
            with contextlib.suppress(UnknownError, LookupError, ValueError, ArithmeticError):
                found = _rounded(RULES[node.op_type](node, read))
                outputs = node.outputs if node.op_type == "Split" else node.outputs[:1]
                known.update((output, found) for output in outputs if output.dtype is ir.DataType.FLOAT)
    return {value: known[value] for value in values if value in known}


def _upstream(values: Sequence[ir.Value], graph: ir.Graph) -> set[ir.Node]:
    """Return the nodes of `graph` that have a rule and on which `values` depend."""
    pending = [value.producer() for value in values]
    found: set[ir.Node] = set()
    while pending:
        node = pending.pop()
        if node is None or node in found or node.graph is not graph:
            continue
        if node.op_type in RULES and not node.domain:
            found.add(node)
            pending += [value.producer() for value in node.inputs if value is not None]
    return found


def _rounded(exact: Range) -> Range:
    if not exact.magnitude < _OVERFLOWS:  # neither is NaN
        raise UnknownError
    low, high = exact
    return Range(
        max(-LARGEST, low - _ROUNDING * abs(low)),
        min(LARGEST, high + _ROUNDING * abs(high)),
    )


def _of_type(value: ir.Value, of_large: _OfLarge) -> Range:
    """Return the range of a constant, or of what can be any number of its type."""
    if value.dtype is ir.DataType.FLOAT and is_const(value):
        tensor = constant_tensor(value)
        return of_large(tensor) if tensor.size > _SMALL else _of_data(tensor)
    if value.dtype is ir.DataType.BOOL:
        return Range(0.0, 1.0)
    if value.dtype in _INTEGERS:
        limits = np.iinfo(value.dtype.numpy())
        return Range(float(limits.min), float(limits.max))
    raise UnknownError


def _of_data(tensor: ir.TensorProtocol) -> Range:
    if _KNOWN not in tensor.meta:
        tensor.meta[_KNOWN] = _extremes(data_of(tensor).reshape(-1))
    found: Range | None = tensor.meta[_KNOWN]
    if found is None:
        raise UnknownError
    return found


def _extremes(flat: Array) -> Range | None:
    """Return the least and the largest of some numbers; None if there are none or one is not finite."""
    chunks = (flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK))
    extremes = [float(each) for chunk in chunks for each in (chunk.min(), chunk.max())]
    return Range(min(extremes), max(extremes)) if extremes and all(map(math.isfinite, extremes)) else None
