"""How the dims of a result follow from its node's inputs, in symbols.

Only where onnx's own inference loses them: after a computed Reshape, Expand or Slice it knows no symbol, and
whatever is computed from there has none either.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest

from fuseonnx.analysis.expr import (
    Number,
    add,
    at_least,
    broadcast,
    divide,
    fresh_dim,
    maximum,
    minimum,
    multiply,
    product,
    quotient,
    steps,
    subtract,
)
from fuseonnx.analysis.site import Dims, Site

_TO_THE_END = 2**31 - 1


def dims_made(site: Site, output: int) -> Dims | None:
    """Return the dims of an output, None if its rank is unknown."""
    rule = _RULES.get(site.node.op_type)
    return None if rule is None or (output and site.node.op_type != "Split") else rule(site, output)


def _same(site: Site, _output: int) -> Dims | None:
    return site.dims(0)


def _broadcast_all(site: Site, _output: int) -> Dims | None:
    return broadcast_dims(*(each.dims for each in site.inputs))


def broadcast_dims(*shapes: Dims | None) -> Dims | None:
    """Return what shapes broadcast to, None if one is unknown."""
    result: Dims = ()
    for dims in shapes:
        if dims is None:
            return None
        pairs = zip_longest(reversed(result), reversed(dims), fillvalue=1)
        result = tuple(broadcast(a, b) for a, b in pairs)[::-1]
    return result


def _transpose(site: Site, _output: int) -> Dims | None:
    dims = site.dims(0)
    if dims is None:
        return None
    perm = site.node.attributes.get_ints("perm")
    return dims[::-1] if perm is None else tuple(dims[axis] for axis in perm)


def _reshape(site: Site, _output: int) -> Dims | None:
    dims, target = site.dims(0), site.elements(1)
    if target is None:
        return None
    copies = not site.attribute("allowzero", 0)
    result: list[Number | None] = []
    for axis, wanted in enumerate(target):
        if wanted == 0 and copies:
            result.append(dims[axis] if dims is not None else None)
        else:
            result.append(wanted if at_least(wanted, 0) else None)
    if result.count(None) == 1 and dims is not None and -1 in target:
        rest = quotient(product(dims), product(each for each in result if each is not None))
        result[result.index(None)] = rest
    return tuple(fresh_dim() if each is None else each for each in result)


def _flatten(site: Site, _output: int) -> Dims | None:
    dims = site.dims(0)
    if dims is None:
        return None
    axis = site.attribute("axis", 1)
    return product(dims[:axis]), product(dims[axis:])


def _squeeze(site: Site, _output: int) -> Dims | None:
    dims, axes = site.dims(0), site.parameter("axes", 1)
    if dims is None:
        return None
    if axes is None:
        plain = not site.has(1) and all(isinstance(dim, int) for dim in dims)
        return tuple(dim for dim in dims if dim != 1) if plain else None
    gone = {axis % len(dims) for axis in axes}
    return tuple(dim for axis, dim in enumerate(dims) if axis not in gone)


def _unsqueeze(site: Site, _output: int) -> Dims | None:
    dims, axes = site.dims(0), site.parameter("axes", 1)
    if dims is None or axes is None:
        return None
    rank = len(dims) + len(axes)
    new, old = {axis % rank for axis in axes}, iter(dims)
    return tuple(1 if axis in new else next(old) for axis in range(rank))


def _concat(site: Site, _output: int) -> Dims | None:
    axis, total, shapes = site.attribute("axis", 0), 0, [each.dims for each in site.inputs]
    if shapes[0] is None:
        return None
    length: Number = total
    merged = shapes[0]
    for dims in shapes:
        if dims is None:
            return None
        length = add(length, dims[axis])
        merged = tuple(a if isinstance(a, int) else b for a, b in zip(merged, dims, strict=True))
    return _with(merged, axis, length)


def _split(site: Site, output: int) -> Dims | None:
    dims, axis, sizes = site.dims(0), site.attribute("axis", 0), site.parameter("split", 1)
    if dims is None:
        return None
    if sizes is not None:
        return _with(dims, axis, sizes[output])
    part = None if site.has(1) else quotient(dims[axis], len(site.node.outputs))
    return _with(dims, axis, fresh_dim() if part is None else part)


def _slice(site: Site, _output: int) -> Dims | None:
    dims = site.dims(0)
    if dims is None:
        return None
    starts, ends = _bounds(site, "starts", 1), _bounds(site, "ends", 2)
    if starts is None or ends is None:
        return None if site.parameter("axes", 3) is None else _unknown_at(dims, site.parameter("axes", 3))
    axes = site.parameter("axes", 3) if site.has(3) or "axes" in site.node.attributes else range(len(starts))
    steps = site.integers(4) if site.has(4) else [1] * len(starts)
    if axes is None:
        return tuple(fresh_dim() for _ in dims)
    if steps is None:
        return _unknown_at(dims, list(axes))
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        dims = _with(dims, axis, _taken(dims[axis], start, end, step))
    return dims


def _bounds(site: Site, name: str, index: int) -> Dims | None:
    if site.has(index):
        return site.elements(index)
    values = site.node.attributes.get_ints(name)
    return None if values is None else tuple(values)


def _unknown_at(dims: Dims, axes: list[int] | None) -> Dims:
    for axis in axes or ():
        dims = _with(dims, axis, fresh_dim())
    return dims


def _taken(dim: Number, start: Number, end: Number, step: int) -> Number:
    """Return how many entries a slice takes of an axis."""
    first, last = clamped(dim, start), clamped(dim, end)
    if first is None or last is None or step < 1:
        return fresh_dim()
    span = maximum(subtract(last, first), 0)
    return span if step == 1 else divide(add(span, step - 1), step)


def clamped(dim: Number, bound: Number) -> Number | None:
    """Return where a bound of a slice lies, from 0 to the dim; None if its sign is unknown."""
    if isinstance(bound, int) and bound >= _TO_THE_END:
        return dim
    if at_least(bound, 0):
        return minimum(bound, dim)
    if at_least(multiply(bound, -1), 1):
        return maximum(add(dim, bound), 0)
    return None


def _gather(site: Site, _output: int) -> Dims | None:
    data, indices, axis = site.dims(0), site.dims(1), site.attribute("axis", 0)
    if data is None or indices is None:
        return None
    axis %= len(data)
    return data[:axis] + indices + data[axis + 1 :]


def _indices(site: Site, _output: int) -> Dims | None:
    return site.dims(1)


def _gather_nd(site: Site, _output: int) -> Dims | None:
    data, indices, batch = site.dims(0), site.dims(1), site.attribute("batch_dims", 0)
    if data is None or indices is None or not isinstance(indices[-1], int):
        return None
    return indices[:-1] + data[batch + indices[-1] :]


def _matmul(site: Site, _output: int) -> Dims | None:
    a, b = site.dims(0), site.dims(1)
    if not a or not b:
        return None
    batch = broadcast_dims(a[:-2], b[:-2])
    return None if batch is None else batch + a[-2:-1] + (b[-1:] if len(b) > 1 else ())


def _gemm(site: Site, _output: int) -> Dims | None:
    a, b = site.dims(0), site.dims(1)
    if a is None or b is None:
        return None
    return a[1 if site.attribute("transA", 0) else 0], b[0 if site.attribute("transB", 0) else 1]


def _expand(site: Site, _output: int) -> Dims | None:
    target = site.elements(1)
    if target is None:
        return None
    return broadcast_dims(site.dims(0), tuple(each if at_least(each, 0) else fresh_dim() for each in target))


def _tile(site: Site, _output: int) -> Dims | None:
    dims, repeats = site.dims(0), site.elements(1)
    if dims is None or repeats is None:
        return None
    made = (multiply(dim, times) for dim, times in zip(dims, repeats, strict=True))
    return tuple(each if at_least(each, 0) else fresh_dim() for each in made)


def _pad(site: Site, _output: int) -> Dims | None:
    dims, pads = site.dims(0), site.parameter("pads", 1)
    if dims is None or pads is None or site.has(3):
        return None
    ends = len(pads) // 2
    return tuple(add(dim, pads[axis] + pads[axis + ends]) for axis, dim in enumerate(dims))


def _reduce(site: Site, _output: int) -> Dims | None:
    dims, keeps = site.dims(0), site.attribute("keepdims", 1)
    axes = site.parameter("axes", 1)
    if dims is None or (axes is None and site.has(1)):
        return None
    if not axes and site.attribute("noop_with_empty_axes", 0):
        return dims
    gone = {axis % len(dims) for axis in axes} if axes else set(range(len(dims)))
    return tuple(1 if axis in gone else dim for axis, dim in enumerate(dims) if keeps or axis not in gone)


def _arg(site: Site, _output: int) -> Dims | None:
    dims = site.dims(0)
    if dims is None:
        return None
    axis = site.attribute("axis", 0) % len(dims)
    return dims[:axis] + ((1,) if site.attribute("keepdims", 1) else ()) + dims[axis + 1 :]


def _constant_of_shape(site: Site, _output: int) -> Dims | None:
    target = site.elements(0)
    return None if target is None else tuple(each if at_least(each, 0) else fresh_dim() for each in target)


def _range(site: Site, _output: int) -> Dims | None:
    bounds = [site.elements(index) for index in range(3)]
    if any(each is None for each in bounds):
        return (fresh_dim(),)
    (start,), (end,), (step,) = (each for each in bounds if each is not None)
    if step == 0 or not at_least(step, 1):
        return (fresh_dim(),)
    span = maximum(subtract(end, start), 0)
    return (divide(add(span, subtract(step, 1)), step),)


def _window(site: Site, _output: int) -> Dims | None:
    """Conv and the pools with explicit pads."""
    dims, weight = site.dims(0), site.dims(1) if site.node.op_type == "Conv" else None
    get = site.node.attributes
    auto_pad, kernel = get.get_string("auto_pad", "NOTSET"), get.get_ints("kernel_shape")
    if dims is None or auto_pad != "NOTSET" or site.attribute("ceil_mode", 0):
        return None
    if weight is not None and kernel is None and all(isinstance(dim, int) for dim in weight):
        kernel = [dim for dim in weight[2:] if isinstance(dim, int)]
    if kernel is None or (weight is None and site.node.op_type == "Conv"):
        return None
    axes = len(kernel)
    pads = get.get_ints("pads") or [0] * axes * 2
    strides, dilations = get.get_ints("strides") or [1] * axes, get.get_ints("dilations") or [1] * axes
    spatial = []
    for axis, size in enumerate(kernel):
        room = add(dims[axis + 2], pads[axis] + pads[axis + axes] - (size - 1) * dilations[axis] - 1)
        spatial.append(add(steps(room, strides[axis]), 1))
    channels = dims[1] if weight is None else weight[0]
    return dims[0], channels, *spatial


def _pooled(site: Site, _output: int) -> Dims | None:
    dims = site.dims(0)
    return None if dims is None else dims[:2] + (1,) * (len(dims) - 2)


def _with(dims: Dims, axis: int, size: Number) -> Dims:
    axis %= len(dims)
    return (*dims[:axis], size, *dims[axis + 1 :])


_SAME = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization", "Bernoulli"),
    *("BitwiseNot", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "CumSum"),
    *("DequantizeLinear", "Dropout", "Elu", "Erf", "Exp", "EyeLike", "Floor", "Gelu"),
    *("GroupNormalization", "Hardmax", "HardSigmoid", "HardSwish", "Identity"),
    *("InstanceNormalization", "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "Log"),
    *("LogSoftmax", "LpNormalization", "LRN", "Mish", "Neg", "Not", "QuantizeLinear", "Reciprocal"),
    *("Relu", "RMSNormalization", "RotaryEmbedding", "Round", "ScatterElements", "ScatterND", "Selu"),
    "Shrink",
    *("Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh"),
    *("ThresholdedRelu", "Trilu"),
)
_BROADCAST = (
    *("Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater"),
    *("GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow"),
    *("PRelu", "Sub", "Sum", "Where", "Xor"),
)
_REDUCE = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")

_RULES: dict[str, Callable[[Site, int], Dims | None]] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_BROADCAST, _broadcast_all),
    **{f"Reduce{kind}": _reduce for kind in _REDUCE},
    "ArgMax": _arg,
    "ArgMin": _arg,
    "AveragePool": _window,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _window,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _indices,
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "GlobalAveragePool": _pooled,
    "GlobalMaxPool": _pooled,
    "MatMul": _matmul,
    "MaxPool": _window,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
