"""Shared by the tests of rules that change channels: nets of convolutions, and what is left of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.helpers import (
    Feeds,
    Rewritten,
    all_nodes,
    assert_same_answers,
    batch_norm_weights,
    make_model,
    node,
    random_feeds,
    rewrite,
    run_reference,
)

RULE = "pad_channels"
Shape = tuple[int, ...]


class Net:
    """Nodes and random weights; values have 8 rows and columns unless a node says otherwise."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(seed)

    def add(self, op_type: str, inputs: str, target: str, **attributes: Any) -> str:
        self.nodes.append(node(op_type, inputs, target, **attributes))
        return target

    def const(self, name: str, *shape: int) -> str:
        """Numbers of either sign, none near 0."""
        size = self.rng.uniform(0.5, 2, shape) * self.rng.choice([-1, 1], shape)
        self.weights[name] = np.asarray(size, np.float32)
        return name

    def conv(
        self,
        source: str,
        target: str,
        outputs: int,
        inputs: int,
        *,
        kernel: int = 3,
        bias: bool = True,
        **attributes: Any,
    ) -> str:
        """A Conv that pads by half its kernel; `inputs` are those of one group."""
        weight = self.rng.normal(size=(outputs, inputs, kernel, kernel)) / (kernel * inputs**0.5)
        self.weights[f"{target}_w"] = weight.astype(np.float32)
        names = f"{source} {target}_w"
        if bias:
            names += f" {self.const(f'{target}_b', outputs)}"
        return self.add("Conv", names, target, pads=[kernel // 2] * 4, name=f"{target}_conv", **attributes)

    def depthwise(self, source: str, target: str, channels: int, **options: Any) -> str:
        return self.conv(source, target, channels, 1, group=channels, **options)

    def batch_norm(self, source: str, target: str, channels: int) -> str:
        named = {f"{target}_{name}": array for name, array in batch_norm_weights(channels).items()}
        self.weights |= named
        return self.add("BatchNormalization", " ".join((source, *named)), target)

    def model(
        self,
        dims: Sequence[int | str | None] = (2, 3, 8, 8),
        outputs: Sequence[str] = ("y",),
        **options: Any,
    ) -> onnx.ModelProto:
        return make_model(self.nodes, {"x": dims}, outputs, self.weights, **options)


def block(channels: int = 11, between: Sequence[onnx.NodeProto] = (), **options: Any) -> Net:
    """x ─ Conv ─ a ─ between ─ b ─ depthwise Conv ─ c ─ Relu ─ d ─ Conv ─ y."""
    net = Net()
    net.conv("x", "a", channels, 3, **options)
    net.nodes += between or [node("Relu", "a", "b")]
    net.depthwise("b", "c", channels, **options)
    net.add("Relu", "c", "d")
    net.conv("d", "y", 5, channels, **options)
    return net


def conv_weights(model: onnx.ModelProto) -> list[Shape]:
    """Return outputs, and inputs of a group, of each Conv in order, bodies included."""
    shapes: dict[str, Shape] = {}
    for graph in (model.graph, *_bodies(model.graph)):
        shapes |= {tensor.name: tuple(tensor.dims)[:2] for tensor in graph.initializer}
    return [shapes[each.input[1]] for each in all_nodes(model.graph) if each.op_type == "Conv"]


def _bodies(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    return [
        attribute.g for each in all_nodes(graph) for attribute in each.attribute if attribute.HasField("g")
    ]


def default_session(model: onnx.ModelProto, save_to: str = "") -> onnxruntime.InferenceSession:
    """Open a model as users do, with all graph optimizations; write the graph that runs if asked to."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if save_to:
        options.optimized_model_filepath = save_to
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def assert_same_everywhere(
    before: onnx.ModelProto, after: onnx.ModelProto, feeds: Feeds | None = None
) -> None:
    """Assert that two models give the same answers, the second one with optimizations on too."""
    feeds = random_feeds(before) if feeds is None else feeds
    assert_same_answers(before, after, feeds)
    expected = run_reference(before, feeds)
    found = default_session(after).run(list(expected), dict(feeds))
    for (name, value), other in zip(expected.items(), found, strict=True):
        scale = float(np.abs(value).max(initial=0.0))
        np.testing.assert_allclose(other, value, rtol=0, atol=1e-5 * scale, err_msg=name)


def assert_pads(
    model: onnx.ModelProto, convs: Sequence[Shape], *, slices: int = 0, times: int = 1, **sizes: int
) -> Rewritten:
    """Assert the weights of the Convs after the rule, how many Slices are new, and that all else stays."""
    after = rewrite(model, RULE)
    assert after.fired == {RULE: times}
    assert conv_weights(after.model) == list(convs)
    assert after.ops == Counter(each.op_type for each in all_nodes(model.graph)) + Counter(Slice=slices)
    assert list(after.model.graph.input) == list(model.graph.input)
    assert list(after.model.graph.output) == list(model.graph.output)
    onnx.shape_inference.infer_shapes(after.model, check_type=True, strict_mode=True, data_prop=True)
    assert_same_everywhere(model, after.model, random_feeds(model, **sizes))
    assert rewrite(after.model, RULE).fired == {}
    return after


def assert_stays(model: onnx.ModelProto, reason: str = "") -> None:
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert set(after.declined.get(RULE, {})) == ({reason} if reason else set())
