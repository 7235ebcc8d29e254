"""How far apart two arrays are, in the terms in which such differences are quoted.

ulp      how many numbers of the dtype lie between two: their distance as ordered integers, in which
         -0 and +0 are the same number
cosine   sum(a b) / sqrt(sum(a²) sum(b²))
SNR      10 log10(sum(a²) / sum((a - b)²)) dB, where a is the reference
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Metrics:
    """Distance of two float arrays, over the elements that are finite in both.

    Equal arrays have 0 ulp, cosine 1 and an infinite SNR.
    """

    max_ulp: float = 0.0
    mean_ulp: float = 0.0
    cosine: float = 1.0
    snr_db: float = math.inf


def worst_of(one: Metrics | None, other: Metrics | None) -> Metrics | None:
    """Return the worse of both, number by number; None stands for what was not measured."""
    if one is None or other is None:
        return one or other
    return Metrics(
        max(one.max_ulp, other.max_ulp),
        max(one.mean_ulp, other.mean_ulp),
        min(one.cosine, other.cosine),
        min(one.snr_db, other.snr_db),
    )


def measure(reference: Array, other: Array) -> Metrics:
    """Compare two float arrays of the same dtype and shape."""
    finite = np.isfinite(reference.astype(np.float64)) & np.isfinite(other.astype(np.float64))
    if not finite.any() or np.array_equal(reference[finite], other[finite]):
        return Metrics()
    ulps = ulp_distance(reference[finite], other[finite])
    a, b = reference[finite].astype(np.float64), other[finite].astype(np.float64)
    peak = max(np.abs(a).max(), np.abs(b).max())  # keeps the squares of large float64s finite
    a, b = a / peak, b / peak
    signal, power, noise = float(a @ a), float(b @ b), float((a - b) @ (a - b))
    return Metrics(
        max_ulp=float(ulps.max()),
        mean_ulp=float(ulps.mean()),
        cosine=min(float(a @ b) / math.sqrt(signal * power), 1.0) if signal and power else 0.0,
        snr_db=_decibels(signal, noise),
    )


def ulp_distance(a: Array, b: Array) -> Array:
    """Return the distance of each pair of finite floats in units in the last place, as float64."""
    first, second = _ordered(a), _ordered(b)
    distance: Array = (np.maximum(first, second) - np.minimum(first, second)).astype(np.float64)
    return distance


def _ordered(array: Array) -> Array:
    """Return integers in the order of the floats, adjacent for adjacent floats."""
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").astype(np.uint64)
    sign = np.uint64(1 << (8 * array.dtype.itemsize - 1))
    magnitude, zero = bits & (sign - np.uint64(1)), sign
    ordered: Array = np.where(bits & sign, zero - magnitude, zero + magnitude)
    return ordered


def _decibels(signal: float, noise: float) -> float:
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
