"""Shared by the folds of Pad: the pads of each axis in any spelling, and those of the operator behind it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Attributes, Refused
from fuseonnx.core.pattern import AnyOf, any_of, const, maybe, op, var
from fuseonnx.core.rule import Match

PAD: AnyOf = any_of(
    op("Pad", var("x"), const("pads"), maybe(const("value")), maybe(const("axes")), name="pad", shared=True),
    op("Pad", var("x"), name="pad", shared=True),
)
"""A Pad of `x`; others may use it too, so that each of them can take its pads."""


def spatial_pads(m: Match, rank: int) -> list[int] | str:
    """Return the pads of the spatial axes, the begins and then the ends, or why they are something else.

    Before opset 11 they are an attribute; from opset 18 on `axes` may name the axes that they belong to.

    Args:
        m: a match with `PAD` in it.
        rank: rank of `x`, batch and channels included.
    """
    flags = m.node("pad").attributes
    if flags.get_string("mode", "constant") != "constant":
        return "it does not pad with a constant"
    listed = m.array("pads").tolist() if m.get("pads") is not None else flags.get_ints("pads")
    if listed is None:
        return "the pads are unknown"
    axes = [axis % rank for axis in m.array("axes").tolist()] if m.get("axes") is not None else range(rank)
    if len(listed) != 2 * len(axes) or len(set(axes)) != len(axes):
        return "the pads do not fit the rank"
    pads = np.zeros((2, rank), np.int64)
    pads[:, list(axes)] = np.reshape(listed, (2, len(axes)))
    if pads[:, :2].any():
        return "it pads the batch or the channels"
    if (pads < 0).any():
        return "it crops"
    return pads[:, 2:].reshape(-1).tolist()


def pad_value(m: Match) -> float:
    """Return the number that is padded with; before opset 11 it is an attribute, and by default it is 0."""
    if m.get("value") is not None:
        return float(m.array("value").reshape(-1)[0])
    return m.node("pad").attributes.get_float("value", 0.0)


def own_pads(node: ir.Node, spatial_rank: int) -> list[int] | None:
    """Return the pads of a Conv or a pooling itself; None if it computes them from the size of its input."""
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    if auto == "VALID":
        return [0] * 2 * spatial_rank
    return list(node.attributes.get_ints("pads", [0] * 2 * spatial_rank)) if auto == "NOTSET" else None


def with_pads(m: Match, node: ir.Node, spatial_rank: int) -> Attributes:
    """Return the attributes of `node` with the pads of the captured Pad added to its own.

    Raises:
        Refused: the pads are not those of spatial axes, or the node computes its own from the size.
    """
    own, pads = own_pads(node, spatial_rank), spatial_pads(m, spatial_rank + 2)
    if own is None or isinstance(pads, str):
        raise Refused("the pads are unknown")
    return {
        **{name: each for name, each in node.attributes.items() if name not in {"auto_pad", "pads"}},
        "pads": [mine + pad for mine, pad in zip(own, pads, strict=True)],
    }


def cannot_pool(m: Match, pads: list[int], kernel: list[int]) -> str | None:
    """Return why the captured `pool` cannot take pads: a window must meet the input, and round down."""
    node = m.node("pool")
    if node.attributes.get_int("ceil_mode", 0):
        return "the pooling rounds its size up"
    if any(dilation != 1 for dilation in node.attributes.get_ints("dilations", [1])):
        return "the pooling is dilated"
    own = own_pads(node, len(kernel))
    if own is None:
        return "the pooling computes its pads from the size"
    if any(pad + mine >= size for pad, mine, size in zip(pads, own, kernel * 2, strict=True)):
        return "the pads are as large as the window"
    return None
