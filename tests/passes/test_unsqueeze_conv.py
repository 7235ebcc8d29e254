"""unsqueeze_conv: signals that become images of one row, what follows them, and which stay signals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from fuseonnx.passes.unsqueeze_conv import RULE
from tests.helpers import assert_same_answers, make_model, node
from tests.passes.folds import in_branches
from tests.passes.forms import assert_changes, assert_stays, rewrite_form

RNG = np.random.default_rng(0)
SIGNAL = ("n", 16, "l")
FEEDS = {"x": RNG.normal(size=(2, 16, 21)).astype(np.float32)}


def weights(*shape: int, dtype: type[np.floating[Any]] = np.float32) -> np.ndarray:
    return RNG.normal(size=shape).astype(dtype)


KNOWN = {
    "w": weights(32, 16, 3),
    "b": weights(32),
    "one": weights(16, 32, 1),
    "other": weights(32, 16, 3),
    "small": np.array(-0.5, np.float32),
    "large": np.array(0.7, np.float32),
}
CONV = node("Conv", "x w b", "c", pads=[1, 1])


def model_of(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[str] = ("y",),
    inputs: dict[str, Sequence[int | str]] | None = None,
    more: dict[str, np.ndarray] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    """The nodes on a signal x."""
    used = {name for each in nodes for name in each.input}
    known = KNOWN | (more or {})
    kept = {name: known[name] for name in known if name in used}
    return make_model(nodes, inputs or {"x": SIGNAL}, outputs, kept, **options)


def shapes_of(model: onnx.ModelProto) -> list[list[int]]:
    """The shapes of the convolutions' weights, in order."""
    known = {each.name: list(each.dims) for each in model.graph.initializer}
    return [known[each.input[1]] for each in model.graph.node if each.op_type == "Conv"]


@pytest.mark.parametrize("opset", [11, 12, 13, 18])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 1]},
        {"pads": [2, 0], "dilations": [2]},
        {"strides": [2], "pads": [0, 3], "kernel_shape": [3]},
        {"auto_pad": "SAME_UPPER", "strides": [2]},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
    ],
    ids=str,
)
def test_changes_a_convolution(opset: int, attributes: dict[str, Any]) -> None:
    model = model_of([node("Conv", "x w b", "y", **attributes)], opset=opset)
    after = assert_changes(model, RULE, feeds=FEEDS)
    assert after.ops == {"Unsqueeze": 1, "Conv": 1, "Squeeze": 1}
    assert shapes_of(after.model) == [[32, 16, 1, 3]]
    assert [each.name for each in after.model.graph.output] == ["y"]


@pytest.mark.parametrize("dims", [(2, 16, 9), ("n", 16, 9), (2, 16, "l"), ("n", "c", "l")], ids=str)
def test_changes_whatever_the_dims(dims: Sequence[int | str]) -> None:
    feeds = {"x": weights(2, 16, 9)}
    assert_changes(model_of([node("Conv", "x w", "y")], inputs={"x": dims}), RULE, feeds=feeds)


@pytest.mark.parametrize(
    ("shape", "group"),
    [((16, 1, 5), 16), ((16, 1, 1), 16), ((64, 16, 3), 4), ((64, 16, 1), 4)],
    ids=["each channel", "each channel, width 1", "groups", "groups, width 1"],
)
def test_changes_groups(shape: tuple[int, ...], group: int) -> None:
    channels = shape[1] * group
    nodes = [node("Conv", "x v", "y", group=group)]
    model = model_of(nodes, inputs={"x": (2, channels, 8)}, more={"v": weights(*shape)})
    assert_changes(model, RULE, feeds={"x": weights(2, channels, 8)})


FOLLOWERS = {
    **{name: [node(name, "c", "d")] for name in ("HardSwish", "Relu", "Sigmoid", "Tanh")},
    "HardSigmoid": [node("HardSigmoid", "c", "d", alpha=0.3, beta=0.4)],
    "LeakyRelu": [node("LeakyRelu", "c", "d", alpha=0.3)],
    "Clip": [node("Clip", "c small large", "d")],
    "Clip above": [node("Clip", "c  large", "d")],
    "MaxPool": [node("MaxPool", "c", "d", kernel_shape=[3], strides=[2], pads=[1, 0])],
    "MaxPool, dilated": [node("MaxPool", "c", "d", kernel_shape=[2], dilations=[3], ceil_mode=1)],
    "AveragePool": [node("AveragePool", "c", "d", kernel_shape=[3], pads=[1, 1])],
    "AveragePool of zeros": [
        node("AveragePool", "c", "d", kernel_shape=[3], pads=[1, 1], count_include_pad=1)
    ],
    "GlobalAveragePool": [node("GlobalAveragePool", "c", "d")],
    "GlobalMaxPool": [node("GlobalMaxPool", "c", "d")],
    "SiLU": [node("Sigmoid", "c", "s"), node("Mul", "c s", "d")],
    "a gate": [node("GlobalAveragePool", "c", "p"), node("Mul", "p c", "d")],
    "a sum": [node("Conv", "x other", "e", pads=[1, 1]), node("Add", "e c", "d")],
}


@pytest.mark.parametrize("between", FOLLOWERS.values(), ids=FOLLOWERS.keys())
def test_follows_with(between: list[onnx.NodeProto]) -> None:
    model = model_of([CONV, *between, node("Conv", "d one", "y")])
    convs = 1 + sum(each.op_type == "Conv" for each in between)
    after = assert_changes(model, RULE, convs, FEEDS)
    middle = Counter(each.op_type for each in (CONV, *between))
    assert after.ops == middle + Counter({"Conv": 1, "Unsqueeze": 1, "Squeeze": 1})
    assert len(shapes_of(after.model)[-1]) == 4


