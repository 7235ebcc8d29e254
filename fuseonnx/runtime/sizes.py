"""Choose sizes for the dynamic dimensions of a model: from its own constants, then by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper

from fuseonnx.errors import BackendError, OptionError
from fuseonnx.runtime.uses import Uses

Sizes = dict[str, int]
"""Symbol of a dynamic dimension to its size."""

_BATCH = (1, 2)
_CHANNELS = (3, 1, 4)
_RECURRENT_BATCH = (1, 2, 8, 5)
_HEIGHT = (64, 96, 48, 32, 224, 320, 640)
_WIDTH = (96, 64, 320, 32, 224, 320, 640)
_TOKENS = (8, 5, 13, 3, 1, 16, 77, 128)
_SIGNAL = (512, 4096, 576, 256, 288, 100, 64, 32, 8, 5, 1, 1024, 2048, 16000)
_FRAMES = (32, 48, 64, 100, 8, 5, 13, 3, 1, 16, 128, 512, 3000)
_TRIES = 100
_NOT_A_NAME = {"", "?", "-1", "None", "none"}


@dataclass(frozen=True)
class InputSpec:
    """One graph input that must be fed: a tensor, or a sequence of tensors of that type."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | str, ...]
    """Sizes, and for dynamic dimensions their symbols; a nameless dimension is `<input>[<axis>]`."""
    dictated: Mapping[str, tuple[int, ...]]
    """Symbol to the sizes that weights behind the input dictate; several where branches differ."""
    kind: Literal["tensor", "sequence"] = "tensor"

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape with every symbol replaced; `a + b` and `a + 1` are sums of other symbols."""
        return tuple(dim if isinstance(dim, int) else _size(dim, sizes) for dim in self.dims)


def input_specs(model: onnx.ModelProto, uses: Uses, shapes: Mapping[str, Sequence[int]]) -> list[InputSpec]:
    """Return what has to be fed; `shapes` fixes the shape of inputs by name.

    Raises OptionError when `shapes` contradicts the model, BackendError for input types that cannot be made.
    """
    initializers = {tensor.name for tensor in model.graph.initializer}
    fed = [value for value in model.graph.input if value.name not in initializers]
    if unknown := shapes.keys() - {value.name for value in fed}:
        known = ", ".join(value.name for value in fed)
        raise OptionError(f"no input is named {sorted(unknown)[0]!r}; the model's inputs are: {known}")
    specs = [_input_spec(value, uses, shapes.get(value.name)) for value in fed]
    fixed: dict[str, int] = {}
    for spec in specs:
        if spec.name in shapes:
            _fix(spec, shapes[spec.name], fixed)
    return [
        replace(spec, dims=tuple(fixed.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.dims))
        for spec in specs
    ]


def _fix(spec: InputSpec, shape: Sequence[int], fixed: dict[str, int]) -> None:
    """Record in `fixed` the sizes that the shape given for one input implies for its symbols."""
    given = ",".join(map(str, shape))
    if len(shape) != len(spec.dims):
        raise OptionError(f"shape {given} of input {spec.name!r} has rank {len(shape)}, not {len(spec.dims)}")
    for dim, size in zip(spec.dims, shape, strict=True):
        expected = fixed.setdefault(dim, size) if isinstance(dim, str) else dim
        if size < 0 or size != expected:
            raise OptionError(f"shape {given} of input {spec.name!r} has {size}, the model has {expected}")


def candidate_sizes(specs: Sequence[InputSpec]) -> dict[str, tuple[int, ...]]:
    """Return the sizes to try for each symbol, the most promising first."""
    has_tokens = any(spec.dtype.kind in "iu" and spec.dtype.itemsize > 1 and spec.dims for spec in specs)
    candidates = {symbol: sizes for spec in specs for symbol, sizes in spec.dictated.items()}
    for spec in sorted(specs, key=lambda spec: spec.dtype.kind not in "iu"):
        for axis, dim in enumerate(spec.dims):
            if isinstance(dim, str):
                for symbol in filter(lambda term: not term.isdigit(), _terms(dim)):
                    candidates.setdefault(symbol, _candidates(spec, axis, has_tokens))
    return candidates


def find_sizes(candidates: Mapping[str, tuple[int, ...]], accepts: Callable[[Sizes], bool]) -> list[Sizes]:
    """Return accepted sizes in which every symbol has two values where the model allows it.

    The list is empty when none of the first 100 combinations is accepted.
    """
    first = next((sizes for sizes in islice(_combinations(candidates), _TRIES) if accepts(sizes)), None)
    if first is None:
        return []
    others = {key: tuple(v for v in values if v != first[key]) for key, values in candidates.items()}
    free = {key: values for key, values in others.items() if values}
    if not free:
        return [first]
    for changed in islice(_combinations(free), _TRIES // 4):
        if accepts(first | changed):
            return [first, first | changed]
    return [first, *_one_by_one(free, first, accepts)]


def _one_by_one(
    free: Mapping[str, tuple[int, ...]], first: Sizes, accepts: Callable[[Sizes], bool]
) -> Iterator[Sizes]:
    """Yield accepted sizes that differ from `first` in one symbol, or in all that share their candidates."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for key, values in free.items():
        alike.setdefault(values, []).append(key)
    together = [keys for keys in alike.values() if len(keys) > 1]
    varied: set[str] = set()
    for keys in [*together, *([key] for key in free)]:
        if varied.issuperset(keys):
            continue
        for value in free[keys[0]]:
            sizes = first | dict.fromkeys(keys, value)
            if accepts(sizes):
                varied.update(keys)
                yield sizes
                break


