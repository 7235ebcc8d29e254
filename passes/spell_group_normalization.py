"""Spell GroupNormalization as operators that onnxruntime has kernels for.

    GroupNormalization(x, s, t, ε, G groups)   ⇒   Reshape(InstanceNormalization(Reshape(x), 1, 0, ε)) · s + t

for x [N, C, spatial…], as [N, G, -1, …] and back as [N, C, -1, …]: only C must be known. Where s and t do not
vary within a group, as before opset 21, InstanceNormalization takes them. From opset 22 on onnxruntime has no
InstanceNormalization for CUDA; LayerNormalization takes its place if the spatial sizes are known.
Source: Wu & He 2018, arXiv:1803.08494, section 3.

onnxruntime has no GroupNormalization: it runs the 25 to 29 operators that define it, and the new form takes
0.32 to 0.45 of their time on one thread (0.36 to 0.59 with LayerNormalization). They take the variance as
ReduceMean(x²) - ReduceMean(x)², which loses digits to a large mean, down to NaN; the new form hardly does.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import static_shape
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import Array
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims

_CHANNELS_SINCE = 21
_NO_INSTANCES_SINCE = 22
_EPSILON = 1e-5


def guard(m: Match) -> str | None:
    """Keep out of other dtypes, and of unknown sizes that the new form needs."""
    if m["x"].dtype is not ir.DataType.FLOAT or m.root.attributes.get_int("stash_type", 1) != 1:
        return "onnxruntime has InstanceNormalization for float32"
    dims = known_dims(m["x"])
    if dims is None or len(dims) < 2 or dims[1] is None:
        return "the channels are unknown"
    if not _fits(m, dims[1]):
        return "the groups, channels and parameters do not fit"
    needs_sizes = m.opset >= _NO_INSTANCES_SINCE
    return "LayerNormalization needs the spatial sizes" if needs_sizes and None in dims[2:] else None


def _fits(m: Match, channels: int) -> bool:
    """Whether channels can be split into the groups, and there are as many parameters as there should be."""
    groups = m.root.attributes.get_int("num_groups", 1)
    needed = channels if m.opset >= _CHANNELS_SINCE else groups
    sizes = (static_shape(m["scale"]), static_shape(m["bias"]))
    return 0 < groups <= channels and channels % groups == 0 and sizes == ((needed,), (needed,))


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the normalization of the groups between Reshapes, and the affine map of the channels."""
    x, dims, groups = m["x"], known_dims(m["x"]) or [], m.root.attributes.get_int("num_groups", 1)
    scale, shift = (m.array(name).reshape(groups, -1) for name in ("scale", "bias"))
    is_split = groups != dims[1] or len(dims) == 2
    is_shared = m.opset < _NO_INSTANCES_SINCE and _is_uniform(scale) and _is_uniform(shift)

    rows = new.op("Reshape", x, _shape(new, groups, max(len(dims), 3))) if is_split else x
    neutral = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    unit = _normalized(m, new, rows, *((scale[:, 0], shift[:, 0]) if is_shared else neutral))
    image = new.op("Reshape", unit, _shape(new, dims[1], len(dims))) if is_split else unit
    if is_shared:
        return image
    column = (-1, *(1 for _ in dims[2:]))
    scaled = new.op("Mul", image, new.const(scale.reshape(column), m["scale"]))
    return new.op("Add", scaled, new.const(shift.reshape(column), m["bias"]))


def _normalized(m: Match, new: Builder, rows: ir.Value, scale: Array, shift: Array) -> ir.Value:
    """Normalize groups [N, G, …] to deviations and means [G]; these must be 1 and 0 from opset 22 on."""
    attributes = {"epsilon": m.root.attributes.get_float("epsilon", _EPSILON)}
    if m.opset < _NO_INSTANCES_SINCE:
        parameters = new.const(scale, m["scale"]), new.const(shift, m["bias"])
        return new.op("InstanceNormalization", rows, *parameters, attributes=attributes)
    _, channels, *spatial = (size or 0 for size in known_dims(m["x"]) or [])
    first, *others = spatial or [1]
    ones = np.ones((channels // scale.size * first, *others), np.float32)
    return new.op("LayerNormalization", rows, new.const(ones), attributes={**attributes, "axis": 2})


def _shape(new: Builder, channels: int | None, rank: int) -> ir.Value:
    """Return the target of a Reshape to other channels that the first spatial axis makes up for."""
    return new.const(np.array([0, channels, -1, *(0 for _ in range(rank - 3))][:rank], np.int64))


def _is_uniform(rows: Array) -> bool:
    return np.array_equal(rows, np.broadcast_to(rows[:, :1], rows.shape), equal_nan=True)


RULE = Rule(
    "spell_group_normalization",
    op("GroupNormalization", var("x"), const("scale"), const("bias")),
    replace,
    guard,
)
