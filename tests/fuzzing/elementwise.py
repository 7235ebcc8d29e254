"""Random element-wise operators, comparisons, casts and reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from tests.fuzzing.scope import (
    BOOL,
    FLOATS,
    INTS,
    Scope,
    Shape,
    Skip,
    Value,
    broadcast,
    is_float,
    is_number,
    static,
)

_DOUBLE = TensorProto.DOUBLE
_NO_DOUBLE = frozenset({"HardSigmoid", "Erf", "HardSwish", "Selu", "LeakyRelu", "Elu", "Mean", "Softplus"})
_KEEPS_BOUND = ("Relu", "Neg", "Abs", "LeakyRelu", "Elu", "Identity", "Softplus", "Selu", "Dropout", "Clip")
_BOUNDED = ("Sigmoid", "Tanh", "Erf", "HardSigmoid", "Softmax", "LogSoftmax", "HardSwish")
_EXACT = ("Relu", "Neg", "Abs", "Identity", "Dropout", "Clip", "Sign")


def unary(g: Scope, given: Value | None = None) -> Value:
    """Add an activation, a sign or an Identity."""
    x = g.pick(is_float, given)
    name = g.choose((*_KEEPS_BOUND, *_BOUNDED, "Exp", "Sqrt", "Relu", "Sign", "Floor", "Identity"))
    return activation(g, name, x)


def again_and_again(g: Scope) -> Value:
    """Add two or three operators in a row that undo, repeat or absorb each other."""
    x = g.pick(lambda value: is_float(value) and value.dtype != _DOUBLE)
    for _ in range(g.between(2, 3)):
        x = activation(g, g.choose(("Relu", "Clip", "Neg", "Abs", "Identity", "Dropout")), x)
    return x


def activation(g: Scope, name: str, x: Value) -> Value:
    """Add the named operator to a float value."""
    if (name in _NO_DOUBLE and x.dtype == _DOUBLE) or (name == "HardSwish" and g.opset < 14):
        raise Skip
    if name in ("Sign", "Floor") and not x.exact:
        raise Skip
    if name == "Clip":
        return clip(g, x)
    if name == "Dropout":
        return dropout(g, x)
    if name == "Sqrt":
        x = g.op("Abs", [x], x.shape)
    bound = {"Exp": math.exp(min(x.bound, 50.0)), "Sqrt": x.bound + 1, "Softplus": x.bound + 1}.get(
        name, x.bound
    )
    if name in _BOUNDED and name not in ("LogSoftmax", "HardSwish"):
        bound = 1.0
    attributes: dict[str, Any] = {}
    if name in ("LeakyRelu", "Elu") and g.chance(0.7):
        attributes["alpha"] = g.choose((0.1, 0.5, 1.0))
    if name == "HardSigmoid":
        attributes = {"alpha": g.choose((1 / 6, 0.2)), "beta": 0.5}
    if name in ("Softmax", "LogSoftmax"):
        if not x.rank:
            raise Skip
        attributes["axis"] = g.between(0 if g.opset < 11 else -x.rank, x.rank - 1)
    return g.op(name, [x], x.shape, bound=bound, exact=x.exact and name in _EXACT, **attributes)


def clip(g: Scope, x: Value) -> Value:
    """Add Clip, with both ends, one or none; opset 11 made them inputs."""
    if g.world.infinite:
        raise Skip
    low, high = sorted(g.choose((-6.0, -1.0, 0.0, 0.5, 1.0, 6.0)) for _ in range(2))
    with_low, with_high = g.chance(0.7), g.chance(0.7)
    if g.opset < 11:
        if x.dtype != TensorProto.FLOAT:
            raise Skip
        return g.op("Clip", [x], x.shape, min=low if with_low else None, max=high if with_high else None)
    if x.dtype == _DOUBLE and g.opset < 12:
        raise Skip
    ends = [
        g.const(np.array(end), x.dtype) if wanted else None
        for end, wanted in ((low, with_low), (high, with_high))
    ]
    return g.op("Clip", [x, *ends], x.shape, bound=x.bound + 6, exact=x.exact)


def dropout(g: Scope, x: Value) -> Value:
    """Add Dropout in inference; opset 12 made ratio and training_mode inputs."""
    if g.opset < 12:
        return g.op("Dropout", [x], x.shape, ratio=g.choose((0.0, 0.5)))
    ratio = g.const(np.array(0.5), TensorProto.FLOAT) if g.chance(0.5) else None
    training = g.const(np.array(False), TensorProto.BOOL) if g.chance(0.3) else None
    return g.op("Dropout", [x, ratio, training], x.shape, exact=x.exact, bound=x.bound)


def with_constant(g: Scope, given: Value | None = None) -> Value:
    """Add arithmetic with a constant of any form, on either side."""
    x = g.pick(is_number, given)
    name = g.choose(("Add", "Sub", "Mul", "Div", "Add", "Mul", "Max", "Min", "Pow"))
    return arithmetic(g, name, x, constant_for(g, x))


def arithmetic(g: Scope, name: str, x: Value, c: Value) -> Value:
    """Add the named operator to a value and a constant."""
    if name == "Div" and (x.dtype in INTS or not x.exact or g.chance(0.6)):
        low, high = (1, 4) if x.dtype in INTS else (0.5, 2.0)
        c = g.const(np.asarray(g.rng.uniform(low, high, c.sizes(0))), x.dtype)
    if name == "Pow":
        if x.dtype not in FLOATS:
            raise Skip
        c = g.const(np.array(g.choose((1.0, 2.0, 3.0))), x.dtype)
    if name in ("Max", "Min") and x.dtype in INTS and g.opset < 12:
        raise Skip
    exact = x.exact and c.exact and (x.dtype in INTS or name in ("Max", "Min"))
    bound = {"Mul": x.bound * c.bound, "Pow": x.bound**3, "Div": x.bound * 4}.get(name, x.bound + c.bound)
    swap = name not in ("Div", "Pow") and g.chance(0.4)
    return g.op(name, [c, x] if swap else [x, c], broadcast(x, c), bound=bound, exact=exact)


def constant_for(g: Scope, x: Value) -> Value:
    """Add a constant that broadcasts with `x`: a scalar, [1], [C], [1, C, 1, 1], of a higher rank…"""
    rank = x.rank
    forms: list[tuple[int, ...]] = [(), (1,), (1,) * rank, (1,) * (rank + 1), (2, *(1,) * rank)]
    if rank and static(x.shape[-1]):
        forms += [(x.shape[-1][0],)] * 2
    if rank > 1 and static(x.shape[1]):
        forms += [(x.shape[1][0], *(1,) * (rank - 2)), (1, x.shape[1][0], *(1,) * (rank - 2))] * 2
    if all(map(static, x.shape)):
        forms.append(x.sizes(0))
    return g.numbers(g.choose(forms), x.dtype)


def binary(g: Scope, given: Value | None = None) -> Value:
    """Add arithmetic on two values, or on one value twice."""
    x = g.pick(is_number, given)
    y = g.pick(lambda value: value.dtype == x.dtype and _broadcasts(x, value))
    name = g.choose(("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean", "Div"))
    if name in ("Sum", "Mean", "Div") and x.dtype in INTS:
        raise Skip
    if name in ("Max", "Min") and x.dtype in INTS and g.opset < 12:
        raise Skip
    if name in _NO_DOUBLE and x.dtype == _DOUBLE:
        raise Skip
    inputs = [x, y]
    if name == "Div":
        size = g.op("Abs", [y], y.shape)
        inputs[1] = g.op(
            "Add", [size, g.const(np.array(0.5), y.dtype)], y.shape, exact=False, bound=y.bound + 1
        )
    if name in ("Sum", "Mean", "Max", "Min") and g.chance(0.3):
        inputs = inputs[:1] if g.chance(0.5) else [*inputs, x]
    bound = {"Mul": x.bound * y.bound, "Div": 2 * x.bound}.get(name, x.bound + y.bound)
    exact = x.exact and y.exact and (x.dtype in INTS or name in ("Max", "Min"))
    return g.op(name, inputs, broadcast(*inputs), bound=bound, exact=exact)


def _broadcasts(x: Value, y: Value) -> bool:
    try:
        broadcast(x, y)
    except Skip:
        return False
    return True


def compare(g: Scope) -> Value:
    """Add a comparison of exact values, or logic on bools."""
    bools = [value for value in g.values if value.dtype in BOOL]
    if bools and g.chance(0.5):
        x = g.choose(bools)
        if g.chance(0.4):
            return g.op("Not", [x], x.shape)
        y = g.pick(lambda value: value.dtype in BOOL and _broadcasts(x, value))
        return g.op(g.choose(("And", "Or", "Xor")), [x, y], broadcast(x, y))
    x = g.pick(lambda value: value.exact and value.dtype not in BOOL)
    name = g.choose(("Greater", "Less", "Equal"))
    if name == "Equal" and (x.dtype in FLOATS and g.opset < 11):
        raise Skip
    y = (
        constant_for(g, x)
        if g.chance(0.6)
        else g.pick(lambda v: v.dtype == x.dtype and v.exact and _broadcasts(x, v))
    )
    return g.op(name, [x, y], broadcast(x, y), dtype=TensorProto.BOOL, bound=1.0, exact=True)


def where(g: Scope) -> Value:
    """Add Where on a condition that the graph has or that is constant."""
    x = g.pick(lambda value: value.dtype not in (TensorProto.FLOAT16,))
    y = constant_for(g, x) if is_number(x) and g.chance(0.5) else g.pick(lambda v: v.dtype == x.dtype)
    if g.chance(0.3):
        condition = g.const(np.array(g.chance(0.5)), TensorProto.BOOL)
    else:
        condition = g.pick(lambda value: value.dtype in BOOL)
    shape = broadcast(condition, x, y)
    if x.dtype == TensorProto.BOOL:
        raise Skip
    return g.op("Where", [condition, x, y] if g.chance(0.7) else [condition, y, x], shape, dtype=x.dtype)


def cast(g: Scope, given: Value | None = None) -> Value:
    """Add a Cast; floats are truncated only where they are exact."""
    x = g.pick(lambda value: True, given)
    targets: list[int] = [x.dtype, TensorProto.FLOAT, TensorProto.DOUBLE]
    if g.world.dtype == TensorProto.FLOAT16:
        targets.append(TensorProto.FLOAT16)
    if x.exact:
        targets += [TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL]
    to = g.choose(targets)
    exact = x.exact and (x.dtype not in FLOATS or to not in FLOATS or to in (x.dtype, TensorProto.DOUBLE))
    bound = 1.0 if to == TensorProto.BOOL else x.bound
    return g.op("Cast", [x], x.shape, dtype=to, exact=exact, bound=bound, to=to)


_REDUCERS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare", "ReduceMean")


def reduce(g: Scope, given: Value | None = None) -> Value:
    """Add a reduction over some axes, or over all."""
    x = g.pick(is_number, given)
    name = g.choose(_REDUCERS)
    if x.dtype in INTS and name not in ("ReduceSum", "ReduceMax", "ReduceMin"):
        raise Skip
    axes = sorted(set(g.rng.integers(0, x.rank, 2).tolist())) if x.rank and g.chance(0.8) else []
    return reduce_over(g, name, x, axes, keepdims=g.choose((0, 1)))


def reduce_over(g: Scope, name: str, x: Value, axes: Sequence[int], *, keepdims: int) -> Value:
    """Add the named reduction; empty axes are all."""
    reduced = set(axes or range(x.rank))
    count = max(math.prod(x.shape[axis][run] for axis in reduced) for run in (0, 1))
    power = 2 if name == "ReduceSumSquare" else 1
    bound = x.bound if name in ("ReduceMean", "ReduceMax", "ReduceMin") else x.bound**power * count
    exact = x.exact and (x.dtype in INTS or name in ("ReduceMax", "ReduceMin"))
    shape: Shape = tuple(
        (1, 1) if axis in reduced else dim
        for axis, dim in enumerate(x.shape)
        if keepdims or axis not in reduced
    )
    may_be_negative = g.opset >= 11 and not g.world.empty  # onnxruntime overlooks them where x is empty
    signed = [axis - x.rank if may_be_negative and g.chance(0.3) else axis for axis in axes]
    keep = None if keepdims and g.chance(0.5) else keepdims
    if g.opset >= (13 if name == "ReduceSum" else 18):
        given = g.const(signed) if signed else None
        return g.op(name, [x, given], shape, dtype=x.dtype, bound=bound, exact=exact, keepdims=keep)
    return g.op(name, [x], shape, bound=bound, exact=exact, keepdims=keep, axes=signed or None)


def again(g: Scope) -> Value:
    """Add a node that the graph has already, so that there is something to merge."""
    own = {value.name: value for value in g.values[g.outer :]}
    twins = [
        node
        for node in g.nodes
        if len(node.output) == 1
        and node.output[0] in own
        and not any(each.HasField("g") for each in node.attribute)
    ]
    node = g.choose(twins)
    old = own[node.output[0]]
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name, copy.output[0] = "", g.fresh("again")
    g.nodes.append(copy)
    new = Value(copy.output[0], old.dtype, old.shape, old.exact, old.bound)
    g.values.append(new)
    return new