def test_changes_width_1_where_a_sum_is_taken_in() -> None:
    nodes = [
        *(node("Conv", "x p", "c"), node("Conv", "x q", "d"), node("Add", "c d", "f")),
        *(node("Conv", "x r", "e"), node("Add", "e f", "y")),
    ]
    more = {name: weights(32, 16, 1) for name in "pqr"}
    after = assert_changes(model_of(nodes, more=more), RULE, 3, FEEDS)
    assert after.ops == {"Unsqueeze": 1, "Conv": 3, "Add": 2, "Squeeze": 1}


@pytest.mark.parametrize("user", ["Gelu", "Softplus", "MatMul"])
def test_leaves_other_users_the_signal(user: str) -> None:
    operands = "c m" if user == "MatMul" else "c"
    nodes = [CONV, node(user, operands, "y"), node("Relu", "c", "z")]
    model = model_of(nodes, ["y", "z"], {"x": (2, 16, 21)}, {"m": weights(21, 4)}, opset=20)
    after = assert_changes(model, RULE, feeds=FEEDS)
    assert after.ops == {"Unsqueeze": 1, "Conv": 1, "Relu": 1, "Squeeze": 2, user: 1}


def test_keeps_the_names_of_outputs_in_between() -> None:
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Conv", "r one", "y")]
    model = model_of(nodes, ["r", "y", "c"])
    after = assert_changes(model, RULE, feeds=FEEDS)
    assert [each.name for each in after.model.graph.output] == ["r", "y", "c"]
    assert after.ops["Squeeze"] == 3


def test_changes_each_of_two_convolutions_with_the_same_weights() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Conv", "x w", "d", dilations=[2], pads=[1, 1]),
        *(node("Neg", "c", "y"), node("Neg", "d", "z")),
    ]
    assert_changes(model_of(nodes, ["y", "z"]), RULE, 2, FEEDS)


def test_changes_in_branches() -> None:
    model = in_branches(model_of([CONV, node("Relu", "c", "y")]))
    after = rewrite_form(model, RULE)
    assert after.fired[RULE.name] >= 1
    assert_same_answers(model, after.model)


STAYS = {
    "width 1 alone": ([node("Conv", "x v", "y")], weights(32, 16, 1)),
    "width 1 and a sum with a signal": (
        [node("Conv", "x v", "c"), node("Add", "c x", "y")],
        weights(16, 16, 1),
    ),
    "few channels": ([node("Conv", "x v", "y", group=2)], weights(32, 8, 3)),
    "few outputs": ([node("Conv", "x v", "y")], weights(8, 16, 3)),
    "few channels, each on its own": ([node("Conv", "x v", "y", group=8)], weights(8, 1, 3)),
    "blocks that are not full": ([node("Conv", "x v", "y")], weights(20, 20, 3)),
    "channels that four does not divide": ([node("Conv", "x v", "y")], weights(32, 30, 3)),
    "groups with few outputs": ([node("Conv", "x v", "y", group=4)], weights(32, 16, 3)),
    "two outputs a channel": ([node("Conv", "x v", "y", group=16)], weights(32, 1, 3)),
}


@pytest.mark.parametrize(("nodes", "v"), STAYS.values(), ids=STAYS.keys())
def test_keeps_out_where_blocks_do_not_pay(nodes: list[onnx.NodeProto], v: np.ndarray) -> None:
    group = next((each.i for each in nodes[0].attribute if each.name == "group"), 1)
    assert_stays(model_of(nodes, inputs={"x": (2, v.shape[1] * group, 9)}, more={"v": v}), RULE, "")


def test_keeps_out_of_images() -> None:
    v = weights(32, 16, 1, 3)
    assert_stays(model_of([node("Conv", "x v", "y")], inputs={"x": (1, 16, 2, 9)}, more={"v": v}), RULE, "")


def test_keeps_out_of_weights_that_are_fed() -> None:
    inputs: dict[str, Sequence[int | str]] = {"x": SIGNAL, "v": (32, 16, 3)}
    assert_stays(model_of([node("Conv", "x v", "y")], inputs=inputs), RULE, "")


def test_keeps_out_of_doubles() -> None:
    more = {"v": weights(32, 16, 3, dtype=np.float64)}
    model = model_of([node("Conv", "x v", "y")], more=more, dtype=onnx.TensorProto.DOUBLE)
    assert_stays(model, RULE, "")


def test_pools_with_indices_read_the_signal() -> None:
    pool = node("MaxPool", "c", "y i", kernel_shape=[2])
    after = assert_changes(model_of([CONV, pool], ["y", "i"]), RULE, feeds=FEEDS)
    assert [each.op_type for each in after.model.graph.node] == ["Unsqueeze", "Conv", "Squeeze", "MaxPool"]


def test_bounds_that_are_fed_read_the_signal() -> None:
    inputs: dict[str, Sequence[int | str]] = {"x": SIGNAL, "low": ()}
    model = model_of([CONV, node("Clip", "c low", "y")], inputs=inputs)
    after = assert_changes(model, RULE, feeds={**FEEDS, "low": np.array(0.1, np.float32)})
    assert [each.op_type for each in after.model.graph.node] == ["Unsqueeze", "Conv", "Squeeze", "Clip"]
