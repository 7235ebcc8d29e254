"""Judge one output in one run by what the original answers there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fuseonnx.runtime.metrics import measure, worst_of
from fuseonnx.runtime.noise import Expected
from fuseonnx.runtime.values import MULTIPLE, Array, Difference, Rounding, is_float, judge, mismatch

_FLIPS_BY_DEFAULT = 0.05
"""Fraction of integers and bools that may be decided otherwise at onnxruntime's default level."""


def judge_output(
    expected: Expected, found: Sequence[Array], rounding: Rounding, *, by_default: bool = False
) -> Difference | None:
    """Return the worst difference of an output, or None where its values cannot be compared.

    `by_default` judges an answer of onnxruntime's default level.
    """
    if by_default and expected.wrong_by_default:
        return None
    if reason := mismatch(expected.leaves, found):
        if expected.shape_varies:
            return None
        return Difference(severity=float("inf"), max_abs=float("inf"), reason=reason)
    return None if expected.random else _judge_all(expected, found, rounding, by_default=by_default)


def _judge_all(
    expected: Expected, found: Sequence[Array], rounding: Rounding, *, by_default: bool
) -> Difference:
    """Return the worst difference of an output's arrays, with the metrics of all of them."""
    judged, metrics = [], None
    for leaf, other, noise, stable in zip(
        expected.leaves, found, expected.noise, expected.stable, strict=True
    ):
        allowed = _by_default(leaf, noise, rounding) if by_default else noise
        judged.append(judge(leaf, other, rounding, expected.scale, allowed, stable))
        if is_float(leaf.dtype) and (judged[-1].severity > 1.0 or not by_default):
            metrics = worst_of(metrics, measure(leaf, other))
    worst = max(judged, key=lambda difference: difference.severity, default=Difference())
    return replace(worst, metrics=metrics)


def _by_default(leaf: Array, noise: float, rounding: Rounding) -> float:
    """Return the noise of an output at the default level, where only what is broken is to be found.

    That level rounds otherwise, and so does the artifact: both together may move further than either.
    """
    if is_float(leaf.dtype):
        return max(noise, rounding.half_the_digits(leaf.dtype) / MULTIPLE)
    return max(noise, _FLIPS_BY_DEFAULT)
