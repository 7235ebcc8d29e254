"""Shared by the tests: build a model, rewrite it with some rules, and compare both on onnxruntime."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

import fuseonnx
from fuseonnx.core.rule import GraphPass, Rule

IR_VERSION = 10
ONNXRUNTIME = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
"""The installed version: (1, 31), for instance."""
Feeds = Mapping[str, np.ndarray]


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    dtype: int = onnx.TensorProto.FLOAT,
    overridable: Sequence[str] = (),
) -> onnx.ModelProto:
    """Build a checked model.

    Args:
        nodes: its nodes.
        inputs: input name to dims, all of `dtype`.
        outputs: output names; their types are inferred.
        weights: initializers.
        opset: of the standard domain.
        dtype: element type of the inputs.
        overridable: initializers that are graph inputs too.
    """
    weights = weights or {}
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    infos = [helper.make_tensor_value_info(name, dtype, dims) for name, dims in inputs.items()]
    infos += [
        helper.make_tensor_value_info(each.name, each.data_type, each.dims)
        for each in initializers
        if each.name in overridable
    ]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(list(nodes), "test", infos, results, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    del model.graph.output[:]
    model.graph.output.extend(inferred.graph.output)
    onnx.checker.check_model(model)
    return model


def batch_norm_weights(channels: int, seed: int = 0, dtype: type = np.float32) -> dict[str, np.ndarray]:
    """Return gamma of either sign, beta, mean and var, all random: fresh ones would make folds vacuous."""
    rng = np.random.default_rng(seed)
    return {
        "gamma": rng.uniform(-2, 2, channels).astype(dtype),
        "beta": rng.normal(size=channels).astype(dtype),
        "mean": rng.normal(size=channels).astype(dtype),
        "var": rng.uniform(0.1, 3, channels).astype(dtype),
    }


def reference_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Open a model on onnxruntime's CPU provider with all graph optimizations off, on one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run_reference(model: onnx.ModelProto, feeds: Feeds) -> dict[str, np.ndarray]:
    """Run a model on onnxruntime's CPU provider with all graph optimizations off."""
    session = reference_session(model)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the bodies in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)


@dataclass(frozen=True)
class Rewritten:
    """A model after some rules."""

    model: onnx.ModelProto
    fired: dict[str, int]
    declined: dict[str, dict[str, int]]

    @property
    def ops(self) -> dict[str, int]:
        """Operator to number of nodes, bodies included."""
        return dict(collections.Counter(node.op_type for node in all_nodes(self.model.graph)))


def rewrite(
    model: onnx.ModelProto, *rules: str, extra: Sequence[Rule | GraphPass] = (), skip: Sequence[str] = ()
) -> Rewritten:
    """Optimize with the named rules (all if none is named), without the verification: tests do that."""
    result = fuseonnx.optimize(model, only=rules, skip=skip, verify=False, extra_rules=extra)
    assert isinstance(result.model, onnx.ModelProto)
    onnx.checker.check_model(result.model)
    uses = result.report.rules
    return Rewritten(
        result.model,
        {use.name: use.fired for use in uses if use.fired},
        {use.name: use.declined for use in uses},
    )


def random_feeds(model: onnx.ModelProto, seed: int = 0, **sizes: int) -> dict[str, np.ndarray]:
    """Return signed random inputs; a symbolic dim gets its size from `sizes`, else 3."""
    rng = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for info in model.graph.input:
        if info.name in constants:
            continue
        tensor = info.type.tensor_type
        shape = [dim.dim_value or sizes.get(dim.dim_param, 3) for dim in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        feeds[info.name] = np.asarray(rng.normal(scale=2, size=shape)).astype(dtype)
    return feeds


def assert_same_answers(
    before: onnx.ModelProto, after: onnx.ModelProto, feeds: Feeds | None = None, rtol: float = 1e-5
) -> None:
    """Assert that two models give the same outputs: names, order, dtypes, shapes, and values.

    Values may differ by `rtol` of the output's largest magnitude; integers, bools and NaNs not at all.
    """
    feeds = random_feeds(before) if feeds is None else feeds
    expected, found = run_reference(before, feeds), run_reference(after, feeds)
    assert list(expected) == list(found)
    for name, value in expected.items():
        other = found[name]
        assert (value.dtype, value.shape) == (other.dtype, other.shape), name
        if value.dtype.kind == "f":
            scale = np.abs(value[np.isfinite(value)]).max(initial=0.0)
            np.testing.assert_allclose(other, value, rtol=0, atol=rtol * float(scale), err_msg=name)
        else:
            np.testing.assert_array_equal(other, value, err_msg=name)


def f32(values: npt.ArrayLike) -> np.ndarray:
    """Return a float32 array."""
    return np.asarray(values, dtype=np.float32)


def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """Return a node of the standard domain; names are separated by blanks."""
    return helper.make_node(op_type, inputs.split(), outputs.split(), **attributes)
