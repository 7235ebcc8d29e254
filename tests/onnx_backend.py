"""The cases of the ONNX backend suite, and how a case runs on onnxruntime and on onnx.reference."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.helpers import reference_session
from tests.onnx_backend_exceptions import RANDOM

Values = Sequence[Any]
Runner = Callable[[onnx.ModelProto, Mapping[str, Any]], Values]
"""Arrays, lists of them (sequences), and None (an empty optional)."""

_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
_NEWEST_IR, _NEWEST_OPSET = 13, 26
_KNOWN_TO_NUMPY = frozenset(range(1, 14)) | {0}
"""Element types, FLOAT to UINT64, that onnxruntime takes from and gives to numpy; 0 is no tensor."""
_NO_IDENTITY = frozenset({21, 22, 23, 25, 26})
"""Element types of less than 8 bits: onnxruntime has no Identity for them."""
_EXTREMES = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e-30, 65504.0, -7.0, -2.5, -0.3, 0.5, 1.5, 2.5, 3.0)


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, inputs, and the outputs that it must give."""

    name: str
    model: onnx.ModelProto
    feeds: Mapping[str, Any]
    expected: Values
    rtol: float
    atol: float

    @property
    def too_new(self) -> bool:
        """Whether the model is of an IR version or opset that onnxruntime 1.31 does not know."""
        opset = max((entry.version for entry in self.model.opset_import if not entry.domain), default=1)
        return self.model.ir_version > _NEWEST_IR or opset > _NEWEST_OPSET


def all_cases() -> list[Case]:
    """Return the cases that need no download, by name."""
    cases = [*_node_cases(), *_stored_cases(), *_light_cases()]
    return sorted(cases, key=lambda case: case.name)


def _node_cases() -> Iterator[Case]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = load_model_tests(kind="node")
    for test in tests:
        assert test.model is not None and test.data_sets is not None
        for number, (inputs, outputs) in enumerate(test.data_sets):
            name = test.name.removeprefix("test_") + (f"#{number}" if number else "")
            yield _case(name, test.model, inputs, outputs, test.rtol, test.atol)


def _stored_cases() -> Iterator[Case]:
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for folder in sorted((_DATA / kind).glob("*/")):
            model = onnx.load(folder / "model.onnx")
            for number, data in enumerate(sorted(folder.glob("test_data_set_*"))):
                inputs = _stored_values(data, "input", model.graph.input)
                outputs = _stored_values(data, "output", model.graph.output)
                name = f"{kind}/{folder.name.removeprefix('test_')}" + (f"#{number}" if number else "")
                yield _case(name, model, inputs, outputs, *_tolerance(folder))


def _light_cases() -> Iterator[Case]:
    """Yield the classic networks with made-up weights; their input is a ramp from 0 to 1."""
    for path in sorted((_DATA / "light").glob("*.onnx")):
        model = onnx.load(path)
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = []
        for info in model.graph.input:
            if info.name not in weights:
                shape = [dim.dim_value or 1 for dim in info.type.tensor_type.shape.dim]
                size = np.prod(shape)
                inputs.append((np.arange(size).reshape(shape) / size).astype(np.float32))
        output = onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb"))
        name = path.stem.removeprefix("light_")
        yield _case(f"light/{name}", model, inputs, [output], *_tolerance(_DATA / "real" / f"test_{name}"))


def _case(
    name: str, model: onnx.ModelProto, inputs: Values, outputs: Values, rtol: float, atol: float
) -> Case:
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [info.name for info in model.graph.input if info.name not in weights]
    feeds = dict(zip(names, map(_plain, inputs), strict=False))
    return Case(name, model, feeds, [_plain(value) for value in outputs], rtol, atol)


def _plain(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _stored_values(folder: Path, prefix: str, infos: Sequence[onnx.ValueInfoProto]) -> list[Any]:
    values: list[Any] = []
    for number, info in enumerate(infos):
        path = folder / f"{prefix}_{number}.pb"
        if not path.exists():
            break
        if info.type.HasField("sequence_type"):
            values.append(numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes())))
        else:
            values.append(onnx.load_tensor(path))
    return values


def _tolerance(folder: Path) -> tuple[float, float]:
    path = folder / "data.json"
    given = json.loads(path.read_text()) if path.exists() else {}
    return given.get("rtol", 1e-3), given.get("atol", 1e-7)


def run_onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> Values:
    """Run on onnxruntime's CPU provider with all graph optimizations off."""
    session = reference_session(model)
    infos = (*model.graph.input, *model.graph.output)
    if all(info.type.tensor_type.elem_type in _KNOWN_TO_NUMPY for info in infos):
        results: Values = session.run(None, dict(feeds))
        return results
    types = {info.name: info.type.tensor_type.elem_type for info in model.graph.input}
    given = {name: _to_ort(np.asarray(array), types[name]) for name, array in feeds.items()}
    return [
        _from_ort(value)
        for value in session.run_with_ort_values([info.name for info in model.graph.output], given)
    ]


def _to_ort(array: np.ndarray, element_type: int) -> onnxruntime.OrtValue:
    """Wrap an array; a type that numpy lacks goes as its bytes, those of less than 8 bits packed."""
    if element_type in _KNOWN_TO_NUMPY:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    carrier = np.zeros(array.shape, f"u{array.dtype.itemsize}")
    raw = numpy_helper.from_array(array).raw_data
    carrier.reshape(-1).view(np.uint8)[: len(raw)] = np.frombuffer(raw, np.uint8)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(carrier, element_type)


