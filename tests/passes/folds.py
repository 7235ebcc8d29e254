"""Shared by the tests of folds: layers with weights, what follows them, and the ways to break a match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import (
    Rewritten,
    assert_same_answers,
    batch_norm_weights,
    make_model,
    random_feeds,
    rewrite,
)

Weights = dict[str, np.ndarray]
FORMS = (  # operator, and whether the constant comes first; c / x is no affine map
    ("Add", False),
    ("Add", True),
    ("Mul", False),
    ("Mul", True),
    ("Sub", False),
    ("Sub", True),
    ("Div", False),
)


@dataclass(frozen=True)
class Layer:
    """Nodes from `x` to `c` whose weights can absorb a map of `c`; the channels of `c` are on `axis`."""

    nodes: tuple[onnx.NodeProto, ...]
    weights: Weights
    dims: tuple[int | str, ...]
    channels: int
    rank: int
    axis: int = 1

    @property
    def op(self) -> str:
        """Operator that makes `c`."""
        return self.nodes[-1].op_type


@dataclass(frozen=True)
class Tail:
    """The node from `c` to `y`, and its constants."""

    node: onnx.NodeProto
    weights: Weights


def conv(*, spatial: int = 2, group: int = 1, bias: bool = True, channels: int = 8) -> Layer:
    """A Conv of 4 input channels."""
    rng = np.random.default_rng(1)
    weights = {"w": _normal(rng, channels, 4 // group, *(3,) * spatial)}
    if bias:
        weights["b"] = _normal(rng, channels)
    pads = [1] * 2 * spatial
    node = helper.make_node("Conv", ["x", *weights], ["c"], group=group, pads=pads, name="layer")
    return Layer((node,), weights, ("batch", 4, *(6,) * spatial), channels, spatial + 2)


def conv_transpose(*, spatial: int = 2, group: int = 1, bias: bool = True, channels: int = 8) -> Layer:
    """A ConvTranspose of 4 input channels, with a stride."""
    rng = np.random.default_rng(2)
    weights = {"w": _normal(rng, 4, channels // group, *(3,) * spatial)}
    if bias:
        weights["b"] = _normal(rng, channels)
    strides = [2] * spatial
    node = helper.make_node(
        "ConvTranspose", ["x", *weights], ["c"], group=group, strides=strides, name="layer"
    )
    return Layer((node,), weights, ("batch", 4, *(5,) * spatial), channels, spatial + 2)


def gemm(
    *,
    trans_b: int = 0,
    alpha: float = 1.0,
    beta: float = 1.0,
    bias: tuple[int, ...] | None = (6,),
    channels: int = 6,
) -> Layer:
    """A Gemm from 4 to `channels` columns; `bias` is the shape of C."""
    rng = np.random.default_rng(3)
    weights = {"w": _normal(rng, *((channels, 4) if trans_b else (4, channels)))}
    if bias is not None:
        weights["b"] = _normal(rng, *bias)
    attributes: dict[str, Any] = {"transB": trans_b, "alpha": alpha, "beta": beta}
    node = helper.make_node("Gemm", ["x", *weights], ["c"], name="layer", **attributes)
    return Layer((node,), weights, ("batch", 4), channels, 2)


def matmul(
    *,
    leading: Sequence[int | str] = ("batch",),
    bias: tuple[int, ...] | None = (6,),
    bias_first: bool = False,
    channels: int = 6,
) -> Layer:
    """A MatMul with a weight [4, channels], and an Add; `bias` is the shape of what it adds."""
    rng = np.random.default_rng(4)
    weights = {"w": _normal(rng, 4, channels)}
    rank = len(leading) + 1
    shape = {"dims": (*leading, 4), "channels": channels, "rank": rank, "axis": rank - 1}
    if bias is None:
        return Layer((helper.make_node("MatMul", ["x", "w"], ["c"], name="layer"),), weights, **shape)  # type: ignore[arg-type]
    weights["b"] = _normal(rng, *bias)
    add = helper.make_node("Add", ["b", "p"] if bias_first else ["p", "b"], ["c"], name="add")
    return Layer((helper.make_node("MatMul", ["x", "w"], ["p"], name="layer"), add), weights, **shape)  # type: ignore[arg-type]


def batch_norm(channels: int, **attributes: Any) -> Tail:
    """An inference BatchNormalization with random statistics."""
    inputs = ["c", "gamma", "beta", "mean", "var"]
    node = helper.make_node("BatchNormalization", inputs, ["y"], **{"epsilon": 1e-3, **attributes})
    return Tail(node, batch_norm_weights(channels))


def arithmetic(op_type: str, constant: npt.ArrayLike, *, constant_first: bool = False) -> Tail:
    """`c` combined with a constant."""
    inputs = ["k", "c"] if constant_first else ["c", "k"]
    return Tail(helper.make_node(op_type, inputs, ["y"]), {"k": np.asarray(constant, np.float32)})


def per_channel(layer: Layer, seed: int = 5) -> np.ndarray:
    """Return one number for each channel of `c`, of either sign and none near 0, shaped to broadcast."""
    rng = np.random.default_rng(seed)
    shape = (layer.channels, *(1,) * (layer.rank - layer.axis - 1))
    return np.asarray(rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape), np.float32)


def build(
    layer: Layer,
    tail: Tail,
    *,
    more: Sequence[onnx.NodeProto] = (),
    outputs: Sequence[str] = ("y",),
    weights: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    overridable: Sequence[str] = (),
    inputs: Mapping[str, Sequence[int | str | None]] | None = None,
) -> onnx.ModelProto:
    numpy_dtype = helper.tensor_dtype_to_np_dtype(dtype)
    cast = {
        name: array.astype(numpy_dtype) if array.dtype == np.float32 else array
        for name, array in {**layer.weights, **tail.weights, **(weights or {})}.items()
    }
    dims = {"x": layer.dims, **(inputs or {})}
    kept = {name: array for name, array in cast.items() if name not in dims}
    nodes = [*layer.nodes, tail.node, *more]
    return make_model(nodes, dims, outputs, kept, opset=opset, dtype=dtype, overridable=overridable)


def in_branches(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move the graph into both branches of an If: one reads outer weights, the other has its own."""
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    graph = moved.graph
    output = graph.output[0]
    then_branch = helper.make_graph(list(graph.node), "then", [], [output])
    own = [onnx.TensorProto() for _ in graph.initializer]
    for copy, tensor in zip(own, graph.initializer, strict=True):
        copy.CopyFrom(tensor)
        copy.name = f"else_{tensor.name}"
    nodes = [renamed(node, "else_", keep={"x"}) for node in graph.node]
    other = helper.make_tensor_value_info(
        f"else_{output.name}", output.type.tensor_type.elem_type, [None] * _rank(output)
    )
    else_branch = helper.make_graph(nodes, "else", [], [other], own)
    del graph.node[:]
    graph.node.append(
        helper.make_node("If", ["flag"], ["answer"], then_branch=then_branch, else_branch=else_branch)
    )
    graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    result = helper.make_tensor_value_info(
        "answer", output.type.tensor_type.elem_type, [None] * _rank(output)
    )
    del graph.output[:]
    graph.output.append(result)
    onnx.checker.check_model(moved)
    return moved


