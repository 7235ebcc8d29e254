"""The operators' side of bounds: the interval of the results that follows from those of the operands.

Beyond interval arithmetic this rests on:

    y = x · w             |y| ≤ K · max |x| · max |w|, K the length of the sum
    y = Softmax(x) · v    |y| ≤ max |v|, as the weights of each row add up to 1
    LayerNormalization    |y| ≤ √C · max |γ| + max |β|, as |x - mean| ≤ √C · standard deviation (C elements)
    RMSNormalization      |y| ≤ √C · max |γ|, also where x / √(mean x² + ε) is spelled out

with x of a normalization so small that the sum of its squares does not overflow; that its variance does not
vanish by rounding is taken for granted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.symbolic import integers_of
from fuseonnx.core.constants import constant_tensor, data_of, is_const

LARGEST = float(np.finfo(np.float32).max)
_SMALLEST_DIVISOR = 1e-30
_SUM_ROUNDING = 1.5
"""Factor for what a sum of up to `_LONGEST_SUM` terms rounds, in any order: 1 / (1 - 2^22 · 2^-24)."""
_LONGEST_SUM = 1 << 22


class Range(NamedTuple):
    """All numbers from `low` to `high`, both finite."""

    low: float
    high: float

    @property
    def magnitude(self) -> float:
        """The largest absolute number in it."""
        return max(-self.low, self.high)


class UnknownError(Exception):
    """A value has no range."""


Read = Callable[[ir.Value | None], Range]
"""Returns the range of an operand; raises UnknownError if it has none."""
Rule = Callable[[ir.Node, Read], Range]


def _symmetric(magnitude: float) -> Range:
    return Range(-magnitude, magnitude)


def _among(inputs: slice) -> Rule:
    """A rule for operators each of whose results is in the range of some inputs."""

    def rule(node: ir.Node, read: Read) -> Range:
        bounds = [bound for value in node.inputs[inputs] for bound in read(value)]
        return Range(min(bounds), max(bounds))

    return rule


def _filled(node: ir.Node, _read: Read) -> Range:
    value = node.attributes.get("value")
    if value is None:
        return Range(0.0, 0.0)
    if value.is_ref():
        raise UnknownError
    number = float(value.as_tensor().numpy().item())
    return Range(number, number)


def _between(low: float, high: float) -> Rule:
    """A rule for operators with a range of their own, if their input is finite."""

    def rule(node: ir.Node, read: Read) -> Range:
        read(node.inputs[0])
        return Range(low, high)

    return rule


def _at_corners(function: Callable[[float, float], float]) -> Rule:
    """A rule for operators of two operands that are smallest and largest where both ranges end."""

    def rule(node: ir.Node, read: Read) -> Range:
        a, b = (read(value) for value in node.inputs)
        results = [function(x, y) for x in a for y in b]
        return Range(min(results), max(results))

    return rule


def _not_beyond_input(node: ir.Node, read: Read) -> Range:
    return _symmetric(read(node.inputs[0]).magnitude)


def _relu(node: ir.Node, read: Read) -> Range:
    low, high = read(node.inputs[0])
    return Range(max(0.0, low), max(0.0, high))


def _quotient(x: float, y: float) -> float:
    if abs(y) < _SMALLEST_DIVISOR:
        raise UnknownError
    return x / y


def _multiply(node: ir.Node, read: Read) -> Range:
    for x, other in (node.inputs, reversed(node.inputs)):
        reciprocal = _made_by("Reciprocal", other)
        if reciprocal is not None and _is_root_mean_square(reciprocal.inputs[0], x):
            return _symmetric(_normalized(x, -1, read))
    return _at_corners(lambda a, b: a * b)(node, read)


def _divide(node: ir.Node, read: Read) -> Range:
    if _is_root_mean_square(node.inputs[1], node.inputs[0]):
        return _symmetric(_normalized(node.inputs[0], -1, read))
    divisor = read(node.inputs[1])
    if divisor.low <= 0 <= divisor.high:
        raise UnknownError
    return _at_corners(_quotient)(node, read)


def _power(node: ir.Node, read: Read) -> Range:
    base, exponent = (read(value) for value in node.inputs)
    if exponent.low != exponent.high or exponent.low not in (1, 2, 3, 4):
        raise UnknownError
    return _symmetric(base.magnitude**exponent.low)


def _square_root(node: ir.Node, read: Read) -> Range:
    x = read(node.inputs[0])
    return Range(math.sqrt(x.low), math.sqrt(x.high))  # below 0 a ValueError


def _matmul(node: ir.Node, read: Read) -> Range:
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


def _gemm(node: ir.Node, read: Read) -> Range:
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
    raise UnknownError


def _normalization(node: ir.Node, read: Read) -> Range:
    _, scale, *shift = (read(value) for value in node.inputs)
    if node.attributes.get_int("stash_type", 1) != 1:
        raise UnknownError
    largest = _normalized(node.inputs[0], node.attributes.get_int("axis", -1) or 0, read) * scale.magnitude
    return _symmetric(largest + (shift[0].magnitude if shift else 0.0))


def _normalized(x: ir.Value | None, axis: int, read: Read) -> float:
    """Return how large elements of `x` are at most, over their standard deviation or root mean square."""
    dims = [] if x is None or x.shape is None else x.shape[axis:]
    sizes = [dim for dim in dims if isinstance(dim, int)]
    size = math.prod(sizes)
    if not sizes or len(sizes) < len(dims) or not 4.0 * size * read(x).magnitude ** 2 < LARGEST:
        raise UnknownError
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
RULES: dict[str, Rule] = {
    **dict.fromkeys(("Cast", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split"), _among(_FIRST)),
    **dict.fromkeys(("Squeeze", "Tile", "Transpose", "Unsqueeze"), _among(_FIRST)),
    **dict.fromkeys(("Concat", "Max", "Min"), _among(_ALL)),
    **dict.fromkeys(("Cos", "Erf", "Sin", "Softsign", "Tanh"), _between(-1.0, 1.0)),
    **dict.fromkeys(("HardSigmoid", "Sigmoid", "Softmax"), _between(0.0, 1.0)),
    **dict.fromkeys(("Abs", "Gelu", "HardSwish", "Mish", "Neg"), _not_beyond_input),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalization),
    "Add": _at_corners(lambda x, y: x + y),
    "ConstantOfShape": _filled,
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
