"""Compute with one constant where several follow each other.

x ─ +a ─ −b ─ op          ⇒   x ─ +(a−b) ─ op
x ─ /a ─ ·b ─ op          ⇒   x ─ ·(b/a) ─ op
x ─ ·a ─ +b ─ ·c ─ op     ⇒   x ─ ·ac ─ +bc ─ op

In floats the new constants are computed in float64; integers add and multiply modulo 2ⁿ, so that they may be
regrouped, but not divided.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder, Refused
from fuseonnx.core.constants import Array, array_of, constant_tensor
from fuseonnx.core.pattern import AnyOf, Pattern, any_of, const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._affine import cast_weights, is_float

_SCALES = {"Mul", "Div"}
_SHIFTS = {"Add", "Sub"}
_NAMES = ("first", "second", "third")
_MAX_ELEMENTS = 1 << 16
_CANCELS, _LARGE = 1e-3, 1e3


class Affine(NamedTuple):
    """The map x ↦ scale·x + shift."""

    scale: Array
    shift: Array


def guard(m: Match) -> str | None:
    """Keep out of what would not get shorter, and of constants that would grow by broadcasting."""
    chain = _chain(m)
    kinds = {node.op_type in _SCALES for node in chain}
    if len(kinds) == 2 and len(chain) == 2:
        return ""
    if m.opset < 7:
        return "constants do not broadcast before opset 7"
    tensors = [constant_tensor(m[f"{name}_c"]) for name in _NAMES[: len(chain)]]
    sizes = [tensor.size for tensor in tensors]
    if max(sizes) > _MAX_ELEMENTS:
        return "the constants are large"
    shape = np.broadcast_shapes(*(tuple(tensor.shape.numpy()) for tensor in tensors))
    if int(np.prod(shape)) > max(sizes):
        return "the joint constant would be larger"
    if not is_float(tensors[0].dtype.numpy()) and (len(kinds) == 2 or _divides(chain)):
        return "integers do not regroup"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Scale and shift with the joint constants."""
    chain, first = _chain(m), m["first_c"]
    dtype = constant_tensor(first).dtype.numpy()
    scale, shift = _combined(m, chain)
    if all(node.op_type in _SCALES for node in chain):
        return new.op("Mul", m["x"], new.const(_cast(scale, dtype), first))
    constant = new.const(_cast(shift, dtype), first)
    if any(node.op_type in _SCALES for node in chain):
        scaled = new.op("Mul", m["x"], new.const(_cast(scale, dtype), first), like=chain[0])
        return new.op("Add", scaled, constant)
    if scale.item() == 1:
        return new.op("Add", m["x"], constant)
    return new.op("Sub", constant, m["x"])


def _chain(m: Match) -> list[ir.Node]:
    """Return the captured nodes, in the order in which they run."""
    return [m.captures.nodes[name] for name in _NAMES if name in m.captures.nodes]


def _divides(chain: list[ir.Node]) -> bool:
    return any(node.op_type == "Div" for node in chain)


def _combined(m: Match, chain: list[ir.Node]) -> Affine:
    """Return the map of the whole chain, in float64, or in the integers' own type.

    Raises:
        Refused: it divides by 0, or large terms cancel: a sum may be there to round.
    """
    dtype = constant_tensor(m["first_c"]).dtype.numpy()
    exact = np.dtype(np.float64) if is_float(dtype) else dtype
    scale, shift = np.ones(1, exact), np.zeros(1, exact)
    largest = 0.0
    with np.errstate(all="ignore"):
        for node, name in zip(chain, _NAMES, strict=False):
            c = np.atleast_1d(array_of(m[f"{name}_c"])).astype(exact)
            if node.op_type in _SCALES:
                factor = 1 / c if node.op_type == "Div" else c
                scale, shift, largest = scale * factor, shift * factor, 0.0
            elif node.op_type == "Sub" and node.inputs[0] is m[f"{name}_c"]:
                scale, shift = -scale, c - shift
            else:
                shift = shift - c if node.op_type == "Sub" else shift + c
            if node.op_type in _SHIFTS and is_float(dtype):
                largest = max(largest, float(np.abs(c).max(initial=0.0)))
                if largest > _LARGE and float(np.abs(shift).max(initial=0.0)) < _CANCELS * largest:
                    raise Refused("large terms cancel")
    return Affine(_unpadded(scale, m, chain), _unpadded(shift, m, chain))


def _unpadded(array: Array, m: Match, chain: list[ir.Node]) -> Array:
    """Return one number as a scalar if all constants are scalars: the rank of the result stays."""
    ranks = [len(constant_tensor(m[f"{name}_c"]).shape) for name in _NAMES[: len(chain)]]
    return array.reshape(()) if max(ranks) == 0 else array


def _cast(array: Array, dtype: np.dtype[np.generic]) -> Array:
    return cast_weights(array.astype(np.float64), dtype) if is_float(dtype) else array.astype(dtype)


def _step(x: Pattern, name: str) -> AnyOf:
    """Match x+c, x-c, c-x, x·c or x/c."""
    c = const(f"{name}_c")
    return any_of(
        op(("Add", "Mul"), x, c, name=name), op(("Sub", "Div"), x, c, name=name), op("Sub", c, x, name=name)
    )


_TWO = _step(_step(var("x"), "first"), "second")
_THREE = _step(_step(_step(var("x"), "first"), "second"), "third")

RULE = Rule("merge_constant_arithmetic", any_of(*_THREE.options, *_TWO.options), replace, guard)
