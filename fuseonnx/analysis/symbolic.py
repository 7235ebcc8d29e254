"""What is known of a value in symbols: its dims, and, if it is a short list of integers, its elements.

Facts are worked out once per value, from those of the values it is computed from, and kept in `value.meta`:
a rewrite never changes what a value is, so they stay true. `note` starts afresh, because more may be known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import onnx_ir as ir

from fuseonnx.analysis.dims import dims_made
from fuseonnx.analysis.elements import elements_made
from fuseonnx.analysis.expr import Number, fresh_dim, fresh_number, is_symbol, name_of, unknown
from fuseonnx.analysis.site import NOTHING, Dims, Fact, Site, integers
from fuseonnx.core.constants import constant_tensor, is_const

Known = tuple[Number | None, ...]

_MAX_ELEMENTS = 32
_FACT = "fuseonnx.fact"
_LISTED = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})


def dims_of(value: ir.Value | None) -> Dims | None:
    """Return the dims of a value, None if its rank is unknown."""
    return fact_of(value).dims


def elements_of(value: ir.Value | None) -> Dims | None:
    """Return the elements of a short list of integers or bools (rank 0 or 1), None if the value is none."""
    return fact_of(value).elements if value is not None and value.dtype in _LISTED else None


def integers_of(value: ir.Value | None) -> list[int] | None:
    """Return the elements of a short list of integers or bools if all are known numbers."""
    return integers(fact_of(value).elements)


def fact_of(value: ir.Value | None) -> Fact:
    """Return what is known of a value."""
    if value is None:
        return NOTHING
    pending = [] if _FACT in value.meta else [value]
    while pending:
        current, dims = pending[-1], _noted_dims(pending[-1])
        node = _telling(current, dims)
        missing = [] if node is None else _without_fact(node.inputs)
        if missing:
            pending.extend(missing)
        else:
            pending.pop()
            current.meta[_FACT] = _derived(current, dims, node)
    fact: Fact = value.meta[_FACT]
    return fact


def note(nodes: Iterable[ir.Node]) -> bool:
    """Work out the facts of the outputs of `nodes` anew, and note in their shapes the dims that are numbers.

    Args:
        nodes: of one graph, in their order.

    Returns:
        Whether more is known than before: a rank, a number that was unknown, or that two are one.
    """
    learned = False
    was: dict[Number, Number] = {}
    for node in nodes:
        if node.op_type == "Constant":
            continue
        for value in node.outputs:
            before: Fact | None = value.meta.pop(_FACT, None)
            if before is not None or value.shape is None or not value.shape.is_static():
                fact = fact_of(value)
                if before is not None:
                    learned |= _unknowns(fact) < _unknowns(before)
                    for new, old in _pairs(fact, before):
                        learned |= was.setdefault(new, old) != old
                learned |= fact.dims is not None and value.type is not None and _note_dims(value, fact.dims)
    return learned


def _unknowns(fact: Fact) -> int:
    """Return how many numbers of a fact hold an unknown that no name tells."""
    return sum("?" in str(each) or "~" in str(each) for each in (*(fact.dims or ()), *(fact.elements or ())))


def _pairs(fact: Fact, before: Fact) -> Iterator[tuple[Number, Number]]:
    """Yield each number of a fact, and what it was called before."""
    for new, old in zip(fact, before, strict=True):
        if new is not None and old is not None and len(new) == len(old):
            yield from zip(new, old, strict=True)


def _note_dims(value: ir.Value, dims: Dims) -> bool:
    numbers = sum(isinstance(dim, int) for dim in dims)
    if value.shape is not None and numbers == sum(isinstance(dim, int) for dim in value.shape):
        return False
    value.shape = ir.Shape([dim if isinstance(dim, int) else name_of(dim) for dim in dims])
    return True


def _without_fact(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    """Return the values about which nothing is worked out yet, other than constants, which are at once."""
    missing = []
    for value in values:
        if value is not None and _FACT not in value.meta:
            if is_const(value):
                value.meta[_FACT] = _constant(value)
            else:
                missing.append(value)
    return missing


def _telling(value: ir.Value, noted: Known | None) -> ir.Node | None:
    """Return the node that computes a value, if that may say more of it than the dims that are noted."""
    node = value.producer()
    if node is None or node.domain:
        return None
    if noted is not None and None not in noted and _length(value, noted) is None:
        return None
    return None if any(each.is_ref() for each in node.attributes.values()) else node


def _length(value: ir.Value, dims: Known | None) -> int | None:
    """Return the number of elements of a short list of integers, None if the value is none."""
    if dims is None or len(dims) > 1 or value.dtype not in _LISTED:
        return None
    length = dims[0] if dims else 1
    return length if isinstance(length, int) and 0 <= length <= _MAX_ELEMENTS else None


def _derived(value: ir.Value, dims: Known | None, node: ir.Node | None) -> Fact:
    """Return what follows from the dims that are noted and from the node, if it says more."""
    if is_const(value):
        return _constant(value)
    elements = None
    if node is not None:
        site, output = Site(node, [fact_of(each) for each in node.inputs]), value.index() or 0
        with contextlib.suppress(LookupError, ValueError, ArithmeticError, TypeError):  # the node is wrong
            if dims is None or None in dims:
                dims = _merged(dims, dims_made(site, output))
            length = _length(value, dims)
            if output == 0 and length is not None:
                elements = elements_made(site, length)
    known = None if dims is None else tuple(fresh_dim() if dim is None else dim for dim in dims)
    if elements is None and (length := _length(value, known)) is not None:
        elements = tuple(fresh_number() for _ in range(length))
    return Fact(known, elements)


def _constant(value: ir.Value) -> Fact:
    tensor = constant_tensor(value)
    dims = tuple(tensor.shape.numpy())
    if _length(value, dims) is None:
        return Fact(dims)
    return Fact(dims, tuple(tensor.numpy().reshape(-1).astype(int).tolist()))


def _noted_dims(value: ir.Value) -> Known | None:
    return None if value.shape is None else tuple(_noted(dim) for dim in value.shape)


def _noted(dim: int | ir.SymbolicDim) -> Number | None:
    if isinstance(dim, int):
        return dim
    return unknown(dim.value) if dim.value and is_symbol(dim.value) else None


def _merged(noted: Known | None, made: Dims | None) -> Known | None:
    if noted is None or made is None or len(noted) != len(made):
        return made if noted is None else noted
    return tuple(b if a is None or isinstance(b, int) else a for a, b in zip(noted, made, strict=True))
