"""The small graphs that exporters write for a single operator, with random spellings."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto, helper

from tests.fuzzing.elementwise import activation, arithmetic, reduce_over
from tests.fuzzing.layout import flatten, shape_tensor, with_axes
from tests.fuzzing.linear import is_image, normalized
from tests.fuzzing.scope import Dim, Scope, Skip, Value, by_run, is_float, static


def idiom(g: Scope) -> Value:
    """Add one of them."""
    return g.choose(_ALL)(g)


def arithmetic_with(g: Scope, name: str, x: Value, number: float) -> Value:
    """Add the named operator to a float value and a scalar, or a vector of one number."""
    c = g.const(np.full(g.choose(((), (), (1,) if x.rank else ())), number), x.dtype)
    bound = x.bound * max(1.0, abs(number)) + 1
    swap = name != "Div" and g.chance(0.4)
    return g.op(name, [c, x] if swap else [x, c], x.shape, bound=bound, exact=False)


def _swish(g: Scope) -> Value:
    x = g.pick(is_float)
    gate = activation(g, "Sigmoid", x)
    return g.op("Mul", [x, gate] if g.chance(0.5) else [gate, x], x.shape, exact=False, bound=x.bound)


def _hard_swish(g: Scope) -> Value:
    if g.world.infinite:
        raise Skip
    x = g.pick(lambda value: is_float(value) and (g.opset >= 12 or value.dtype == TensorProto.FLOAT))
    shifted = arithmetic(g, "Add", x, g.const(np.array(3.0), x.dtype))
    if g.opset < 11:
        gate = g.op("Clip", [shifted], x.shape, min=0.0, max=6.0)
    else:
        ends = [g.const(np.array(end), x.dtype) for end in (0.0, 6.0)]
        gate = g.op("Clip", [shifted, *ends], x.shape, exact=False)
    if g.chance(0.5):
        gate = g.op("Div", [gate, g.const(np.array(6.0), x.dtype)], x.shape, bound=1.0)
        return g.op("Mul", [x, gate], x.shape, bound=x.bound)
    product = g.op("Mul", [x, gate], x.shape, bound=6 * x.bound)
    return g.op("Div", [product, g.const(np.array(6.0), x.dtype)], x.shape, bound=x.bound)


def _reduced_and_back(g: Scope) -> Value:
    x = g.pick(lambda value: is_float(value) and value.rank > 1)
    axis = g.between(0, x.rank - 1)
    y = reduce_over(g, g.choose(("ReduceMean", "ReduceMax", "ReduceSum")), x, [axis], keepdims=0)
    return with_axes(g, "Unsqueeze", y, (*x.shape[:axis], (1, 1), *x.shape[axis + 1 :]), [axis])


def _norm(g: Scope) -> Value:
    """LayerNormalization, RMSNormalization, or over other axes; often with a scale and a shift."""
    x = g.pick(lambda value: is_float(value) and value.rank > 1)
    axes = [x.rank - 1] if g.chance(0.7) else list(range(g.between(1, x.rank - 1), x.rank))
    centred = x
    if g.chance(0.7):
        mean = reduce_over(g, "ReduceMean", x, axes, keepdims=1)
        centred = g.op("Sub", [x, mean], x.shape, bound=2 * x.bound, exact=False)
    if g.chance(0.7):
        two = g.const(np.array(2.0), x.dtype)
        square = g.op("Pow", [centred, two], x.shape, bound=centred.bound**2, exact=False)
    else:
        square = g.op("Mul", [centred, centred], x.shape, bound=centred.bound**2, exact=False)
    variance = reduce_over(g, "ReduceMean", square, axes, keepdims=1)
    safe = arithmetic(g, "Add", variance, g.const(np.array(0.1), x.dtype))
    root = g.op("Sqrt", [safe], safe.shape, bound=safe.bound)
    if g.chance(0.3):
        inverse = g.op("Reciprocal", [root], root.shape, bound=4.0)
        y = g.op("Mul", [centred, inverse], x.shape, bound=10.0)
    else:
        y = g.op("Div", [centred, root], x.shape, bound=10.0)
    for name in ("Mul", "Add"):
        if static(x.shape[-1]) and g.chance(0.6):
            y = arithmetic(g, name, y, g.numbers((x.shape[-1][0],), x.dtype))
    return y


def _softmax(g: Scope) -> Value:
    """Exp over its sum, with or without the largest taken off."""
    x = g.pick(lambda value: is_float(value) and value.rank > 0)
    axis = g.between(0, x.rank - 1)
    if g.chance(0.7):
        largest = reduce_over(g, "ReduceMax", x, [axis], keepdims=1)
        x = g.op("Sub", [x, largest], x.shape, bound=0.0, exact=False)
    e = activation(g, "Exp", x)
    total = reduce_over(g, "ReduceSum", e, [axis], keepdims=1)
    return g.op("Div", [e, total], x.shape, bound=1.0, exact=False)


def _gelu(g: Scope) -> Value:
    """x / 2 · (1 + erf(x / √2)), or with tanh, the factors in any order."""
    x = g.pick(lambda value: is_float(value) and value.dtype != TensorProto.DOUBLE)

    def by(name: str, value: Value, factor: float) -> Value:
        return arithmetic_with(g, name, value, factor)

    if g.chance(0.6):
        inner = by("Div", x, math.sqrt(2)) if g.chance(0.5) else by("Mul", x, math.sqrt(0.5))
        gate = g.op("Erf", [inner], x.shape, bound=1.0, exact=False)
    else:
        cube = g.op("Pow", [x, g.const(np.array(3.0), x.dtype)], x.shape, bound=x.bound**3, exact=False)
        inner = g.op("Add", [x, by("Mul", cube, 0.044715)], x.shape, bound=x.bound**3, exact=False)
        gate = g.op("Tanh", [by("Mul", inner, math.sqrt(2 / math.pi))], x.shape, bound=1.0)
    gate = by("Add", gate, 1.0)
    if g.chance(0.5):
        return by("Mul", g.op("Mul", [x, gate], x.shape, bound=2 * x.bound), 0.5)
    return g.op("Mul", [by("Mul", x, 0.5), gate], x.shape, bound=x.bound)


def _mish(g: Scope) -> Value:
    x = g.pick(lambda value: is_float(value) and value.dtype != TensorProto.DOUBLE)
    gate = activation(g, "Tanh", activation(g, "Softplus", x))
    return g.op("Mul", [x, gate], x.shape, exact=False, bound=x.bound)


def _hard_sigmoid(g: Scope) -> Value:
    """min(max(a·x + b, 0), 1), now and then times x."""
    x = g.pick(lambda value: is_float(value) and (g.opset >= 12 or value.dtype == TensorProto.FLOAT))
    y = arithmetic_with(g, "Add", arithmetic_with(g, "Mul", x, g.choose((1 / 6, 0.1667, 0.2))), 0.5)
    ends = (("Max", 0.0), ("Min", 1.0))
    for name, end in ends if g.chance(0.5) else ends[::-1]:
        y = arithmetic_with(g, name, y, end)
    return g.op("Mul", [x, y], x.shape, bound=x.bound, exact=False) if g.chance(0.5) else y


def _spatial_mean(g: Scope) -> Value:
    """ReduceMean over all spatial axes, now and then flattened."""
    x = g.pick(is_image)
    keep = g.choose((0, 1))
    y = reduce_over(g, "ReduceMean", x, list(range(2, x.rank)), keepdims=keep)
    return flatten(g, y) if keep and g.chance(0.4) else y


def _torch_expand(g: Scope) -> Value:
    """Expand to a shape whose -1 stand for ones: Where(shape = -1, ones, shape), as PyTorch writes it."""
    x = g.pick(lambda value: value.dtype != TensorProto.FLOAT16)
    if g.opset < 11:
        raise Skip
    target: list[Dim] = [(2, 2), *x.shape]
    given = shape_tensor(g, target) if g.chance(0.5) else g.const([2, *[-1] * x.rank])
    size = ((x.rank + 1,) * 2,)
    ones = g.op(
        "ConstantOfShape",
        [g.const([x.rank + 1])],
        size,
        dtype=TensorProto.INT64,
        bound=1.0,
        exact=True,
        value=helper.make_tensor("value", TensorProto.INT64, [1], [1]),
    )
    minus = g.op("Mul", [ones, g.const(-1)], size) if g.chance(0.5) else g.const(-1)
    unknown = g.op("Equal", [given, minus], size, dtype=TensorProto.BOOL, bound=1.0, exact=True)
    chosen = g.op("Where", [unknown, ones, given], size, dtype=TensorProto.INT64, bound=99.0, exact=True)
    return g.op("Expand", [x, chosen], tuple(target), dtype=x.dtype, exact=x.exact, bound=x.bound)


def _normalized_product(g: Scope) -> Value:
    x = g.pick(lambda value: is_float(value) and value.rank == 3 and all(map(static, value.shape[1:])))
    rows, inner = x.shape[1][0], x.shape[2][0]
    w = g.weights((inner, 3), x.dtype, fan_in=inner)
    y = g.op("MatMul", [x, w], (x.shape[0], (rows, rows), (3, 3)), bound=3 * x.bound, exact=False)
    flat = g.op("Reshape", [y, g.const([-1, 3])], by_run(lambda run: [x.sizes(run)[0] * rows, 3]))
    return g.op("Reshape", [normalized(g, flat), g.const([-1, rows, 3])], y.shape, bound=9 * x.bound)


_ALL = (
    _swish,
    _hard_swish,
    _hard_sigmoid,
    _gelu,
    _mish,
    _norm,
    _norm,
    _softmax,
    _spatial_mean,
    _torch_expand,
    _normalized_product,
    _reduced_and_back,
)
