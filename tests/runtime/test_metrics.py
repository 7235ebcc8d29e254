from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fuseonnx.runtime.metrics import Metrics, measure, ulp_distance, worst_of

Array = np.ndarray[Any, np.dtype[Any]]


def f32(values: list[float]) -> Array:
    return np.array(values, np.float32)


def f64(values: list[float]) -> Array:
    return np.array(values, np.float64)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_neighbours_are_one_ulp_apart_also_across_zero_and_powers_of_two(dtype: Any) -> None:
    base = np.array([0.0, -0.0, 1.0, -1.0, 2.0, 1e-7, np.finfo(dtype).max / 2], dtype)
    up = np.nextafter(base, np.array(np.inf, dtype))
    assert ulp_distance(base, up).tolist() == [1.0] * len(base)
    assert ulp_distance(up, np.nextafter(base, np.array(-np.inf, dtype))).tolist() == [2.0] * len(base)


def test_distances_are_those_of_numpys_spacing() -> None:
    a = np.linspace(1, 1.9, 50, dtype=np.float32)
    b = a + np.float32(7) * np.spacing(np.float32(1))
    assert ulp_distance(a, b).tolist() == [7.0] * 50


def test_zeros_of_both_signs_are_equal_and_the_extremes_far_apart() -> None:
    assert ulp_distance(f32([0.0]), f32([-0.0])).tolist() == [0.0]
    largest = f64([np.finfo(np.float64).max])
    assert ulp_distance(largest, -largest)[0] == pytest.approx(2 * 0x7FEFFFFFFFFFFFFF)


def test_bfloat16_counts_its_own_steps() -> None:
    a = np.array([1.0, -3.0], ml_dtypes.bfloat16)
    b = np.array([1.0 + 2**-7, -3.0 - 2 * 2**-6], ml_dtypes.bfloat16)
    assert ulp_distance(a, b).tolist() == [1.0, 2.0]


def test_cosine_and_snr_are_numpys() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, 5, 7)).astype(np.float32)
    b = a + rng.standard_normal(a.shape).astype(np.float32) * np.float32(0.1)
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    found = measure(a, b)
    assert found.cosine == pytest.approx(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)), rel=1e-12)
    assert found.snr_db == pytest.approx(10 * np.log10((x**2).sum() / ((x - y) ** 2).sum()), rel=1e-12)
    ulps = ulp_distance(a, b)
    assert (found.max_ulp, found.mean_ulp) == (ulps.max(), ulps.mean())
    assert 0.9 < found.cosine < 1 and 15 < found.snr_db < 25


def test_opposite_and_lost_signals() -> None:
    a = f32([1, 2, 3])
    assert measure(a, -a).cosine == pytest.approx(-1)
    assert measure(a, -a).snr_db == pytest.approx(10 * math.log10(1 / 4))
    assert (measure(a, 0 * a).cosine, measure(a, 0 * a).snr_db) == (0.0, 0.0)
    assert measure(0 * a, a).snr_db == -math.inf


def test_equal_arrays_and_what_is_not_finite() -> None:
    a = f32([1, np.nan, np.inf, 4])
    assert measure(a, a) == Metrics(0.0, 0.0, 1.0, math.inf)
    b = f32([1, np.nan, 2, 5])
    assert measure(a, b).max_ulp == ulp_distance(f32([4]), f32([5]))[0]
    assert measure(f64([1e300, 1e-300]), f64([2e300, 1e-300])).snr_db == pytest.approx(0.0)


def test_the_worst_of_two() -> None:
    assert worst_of(None, None) is None
    one, other = Metrics(1, 5, 0.5, 10), Metrics(2, 3, 0.7, -4)
    assert worst_of(one, None) == worst_of(None, one) == one
    assert worst_of(one, other) == Metrics(2, 5, 0.5, -4)
