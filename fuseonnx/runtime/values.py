"""Judge one output value against its reference: a tolerance that is measured, not guessed.

For every element of a float output, one unit of expected rounding error is

    unit = eps * (max(4, sqrt(nodes)) * local + peak)

eps    machine epsilon of the output's dtype, or of the coarsest dtype that weights are computed with
nodes  number of nodes: rounding errors of operators in sequence add up like a random walk
peak   largest magnitude of the output in this run or, up to 1, in any run: a sigmoid that gives 1e-6 was
       computed from numbers near 1
local  largest magnitude in the element's own slice along each axis (the smallest of these): scores next
       to pixel coordinates in one tensor are judged on their own scale; slices below 32 elements say too
       little and do not count

The noise of a run is how many units the original itself moves by under valid re-evaluations (onnxruntime's
optimizations on instead of off; inputs moved by one ulp), at least 1. An element passes when it differs from
the reference by at most MULTIPLE * noise * unit.

Integer, bool and string outputs must be equal. Where noise alone already flips some of them (ties of an
ArgMax), at most twice that fraction may differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fuseonnx.runtime.metrics import Metrics, ulp_distance
from fuseonnx.runtime.uses import machine_epsilon

Array = np.ndarray[Any, np.dtype[Any]]

MULTIPLE = 8.0
"""How many times the original's own noise a float output may differ."""

_FLIPS = 2.0


_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Rounding:
    """What is known about the rounding of a model: see the formula above."""

    precision: float
    nodes: int

    def unit(self, reference: Array, scale: float) -> Array:
        """Return the expected rounding error of each element of a float output, as float64.

        `scale` is the largest magnitude of this output in any run.
        """
        finite = _finite_magnitude(reference)
        peak = finite.max(initial=0.0)
        local: Array = np.array(peak)
        for axis, count in enumerate(finite.shape):
            if count > 1 and finite.size // count >= 32:
                others = tuple(other for other in range(finite.ndim) if other != axis)
                local = np.minimum(local, finite.max(axis=others, keepdims=True))
        unit = self._eps(reference.dtype) * (self._walk * local + max(peak, min(1.0, scale)))
        return np.broadcast_to(np.maximum(unit, _TINY), finite.shape)

    def half_the_digits(self, dtype: np.dtype[Any]) -> float:
        """Return how many units an output moves by when it loses half of its digits."""
        return 1.0 / (math.sqrt(self._eps(dtype)) * (self._walk + 1.0))

    @property
    def _walk(self) -> float:
        return max(4.0, math.sqrt(self.nodes))

    def _eps(self, dtype: np.dtype[Any]) -> float:
        return max(machine_epsilon(dtype), self.precision)


@dataclass(frozen=True)
class Difference:
    """Worst difference of one value. Numbers are absolute and belong to the worst element."""

    max_abs: float = 0.0
    mean_abs: float = 0.0
    relative: float = 0.0
    noise_floor: float = 0.0
    allowed: float = 0.0
    severity: float = 0.0
    """How many times the allowed difference it is: above 1 fails."""
    reason: str = ""
    ulp: float | None = None
    """The difference in units in the last place, for floats."""
    metrics: Metrics | None = None
    """Of all elements, if they were measured."""


def leaves(value: Any) -> list[Array]:
    """Return the arrays that an output is made of: itself, a sequence's elements, a map's keys and values."""
    if isinstance(value, dict):
        return [np.asarray(list(value)), np.asarray(list(value.values()))]
    if isinstance(value, list):
        return [leaf for element in value for leaf in leaves(element)]
    return [np.asarray(value)]


