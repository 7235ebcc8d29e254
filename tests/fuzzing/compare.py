"""Judges what `optimize` makes of a model, on onnxruntime with all graph optimizations off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as errors

import fuseonnx
from tests.helpers import reference_session

Feeds = Mapping[str, npt.NDArray[np.generic]]
Outputs = dict[str, npt.NDArray[np.generic]]

_TOLERANCE = {np.dtype(np.float16): 4e-3, np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-9}
_EPSILON = {np.dtype(np.float16): 2.0**-10, np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52}
_NOISE_MULTIPLE = 20


class Discard(Exception):
    """The model is not valid to begin with."""


def judge(model: onnx.ModelProto, runs: Sequence[Feeds]) -> str | None:
    """Return what is wrong with the optimized model, as "kind: details", or None.

    Raises:
        Discard: onnx.checker or onnxruntime does not take the model itself, or onnxruntime loses a value of
            what it has loaded.
    """
    try:
        onnx.checker.check_model(model)
        expected = answers(model, runs)
    except (onnx.checker.ValidationError, *_ORT_ERRORS) as error:
        raise Discard(str(error)) from error
    try:
        after, fired = _optimize(model)
        twice, _ = _optimize(model)
        _, fired_again = _optimize(after)
    except Exception as error:
        return f"optimize raised {type(error).__name__}: {error}"
    if after.SerializeToString() != twice.SerializeToString():
        return "not deterministic: two runs differ"
    try:
        onnx.checker.check_model(after)
        found = answers(after, runs)
    except (onnx.checker.ValidationError, *_ORT_ERRORS) as error:
        if "Missing Input:" in str(error):
            raise Discard("onnxruntime lost what a body captures: it drops Casts there and back") from error
        return f"invalid result: {error} (fired: {fired})"
    for run, (old, new) in enumerate(zip(expected, found, strict=True)):
        wrong = _difference(model, runs[run], old, new)
        if wrong:
            return f"{wrong} (run {run}, fired: {fired})"
    return f"not idempotent: {fired_again} fire again" if fired_again else None


def _optimize(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
    result = fuseonnx.optimize(model, verify=False)
    assert isinstance(result.model, onnx.ModelProto)
    return result.model, {use.name: use.fired for use in result.report.rules if use.fired}


_ORT_ERRORS = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.NotImplemented,
    errors.RuntimeException,
)


def answers(model: onnx.ModelProto, runs: Sequence[Feeds]) -> list[Outputs]:
    """Return the outputs of a model for each set of inputs."""
    session = reference_session(model)
    names = [value.name for value in session.get_outputs()]
    return [dict(zip(names, session.run(names, dict(feeds)), strict=True)) for feeds in runs]


def _difference(model: onnx.ModelProto, feeds: Feeds, old: Outputs, new: Outputs) -> str | None:
    if list(old) != list(new):
        return f"outputs differ: {list(old)} became {list(new)}"
    noise: Outputs = {}
    for name, before in old.items():
        after = new[name]
        if (before.dtype, before.shape) != (after.dtype, after.shape):
            was, is_now = f"{before.dtype}{before.shape}", f"{after.dtype}{after.shape}"
            return f"type or shape differs: {name} {was} became {is_now}"
        if before.dtype not in _TOLERANCE:
            if not np.array_equal(before, after):
                return f"values differ: {name} of {before.dtype}"
            continue
        error, scale = _error(before, after)
        if error <= _tolerance(model) * scale:
            continue
        noise = noise or answers(_jittered(model), [_jittered_feeds(model, feeds)])[0]
        if error > _NOISE_MULTIPLE * _error(before, noise[name])[0]:
            return f"values differ: {name} by {error:.3g}, of scale {scale:.3g}"
    return None


def _error(before: npt.NDArray[np.generic], after: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Return the largest difference, and the largest magnitude; infinite where NaN or Inf are elsewhere."""
    a, b = before.astype(np.float64), after.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(np.where(finite, 0, a), np.where(np.isfinite(b), 0, b), equal_nan=True):
        return np.inf, 1.0
    a, b = a[finite], b[finite]
    return float(np.abs(a - b).max(initial=0.0)), float(np.abs(a).max(initial=0.0))


def _tolerance(model: onnx.ModelProto) -> float:
    """Return what the coarsest float type of the model allows, relative to an output's scale."""
    kinds = [info.type.tensor_type.elem_type for info in (*model.graph.input, *model.graph.output)]
    if TensorProto.FLOAT16 in kinds:
        return _TOLERANCE[np.dtype(np.float16)]
    return _TOLERANCE[np.dtype(np.float32 if TensorProto.FLOAT in kinds else np.float64)]


def _jitter(array: npt.NDArray[np.generic], seed: int) -> npt.NDArray[np.generic]:
    """Move floats by about an ulp, relative to each."""
    if array.dtype not in _TOLERANCE:
        return array
    moves = np.random.default_rng(seed).normal(size=array.shape) * 2 * _EPSILON[array.dtype]
    return np.asarray(array.astype(np.float64) * (1 + moves), dtype=array.dtype)


def _jittered_feeds(model: onnx.ModelProto, feeds: Feeds) -> Feeds:
    return {name: _jitter(array, index) for index, (name, array) in enumerate(feeds.items())}


def _jittered(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for index, tensor in enumerate(_tensors(copy.graph)):
        tensor.CopyFrom(numpy_helper.from_array(_jitter(numpy_helper.to_array(tensor), index), tensor.name))
    return copy


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
