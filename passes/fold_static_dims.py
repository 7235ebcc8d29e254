"""Replace the part of a shape that is read by its result, when the dims read are known and others are not.

Gather(Shape(x: float[batch, 3, 224, 224]), 1)      ⇒   3
Slice(Shape(x: float[batch, 3, 224, 224]), 2, 4)    ⇒   [224, 224]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, maybe, op, var
from fuseonnx.core.rule import Match, Rule

Dims = npt.NDArray[np.int64]
_SHAPE = op("Shape", var("x"), name="shape", shared=True)


def guard(m: Match) -> str | None:
    """Keep out unless every dim that is read is a number."""
    return "a dim that is read is not static" if _read(m) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Keep the dims as a constant."""
    dims = _read(m)
    assert dims is not None
    return new.const(dims)


def _read(m: Match) -> Dims | None:
    """Return what the root reads of the shape, int64, or None if that holds an unknown dim or an error."""
    shape = m["x"].shape
    if shape is None:
        return None
    attributes = m.node("shape").attributes
    dims = [dim if isinstance(dim, int) else -1 for dim in shape]
    dims = dims[attributes.get_int("start", 0) : attributes.get_int("end", len(dims))]
    try:
        read = _gather(m, dims) if m.root.op_type == "Gather" else _slice(m, dims)
    except IndexError:
        return None
    return None if (read < 0).any() else read


def _gather(m: Match, dims: list[int]) -> Dims:
    indices = m.array("indices").astype(np.int64)
    return np.asarray(np.array(dims, dtype=np.int64)[indices])


def _slice(m: Match, dims: list[int]) -> Dims:
    steps = m.array("steps").item() if m.get("steps") is not None else 1
    return np.array(dims, dtype=np.int64)[m.array("starts").item() : m.array("ends").item() : steps]


RULE = Rule(
    "fold_static_dims",
    any_of(
        op("Gather", _SHAPE, const("indices")),
        op("Slice", _SHAPE, const("starts"), const("ends"), maybe(const("axes")), maybe(const("steps"))),
    ),
    replace,
    guard,
)