def _from_ort(value: onnxruntime.OrtValue) -> np.ndarray:
    if value.element_type() in _KNOWN_TO_NUMPY:
        array: np.ndarray = value.numpy()
        return array
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    tensor = onnx.TensorProto(dims=value.shape(), data_type=value.element_type(), raw_data=raw)
    return numpy_helper.to_array(tensor)


def run_reference(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> Values:
    """Run on onnx.reference."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return list(ReferenceEvaluator(model).run(None, dict(feeds)))


def difference(case: Case, found: Values) -> str | None:
    """Return how the outputs differ from the expected ones, or None."""
    if len(found) != len(case.expected):
        return f"{len(found)} outputs instead of {len(case.expected)}"
    for index, (value, expected) in enumerate(zip(found, case.expected, strict=True)):
        reason = _difference(value, expected, case)
        if reason is not None:
            return f"output {index}: {reason}"
    return None


def _difference(value: Any, expected: Any, case: Case) -> str | None:
    if isinstance(expected, list) or isinstance(value, list):
        if not isinstance(value, list) or not isinstance(expected, list) or len(value) != len(expected):
            return f"{value!r} instead of {expected!r}"[:300]
        reasons = (_difference(one, other, case) for one, other in zip(value, expected, strict=True))
        return next(filter(None, reasons), None)
    if value is None or expected is None:
        return None if value is expected else f"{value!r} instead of {expected!r}"[:300]
    value, expected = np.asarray(value), np.asarray(expected)
    if expected.dtype.kind in "OUS":
        value, expected = value.astype(str), expected.astype(str)
        return None if np.array_equal(value, expected) else f"{value!r} instead of {expected!r}"[:300]
    if (value.dtype, value.shape) != (expected.dtype, expected.shape):
        return f"{value.dtype}{value.shape} instead of {expected.dtype}{expected.shape}"
    return None if case.name in RANDOM else _distance(value, expected, case)


def _distance(value: np.ndarray, expected: np.ndarray, case: Case) -> str | None:
    """Compare by the case's tolerance, and as closely as the largest element is known to float32."""
    rtol = case.rtol
    if value.dtype.kind not in "fciub":  # bfloat16, float8, int4…: numpy computes with them as with float32
        rtol = max(rtol, 2**-6) if value.dtype.name == "bfloat16" else rtol
        value, expected = value.astype(np.float32), expected.astype(np.float32)
    finite = np.abs(expected[np.isfinite(expected)])
    atol = max(case.atol, 1e-6 * float(finite.max(initial=0))) if expected.dtype.kind in "fc" else 0
    rtol = rtol if expected.dtype.kind in "fc" else 0
    try:
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=atol)
    except AssertionError as error:
        return " ".join(str(error).split())[:300]
    return None


def with_constants(case: Case, *, but_first: bool) -> Case | None:
    """Return the case with its inputs turned into initializers, or None if there is none to turn.

    An Identity comes before each output that is a tensor, since an output itself never becomes a constant.

    Args:
        case: the case.
        but_first: the first input stays an input.
    """
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph, feeds = model.graph, dict(case.feeds)
    turned = [
        info
        for info in list(graph.input)[1 if but_first else 0 :]
        if info.type.HasField("tensor_type") and isinstance(feeds.get(info.name), np.ndarray)
    ]
    if not turned:
        return None
    for info in turned:
        tensor = numpy_helper.from_array(feeds.pop(info.name), info.name)
        tensor.data_type = info.type.tensor_type.elem_type
        graph.initializer.append(tensor)
        if model.ir_version >= 4:
            graph.input.remove(info)
    _put_identity_before_outputs(graph)
    return dataclasses.replace(case, model=model, feeds=feeds)


def _put_identity_before_outputs(graph: onnx.GraphProto) -> None:
    made_here = {name for node in graph.node for name in node.output}
    for info in graph.output:
        element_type = info.type.tensor_type.elem_type
        if element_type and element_type not in _NO_IDENTITY and info.name in made_here:
            inner = f"{info.name}_before_identity"
            for node in graph.node:
                node.input[:] = [inner if name == info.name else name for name in node.input]
                node.output[:] = [inner if name == info.name else name for name in node.output]
            graph.node.append(helper.make_node("Identity", [inner], [info.name]))


def with_extremes(case: Case) -> Case | None:
    """Return the case with NaN, infinities, huge, tiny and signed values in its floating-point inputs.

    The expected outputs are onnxruntime's; None if there is no such input, or onnxruntime refuses the values.
    """
    rng = np.random.default_rng(0)
    feeds = dict(case.feeds)
    arrays = {name: value for name, value in feeds.items() if isinstance(value, np.ndarray)}
    floats = {name: array for name, array in arrays.items() if array.dtype.kind == "f"}
    for name, array in floats.items():
        with np.errstate(over="ignore", under="ignore"):
            feeds[name] = rng.choice(_EXTREMES, array.shape).astype(array.dtype)
    try:
        expected = run_onnxruntime(case.model, feeds)
    except Exception:  # onnxruntime's errors have no common base
        return None
    return dataclasses.replace(case, feeds=feeds, expected=expected) if floats else None
