"""pad_channels: what it keeps out of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import node, rewrite
from tests.passes import folds
from tests.passes.channels import RULE, Net, assert_stays, block

CANNOT = "what makes the channels cannot make more"
TOO_MANY = "too many others read the channels"
CONFLICT = "convolutions that need other numbers of channels depend on each other"


@pytest.mark.parametrize("channels", [4, 8, 12])
def test_keeps_channels_that_four_divides(channels: int) -> None:
    assert_stays(block(channels).model())


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_keeps_other_types(dtype: int) -> None:
    net = block()
    to = helper.tensor_dtype_to_np_dtype(dtype)
    net.weights = {name: array.astype(to) for name, array in net.weights.items()}
    assert_stays(net.model(dtype=dtype))


@pytest.mark.parametrize("spatial", [1, 3])
def test_keeps_other_ranks(spatial: int) -> None:
    net = block()
    for each in net.nodes:
        if each.op_type == "Conv":
            weight = net.weights[each.input[1]][..., 0, 0]
            net.weights[each.input[1]] = weight[(..., *(None,) * spatial)]
            del each.attribute[1 if each.attribute[0].name == "group" else 0]
    assert_stays(net.model(dims=(2, 3, *(8,) * spatial)))


def test_keeps_dense_convolutions_that_read_fewer_than_16() -> None:
    net = Net()
    net.conv("x", "a", 15, 3)
    net.conv("a", "y", 5, 15)
    assert_stays(net.model())


@pytest.mark.parametrize("channels", ["c", 11])
def test_keeps_a_graph_input(channels: int | str) -> None:
    net = Net()
    net.depthwise("x", "c", 11)
    net.conv("c", "y", 5, 11)
    assert_stays(net.model(dims=(2, channels, 8, 8)), CANNOT if channels == 11 else "")


@pytest.mark.parametrize(
    ("overridable", "reason"), [("a_w", CANNOT), ("a_b", CANNOT), ("c_w", ""), ("c_b", "")]
)
def test_keeps_weights_that_the_caller_may_set(overridable: str, reason: str) -> None:
    assert_stays(block().model(overridable=[overridable]), reason)


def test_keeps_weights_that_are_computed() -> None:
    net = block()
    net.nodes.insert(0, node("Mul", "a_w half", "a_scaled"))
    net.weights["half"] = np.array(0.5, np.float32)
    net.nodes[1].input[1] = "a_scaled"
    assert_stays(net.model(), CANNOT)


def test_keeps_a_grouped_maker() -> None:
    net = Net()
    net.conv("x", "a", 22, 2, group=2)
    net.depthwise("a", "c", 22)
    net.conv("c", "y", 5, 22)
    assert_stays(net.model(dims=(2, 4, 8, 8)), CANNOT)


def test_keeps_a_channel_multiplier() -> None:
    net = Net()
    net.conv("x", "a", 11, 3)
    net.conv("a", "b", 22, 1, group=11)
    net.conv("b", "y", 5, 22)
    assert_stays(net.model(), CANNOT)


@pytest.mark.parametrize(
    "between",
    [
        pytest.param([node("Softmax", "a", "b", axis=1)], id="mixes channels"),
        pytest.param([node("Div", "a a", "b")], id="0 / 0"),
        pytest.param([node("Div", "one a", "b")], id="1 / 0"),
        pytest.param([node("Log", "a", "b")], id="log(0)"),
        pytest.param([node("Mul", "a huge", "m"), node("Sigmoid", "m", "b")], id="0 · inf"),
        pytest.param([node("Div", "a zero", "m"), node("Sigmoid", "m", "b")], id="0 / 0, constant"),
        pytest.param([node("Add", "a free", "b")], id="an operand for each channel that is not constant"),
        pytest.param([node("Transpose", "a", "b", perm=[0, 1, 3, 2])], id="Transpose"),
        pytest.param([node("Concat", "row a", "b", axis=2)], id="Concat of rows"),
        pytest.param([node("Concat", "a narrow a", "b", axis=1)], id="twice in a Concat"),
        pytest.param([node("BatchNormalization", "a p p p p", "b m v", training_mode=1)], id="training"),
        pytest.param([node("MaxPool", "a", "b places", kernel_shape=[1, 1])], id="indices"),
    ],
)
def test_keeps_what_cannot_follow(between: Sequence[onnx.NodeProto]) -> None:
    channels = 25 if any("narrow" in each.input for each in between) else 11
    net = block(channels, between)
    if channels == 25:
        net.weights["a_w"], net.weights["a_b"] = net.weights["a_w"][:11], net.weights["a_b"][:11]
    net.weights |= {
        "one": np.array(1, np.float32),
        "zero": np.array([[0]], np.float32),
        "huge": np.array(np.inf, np.float32),
        "free": np.ones((11, 8, 8), np.float32),
        "p": np.ones(11, np.float32),
        "narrow": np.ones((2, 3, 8, 8), np.float32),
        "row": np.ones((2, 11, 1, 8), np.float32),
    }
    read = {name for each in net.nodes for name in each.input}
    net.weights = {name: array for name, array in net.weights.items() if name in read}
    assert_stays(net.model(overridable=["free"] if "free" in read else []), CANNOT)


def test_keeps_operators_of_other_domains() -> None:
    model = onnx.shape_inference.infer_shapes(block(between=[node("Gelu", "a", "b")]).model(opset=20))
    model.graph.node[1].domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert_stays(model, CANNOT)


def test_keeps_channels_that_too_many_others_read() -> None:
    assert_stays(block().model(outputs=["y", "a", "b"]), TOO_MANY)


def test_keeps_old_opsets() -> None:
    assert_stays(block().model(opset=9))


def test_keeps_local_functions() -> None:
    assert_stays(folds.in_function(block().model()))


@pytest.mark.parametrize(("ir_version", "fired"), [(3, {}), (10, {RULE: 2})])
def test_keeps_bodies_that_can_hold_no_initializers(ir_version: int, fired: dict[str, int]) -> None:
    net = block()
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
        for name, array in net.weights.items()
    ]
    net.nodes, net.weights = [*constants, *net.nodes], {}
    model = folds.in_branches(net.model(opset=13))
    model.ir_version = ir_version
    assert rewrite(model, RULE).fired == fired


def test_keeps_a_maker_whose_convolutions_need_other_numbers() -> None:
    """The sum of 11 and 11 channels needs two more, the last 11 on their own need one."""
    net = Net()
    net.conv("x", "p", 11, 3)
    net.conv("x", "q", 11, 3)
    net.depthwise(net.add("Concat", "p q", "j", axis=1), "r", 22)
    net.depthwise("q", "s", 11)
    net.conv("r", "t", 5, 22)
    net.conv("s", "u", 5, 11)
    net.add("Add", "t u", "y")
    assert_stays(net.model(), CONFLICT)


@pytest.mark.parametrize(("first", "last"), [(5, 11), (2, 13)])
def test_keeps_what_would_cost_another_convolution_its_blocks(first: int, last: int) -> None:
    """A dense Conv reads 16 channels, or 15 and then 18; before the rule onnxruntime blocks both."""
    net = Net()
    net.conv("x", "p", first, 3)
    net.conv("x", "q", last, 3)
    net.conv(net.add("Concat", "p q", "j", axis=1), "t", 5, first + last)
    net.conv(net.depthwise("q", "s", last), "u", 5, last)
    net.add("Add", "t u", "y")
    assert_stays(net.model(), CONFLICT)


def test_keeps_device_configurations() -> None:
    model = block().model()
    model.graph.node[0].device_configurations.add(configuration_id="two")
    assert_stays(model, CANNOT)
