"""Which dimensions of a PyTorch model's inputs are dynamic, and examples of other sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, count
from typing import TYPE_CHECKING

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends.options import ExportOptions
from fuseonnx.frontends.torch.call import Call

if TYPE_CHECKING:
    import torch

Axes = list[dict[int, str]]
"""For each flat input: axis to symbol."""

BATCH = "batch"


def dynamic_axes(call: Call, options: ExportOptions) -> tuple[Axes, list[str]]:
    """Return the axes that the caller wants dynamic, and notes on those that were left as they are.

    Raises:
        OptionError: an input or axis does not exist, or sizes of the same symbol differ.
    """
    axes: Axes = [{} for _ in call.tensors]
    notes = []
    if options.batch == "dynamic":
        members, others = batch_members(call)
        for index in members:
            axes[index][0] = BATCH
        notes = [
            f"axis 0 of '{call.names[index]}' is {call.tensors[index].shape[0]}, not the batch's size, and "
            "stays fixed; name it with --dynamic if it is dynamic"
            for index in others
        ]
    for name, wanted in options.dynamic.items():
        for index in _inputs_called(name, call, options.input_names):
            rank = call.tensors[index].ndim
            for axis, symbol in wanted.items():
                if not -rank <= axis < rank:
                    raise OptionError(f"input '{name}' has {rank} axes; there is no axis {axis}")
                axes[index][axis % rank] = symbol
    sizes_of(call.tensors, axes)
    return axes, notes


def batch_members(call: Call) -> tuple[list[int], list[int]]:
    """Return the inputs whose axis 0 is the batch, as that of the first is, and those where it is not."""
    ranked = [index for index, tensor in enumerate(call.tensors) if tensor.ndim]
    size = call.tensors[ranked[0]].shape[0] if ranked else 0
    members = [index for index in ranked if call.tensors[index].shape[0] == size]
    return members, [index for index in ranked if index not in members]


def with_batch(call: Call, size: int) -> list[torch.Tensor]:
    """Return the examples with a batch of `size`."""
    members, _ = batch_members(call)
    axes: Axes = [{0: BATCH} if index in members else {} for index in range(len(call.tensors))]
    return resized(call.tensors, axes, {BATCH: size})


def spread(
    tensors: list[torch.Tensor], axes: Axes, accepts: Callable[[list[torch.Tensor]], bool]
) -> list[torch.Tensor]:
    """Return examples whose dynamic dimensions are 2 at least, and of different sizes for different symbols.

    torch.export takes a size of 1 for a broadcast, and equal sizes for one dimension. Where the model does
    not accept such sizes, the examples stay as they are.
    """
    before = sizes_of(tensors, axes)
    at_least_two = {symbol: max(2, size) for symbol, size in before.items()}
    different: dict[str, int] = {}
    for symbol, size in at_least_two.items():
        different[symbol] = next(other for other in count(size) if other not in different.values())
    for sizes in (different, at_least_two):
        if sizes == before:
            break
        candidate = resized(tensors, axes, _with_sums(sizes, before))
        if accepts(candidate):
            return candidate
    return tensors


def other_sizes(
    tensors: list[torch.Tensor], axes: Axes, accepts: Callable[[list[torch.Tensor]], bool]
) -> list[torch.Tensor] | None:
    """Return examples of other sizes in every dynamic dimension, or in some; None if none is accepted."""
    sizes = sizes_of(tensors, axes)
    steps: list[Callable[[int], int]] = [lambda size: size + 1, lambda size: 2 * size, lambda size: size + 32]
    candidates = [{symbol: step(size) for symbol, size in sizes.items()} for step in steps]
    candidates += [{**sizes, symbol: step(size)} for symbol, size in sizes.items() for step in steps]
    for candidate in candidates if sizes else []:
        other = resized(tensors, axes, _with_sums(candidate, sizes))
        if accepts(other):
            return other
    return None


def _with_sums(sizes: Mapping[str, int], example: Mapping[str, int]) -> dict[str, int]:
    """Keep a dimension the sum of two others, where it is that in the example: past + new = all tokens."""
    results = dict(sizes)
    for first, second in combinations(example, 2):
        for symbol, size in example.items():
            if size == example[first] + example[second]:
                results[symbol] = sizes[first] + sizes[second]
    return results


def resized(tensors: Sequence[torch.Tensor], axes: Axes, sizes: Mapping[str, int]) -> list[torch.Tensor]:
    """Return examples with the dimensions of `sizes`: what is there is repeated or cut off."""
    import torch

    results = list(tensors)
    for place, symbols in enumerate(axes):
        for axis, symbol in symbols.items():
            tensor = results[place]
            if tensor.shape[axis] == 0:
                raise ExportError("an example has a dimension of size 0 that is to be dynamic; give another")
            index = torch.arange(sizes[symbol], device=tensor.device) % tensor.shape[axis]
            results[place] = tensor.index_select(axis, index)
    return results


def _inputs_called(name: str, call: Call, new_names: Sequence[str]) -> list[int]:
    found = [
        index
        for index, (flat, argument) in enumerate(zip(call.names, call.arguments, strict=True))
        if name in (flat, argument) or new_names[index : index + 1] == [name]
    ]
    if not found:
        raise OptionError(f"--dynamic {name}: there is no such input; the inputs are {', '.join(call.names)}")
    return found


def sizes_of(tensors: Sequence[torch.Tensor], axes: Axes) -> dict[str, int]:
    """Return the size of each symbol in some examples; they must agree."""
    sizes: dict[str, int] = {}
    for tensor, symbols in zip(tensors, axes, strict=True):
        for axis, symbol in symbols.items():
            if sizes.setdefault(symbol, tensor.shape[axis]) != tensor.shape[axis]:
                raise OptionError(
                    f"dimensions called '{symbol}' are {sizes[symbol]} and {tensor.shape[axis]} in the "
                    "example inputs; give them different names, or examples that agree"
                )
    return sizes