def is_float(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype is floating point, bfloat16 and float8 included."""
    return dtype.kind in "fV"


def mismatch(reference: Sequence[Array], other: Sequence[Array]) -> str:
    """Return how the dtypes or shapes of two outputs differ, or an empty string."""
    if len(reference) != len(other):
        return f"{len(other)} arrays instead of {len(reference)}"
    for expected, found in zip(reference, other, strict=True):
        if expected.dtype != found.dtype:
            return f"dtype {found.dtype} instead of {expected.dtype}"
        if expected.shape != found.shape:
            return f"shape {list(found.shape)} instead of {list(expected.shape)}"
    return ""


def largest(arrays: Sequence[Array]) -> float:
    """Return the largest finite magnitude in the float arrays, 0 where there is none."""
    return max(
        (float(_finite_magnitude(a).max(initial=0.0)) for a in arrays if is_float(a.dtype)), default=0.0
    )


def units_moved(reference: Array, other: Array, rounding: Rounding, scale: float) -> tuple[float, Array]:
    """Return the largest difference in units, and where both have the same NaN or infinity or are finite.

    For other than float arrays: the fraction of elements that differ, and True everywhere.
    """
    if not is_float(reference.dtype):
        return float(np.mean(reference != other)) if reference.size else 0.0, np.array(True)
    same = _same_kind(reference, other)
    finite = np.isfinite(reference.astype(np.float64)) & same
    moved = _distance(reference, other, finite) / rounding.unit(reference, scale)
    return float(moved.max(initial=0.0)), same


def judge(
    reference: Array, other: Array, rounding: Rounding, scale: float, noise: float, stable: Array
) -> Difference:
    """Compare `other` with `reference` (same dtype and shape).

    `noise` and `stable` are what `units_moved` found for re-evaluations of the original; elements that are
    not stable are not compared.
    """
    if not reference.size:
        return Difference()
    if not is_float(reference.dtype):
        return _judge_exact(reference, other, noise)
    differs = ~_same_kind(reference, other) & stable
    if differs.any():
        at = _first(differs)
        reason = f"{other[at]}{_at(at)} where the original has {reference[at]}"
        return Difference(math.inf, math.inf, math.inf, severity=math.inf, reason=reason)
    finite = np.isfinite(reference.astype(np.float64)) & stable
    distance = _distance(reference, other, finite)
    floor = max(1.0, noise) * rounding.unit(reference, scale)
    severity = distance / (MULTIPLE * floor)
    at = _first(severity == severity.max())
    worst, allowed = float(distance[at]), MULTIPLE * float(floor[at])
    peak = largest([reference])
    return Difference(
        max_abs=worst,
        mean_abs=float(distance.mean()),
        relative=worst / peak if peak else float(worst > 0),
        noise_floor=float(floor[at]),
        allowed=allowed,
        severity=float(severity[at]),
        reason=f"differs by {worst:.3g}{_at(at)}, allowed {allowed:.3g}" if worst > allowed else "",
        ulp=ulp_distance(reference[at], other[at]).item() if finite[at] else None,
    )


def _judge_exact(reference: Array, other: Array, noise: float) -> Difference:
    unequal = reference != other
    fraction = float(unequal.mean())
    if not fraction:
        return Difference()
    at = _first(unequal)
    distance, found, expected = 1.0, np.array(other[at]).item(), np.array(reference[at]).item()
    if reference.dtype.kind in "iu":
        distance = float(np.abs(reference.astype(np.float64) - other.astype(np.float64)).max())
    reason = f"{fraction:.3%} of the elements differ{', first' * bool(at)}{_at(at)}: "
    return Difference(
        max_abs=distance,
        mean_abs=fraction,
        relative=fraction,
        severity=fraction / (_FLIPS * noise) if noise else math.inf,
        reason=f"{reason}{found!r} instead of {expected!r}; {noise:.3%} do under rounding noise",
    )


def _first(where: Array) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(np.argmax(where), np.shape(where))))


def _at(index: tuple[int, ...]) -> str:
    return f" at {list(index)}" if index else ""


def _finite_magnitude(array: Array) -> Array:
    magnitude = np.abs(array.astype(np.float64))
    return np.where(np.isfinite(magnitude), magnitude, 0.0)


def _same_kind(reference: Array, other: Array) -> Array:
    """Return where both are finite, both NaN, or both the same infinity."""
    a, b = reference.astype(np.float64), other.astype(np.float64)
    same: Array = (np.isfinite(a) & np.isfinite(b)) | (np.isnan(a) & np.isnan(b)) | (a == b)
    return same


def _distance(reference: Array, other: Array, where: Array) -> Array:
    a, b = reference.astype(np.float64), other.astype(np.float64)
    return np.abs(np.subtract(a, b, out=np.zeros_like(a), where=where & np.isfinite(b)))