def _combinations(candidates: Mapping[str, tuple[int, ...]]) -> Iterator[Sizes]:
    """Yield every combination: first with all long lists in step, then by growing distance from the first.

    All ones come late: they broadcast with anything and so are accepted without saying much.
    """
    lists = list(candidates.values())
    tops = [len(values) - 1 for values in lists]
    in_step = [
        tuple(min(step, top) if top > 1 else 0 for top in tops) for step in range(max(tops, default=0) + 1)
    ]
    telling = [
        indices
        for indices in in_step
        if any(values[index] > 1 for values, index in zip(lists, indices, strict=True))
    ]
    spread = (indices for total in range(sum(tops) + 1) for indices in _adding_up_to(total, tops))
    for indices in chain(telling, (indices for indices in spread if indices not in telling)):
        yield {key: values[index] for (key, values), index in zip(candidates.items(), indices, strict=True)}


def _adding_up_to(total: int, tops: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the index tuples, each at most its top, whose sum is `total`."""
    if not tops:
        if total == 0:
            yield ()
        return
    for index in range(max(0, total - sum(tops[1:])), min(total, tops[0]) + 1):
        for rest in _adding_up_to(total - index, tops[1:]):
            yield (index, *rest)


def _candidates(spec: InputSpec, axis: int, has_tokens: bool) -> tuple[int, ...]:
    rank, dims = len(spec.dims), spec.dims
    pixels = [a for a in (2, 3) if isinstance(dims[a], str)] if rank == 4 else []
    if rank == 4 and dims[3] in {1, 3, 4}:
        pixels = [1, 2]
    if axis == 0:
        return _BATCH
    if len(pixels) == 2:
        return dict(zip(pixels, (_HEIGHT, _WIDTH), strict=True)).get(axis, _CHANNELS)
    if rank == 3 and axis == 1 and isinstance(dims[0], int) and isinstance(dims[2], int):
        return _RECURRENT_BATCH
    if spec.dtype.kind in "iu" or has_tokens:
        return _TOKENS
    return _SIGNAL if rank <= 2 or dims[1] == 1 else _FRAMES


def _size(dim: str, sizes: Mapping[str, int]) -> int:
    return sum(int(part) if part.isdigit() else sizes[part] for part in _terms(dim))


def _terms(dim: str) -> list[str]:
    return [part.strip() for part in dim.split("+")]


def _input_spec(value: onnx.ValueInfoProto, uses: Uses, shape: Sequence[int] | None) -> InputSpec:
    kind: Literal["tensor", "sequence"] = "tensor"
    declared = value.type
    if declared.WhichOneof("value") == "optional_type":
        declared = declared.optional_type.elem_type
    if declared.WhichOneof("value") == "sequence_type":
        declared, kind = declared.sequence_type.elem_type, "sequence"
    if declared.WhichOneof("value") != "tensor_type":
        raise BackendError(f"input {value.name!r} is neither a tensor nor a sequence of tensors")
    dtype = helper.tensor_dtype_to_np_dtype(declared.tensor_type.elem_type)
    if not declared.tensor_type.HasField("shape"):
        dims: tuple[int | str, ...] = tuple(shape or [f"{value.name}[{axis}]" for axis in range(2)])
        return InputSpec(value.name, dtype, dims, {}, kind)
    dims = tuple(_dim(value.name, axis, dim) for axis, dim in enumerate(declared.tensor_type.shape.dim))
    channels = dims[1] if len(dims) > 1 else 0
    sizes = _channels(value.name, len(dims), uses) if isinstance(channels, str) else ()
    return InputSpec(value.name, dtype, dims, {str(channels): sizes} if sizes else {}, kind)


def _dim(name: str, axis: int, dim: onnx.TensorShapeProto.Dimension) -> int | str:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return dim.dim_value
    return f"{name}[{axis}]" if dim.dim_param in _NOT_A_NAME else dim.dim_param


def _channels(name: str, rank: int, uses: Uses) -> tuple[int, ...]:
    """Return the sizes of axis 1 that the weights of Conv, Gemm and MatMul nodes behind the input dictate."""
    found = []
    for use in uses.same_shape(name):
        op, attributes = use.node.op_type, {a.name: a.i for a in use.node.attribute}
        weight = uses.dims(use.node.input[1]) if op in {"Conv", "Gemm", "MatMul"} and use.slot == 0 else None
        if weight is None or (op != "Conv" and (rank, len(weight)) != (2, 2)):
            continue
        size = weight[1 if op == "Conv" or attributes.get("transB") else 0] or 0
        found.append(size * int(attributes.get("group", 1)))
    return tuple(dict.fromkeys(filter(None, found)))