def in_function(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move the graph into a local function, its weights becoming Constant nodes."""
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    graph = moved.graph
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in graph.initializer
    ]
    function = helper.make_function(
        "test", "block", ["x"], ["y"], [*constants, *graph.node], list(moved.opset_import)
    )
    moved.functions.append(function)
    moved.opset_import.append(helper.make_opsetid("test", 1))
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.append(helper.make_node("block", ["x"], ["y"], domain="test"))
    onnx.checker.check_model(moved)
    return moved


def as_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Widen or narrow every float tensor of a model, for dtypes that onnxruntime has no CPU kernel for."""
    cast = onnx.ModelProto()
    cast.CopyFrom(model)
    for info in (*cast.graph.input, *cast.graph.output):
        info.type.tensor_type.elem_type = TensorProto.FLOAT
    del cast.graph.value_info[:]
    for tensor in cast.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
        )
    return cast


def assert_fires(model: onnx.ModelProto, rule: str, *, times: int = 1, rtol: float = 1e-5) -> Rewritten:
    """Assert that only `rule` fires, so often, that the signature stays and that the answers do."""
    after = rewrite(model, rule)
    assert after.fired == {rule: times}
    assert list(after.model.graph.input) == list(model.graph.input)
    assert list(after.model.graph.output) == list(model.graph.output)
    assert_same_answers(model, after.model, rtol=rtol)
    return after


def assert_keeps_out(
    model: onnx.ModelProto, rule: str, reason: str, *, feeds: Mapping[str, np.ndarray] | None = None
) -> None:
    """Assert that `rule` does not fire and says why ("" if its pattern does not even match)."""
    after = rewrite(model, rule)
    assert after.fired == {}
    assert set(after.declined.get(rule, {})) == ({reason} if reason else set())
    assert_same_answers(model, after.model, feeds)


def flags(model: onnx.ModelProto) -> list[dict[str, np.ndarray]]:
    """Return inputs that take either branch of an If on `flag`."""
    feeds = {name: value for name, value in random_feeds(model).items() if name != "flag"}
    return [{**feeds, "flag": np.array(flag)} for flag in (True, False)]


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def _rank(info: onnx.ValueInfoProto) -> int:
    return len(info.type.tensor_type.shape.dim)


def renamed(node: onnx.NodeProto, prefix: str, *, keep: set[str]) -> onnx.NodeProto:
    """Return a copy of a node with a prefix on every name but those to keep."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = f"{prefix}{node.name}" if node.name else ""
    for names in (copy.input, copy.output):
        names[:] = [name if name in keep or not name else f"{prefix}{name}" for name in names]
    return copy
