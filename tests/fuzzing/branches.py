"""Random branches that read one value: to be merged into one, or to be left alone."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tests.fuzzing.elementwise import activation, arithmetic
from tests.fuzzing.layout import transpose
from tests.fuzzing.linear import is_image, normalized
from tests.fuzzing.scope import Scope, Skip, Value, by_run, is_float, static


def convs(g: Scope) -> Value:
    """Add two or three Convs of one value, of one or of several geometries: added, joined or used apart."""
    g.world.add_up(2)
    x = g.pick(lambda value: is_image(value) and value.rank == 4)
    channels, made = x.shape[1][0], g.between(1, 3)
    group = g.choose([size for size in (1, 1, 2) if channels % size == 0 and made % size == 0])
    shape = (x.shape[0], (made, made), *x.shape[2:])
    branches = []
    for size in g.choose(((1, 3), (1, 1), (3, 3), (3, 1, 1), (3, 3, 1))):
        fan_in = channels // group * size * size
        w = g.weights((made, channels // group, size, size), x.dtype, fan_in=fan_in)
        b = g.weights((made,), x.dtype) if g.chance(0.4) else None
        y = g.op("Conv", [x, w, b], shape, bound=3 * x.bound, exact=False, pads=[size // 2] * 4, group=group)
        branches.append(normalized(g, y) if g.chance(0.3) else y)
    if made == channels and g.chance(0.3):
        branches.append(normalized(g, x) if g.chance(0.5) else x)
    return _together(g, branches, 1)


def products(g: Scope) -> Value:
    """Add two or three MatMuls, or Gemms, of one value: added, joined or used apart."""
    g.world.add_up(2)
    x = g.pick(lambda value: is_float(value) and value.rank > 1 and static(value.shape[-1]))
    inner, width = x.shape[-1][0], g.between(1, 3)
    as_gemm = x.rank == 2 and g.chance(0.5)
    branches = []
    for _ in range(g.between(2, 3)):
        w = g.weights((inner, width), x.dtype, fan_in=inner)
        b = g.numbers(g.choose(((width,), (width,), (1, width))), x.dtype)
        shape = (*x.shape[:-1], (width, width))
        if as_gemm:
            y = g.op("Gemm", [x, w, b], shape, bound=3 * x.bound + 3, exact=False)
        else:
            y = g.op("MatMul", [x, w], shape, bound=3 * x.bound, exact=False)
            y = arithmetic(g, "Add", y, b) if g.chance(0.6) else y
        branches.append(activation(g, "Relu", y) if g.chance(0.2) else y)
    return _together(g, branches, x.rank - 1)


def in_a_row(g: Scope) -> Value:
    """Add two linear operators in a row: MatMuls, Gemms, or a Conv and one of 1×1."""
    g.world.add_up(2)
    x = g.pick(lambda value: is_float(value) and value.rank > 1 and static(value.shape[-1]))
    if is_image(x) and x.rank == 4 and g.chance(0.6):
        for _ in range(2):
            channels, made = x.shape[1][0], g.between(1, 3)
            w = g.weights((made, channels, 1, 1), x.dtype, fan_in=channels)
            b = g.weights((made,), x.dtype) if g.chance(0.4) else None
            shape = (x.shape[0], (made, made), *x.shape[2:])
            x = g.op("Conv", [x, w, b], shape, bound=3 * x.bound, exact=False)
        return x
    for _ in range(2):
        inner, width = x.shape[-1][0], g.between(1, 3)
        w = g.weights((inner, width), x.dtype, fan_in=inner)
        inputs = [x, w, g.weights((width,), x.dtype)] if x.rank == 2 and g.chance(0.5) else [x, w]
        name = "Gemm" if len(inputs) == 3 else "MatMul"
        x = g.op(name, inputs, (*x.shape[:-1], (width, width)), bound=3 * x.bound + 1, exact=False)
    return x


def attention(g: Scope) -> Value:
    """Add self-attention as exporters write it: products, heads, softmax, and heads joined again."""
    g.world.add_up(2)
    x = g.pick(lambda value: is_float(value) and value.rank == 3 and static(value.shape[-1]))
    heads, size = g.between(1, 2), g.between(1, 2)
    width = (heads * size,) * 2
    split = []
    for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        w = g.weights((x.shape[2][0], width[0]), x.dtype, fan_in=x.shape[2][0])
        y = g.op("MatMul", [x, w], (*x.shape[:2], width), bound=3 * x.bound, exact=False)
        if g.chance(0.5):
            y = arithmetic(g, "Add", y, g.numbers((width[0],), x.dtype))
        target = g.const([0, 0, heads, size])
        four = (*x.shape[:2], (heads, heads), (size, size))
        y = g.op("Reshape", [y, target], four, dtype=x.dtype, bound=y.bound, exact=False)
        split.append(g.op("Transpose", [y], tuple(four[axis] for axis in order), perm=order))
    q, k, v = split
    scores = g.op("MatMul", [q, k], (*q.shape[:3], k.shape[3]), bound=2 * q.bound * k.bound, exact=False)
    scores = arithmetic(g, "Mul", scores, g.const(np.array(0.25), x.dtype))
    weights = g.op("Softmax", [scores], scores.shape, axis=3, bound=1.0)
    mixed = g.op("MatMul", [weights, v], v.shape, bound=v.bound, exact=False)
    joined = g.op("Transpose", [mixed], (*x.shape[:2], *v.shape[1::2]), perm=[0, 2, 1, 3])
    target = g.const([0, 0, width[0]])
    return g.op("Reshape", [joined, target], (*x.shape[:2], width), dtype=x.dtype, bound=v.bound)


def turned(g: Scope) -> Value:
    """Add a MatMul or Gemm of which an operand is transposed."""
    g.world.add_up(2)
    x = g.pick(lambda value: is_float(value) and value.rank in (2, 3))
    order = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    x = g.op("Transpose", [x], tuple(x.shape[axis] for axis in order), perm=order)
    if not static(x.shape[-1]):
        raise Skip
    inner, width = x.shape[-1][0], g.between(1, 3)
    w = g.weights((width, inner), x.dtype, fan_in=inner)
    w = g.op("Transpose", [w], ((inner, inner), (width, width)), perm=[1, 0])
    shape = (*x.shape[:-1], (width, width))
    if x.rank == 2 and g.chance(0.5):
        c = g.numbers((width,), x.dtype)
        y = g.op("Gemm", [x, w, c], shape, bound=3 * x.bound + 1, exact=False)
    else:
        y = g.op("MatMul", [x, w], shape, bound=3 * x.bound, exact=False)
    return transpose(g, y) if g.chance(0.5) else y


def einsum(g: Scope) -> Value:
    """Add an Einsum of two values that a MatMul may replace, or of one."""
    if g.world.empty:  # onnxruntime dies of a division by zero
        raise Skip
    if g.opset < 12:
        raise Skip
    g.world.add_up(2)
    x = g.pick(lambda value: value.dtype == TensorProto.FLOAT and value.rank == 3)
    y = g.pick(lambda value: value.dtype == x.dtype and value.rank == 3)
    equation = g.choose(("bij,bjk->bik", "bij,bkj->bik", "bji,bjk->bik", "bij,bij->bi", "bij,bjk->ibk"))
    left, _, result = equation.partition("->")
    names = dict[str, tuple[int, int]]()
    for value, letters in zip((x, y), left.split(","), strict=True):
        for letter, dim in zip(letters, value.shape, strict=True):
            if names.setdefault(letter, dim) != dim:
                raise Skip
    shape = tuple(names[letter] for letter in result)
    bound = x.bound * y.bound * 5
    return g.op("Einsum", [x, y], shape, bound=bound, exact=False, equation=equation)


def twins(g: Scope) -> Value:
    """Add the same row of operators twice, on one value."""
    x = g.pick(is_float)
    names = [g.choose(("Relu", "Sigmoid", "Abs", "Neg")) for _ in range(g.between(1, 3))]
    results = []
    for _ in range(2):
        y = x
        for name in names:
            y = activation(g, name, y)
        results.append(y)
    return g.op("Add", results, x.shape, bound=2 * results[0].bound, exact=False)


def _together(g: Scope, branches: list[Value], axis: int) -> Value:
    """Add up, join, or leave apart values of one shape."""
    kind = g.between(0, 3)
    if kind == 0:
        return g.choose(branches)
    if kind == 1:
        joined = by_run(lambda run: [sum(branch.shape[axis][run] for branch in branches)])
        shape = (*branches[0].shape[:axis], *joined, *branches[0].shape[axis + 1 :])
        return g.op("Concat", branches, shape, axis=axis, exact=False)
    total = branches[0]
    for branch in branches[1:]:
        total = g.op("Add", [total, branch], total.shape, bound=total.bound + branch.bound, exact=False)
    return total
