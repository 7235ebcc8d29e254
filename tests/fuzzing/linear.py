"""Random convolutions, products, normalizations and pooling, often followed by what folds into them."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tests.fuzzing.elementwise import activation, arithmetic
from tests.fuzzing.scope import FLOATS, Scope, Shape, Skip, Value, by_run, is_float, static


def conv(g: Scope, given: Value | None = None) -> Value:
    """Add a Conv of one to three dimensions."""
    g.world.add_up()
    x = g.pick(is_image, given)
    channels, spatial = x.shape[1][0], x.rank - 2
    group = g.choose([size for size in (1, 1, 2, 2, channels) if channels % size == 0])
    made = group * g.between(1, 3)
    kernel = [g.between(1, 3) for _ in range(spatial)]
    stride, dilation = g.choose((1, 1, 2)), g.choose((1, 1, 2))
    auto_pad = g.choose(("NOTSET", "NOTSET", "NOTSET", "VALID", "SAME_UPPER"))
    if auto_pad == "SAME_UPPER":
        dilation = 1
    pads = [g.between(0, 1) for _ in range(2 * spatial)] if auto_pad == "NOTSET" else [0] * 2 * spatial
    shape = (
        (x.shape[0]),
        (made, made),
        *windows(x, kernel, pads, stride, dilation, same=auto_pad[0] == "S"),
    )
    w = g.weights(
        (made, channels // group, *kernel), x.dtype, fan_in=channels // group * int(np.prod(kernel))
    )
    b = g.weights((made,), x.dtype) if g.chance(0.5) else None
    y = g.op(
        "Conv",
        [x, w, b],
        shape,
        bound=3 * x.bound + 3,
        exact=False,
        group=group if group > 1 or g.chance(0.5) else None,
        strides=[stride] * spatial,
        dilations=[dilation] * spatial,
        pads=pads if auto_pad == "NOTSET" and (any(pads) or g.chance(0.5)) else None,
        auto_pad=auto_pad if auto_pad != "NOTSET" else None,
    )
    return followed(g, y)


def windows(
    x: Value, kernel: list[int], pads: list[int], stride: int, dilation: int, *, same: bool = False
) -> Shape:
    spatial = len(kernel)

    def sizes(run: int) -> list[int]:
        found = []
        for axis, size in enumerate(x.sizes(run)[2:]):
            padded = size + pads[axis] + pads[axis + spatial]
            found.append(
                -(-size // stride) if same else (padded - dilation * (kernel[axis] - 1) - 1) // stride + 1
            )
        if min(found) < 1:
            raise Skip
        return found

    return by_run(sizes)


def conv_transpose(g: Scope, given: Value | None = None) -> Value:
    """Add a ConvTranspose of one or two dimensions."""
    g.world.add_up()
    x = g.pick(lambda value: is_image(value) and value.rank < 5, given)
    channels, spatial = x.shape[1][0], x.rank - 2
    group = g.choose([size for size in (1, 2, 2) if channels % size == 0])
    per_group, stride = g.between(1, 2), g.choose((1, 2))
    kernel = [g.between(1, 3) for _ in range(spatial)]
    w = g.weights((channels, per_group, *kernel), x.dtype, fan_in=channels)
    b = g.weights((per_group * group,), x.dtype) if g.chance(0.5) else None
    out = by_run(
        lambda run: [stride * (size - 1) + k for size, k in zip(x.sizes(run)[2:], kernel, strict=True)]
    )
    shape = (x.shape[0], (per_group * group,) * 2, *out)
    strides = [stride] * spatial
    bound = 3 * x.bound + 3
    y = g.op("ConvTranspose", [x, w, b], shape, bound=bound, exact=False, group=group, strides=strides)
    return followed(g, y)


def followed(g: Scope, y: Value) -> Value:
    """Often add to a result what a rule may fold into its producer."""
    kind = g.between(0, 9) if y.rank > 1 else 9
    if kind < 3:
        return normalized(g, y)
    if kind < 7:
        for _ in range(g.between(1, 2)):
            forms: list[tuple[int, ...]] = [(), (1,)]
            if static(y.shape[1]):
                channels = (y.shape[1][0], *(1,) * (y.rank - 2))
                forms += [channels, (1, *channels)] * 2
            name = g.choose(("Add", "Sub", "Mul", "Div"))
            y = arithmetic(g, name, y, g.numbers(g.choose(forms), y.dtype))
    return activation(g, "Relu", y) if g.chance(0.3) else y


def batch_normalization(g: Scope, given: Value | None = None) -> Value:
    """Add a BatchNormalization to a value with channels."""
    return normalized(g, g.pick(lambda value: is_float(value) and value.rank > 1, given))


def normalized(g: Scope, x: Value) -> Value:
    """Add a BatchNormalization with random statistics."""
    if x.rank < 2 or not static(x.shape[1]):
        raise Skip
    size = (x.shape[1][0],)
    gamma, beta, mean = (g.const(g.rng.normal(size=size), x.dtype) for _ in range(3))
    var = g.const(g.rng.uniform(0.3, 2, size), x.dtype)
    epsilon = g.choose((None, 1e-3))
    return g.op(
        "BatchNormalization",
        [x, gamma, beta, mean, var],
        x.shape,
        bound=3 * x.bound + 5,
        exact=False,
        epsilon=epsilon,
    )


def group_normalization(g: Scope) -> Value:
    """Add a GroupNormalization; before opset 21 onnx calls it deprecated."""
    if g.world.infinite or g.opset < 21:
        raise Skip
    x = g.pick(lambda value: is_float(value) and value.rank > 1 and static(value.shape[1]))
    channels = x.shape[1][0]
    groups = g.choose([size for size in range(1, channels + 1) if channels % size == 0])
    scale, shift = g.numbers((channels,), x.dtype), g.numbers((channels,), x.dtype)
    return g.op(
        "GroupNormalization",
        [x, scale, shift],
        x.shape,
        exact=False,
        bound=20.0,
        num_groups=groups,
        epsilon=0.1,
    )


def matmul(g: Scope, given: Value | None = None) -> Value:
    """Add a MatMul with weights, or of two values of the graph."""
    g.world.add_up()
    x = g.pick(lambda value: is_float(value) and value.rank > 0, given)
    if not static(x.shape[-1]) or g.chance(0.1):
        y = g.pick(lambda value: value.dtype == x.dtype and value.rank > 1 and value.shape[-2] == x.shape[-1])
        shape = _product(x, y)
        return g.op("MatMul", [x, y], shape, bound=x.bound * y.bound * 4, exact=False)
    inner = x.shape[-1][0]
    form = g.choose(((inner, g.between(1, 4)),) * 5 + ((2, inner, 3), (inner,)))
    w = g.weights(form, x.dtype, fan_in=inner)
    y = g.op("MatMul", [x, w], _product(x, w), bound=3 * x.bound, exact=False)
    if g.chance(0.5):
        b = g.numbers(g.choose(((form[-1],), (1,), (), (1, form[-1]), (1, 1, form[-1]))), x.dtype)
        y = arithmetic(g, g.choose(("Add", "Add", "Mul", "Sub")), y, b)
    return followed(g, y) if g.chance(0.5) else y


def _product(x: Value, y: Value) -> Shape:
    def sizes(run: int) -> tuple[int, ...]:
        a, b = x.sizes(run), y.sizes(run)
        batch = np.broadcast_shapes(a[:-2], b[:-2])
        return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))

    return by_run(sizes)


def gemm(g: Scope, given: Value | None = None) -> Value:
    """Add a Gemm with either operand transposed, with factors, with and without C."""
    g.world.add_up()
    x = g.pick(lambda value: is_float(value) and value.rank == 2, given)
    transpose_a, transpose_b = g.choose((0, 0, 1)), g.choose((0, 1))
    rows, inner = x.shape[::-1] if transpose_a else x.shape
    if not static(inner):
        raise Skip
    columns = g.between(1, 4)
    w = g.weights((columns, inner[0]) if transpose_b else (inner[0], columns), x.dtype, fan_in=inner[0])
    forms = [(columns,), (1, columns), (), (1,)]
    if static(rows):
        forms += [(rows[0], columns), (rows[0], 1)] * 2
    c = g.numbers(g.choose(forms), x.dtype) if g.opset < 11 or g.chance(0.7) else None
    y = g.op(
        "Gemm",
        [x, w, c],
        (rows, (columns, columns)),
        bound=4 * x.bound + 6,
        exact=False,
        alpha=g.choose((None, 1.0, 0.5)),
        beta=g.choose((None, 1.0, 2.0)),
        transA=transpose_a or None,
        transB=transpose_b or None,
    )
    return followed(g, y) if g.chance(0.8) else y


def pool(g: Scope, given: Value | None = None, *, smallest: int = 1) -> Value:
    """Add max or average pooling, also global; `smallest` is that of the windows."""
    if g.world.infinite:
        raise Skip
    x = g.pick(is_image, given)
    if g.chance(0.3):
        shape = (*x.shape[:2], *((1, 1),) * (x.rank - 2))
        return g.op(g.choose(("GlobalAveragePool", "GlobalMaxPool")), [x], shape, exact=False)
    spatial, stride = x.rank - 2, g.choose((1, 1, 2))
    kernel = [g.between(smallest, 2) for _ in range(spatial)]
    pads = [0] * 2 * spatial
    if g.chance(0.3) and min(kernel) > 1:
        pads = [g.between(0, 1) for _ in pads]
    average = g.chance(0.5)
    return g.op(
        "AveragePool" if average else "MaxPool",
        [x],
        (*x.shape[:2], *windows(x, kernel, pads, stride, 1)),
        exact=not average and x.exact,
        kernel_shape=kernel,
        strides=[stride] * spatial,
        pads=pads if any(pads) or g.chance(0.5) else None,
        count_include_pad=g.choose((0, 1)) if average else None,
    )


def is_image(value: Value) -> bool:
    fits = value.dtype in FLOATS and value.dtype != TensorProto.DOUBLE and 3 <= value.rank <= 5
    return fits and static(value.shape[1]) and all(size for dim in value.shape[1:] for size in dim)
