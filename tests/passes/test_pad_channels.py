"""pad_channels: the regions that it pads, and what they leave as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.helpers import all_nodes, batch_norm_weights, node, rewrite
from tests.passes import folds
from tests.passes.channels import (
    RULE,
    Net,
    assert_pads,
    assert_same_everywhere,
    block,
    conv_weights,
    default_session,
)

PADDED = [(12, 3), (12, 1), (5, 12)]


@pytest.mark.parametrize(("channels", "padded"), [(2, 4), (3, 4), (5, 8), (11, 12), (14, 16), (58, 60)])
def test_pads_to_the_next_multiple_of_four(channels: int, padded: int) -> None:
    assert_pads(block(channels).model(), [(padded, 3), (padded, 1), (5, padded)])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("strides", [[1, 1], [2, 2], [2, 1]])
@pytest.mark.parametrize("kernel", [1, 3])
def test_pads_with_or_without_bias_and_strides(bias: bool, strides: list[int], kernel: int) -> None:
    assert_pads(block(bias=bias, strides=strides, kernel=kernel).model(), PADDED)


@pytest.mark.parametrize(("channels", "padded"), [(17, 20), (18, 20), (42, 44)])
def test_pads_what_a_dense_convolution_reads(channels: int, padded: int) -> None:
    net = Net()
    net.conv("x", "a", channels, 3)
    net.conv(net.add("Relu", "a", "b"), "y", 7, channels)
    assert_pads(net.model(), [(padded, 3), (7, padded)])


@pytest.mark.parametrize(
    "dims", [("n", 3, 8, 8), (2, 3, "h", "w"), ("n", 3, "h", "w"), (None, 3, None, None)], ids=str
)
def test_pads_whatever_the_other_dims(dims: Sequence[int | str | None]) -> None:
    assert_pads(block().model(dims=dims), PADDED, n=1, h=7, w=10)


def _op(op_type: str, **attributes: Any) -> list[onnx.NodeProto]:
    return [node(op_type, "a", "b", **attributes)]


FOLLOWERS = {
    **{name: _op(name) for name in ("Abs", "Celu", "Elu", "Erf", "HardSigmoid", "HardSwish", "Identity")},
    **{name: _op(name) for name in ("LeakyRelu", "Mish", "Neg", "Relu", "Selu", "Sigmoid")},
    **{name: _op(name) for name in ("Softplus", "Softsign", "Tanh", "GlobalAveragePool", "GlobalMaxPool")},
    "Gelu": _op("Gelu", approximate="tanh"),
    "Clip": [node("Clip", "a one two", "b")],
    "SiLU": [node("Sigmoid", "a", "s"), node("Mul", "a s", "b")],
    "MaxPool": _op("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "AveragePool": _op("AveragePool", kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1),
    "BatchNormalization": [node("BatchNormalization", "a gamma beta mean var", "b")],
    "a square": [node("Mul", "a a", "b")],
    "a number": [node("Sub", "two a", "m"), node("Div", "m two", "b")],
    "a map": [node("Add", "map a", "b")],
    "the mean over channels": [node("ReduceMean", "x one_axis", "m"), node("Mul", "a m", "b")],
    **{f"{op} [C, 1, 1]": [node(op, "a each", "b")] for op in ("Add", "Sub", "Mul", "Div")},
    **{f"{op} [1, C, 1, 1]": [node(op, "a each4", "b")] for op in ("Add", "Sub", "Mul", "Div")},
    "[C, 1, 1] first": [node("Sub", "each a", "b")],
    "[C, H, W]": [node("Mul", "full a", "b")],
}


@pytest.mark.parametrize("between", FOLLOWERS)
def test_pads_what_treats_channels_alike(between: str) -> None:
    net = block(between=FOLLOWERS[between])
    net.const("each", 11, 1, 1)
    net.const("each4", 1, 11, 1, 1)
    net.const("full", 11, 8, 8)
    net.const("map", 8, 8)
    net.weights |= batch_norm_weights(11)
    net.weights |= {
        "one": np.array(-1, np.float32),
        "two": np.array(2, np.float32),
        "one_axis": np.array([1]),
    }
    assert_pads(net.model(opset=20), PADDED)


def test_pads_a_squeeze_and_excitation() -> None:
    net = block(between=[node("Relu", "a", "r"), node("GlobalAveragePool", "r", "g")])
    tail, net.nodes = net.nodes[3:], net.nodes[:3]
    net.conv("g", "h", 3, 11, kernel=1)
    net.conv(net.add("Relu", "h", "i"), "j", 11, 3, kernel=1)
    net.add("Mul", f"r {net.add('Sigmoid', 'j', 'k')}", "b")
    net.nodes += tail
    assert_pads(net.model(), [(12, 3), (3, 12), (12, 3), (12, 1), (5, 12)])


def test_pads_all_that_meet_in_a_sum() -> None:
    net = Net()
    net.conv("x", "a", 11, 3)
    net.conv("x", "b", 11, 3, bias=False)
    net.depthwise(net.add("Add", "a b", "c"), "d", 11)
    net.conv("d", "y", 5, 11)
    assert_pads(net.model(), [(12, 3), (12, 3), (12, 1), (5, 12)])


def test_pads_both_axes_of_a_convolution_that_reads_and_makes() -> None:
    net = Net()
    net.conv("x", "a", 18, 3)
    net.conv("a", "b", 18, 18)
    net.conv(net.add("Add", "a b", "c"), "y", 5, 18)
    assert_pads(net.model(), [(20, 3), (20, 20), (5, 20)])


def test_pads_the_last_part_of_a_concat() -> None:
    net = Net()
    net.conv("x", "p", 5, 3)
    net.conv("x", "q", 6, 3)
    net.depthwise(net.add("Concat", "p q", "j", axis=-3), "r", 11)
    net.conv("r", "y", 5, 11)
    assert_pads(net.model(), [(5, 3), (7, 3), (12, 1), (5, 12)])


def test_pads_a_single_channel_that_others_broadcast() -> None:
    net = Net()
    net.conv("x", "p", 10, 3)
    net.conv("x", "q", 1, 3)
    net.depthwise(net.add("Concat", "p q", "j", axis=1), "r", 11)
    net.conv(net.add("Mul", "r q", "s"), "y", 5, 11)
    assert_pads(net.model(), [(10, 3), (2, 3), (12, 1), (5, 12)], slices=1)


def test_pads_two_regions_and_finds_nothing_afterwards() -> None:
    net = block()
    net.depthwise("y", "e", 5)
    net.conv("e", "z", 4, 5)
    assert_pads(net.model(outputs=["z"]), [(12, 3), (12, 1), (8, 12), (8, 1), (4, 8)], times=2)


def test_pads_a_long_chain() -> None:
    relus = [node("Relu", f"r{index}" if index else "a", f"r{index + 1}") for index in range(1500)]
    assert_pads(block(between=[*relus, node("Relu", "r1500", "b")]).model(), PADDED)


def test_pads_in_bodies() -> None:
    model = folds.in_branches(block().model())
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert conv_weights(after.model) == PADDED * 2
    for feeds in folds.flags(model):
        assert_same_everywhere(model, after.model, feeds)


def test_outputs_of_bodies_keep_their_channels() -> None:
    model = folds.in_branches(block().model(outputs=["b", "y"]))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert after.ops["Slice"] == 2
    for feeds in folds.flags(model):
        assert_same_everywhere(model, after.model, feeds)


def test_pads_next_to_all_other_rules() -> None:
    net = block(between=[node("BatchNormalization", "a gamma beta mean var", "m"), node("Relu", "m", "b")])
    net.weights |= batch_norm_weights(11)
    model = net.model()
    after = rewrite(model)
    assert after.fired.keys() == {RULE, "fold_batchnorm_into_conv", "remove_unused_initializers"}
    assert conv_weights(after.model) == PADDED
    assert {tensor.dims[0] for tensor in after.model.graph.initializer} == {12, 5}
    assert_same_everywhere(model, after.model)


def test_onnxruntime_blocks_more_convolutions(tmp_path: Path) -> None:
    def blocked(model: onnx.ModelProto) -> int:
        path = tmp_path / "m.onnx"
        default_session(model, save_to=str(path))
        return sum(
            each.op_type == "Conv" and each.domain == "com.microsoft.nchwc"
            for each in onnx.load(path).graph.node
        )

    if not blocked(block(16).model()):
        pytest.skip("onnxruntime has no blocked Conv for this CPU")
    net = block(18)
    net.conv(net.add("Relu", "y", "e"), "z", 16, 5)
    model = net.model(outputs=["z"])
    after = assert_pads(model, [(20, 3), (20, 1), (5, 20), (16, 5)]).model
    assert blocked(model) < blocked(after) == 4


def made_by(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(each for each in all_nodes(model.graph) if name in each.output)


def test_graph_outputs_keep_their_channels_names_and_shapes() -> None:
    model = onnx.shape_inference.infer_shapes(block().model(outputs=["y", "b"]))
    after = assert_pads(model, PADDED, slices=1).model
    assert made_by(after, "b").op_type == "Slice"


@pytest.mark.parametrize(
    "reader",
    [
        node("Reshape", "b rows", "z"),
        node("Concat", "b x", "z", axis=1),
        node("LpNormalization", "b", "z", axis=1),
    ],
    ids=lambda each: str(each.op_type),
)
def test_other_readers_read_a_slice_of_the_old_name_and_shape(reader: onnx.NodeProto) -> None:
    net = block()
    net.weights["rows"] = np.array([2, -1])
    net.nodes.append(reader)
    model = onnx.shape_inference.infer_shapes(net.model(outputs=["y", "z"]))
    after = assert_pads(model, PADDED, slices=1).model
    assert made_by(after, "z").input[0] == "b"
    assert made_by(after, "b").op_type == "Slice"
    declared = {info.name: info for info in model.graph.value_info}
    kept = {info.name: info for info in after.graph.value_info}
    assert kept["b"] == declared["b"]
    assert {"a", "c", "d"}.isdisjoint(kept)


def test_a_reader_whose_weights_the_caller_may_set_reads_a_slice() -> None:
    net = block()
    net.conv("b", "z", 2, 11)
    model = net.model(outputs=["y", "z"], overridable=["z_w"])
    assert_pads(model, [*PADDED, (2, 11)], slices=1)


def test_readers_in_bodies_read_a_slice() -> None:
    readers = {"yes": node("Conv", "b k", "yes"), "no": node("Neg", "b", "no")}
    branches = [
        helper.make_graph([reader], name, [], [onnx.ValueInfoProto(name=name)])
        for name, reader in readers.items()
    ]
    net = block()
    net.const("k", 2, 11, 1, 1)
    net.weights["flag"] = np.array(True)
    net.add("If", "flag", "z", then_branch=branches[0], else_branch=branches[1])
    after = assert_pads(net.model(outputs=["y", "z"]), [*PADDED, (2, 11)], slices=1).model
    assert made_by(after, "b").op_type == "Slice"
    assert made_by(after, "no").input == ["b"]


def test_a_shared_weight_stays_as_it_was_for_others() -> None:
    net = block()
    net.add("Conv", "x a_w a_b", "z", pads=[1] * 4)
    after = assert_pads(net.model(outputs=["y", "z"]), [*PADDED, (11, 3)]).model
    assert made_by(after, "z").input == ["x", "a_w", "a_b"]


def test_names_that_are_taken_are_left_alone() -> None:
    net = block()
    net.add("Relu", "x", "b_padded")
    assert_pads(net.model(outputs=["y", "b_padded"]), PADDED)


def test_the_old_weights_are_kept_to_the_bit() -> None:
    net = block()
    for name in ("a_w", "a_b", "c_w", "c_b", "y_w"):
        net.weights[name].flat[:3] = [-0.0, 1e-42, np.finfo(np.float32).max]
    net.weights["y_w"].view(np.uint32).flat[3] = 0x7FC01234  # a NaN with a payload
    after = rewrite(net.model(), RULE).model
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    convs = [each for each in after.graph.node if each.op_type == "Conv"]
    for conv, name in zip(convs, "acy", strict=True):
        for found, old in zip(
            conv.input[1:], (net.weights[f"{name}_w"], net.weights[f"{name}_b"]), strict=True
        ):
            padded = arrays[found].copy()
            inside = tuple(slice(size) for size in old.shape)
            assert padded[inside].tobytes() == old.tobytes()
            padded[inside] = 0
            assert not padded.any()
