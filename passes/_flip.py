"""Shared by the moves of Transposes: permutations of axes, and what they change of an operator.

A value v is in another layout if v' is at hand with v = Transpose(v', perm): axis i of v is axis perm[i]
of v'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from fuseonnx.core.constants import Array, array_of, is_const

Perm = tuple[int, ...]


@dataclass(frozen=True)
class Flip:
    """What changes of a node: its data inputs and outputs by these perms, its attributes, its parameters."""

    inputs: Mapping[int, Perm]
    output: Perm
    attributes: Mapping[str, int | Sequence[int]] = field(default_factory=dict)
    parameters: Mapping[int, Array] = field(default_factory=dict)
    penalty: int = 0
    """Elements that onnxruntime transposes inside the operator in the new layout; negative: in the old."""


@dataclass(frozen=True)
class View:
    """A node, and the perm of its data input (`above`) or of its outputs."""

    node: ir.Node
    perm: Perm
    above: bool
    opset: int

    def constant(self, index: int) -> Array | None:
        """Return a parameter, or None if it is absent or not constant."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        return array_of(value) if value is not None and is_const(value) else None

    def has(self, index: int) -> bool:
        """Whether an input is there."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None


def inverse(perm: Perm) -> Perm:
    """Return the perm that undoes `perm`."""
    return tuple(int(axis) for axis in np.argsort(perm))


def compose(first: Perm, then: Perm) -> Perm:
    """Return the perm of Transpose(Transpose(x, first), then)."""
    return tuple(first[axis] for axis in then)


def is_identity(perm: Perm) -> bool:
    """Whether every axis stays."""
    return perm == tuple(range(len(perm)))


def moves_only_units(dims: Sequence[int | None], perm: Perm) -> bool:
    """Whether the axes that hold more than one element keep their order."""
    order = [axis for axis in perm if dims[axis] != 1]
    return order == sorted(order)


def permuted(constant: Array, perm: Perm) -> Array:
    """Return the c' of a constant c that broadcasts with a value of this perm; new leading 1s go."""
    full = constant.reshape((1,) * (len(perm) - constant.ndim) + constant.shape).transpose(inverse(perm))
    while full.ndim > constant.ndim and full.shape[0] == 1:
        full = full[0]
    return full


def volume(dims: Sequence[int | None]) -> int:
    """Return about how many elements a value has: an unknown dim counts as 16."""
    return math.prod(16 if dim is None else dim for dim in dims)
