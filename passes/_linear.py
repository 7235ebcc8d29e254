"""Shared by the rewrites that combine linear operators: the geometry of one, of two in a row, of a sum.

A `Window` is what a Conv says of itself without its weights: y[m, i] = Σ w[m, c, t]·x[c, s·i - begin + d·t].
A product with a matrix is a window without spatial axes. Weights are [M, C/group, k…], biases [M], float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fuseonnx.passes._affine import Vector

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """Sizes of a linear operator from `inputs` to `outputs` channels; one entry per spatial axis."""

    outputs: int
    inputs: int
    group: int = 1
    kernel: Dims = ()
    begin: Dims = ()
    end: Dims = ()
    strides: Dims = ()
    dilations: Dims = ()
    biased: bool = False

    @property
    def cost(self) -> int:
        """Multiply-accumulates per position of the result."""
        return self.outputs * (self.inputs // self.group * math.prod(self.kernel) + self.biased)

    @property
    def overhang(self) -> Dims:
        """Positions won by padding less those lost to the kernel, at stride 1."""
        return tuple(
            before + after - step * (size - 1)
            for before, after, step, size in zip(
                self.begin, self.end, self.dilations, self.kernel, strict=True
            )
        )

    @property
    def is_pointwise(self) -> bool:
        """Whether each position of the result depends on one position of the input, none of them padding."""
        return set(self.kernel) <= {1} and not self.is_padded

    @property
    def is_padded(self) -> bool:
        """Whether the window may read beyond the input."""
        return any(self.begin) or any(self.end)

    @property
    def is_diagonal(self) -> bool:
        """Whether each channel stays on its own."""
        return self.group == self.inputs == self.outputs


@dataclass(frozen=True)
class Linear:
    """A window and its numbers."""

    window: Window
    weights: Vector
    bias: Vector


def pointwise(outputs: int, inputs: int, axes: int, *, group: int = 1, biased: bool = False) -> Window:
    """Return the window of a 1×1 Conv over so many spatial axes; of a matrix product over none."""
    ones, zeros = (1,) * axes, (0,) * axes
    return Window(outputs, inputs, group, ones, zeros, zeros, ones, ones, biased)


def chained(first: Window, second: Window) -> Window | str:
    """Return the window of second(first(x)), or why there is none that is exact."""
    if second.inputs != first.outputs:
        return "the channels do not match"
    first, second = _same_groups(first, second)
    if first.group != second.group:
        return "the groups differ"
    if second.is_pointwise:
        shape = first
    elif not first.is_pointwise or set(first.strides) != {1}:
        return "neither of the two looks at one position only"
    elif first.biased and second.is_padded:
        return "the bias of the first stops at the padding of the second"
    else:
        shape = second
    return replace(
        shape,
        outputs=second.outputs,
        inputs=first.inputs,
        group=first.group,
        strides=tuple(a * b for a, b in zip(first.strides, second.strides, strict=True)),
        biased=first.biased or second.biased,
    )


def summed(one: Window, other: Window) -> Window | str:
    """Return the smallest window that covers both, or why there is none that gives their sum.

    A kernel moves to the offset at which it starts to read: the difference of the paddings in front.
    """
    if one.outputs != other.outputs or one.inputs != other.inputs:
        return "the channels differ"
    one, other = _same_groups(one, other)
    if one.group != other.group or one.strides != other.strides:
        return "the groups or the strides differ"
    axes = list(zip(one.kernel, other.kernel, one.dilations, other.dilations, strict=True))
    if any(k != 1 and j != 1 and d != e for k, j, d, e in axes):
        return "the dilations differ"
    dilations = tuple(d if k != 1 else e if j != 1 else 1 for k, j, d, e in axes)
    if one.overhang != other.overhang:
        return "the paddings do not fit"
    begin, end = (tuple(map(max, a, b)) for a, b in ((one.begin, other.begin), (one.end, other.end)))
    both = replace(
        one, begin=begin, end=end, dilations=dilations, kernel=(), biased=one.biased or other.biased
    )
    if any(
        shift % d for each in (one, other) for shift, d in zip(_shifts(each, both), dilations, strict=True)
    ):
        return "the paddings do not fit"
    spans = zip(begin, end, one.overhang, dilations, strict=True)
    return replace(both, kernel=tuple((b + e - over) // d + 1 for b, e, over, d in spans))


def chain(first: Linear, second: Linear, window: Window) -> Linear:
    """Return second(first(x)): W₂·W₁ for each tap, and W₂·b₁ + b₂."""
    groups = window.group
    inner = _grouped(first, groups).reshape(groups, first.window.outputs // groups, -1)
    outer = _grouped(second, groups).reshape(groups, -1, inner.shape[1], math.prod(second.window.kernel))
    taps, rows = outer.shape[3], outer.shape[1]
    product = outer.transpose(0, 1, 3, 2).reshape(groups, rows * taps, -1) @ inner
    product = product.reshape(groups, rows, taps, window.inputs // groups, -1).transpose(0, 1, 3, 2, 4)
    weights = product.reshape(window.outputs, window.inputs // groups, *window.kernel)
    carried = outer.sum(axis=3) @ first.bias.reshape(groups, -1, 1)
    return Linear(window, weights, second.bias + carried.reshape(-1))


def total(parts: list[Linear], window: Window) -> Linear:
    """Return the sum: each kernel added to the common one at its offset."""
    weights = np.zeros((window.outputs, window.inputs // window.group, *window.kernel))
    for part in parts:
        shifts = zip(_shifts(part.window, window), window.dilations, part.window.kernel, strict=True)
        place = tuple(slice(shift // d, shift // d + size) for shift, d, size in shifts)
        weights[(slice(None), slice(None), *place)] += _grouped(part, window.group)
    return Linear(window, weights, sum((part.bias for part in parts), np.zeros(window.outputs)))


def _shifts(part: Window, whole: Window) -> Dims:
    return tuple(a - b for a, b in zip(whole.begin, part.begin, strict=True))


def _same_groups(one: Window, other: Window) -> tuple[Window, Window]:
    """Widen the one that keeps its channels apart to the groups of the other."""
    if one.is_diagonal and one.outputs % other.group == 0:
        return replace(one, group=other.group), other
    if other.is_diagonal and other.outputs % one.group == 0:
        return one, replace(other, group=one.group)
    return one, other


def _grouped(part: Linear, groups: int) -> Vector:
    """Return the weights [M, C/groups, k…] of a part that has these groups or keeps its channels apart."""
    window = part.window
    if window.group == groups:
        return part.weights
    channel, width = np.arange(window.outputs), window.inputs // groups
    weights = np.zeros((window.outputs, width, *window.kernel))
    weights[channel, channel % width] = part.weights[:, 0]
    return weights
