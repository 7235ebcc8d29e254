"""eliminate_common_subexpressions: what is merged, and each thing that tells two nodes apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import assert_same_answers, batch_norm_weights, f32, make_model, node, rewrite

RULE = "eliminate_common_subexpressions"


def pair(first: onnx.NodeProto, second: onnx.NodeProto, *, opset: int = 18) -> onnx.ModelProto:
    """Two nodes from x [2, 4] to a and b, whose sum is the output."""
    total = helper.make_node("Concat", ["a", "b"], ["y"], axis=0)
    weights = {"w": f32([1, 2, 3, 4]), "v": f32([1, 2, 3, 4])}
    return make_model([first, second, total], {"x": [2, 4]}, ["y"], weights, opset=opset)


def tensor(*bits: int) -> onnx.TensorProto:
    """Floats with these bits."""
    return numpy_helper.from_array(np.array(bits, np.uint32).view(np.float32))


MERGED = {
    "no attributes": (node("Relu", "x", "a"), node("Relu", "x", "b")),
    "two inputs": (node("Mul", "x w", "a"), node("Mul", "x w", "b")),
    "attributes": (node("LeakyRelu", "x", "a", alpha=0.2), node("LeakyRelu", "x", "b", alpha=0.2)),
    "lists": (node("Transpose", "x", "a", perm=[1, 0]), node("Transpose", "x", "b", perm=[1, 0])),
    "tensors": (
        node("Constant", "", "a", value=tensor(0x80000000)),
        node("Constant", "", "b", value=tensor(0x80000000)),
    ),
}

# each pair differs in one thing
APART = {
    "operators": (node("Relu", "x", "a"), node("Neg", "x", "b")),
    "inputs": (node("Mul", "x w", "a"), node("Mul", "x v", "b")),
    "order of inputs": (node("Sub", "x w", "a"), node("Sub", "w x", "b")),
    "an attribute": (node("LeakyRelu", "x", "a", alpha=0.2), node("LeakyRelu", "x", "b", alpha=0.3)),
    "an attribute that is not given": (node("LeakyRelu", "x", "a"), node("LeakyRelu", "x", "b", alpha=0.3)),
    "zero and negative zero as attributes": (
        node("LeakyRelu", "x", "a", alpha=0.0),
        node("LeakyRelu", "x", "b", alpha=-0.0),
    ),
    "zero and negative zero in tensors": (
        node("Constant", "", "a", value=tensor(0)),
        node("Constant", "", "b", value=tensor(0x80000000)),
    ),
    "two kinds of NaN": (
        node("Constant", "", "a", value=tensor(0x7FC00000)),
        node("Constant", "", "b", value=tensor(0x7FC00123)),
    ),
    "random": (node("RandomNormalLike", "x", "a"), node("RandomNormalLike", "x", "b")),
    "random with the same seed": (
        node("RandomUniformLike", "x", "a", seed=1.0),
        node("RandomUniformLike", "x", "b", seed=1.0),
    ),
    "Dropout may train": (node("Dropout", "x", "a"), node("Dropout", "x", "b")),
}
RANDOM = {"random", "random with the same seed"}


@pytest.mark.parametrize("case", MERGED)
def test_merges(case: str) -> None:
    model = pair(*MERGED[case])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert len(after.model.graph.node) == 2
    assert_same_answers(model, after.model, rtol=0)


def test_the_order_in_which_attributes_are_written_does_not_matter() -> None:
    first, second = (node("Gemm", "x m", name, alpha=0.5, transB=1) for name in "ab")
    attributes = list(second.attribute)[::-1]
    del second.attribute[:]
    second.attribute.extend(attributes)
    nodes = [first, second, node("Concat", "a b", "y", axis=0)]
    model = make_model(nodes, {"x": [2, 4]}, ["y"], {"m": np.ones((3, 4), np.float32)})
    assert rewrite(model, RULE).fired == {RULE: 1}


@pytest.mark.parametrize("case", APART)
def test_keeps_apart(case: str) -> None:
    model = pair(*APART[case])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert len(after.model.graph.node) == 3
    if case not in RANDOM:
        assert_same_answers(model, after.model, rtol=0)


def test_keeps_nodes_with_another_number_of_outputs_apart() -> None:
    """The second output of the first would be lost if the other stood in for it."""
    for wide_first in (True, False):
        wide = helper.make_node("MaxPool", ["x"], ["a", "i"], kernel_shape=[2], strides=[1])
        slim = helper.make_node("MaxPool", ["x"], ["b"], kernel_shape=[2], strides=[1])
        last = [
            node("Add", "a b", "s"),
            node("Cast", "i", "j", to=TensorProto.FLOAT),
            node("Add", "s j", "y"),
        ]
        pools = [wide, slim] if wide_first else [slim, wide]
        model = make_model([*pools, *last], {"x": [1, 1, 4]}, ["y"])
        after = rewrite(model, RULE)
        assert after.fired == {}
        assert_same_answers(model, after.model)


def test_splits_into_different_numbers_of_parts_stay_apart() -> None:
    two = helper.make_node("Split", ["x"], ["a", "b"], axis=1)
    four = helper.make_node("Split", ["x"], ["c", "d", "e", "f"], axis=1)
    last = [node("Concat", "a b", "p", axis=0), node("Concat", "c d e f", "q", axis=0)]
    model = make_model([two, four, *last], {"x": [2, 4]}, ["p", "q"], opset=13)
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model)


def test_merges_nodes_with_several_outputs() -> None:
    splits = [helper.make_node("Split", ["x"], [f"{name}0", f"{name}1"], axis=1) for name in "ab"]
    model = make_model([*splits, node("Concat", "a0 b1 a1 b0", "y", axis=0)], {"x": [2, 4]}, ["y"], opset=13)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Split": 1, "Concat": 1}
    assert_same_answers(model, after.model)


def test_merges_whole_chains() -> None:
    chains = [
        node(op, f"{source}{name}" if source else "x", f"{target}{name}")
        for name in "12"
        for op, source, target in (("Relu", "", "p"), ("Neg", "p", "q"), ("Exp", "q", "r"))
    ]
    model = make_model([*chains, node("Sub", "r1 r2", "y")], {"x": [2, 4]}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 3}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("outputs", [["a", "z"], ["b", "z"]], ids=str)
def test_one_of_two_may_be_a_graph_output_and_keeps_its_name(outputs: list[str]) -> None:
    model = make_model(
        [node("Relu", "x", "a"), node("Relu", "x", "b"), node("Sub", "a b", "z")], {"x": [2, 4]}, outputs
    )
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


def test_two_graph_outputs_stay_two() -> None:
    model = make_model([node("Relu", "x", "a"), node("Relu", "x", "b")], {"x": [2, 4]}, ["a", "b"])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model)


def with_bodies(body: Callable[[str, str], onnx.GraphProto], *before: onnx.NodeProto) -> onnx.ModelProto:
    """An If on the sum of r = Relu(x), one branch of which ends in Exp and the other in Neg."""
    nodes = [
        *before,
        node("ReduceSum", "r", "s", keepdims=0),
        node("Cast", "s", "flag", to=TensorProto.BOOL),
        node("If", "flag", "y", then_branch=body("Exp", "p"), else_branch=body("Neg", "q")),
    ]
    return make_model(nodes, {"x": [2, 4]}, ["y"])


def assert_same_on_both_sides(model: onnx.ModelProto, after: onnx.ModelProto) -> None:
    for sign in (1, -1):
        assert_same_answers(model, after, {"x": np.full((2, 4), sign, np.float32)})


def test_bodies_read_what_the_graph_around_them_computed_before() -> None:
    def body(op_type: str, output: str) -> onnx.GraphProto:
        nodes = [
            node("Relu", "x", "t"),
            node("Relu", "x", "u"),
            node("Mul", "t u", "v"),
            node(op_type, "v", output),
        ]
        return helper.make_graph(nodes, output, [], [onnx.ValueInfoProto(name=output)])

    model = with_bodies(body, node("Relu", "x", "r"))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 4}
    assert after.ops["Relu"] == 1
    assert_same_on_both_sides(model, after.model)


def test_the_two_branches_stay_apart() -> None:
    def body(op_type: str, output: str) -> onnx.GraphProto:
        nodes = [node("Relu", "x", "t"), node(op_type, "t", output)]
        return helper.make_graph(nodes, output, [], [onnx.ValueInfoProto(name=output)])

    model = with_bodies(body, node("Abs", "x", "r"))
    assert rewrite(model, RULE).fired == {}


def test_the_result_of_a_body_stays_its_own() -> None:
    def body(op_type: str, output: str) -> onnx.GraphProto:
        nodes = [node("Relu" if op_type == "Exp" else op_type, "x", output)]
        return helper.make_graph(nodes, output, [], [onnx.ValueInfoProto(name=output)])

    model = with_bodies(body, node("Relu", "x", "r"))
    assert rewrite(model, RULE).fired == {}


def test_equal_convs_before_different_batch_normalizations_become_one() -> None:
    """One Conv and two BatchNormalizations are faster than two Convs into which they are folded."""
    weights = {"w": np.random.default_rng(0).normal(size=(4, 4, 3, 3)).astype(np.float32)}
    nodes = []
    for seed, name in enumerate("ab"):
        vectors = {f"{key}_{name}": value for key, value in batch_norm_weights(4, seed).items()}
        weights |= vectors
        nodes += [
            node("Conv", "x w", f"conv_{name}"),
            node("BatchNormalization", f"conv_{name} {' '.join(vectors)}", name),
        ]
    model = make_model([*nodes, node("Mul", "a b", "y")], {"x": [1, 4, 5, 5]}, ["y"], weights)
    after = rewrite(model)
    assert after.ops == {"Conv": 1, "BatchNormalization": 2, "Mul": 1}
    assert_same_answers(model, after.model)


def test_custom_operators_stay_apart() -> None:
    model = make_model([node("Relu", "x", "a"), node("Relu", "x", "b")], {"x": [2]}, ["a", "b"])
    model.functions.append(
        helper.make_function(
            "test", "f", ["x"], ["y"], [node("Relu", "x", "y")], [helper.make_opsetid("", 18)]
        )
    )
    model.opset_import.append(helper.make_opsetid("test", 1))
    for each in model.graph.node:
        each.op_type, each.domain = "f", "test"
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model)
