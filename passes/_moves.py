"""Shared by fuse_gather: operators that only move elements about, and where all of them end up.

Axis 0 stays where it is, so each row of it is moved alike, and one block of rows stands for all. So does the
last axis: numbers which lie side by side move together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fuseonnx.core.constants import is_const
from fuseonnx.passes._dims import known_dims
from fuseonnx.passes.merge_slices import read_cuts

Indices = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class Moved(NamedTuple):
    """Where the elements come from.

    Each block of the source is `size` runs of `run` elements that lie side by side, and each block of the
    result is, in order, its runs number `indices`.
    """

    indices: Indices
    size: int
    run: int


def moved(nodes: Sequence[ir.Node], source: ir.Value, result: ir.Value) -> Moved | None:
    """Follow the elements from `source` to `result` through moving nodes, each after what it reads."""
    values = [source, *(output for node in nodes for output in node.outputs)]
    shapes = {value: inner_dims(value) for value in values}
    if None in shapes.values():
        return None
    dims = {value: list(shape) for value, shape in shapes.items() if shape is not None}
    unit = math.gcd(*(shape[-1] for shape in dims.values()))
    for shape in dims.values():
        shape[-1] //= unit
    reshaped = [node.outputs[0] for node in nodes if node.op_type == "Reshape"]
    block = math.lcm(*(math.prod(dims[value]) for value in (source, *reshaped)))
    if block > MAX_INDICES:
        return None
    rows = {source: np.arange(block, dtype=np.int64).reshape(-1, *dims[source])}
    for node in nodes:
        if not _move(node, rows, dims):
            return None
    return _in_runs(rows[result].reshape(-1), block, unit)


def inner_dims(value: ir.Value) -> tuple[int, ...] | None:
    """Return all dims but the first if they are known, there are any, and none is 0."""
    dims = known_dims(value)
    if dims is None or len(dims) < 2:
        return None
    inner = tuple(dim for dim in dims[1:] if dim)
    return inner if len(inner) == len(dims) - 1 else None


def may_move(node: ir.Node) -> bool:
    """Whether a node only moves elements, along neither the first axis nor (but for Concat) the last."""
    if node.domain or node.device_configurations or node.op_type not in _MOVES:
        return False
    if node.outputs[0].dtype in (None, ir.DataType.STRING):  # see spell_gather_nd
        return False
    dims = known_dims(node.outputs[0])
    if dims is None or len(dims) < 2:
        return False
    if node.op_type == "Reshape":
        return node.inputs[1:] != () and is_const(node.inputs[1])
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm")
        return perm is not None and not perm.is_ref() and _keeps_ends(list(perm.as_ints()))
    if node.op_type == "Slice":
        cuts = read_cuts(node, len(dims))
        return cuts is not None and not {0, len(dims) - 1} & {*cuts}
    axis = _axis(node, len(dims))
    return axis > 0 and (node.op_type == "Concat" or axis < len(dims) - 1)


MAX_INDICES = 1 << 14
"""More would grow the file by over 128 KiB."""

_MOVES = frozenset({"Reshape", "Transpose", "Slice", "Split", "Concat"})


def _keeps_ends(perm: list[int]) -> bool:
    return perm[0] == 0 and perm[-1] == len(perm) - 1


def _axis(node: ir.Node, rank: int) -> int:
    """Return the axis of a Split or Concat, counted from the front; 0 if it is not known."""
    axis = node.attributes.get("axis")
    return 0 if axis is None or axis.is_ref() else axis.as_int() % rank


def _move(node: ir.Node, rows: dict[ir.Value, Indices], dims: dict[ir.Value, list[int]]) -> bool:
    """Move the elements of a node's inputs; return whether its blocks are blocks of its input."""
    x = next(rows[value] for value in node.inputs if value in rows)
    if node.op_type == "Reshape":
        if x.size % math.prod(dims[node.outputs[0]]):
            return False
        made = [x.reshape(-1, *dims[node.outputs[0]])]
    elif node.op_type == "Transpose":
        made = [x.transpose(node.attributes.get_ints("perm"))]
    elif node.op_type == "Slice":
        cuts = read_cuts(node, x.ndim) or {}
        made = [x[tuple(slice(*cuts.get(axis, (None, None, None))) for axis in range(x.ndim))]]
    elif node.op_type == "Concat":
        made = [np.concatenate([rows[value] for value in node.inputs if value], _axis(node, x.ndim))]
    else:
        axis = _axis(node, x.ndim)
        ends = np.cumsum([dims[output][axis - 1] for output in node.outputs])
        made = np.split(x, ends[:-1], axis)
    rows.update(zip(node.outputs, made, strict=True))
    return all([*rows[value].shape[1:]] == dims[value] for value in node.outputs)


def _in_runs(origins: Indices, block: int, unit: int) -> Moved:
    """Put together what stays together, and take the smallest blocks that are moved alike."""
    starts = np.flatnonzero(np.diff(origins, prepend=-2) != 1)
    run = math.gcd(block, origins.size, *starts.tolist(), *origins[starts].tolist())
    indices, size = origins[::run] // run, block // run
    for parts in range(min(size, indices.size), 1, -1):
        if size % parts == 0 and indices.size % parts == 0:
            rows = indices.reshape(parts, -1) - np.arange(parts)[:, None] * (size // parts)
            if (rows == rows[0]).all():
                return Moved(rows[0], size // parts, run * unit)
    return Moved(indices, size, run * unit)
