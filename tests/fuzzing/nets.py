"""Random recurrent operators whose states may be zero, and layers that are Gemms of an image's pixels."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tests.fuzzing.elementwise import activation
from tests.fuzzing.layout import shape_tensor
from tests.fuzzing.linear import is_image
from tests.fuzzing.scope import NUMBERS, Scope, Shape, Skip, Value, broadcast, by_run, static, static_shape

_ACTIVATIONS = ("Relu", "LeakyRelu", "HardSigmoid", "Tanh", "Sigmoid", "Erf")


def recurrent(g: Scope) -> Value:
    """Add an LSTM, a GRU or an RNN, and choose one of its results."""
    if g.world.infinite or g.world.empty:  # onnxruntime aborts where a sequence is empty
        raise Skip
    x = g.pick(lambda value: value.dtype == TensorProto.FLOAT and value.rank == 3 and static(value.shape[2]))
    name, gates = g.choose((("LSTM", 4), ("GRU", 3), ("RNN", 1)))
    size, hidden, directions = x.shape[2][0], g.between(1, 3), g.between(1, 2)
    w = g.weights((directions, gates * hidden, size), x.dtype, fan_in=size)
    r = g.weights((directions, gates * hidden, hidden), x.dtype, fan_in=hidden)
    b = g.weights((directions, 2 * gates * hidden), x.dtype) if g.chance(0.5) else None
    state: Shape = ((directions, directions), x.shape[1], (hidden, hidden))
    states = [_state(g, state) for _ in range(2 if name == "LSTM" else 1)]
    outputs = g.op_many(
        name,
        [x, w, r, b, None, *states],
        [(x.shape[0], state[0], *state[1:]), state, state][: len(states) + 1],
        exact=False,
        bound=9.0,
        hidden_size=hidden,
        direction=g.choose(("forward", "reverse")) if directions == 1 else "bidirectional",
    )
    return g.choose(outputs)


def _state(g: Scope, shape: Shape) -> Value | None:
    """Return an initial state: none, constant, or zeros of a computed size."""
    if g.chance(0.2):
        return None
    if all(map(static, shape)) and g.chance(0.3):
        return g.numbers([dim[0] for dim in shape], TensorProto.FLOAT)
    return _zeros(g, shape, TensorProto.FLOAT)


def _zeros(g: Scope, shape: Shape, dtype: int) -> Value:
    """Add zeros of a computed size."""
    target = shape_tensor(g, list(shape))
    if g.chance(0.5) and dtype == TensorProto.FLOAT:
        return g.op("ConstantOfShape", [target], shape, dtype=dtype, bound=0.0, exact=True)
    return g.op("Expand", [g.const(np.array(0.0), dtype), target], shape)


def zero_term(g: Scope) -> Value:
    """Add zeros of a computed size to a value: of its size, a smaller one, or one that enlarges it."""
    x = g.pick(lambda value: value.dtype in NUMBERS)
    dims = [dim if g.chance(0.7) else (1, 1) for dim in x.shape]
    if g.chance(0.3):
        dims = [(g.between(1, 2),) * 2, *(dim if dim != (1, 1) else (2, 2) for dim in dims)]
    zeros = _zeros(g, tuple(dims), x.dtype)
    return g.op("Add", [x, zeros] if g.chance(0.7) else [zeros, x], broadcast(x, zeros))


def pixels(g: Scope) -> Value:
    """Add Gemms of the pixels of an image, activations and sums, and often make an image of them again."""
    g.world.add_up(4)
    x = g.pick(lambda value: is_image(value) and value.rank == 4 and all(map(static, value.shape[2:])))
    made, (height, width) = g.choose((4, 8)), static_shape(x)[2:]
    w = g.weights((made, x.shape[1][0], 1, 1), x.dtype, fan_in=x.shape[1][0])
    x = g.op("Conv", [x, w], (x.shape[0], (made, made), *x.shape[2:]), bound=3 * x.bound, exact=False)
    image: Shape = (x.shape[0], *x.shape[2:], x.shape[1])
    turned = g.op("Transpose", [x], image, perm=[0, 2, 3, 1])
    shape = by_run(lambda run: [turned.sizes(run)[0] * height * width, made])
    rows = [g.op("Reshape", [turned, g.const([-1, made])], shape)]
    for _ in range(g.between(2, 4)):
        rows.append(_layer(g, rows[-1]))
        if g.chance(0.5):
            terms = [rows[-1], g.choose(rows)]
            rows.append(g.op("Add", terms, shape, bound=2 * max(each.bound for each in rows), exact=False))
    if g.chance(0.5):
        return rows[-1]
    result = g.op("Reshape", [rows[-1], g.const([-1, height, width, made])], image)
    return g.op("Transpose", [result], x.shape, perm=[0, 3, 1, 2]) if g.chance(0.5) else result


def _layer(g: Scope, x: Value) -> Value:
    """Add a Gemm of as many columns as `x` has, and often an activation."""
    width = x.shape[1][0]
    w = g.weights((width, width), x.dtype, fan_in=width)
    c = g.weights((width,), x.dtype) if g.opset < 11 or g.chance(0.8) else None
    y = g.op("Gemm", [x, w, c], x.shape, bound=2 * x.bound + 3, exact=False, transB=g.choose((None, 1)))
    return activation(g, g.choose(_ACTIVATIONS), y) if g.chance(0.7) else y
