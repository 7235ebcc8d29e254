"""Shapes as they are written on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from fuseonnx.errors import OptionError


def parse_shapes(texts: Sequence[str], option: str) -> dict[str, tuple[int, ...]]:
    """Return input name to shape from texts like `image=1,3,224,224`; a scalar is `x=`.

    Raises:
        OptionError: a text is not of that form, or names an input twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, dims = text.rpartition("=")
        sizes = [dim.strip() for dim in dims.split(",")] if dims else []
        if not name or not equals or not all(size.isdecimal() for size in sizes):
            raise OptionError(f"{option} '{text}': write NAME=1,3,224,224")
        if name in shapes:
            raise OptionError(f"{option} '{text}': '{name}' is given twice")
        shapes[name] = tuple(map(int, sizes))
    return shapes
