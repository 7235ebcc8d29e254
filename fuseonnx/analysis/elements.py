"""How the elements of short lists of integers follow from each other, in symbols: arithmetic on shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from fuseonnx.analysis.expr import (
    Number,
    add,
    at_least,
    divide,
    fresh_number,
    maximum,
    minimum,
    multiply,
    product,
    quotient,
    subtract,
    surely_equal,
)
from fuseonnx.analysis.site import Dims, Site

Made = Sequence[Number | None] | None

_INT32 = ir.DataType.INT32
_GROWS = frozenset({"Add", "Mul", "Sub", "ReduceProd", "ReduceSum"})
_WHOLE = frozenset({ir.DataType.INT64, ir.DataType.INT32})


def elements_made(site: Site, size: int) -> Dims | None:
    """Return the elements of the first output, None if no rule says.

    Args:
        site: the node; its result is an integer or bool of rank 0 or 1.
        size: the number of elements of the result.
    """
    rule = _RULES.get(site.node.op_type)
    made = None if rule is None else rule(site, size)
    if made is None or len(made) != size:
        return None
    limit = 2**31 if site.node.outputs[0].dtype is _INT32 else 2**63
    return tuple(fresh_number() if each is None or _wraps(each, limit) else each for each in made)


def _wraps(number: Number, limit: int) -> bool:
    """Whether a known number is too large for its type, and becomes another one at run time."""
    return isinstance(number, int) and not -limit <= number < limit


def _shape(site: Site, _size: int) -> Made:
    dims = site.dims(0)
    if dims is None:
        return None
    return dims[site.attribute("start", 0) : site.attribute("end", len(dims))]


def _count(site: Site, _size: int) -> Made:
    dims = site.dims(0)
    return None if dims is None else (product(dims),)


def _same(site: Site, _size: int) -> Made:
    return site.elements(0)


def _cast(site: Site, _size: int) -> Made:
    elements, target = site.elements(0), site.node.attributes["to"].value
    if elements is None or target in _WHOLE:
        return elements
    return [_truth(each) for each in elements] if target == ir.DataType.BOOL else None


def _truth(number: Number) -> Number | None:
    equal = surely_equal(number, 0)
    return None if equal is None else int(not equal)


def _concat(site: Site, _size: int) -> Made:
    pieces = [each.elements for each in site.inputs]
    return None if None in pieces else [each for piece in pieces for each in piece or ()]


def _gather(site: Site, _size: int) -> Made:
    elements, indices = site.elements(0), site.integers(1)
    if elements is None or indices is None:
        return None
    return [elements[index] for index in indices]


def _slice(site: Site, _size: int) -> Made:
    elements, starts, ends = site.elements(0), site.parameter("starts", 1), site.parameter("ends", 2)
    steps = site.integers(4) if site.has(4) else [1]
    if elements is None or not starts or not ends or not steps:
        return None
    return elements[slice(starts[0], ends[0], steps[0])]


def _where(site: Site, size: int) -> Made:
    lists = _spread(site, size)
    return None if lists is None else [_chosen(*each) for each in zip(*lists, strict=True)]


def _chosen(condition: Number, yes: Number, no: Number) -> Number | None:
    if isinstance(condition, int):
        return yes if condition else no
    return yes if yes == no else None


def _filled(site: Site, size: int) -> Made:
    value = site.node.attributes.get("value")
    return [0 if value is None else int(value.as_tensor().numpy().item())] * size


def _range(site: Site, size: int) -> Made:
    start, step = site.elements(0), site.elements(2)
    if start is None or step is None:
        return None
    return [add(start[0], multiply(step[0], index)) for index in range(size)]


def _expand(site: Site, size: int) -> Made:
    elements = site.elements(0)
    return None if elements is None else elements * size if len(elements) == 1 else elements


def _reduce(function: Callable[[Number, Number], Number]) -> Callable[[Site, int], Made]:
    def rule(site: Site, size: int) -> Made:
        elements = site.elements(0)
        if not elements or size != 1 or _may_overflow(site):
            return None
        result = elements[0]
        for each in elements[1:]:
            result = function(result, each)
        return (result,)

    return rule


def _fold(function: Callable[[Number, Number], Number | None]) -> Callable[[Site, int], Made]:
    """An element-wise operator of two or more inputs."""

    def rule(site: Site, size: int) -> Made:
        lists = _spread(site, size)
        if not lists or _may_overflow(site):
            return None
        result: list[Number | None] = list(lists[0])
        for other in lists[1:]:
            result = [None if a is None else function(a, b) for a, b in zip(result, other, strict=True)]
        return result

    return rule


def _each(function: Callable[[Number], Number | None]) -> Callable[[Site, int], Made]:
    def rule(site: Site, _size: int) -> Made:
        elements = site.elements(0)
        return None if elements is None else [function(each) for each in elements]

    return rule


def _spread(site: Site, size: int) -> list[Dims] | None:
    """Return the elements of all inputs, each broadcast to `size`."""
    lists = []
    for each in site.inputs:
        if each.elements is None:
            return None
        lists.append(each.elements * size if len(each.elements) == 1 else each.elements)
    return lists


def _may_overflow(site: Site) -> bool:
    """Whether arithmetic on 32 bits might wrap around, which no sum or product in symbols does."""
    value = site.node.inputs[0]
    return value is not None and value.dtype is _INT32 and site.node.op_type in _GROWS


def _remainder(a: Number, b: Number) -> Number | None:
    if isinstance(a, int) and isinstance(b, int) and a >= 0 and b > 0:
        return a % b
    return 0 if b != 0 and quotient(a, b) is not None else None


def _absolute(a: Number) -> Number | None:
    return a if at_least(a, 0) else abs(a) if isinstance(a, int) else None


def _equal(a: Number, b: Number) -> Number | None:
    equal = surely_equal(a, b)
    return None if equal is None else int(equal)


def _less(a: Number, b: Number, margin: int = 1) -> Number | None:
    """Whether a + margin <= b."""
    difference = subtract(b, a)
    if at_least(difference, margin):
        return 1
    return 0 if at_least(multiply(difference, -1), 1 - margin) else None


def _both(a: Number, b: Number) -> Number | None:
    if 0 in (a, b):
        return 0
    return b if a == 1 else a if b == 1 else None


def _either(a: Number, b: Number) -> Number | None:
    if 1 in (a, b):
        return 1
    return b if a == 0 else a if b == 0 else None


_RULES: dict[str, Callable[[Site, int], Made]] = {
    "Abs": _each(_absolute),
    "Add": _fold(add),
    "And": _fold(_both),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Div": _fold(lambda a, b: None if b == 0 else divide(a, b)),
    "Equal": _fold(_equal),
    "Expand": _expand,
    "Gather": _gather,
    "Greater": _fold(lambda a, b: _less(b, a)),
    "GreaterOrEqual": _fold(lambda a, b: _less(b, a, 0)),
    "Identity": _same,
    "Less": _fold(_less),
    "LessOrEqual": _fold(lambda a, b: _less(a, b, 0)),
    "Max": _fold(maximum),
    "Min": _fold(minimum),
    "Mod": _fold(_remainder),
    "Mul": _fold(multiply),
    "Neg": _each(lambda a: multiply(a, -1)),
    "Not": _each(lambda a: 1 - a if isinstance(a, int) else None),
    "Or": _fold(_either),
    "Range": _range,
    "ReduceMax": _reduce(maximum),
    "ReduceMin": _reduce(minimum),
    "ReduceProd": _reduce(multiply),
    "ReduceSum": _reduce(add),
    "Reshape": _same,
    "Shape": _shape,
    "Size": _count,
    "Slice": _slice,
    "Squeeze": _same,
    "Sub": _fold(subtract),
    "Tile": _expand,
    "Unsqueeze": _same,
    "Where": _where,
}

ON_SHAPES = frozenset(_RULES)
"""The operators that arithmetic on shapes is made of."""
