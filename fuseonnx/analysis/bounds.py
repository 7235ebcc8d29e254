"""How large a float32 value can get, whatever is fed: intervals of finite numbers, from the weights down.

A value that has a range is finite and no NaN. Integers have the range of their type; floats that are graph
inputs, and what is computed from them, have none. Beyond interval arithmetic this rests on:

    y = x · w             |y| ≤ K · max |x| · max |w|, K the length of the sum
    y = Softmax(x) · v    |y| ≤ max |v|, as the weights of each row add up to 1
    LayerNormalization    |y| ≤ √C · max |γ| + max |β|, as |x - mean| ≤ √C · standard deviation (C elements)
    RMSNormalization      |y| ≤ √C · max |γ|, also where x / √(mean x² + ε) is spelled out

with x of a normalization so small that the sum of its squares does not overflow; that its variance does not
vanish by rounding is taken for granted. Each range is widened by more than its computation may round, and one
that may overflow is unknown. A sum that float32 rounds to its largest number is that number: a score plus a
mask of -3.4e38 is finite, the sum of two such masks is not.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.symbolic import integers_of
from fuseonnx.core.constants import Array, constant_tensor, data_of, is_const

_INTEGERS = frozenset({ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT8, ir.DataType.INT8})
_LARGEST = float(np.finfo(np.float32).max)
_OVERFLOWS = 2.0**128 - 2.0**103
"""What float32 rounds to infinity: half a step above its largest number."""
_SMALLEST_DIVISOR = 1e-30
_ROUNDING = 1e-6
"""Relative widening of each result: several units in the last place."""
_SUM_ROUNDING = 1.5
"""Factor for what a sum of up to `_LONGEST_SUM` terms rounds, in any order: 1 / (1 - 2^22 · 2^-24)."""
_LONGEST_SUM = 1 << 22
_SMALL = 1 << 12
"""Elements of a constant that is read without a thought."""
_CHUNK = 1 << 16
_KNOWN = "fuseonnx.range"


class Range(NamedTuple):
    """All numbers from `low` to `high`, both finite."""

    low: float
    high: float

    @property
    def magnitude(self) -> float:
        """The largest absolute number in it."""
        return max(-self.low, self.high)


class _UnknownError(Exception):
    """A value has no range."""


_Read = Callable[[ir.Value | None], Range]
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
            raise _UnknownError
        if value not in known:
            known[value] = _of_type(value, of_large)
        return known[value]

    for node in graph:
        if node in upstream:
            with contextlib.suppress(_UnknownError, LookupError, ValueError, ArithmeticError):
                found = _rounded(_RULES[node.op_type](node, read))
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
        if node.op_type in _RULES and not node.domain:
            found.add(node)
            pending += [value.producer() for value in node.inputs if value is not None]
    return found


def _rounded(exact: Range) -> Range:
    if not exact.magnitude < _OVERFLOWS:  # neither is NaN
        raise _UnknownError
    low, high = exact
    return Range(
        max(-_LARGEST, low - _ROUNDING * abs(low)),
        min(_LARGEST, high + _ROUNDING * abs(high)),
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
    raise _UnknownError


def _of_data(tensor: ir.TensorProtocol) -> Range:
    if _KNOWN not in tensor.meta:
        tensor.meta[_KNOWN] = _extremes(data_of(tensor).reshape(-1))
    found: Range | None = tensor.meta[_KNOWN]
    if found is None:
        raise _UnknownError
    return found


def _extremes(flat: Array) -> Range | None:
    """Return the least and the largest of some numbers; None if there are none or one is not finite."""
    chunks = (flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK))
    extremes = [float(each) for chunk in chunks for each in (chunk.min(), chunk.max())]
    return Range(min(extremes), max(extremes)) if extremes and all(map(math.isfinite, extremes)) else None


_Rule = Callable[[ir.Node, _Read], Range]


def _symmetric(magnitude: float) -> Range:
    return Range(-magnitude, magnitude)


def _among(inputs: slice) -> _Rule:
    """A rule for operators each of whose results is in the range of some inputs."""

    def rule(node: ir.Node, read: _Read) -> Range:
        bounds = [bound for value in node.inputs[inputs] for bound in read(value)]
        return Range(min(bounds), max(bounds))

    return rule


def _between(low: float, high: float) -> _Rule:
    """A rule for operators with a range of their own, if their input is finite."""

    def rule(node: ir.Node, read: _Read) -> Range:
        read(node.inputs[0])
        return Range(low, high)

    return rule


def _at_corners(function: Callable[[float, float], float]) -> _Rule:
    """A rule for operators of two operands that are smallest and largest where both ranges end."""

    def rule(node: ir.Node, read: _Read) -> Range:
        a, b = (read(value) for value in node.inputs)
        results = [function(x, y) for x in a for y in b]
        return Range(min(results), max(results))

    return rule


def _not_beyond_input(node: ir.Node, read: _Read) -> Range:
    return _symmetric(read(node.inputs[0]).magnitude)


def _relu(node: ir.Node, read: _Read) -> Range:
    low, high = read(node.inputs[0])
    return Range(max(0.0, low), max(0.0, high))


def _quotient(x: float, y: float) -> float:
    if abs(y) < _SMALLEST_DIVISOR:
        raise _UnknownError
    return x / y


def _multiply(node: ir.Node, read: _Read) -> Range:
    for x, other in (node.inputs, reversed(node.inputs)):
        reciprocal = _made_by("Reciprocal", other)
        if reciprocal is not None and _is_root_mean_square(reciprocal.inputs[0], x):
            return _symmetric(_normalized(x, -1, read))
    return _at_corners(lambda a, b: a * b)(node, read)


def _divide(node: ir.Node, read: _Read) -> Range:
    if _is_root_mean_square(node.inputs[1], node.inputs[0]):
        return _symmetric(_normalized(node.inputs[0], -1, read))
    divisor = read(node.inputs[1])
    if divisor.low <= 0 <= divisor.high:
        raise _UnknownError
    return _at_corners(_quotient)(node, read)


def _power(node: ir.Node, read: _Read) -> Range:
    base, exponent = (read(value) for value in node.inputs)
    if exponent.low != exponent.high or exponent.low not in (1, 2, 3, 4):
        raise _UnknownError
    return _symmetric(base.magnitude**exponent.low)


def _square_root(node: ir.Node, read: _Read) -> Range:
    x = read(node.inputs[0])
    return Range(math.sqrt(x.low), math.sqrt(x.high))  # below 0 a ValueError


def _matmul(node: ir.Node, read: _Read) -> Range:
    a, b = (read(value) for value in node.inputs)
    if _is_average(node.inputs[0]):
        return _symmetric(_SUM_ROUNDING * b.magnitude)
    return _symmetric(_terms(node, -1, -2) * a.magnitude * b.magnitude)


def _is_average(weights: ir.Value | None) -> bool:
    """Whether the last axis of a value holds weights that add up to 1: a Softmax, perhaps with its guard."""
    softmax = weights.producer() if weights is not None else None
    if softmax is not None and is_nan_guard(softmax) and (other := softmax.inputs[1]) is not None:
        is_zero = is_const(other) and not data_of(constant_tensor(other)).any()
        softmax = softmax.inputs[2].producer() if is_zero and softmax.inputs[2] is not None else None
    if softmax is None or softmax.op_type != "Softmax" or softmax.domain:
        return False
    return softmax.attributes.get_int("axis", -1) in (-1, len(softmax.outputs[0].shape or ()) - 1)


def is_nan_guard(node: ir.Node) -> bool:
    """Whether a node is Where(IsNaN(x), other, x)."""
    if node.op_type != "Where" or node.domain or node.inputs[0] is None:
        return False
    test = node.inputs[0].producer()
    return (
        test is not None and test.op_type == "IsNaN" and not test.domain and test.inputs[0] is node.inputs[2]
    )


def _gemm(node: ir.Node, read: _Read) -> Range:
    a, b, *c = (read(value) for value in node.inputs)
    transposed = [node.attributes.get_int(name, 0) for name in ("transA", "transB")]
    terms = _terms(node, -2 if transposed[0] else -1, -1 if transposed[1] else -2)
    alpha, beta = (abs(node.attributes.get_float(name, 1.0) or 0.0) for name in ("alpha", "beta"))
    shift = beta * c[0].magnitude if c else 0.0
    return _symmetric(max(alpha, 1.0) * terms * a.magnitude * b.magnitude + shift)


def _terms(node: ir.Node, *axes: int) -> float:
    """Return the length of the axis summed over, as either operand tells it, with allowance for rounding."""
    for value, axis in zip(node.inputs, axes, strict=False):
        rank = 0 if value is None or value.shape is None else len(value.shape)
        if value is not None and value.shape is not None and rank:
            dim = value.shape[axis if rank > 1 else -1]
            if isinstance(dim, int) and dim <= _LONGEST_SUM:
                return _SUM_ROUNDING * dim
    raise _UnknownError


def _normalization(node: ir.Node, read: _Read) -> Range:
    _, scale, *shift = (read(value) for value in node.inputs)
    if node.attributes.get_int("stash_type", 1) != 1:
        raise _UnknownError
    largest = _normalized(node.inputs[0], node.attributes.get_int("axis", -1) or 0, read) * scale.magnitude
    return _symmetric(largest + (shift[0].magnitude if shift else 0.0))


def _normalized(x: ir.Value | None, axis: int, read: _Read) -> float:
    """Return how large elements of `x` are at most, over their standard deviation or root mean square."""
    dims = [] if x is None or x.shape is None else x.shape[axis:]
    sizes = [dim for dim in dims if isinstance(dim, int)]
    size = math.prod(sizes)
    if not sizes or len(sizes) < len(dims) or not 4.0 * size * read(x).magnitude ** 2 < _LARGEST:
        raise _UnknownError
    return _SUM_ROUNDING * math.sqrt(size)


def _is_root_mean_square(root: ir.Value | None, x: ir.Value | None) -> bool:
    """Whether a value is Sqrt(ReduceMean(x²) + ε) along the last axis, with ε > 0."""
    sqrt = _made_by("Sqrt", root)
    add = _made_by("Add", sqrt.inputs[0]) if sqrt is not None else None
    if add is None:
        return False
    for mean_value, epsilon in (add.inputs, reversed(add.inputs)):
        mean = _made_by("ReduceMean", mean_value)
        square = _made_by("Pow", mean.inputs[0]) if mean is not None else None
        if mean is not None and square is not None and square.inputs[0] is x:
            axes = integers_of(mean.inputs[1]) if len(mean.inputs) > 1 else mean.attributes.get_ints("axes")
            numbers = _number(square.inputs[1]), _number(epsilon)
            return list(axes or ()) == [-1] and numbers[0] == 2 and numbers[1] > 0
    return False


def _made_by(op_type: str, value: ir.Value | None) -> ir.Node | None:
    producer = value.producer() if value is not None else None
    return producer if producer is not None and producer.op_type == op_type and not producer.domain else None


def _number(value: ir.Value | None) -> float:
    """Return a constant of one element; NaN if it is none."""
    if value is None or not is_const(value) or constant_tensor(value).size != 1:
        return math.nan
    return float(data_of(constant_tensor(value)).item())


_FIRST, _ALL, _LATER = slice(1), slice(None), slice(1, None)
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("Cast", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split"), _among(_FIRST)),
    **dict.fromkeys(("Squeeze", "Tile", "Transpose", "Unsqueeze"), _among(_FIRST)),
    **dict.fromkeys(("Concat", "Max", "Min"), _among(_ALL)),
    **dict.fromkeys(("Cos", "Erf", "Sin", "Softsign", "Tanh"), _between(-1.0, 1.0)),
    **dict.fromkeys(("HardSigmoid", "Sigmoid", "Softmax"), _between(0.0, 1.0)),
    **dict.fromkeys(("Abs", "Gelu", "HardSwish", "Mish", "Neg"), _not_beyond_input),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalization),
    "Add": _at_corners(lambda x, y: x + y),
    "Div": _divide,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Mul": _multiply,
    "Pow": _power,
    "Relu": _relu,
    "Sqrt": _square_root,
    "Sub": _at_corners(lambda x, y: x - y),
    "Where": _among(_LATER),
}
