"""Sizes at which a model is measured: those that are usual, and one batch size after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from fuseonnx.errors import BackendError
from fuseonnx.runtime.inputs import make_inputs
from fuseonnx.runtime.session import Feeds
from fuseonnx.runtime.sizes import InputSpec, input_specs
from fuseonnx.runtime.uses import Uses

_PIXELS = 224
_LINE = 320
"""Width of an image whose height is fixed: a line of text, usually."""
_TOKENS = 128


def usual_inputs(
    name: str,
    graph: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]],
    attempt: Callable[[Feeds], str],
) -> Feeds:
    """Return the first generated inputs that are accepted, of the sizes that are usual if possible.

    `shapes` fixes the shape of inputs by name; `attempt` returns why inputs are refused, or nothing.
    Raises BackendError, about the model `name`, if none are accepted.
    """
    refused = ["they take none"]

    def accepts(feeds: Feeds) -> bool:
        refused.append(attempt(feeds))
        return not refused[-1]

    def candidates() -> Iterator[tuple[str, Feeds]]:
        usual = usual_shapes(input_specs(graph, Uses(graph), shapes))
        if usual:
            yield from make_inputs(graph, shapes={**usual, **shapes}, accepts=accepts)
        yield from make_inputs(graph, shapes=shapes, accepts=accepts)

    for _, feeds in candidates():
        return feeds
    raise BackendError(
        f"{name}: no generated input is accepted: give --input-shape or --inputs; {refused[-1]}"
    )


def usual_shapes(specs: Sequence[InputSpec]) -> dict[str, tuple[int, ...]]:
    """Return shapes for the inputs with dynamic dimensions, if all of these are known: batch, pixels, tokens.

    Batch 1, images of 224 x 224 (a text line of 320), 128 tokens.
    """
    sizes: dict[str, int] = {}
    for spec in specs:
        for axis, dim in enumerate(spec.dims):
            size = _usual(spec, axis)
            if isinstance(dim, str) and size:
                sizes.setdefault(dim, size)
    try:
        return {spec.name: spec.shape(sizes) for spec in specs if any(isinstance(d, str) for d in spec.dims)}
    except KeyError:  # a dimension that may be anything
        return {}


def batch_inputs(specs: Sequence[InputSpec], feeds: Feeds) -> tuple[list[str], int | None]:
    """Return the names of the inputs whose axis 0 is dynamic, and the size that all inputs have there.

    The size is None if they have none in common. Scalars and sequences have no batch.
    """
    tensors = [spec for spec in specs if spec.kind == "tensor" and spec.dims]
    sizes = {feeds[spec.name].shape[0] for spec in tensors}
    names = [spec.name for spec in tensors if isinstance(spec.dims[0], str)]
    batched = {feeds[name].shape[0] for name in names} or sizes
    return names, batched.pop() if len(batched) == 1 else None


def rebatched(feeds: Feeds, names: Sequence[str], batch: int) -> dict[str, Any]:
    """Return `feeds` with `batch` rows in the inputs `names`: theirs, over and over."""
    return {
        name: np.take(value, np.arange(batch) % len(value), axis=0) if name in names else value
        for name, value in feeds.items()
    }


def _usual(spec: InputSpec, axis: int) -> int:
    if axis == 0:
        return 1
    if len(spec.dims) == 4:
        pixels = (1, 2) if spec.dims[3] in {1, 3, 4} else (2, 3)
        dynamic = [pixel for pixel in pixels if isinstance(spec.dims[pixel], str)]
        return 0 if axis not in dynamic else _PIXELS if len(dynamic) == 2 else _LINE
    return _TOKENS if len(spec.dims) == 2 and spec.dtype.kind in "iu" else 0
