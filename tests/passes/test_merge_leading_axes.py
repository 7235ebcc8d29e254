"""merge_leading_axes: regions that become matrices, and what keeps a region as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite
from tests.passes import folds

RULE = "merge_leading_axes"
GEMM = "fuse_matmul_add"
RNG = np.random.default_rng(0)
Dims = Sequence[int | str | None]


def linear(
    source: str, target: str, weights: dict[str, np.ndarray], sizes: tuple[int, int] = (4, 4)
) -> list[onnx.NodeProto]:
    """A MatMul and an Add that lead from `source` to `target`; their weights are added to `weights`."""
    weights[f"{target}_w"] = RNG.normal(size=sizes).astype(np.float32)
    weights[f"{target}_b"] = RNG.normal(size=sizes[1:]).astype(np.float32)
    return [
        node("MatMul", f"{source} {target}_w", f"{target}_p"),
        node("Add", f"{target}_p {target}_b", target),
    ]


def chain(
    between: Sequence[onnx.NodeProto], dims: Dims, *, layers: int = 3, **options: object
) -> onnx.ModelProto:
    """Linear layers: the first makes `a`, `between` leads from `a` to `b`, the last makes `y`."""
    weights: dict[str, np.ndarray] = {}
    nodes = [*linear("x", "a", weights), *between]
    before = "b"
    for layer in range(layers - 1):
        after = "y" if layer == layers - 2 else f"h{layer}"
        nodes += linear(before, after, weights)
        before = after
    more = options.pop("weights", {})
    assert isinstance(more, dict)
    outputs = options.pop("outputs", ["y"])
    return make_model(nodes, {"x": dims}, outputs, weights | more, **options)  # type: ignore[arg-type]


def assert_becomes(model: onnx.ModelProto, ops: Mapping[str, int], **sizes: int) -> onnx.ModelProto:
    """Assert that the rule fires once, what is left once MatMul and Add are Gemm, and the answers."""
    after = rewrite(model, RULE, GEMM)
    assert after.fired[RULE] == 1
    assert after.ops == ops
    assert list(after.model.graph.output) == list(model.graph.output)
    assert_same_answers(model, after.model, random_feeds(model, **sizes))
    assert rewrite(after.model, RULE, GEMM).fired == {}
    return after.model


def assert_stays(model: onnx.ModelProto) -> None:
    assert rewrite(model, RULE, GEMM).fired == {}


@pytest.mark.parametrize("dims", [("n", 5, 4), (2, 5, 4), ("n", 2, 3, 4), (2, "n", 4)], ids=str)
def test_fires_where_one_leading_dim_may_be_unknown(dims: Dims) -> None:
    assert_becomes(chain([node("Relu", "a", "b")], dims), {"Reshape": 2, "Gemm": 3, "Relu": 1})


@pytest.mark.parametrize("size", [0, 1])
def test_holds_for_an_empty_and_a_single_batch(size: int) -> None:
    assert_becomes(chain([node("Relu", "a", "b")], ("n", 5, 4)), {"Reshape": 2, "Gemm": 3, "Relu": 1}, n=size)


@pytest.mark.parametrize("sizes", [(2, 3), (0, 3), (2, 0)], ids=str)
def test_computes_the_shape_where_two_leading_dims_are_unknown(sizes: tuple[int, int]) -> None:
    model = chain([node("Relu", "a", "b")], ("n", "s", 4), layers=5)
    ops = {"Shape": 1, "Concat": 1, "Reshape": 2, "Gemm": 5, "Relu": 1}
    assert_becomes(model, ops, n=sizes[0], s=sizes[1])


def test_keeps_out_where_computing_the_shape_costs_what_is_saved() -> None:
    assert_stays(chain([node("Relu", "a", "b")], ("n", "s", 4), layers=4))


def test_keeps_out_of_computed_shapes_before_opset_15() -> None:
    assert_stays(chain([node("Relu", "a", "b")], ("n", "s", 4), layers=6, opset=14))


def test_keeps_out_of_a_single_product() -> None:
    assert_stays(chain([node("Relu", "a", "b")], ("n", 5, 4), layers=2))


def test_keeps_out_of_matrices() -> None:
    model = chain([node("Relu", "a", "b")], ("n", 4))
    assert set(rewrite(model, RULE, GEMM).fired) == {GEMM}


ROW_WISE = {
    "unary": [node("Tanh", "a", "b")],
    "clip": [node("Clip", "a one", "b")],
    "a number": [node("Mul", "a one", "b")],
    "a row of higher rank": [node("Sub", "row a", "b")],
    "a residual sum": [node("Add", "x a", "b")],
    "layer normalization": [node("LayerNormalization", "a scale bias", "b", axis=-1)],
    "layer normalization, axis from the front": [node("LayerNormalization", "a scale bias", "b", axis=2)],
    "softmax": [node("Softmax", "a", "b")],
    "split and concat": [
        node("Split", "a halves", "l r", axis=2),
        node("Relu", "r", "t"),
        node("Concat", "t l", "b", axis=-1),
    ],
    "where": [node("IsNaN", "a", "nan"), node("Where", "nan one a", "b")],
}
WEIGHTS = {
    "one": np.array(0.75, np.float32),
    "row": RNG.normal(size=(1, 1, 1, 4)).astype(np.float32)[0],
    "scale": RNG.normal(size=4).astype(np.float32),
    "bias": RNG.normal(size=4).astype(np.float32),
    "halves": np.array([2, 2]),
}


@pytest.mark.parametrize("between", ROW_WISE)
def test_fires_across_what_treats_all_rows_alike(between: str) -> None:
    model = chain(ROW_WISE[between], ("n", 5, 4), weights=WEIGHTS, opset=18)
    inner = [each.op_type for each in ROW_WISE[between]]
    ops = {"Reshape": 2, "Gemm": 3, **{op: inner.count(op) for op in inner}}
    assert_becomes(model, ops)


NOT_ROW_WISE = {
    "softmax over the rows": [node("Softmax", "a", "b", axis=1)],
    "a constant for each row": [node("Add", "a rows", "b")],
    "another order": [node("Transpose", "a", "b", perm=[1, 0, 2])],
    "a vector of weights": [node("MatMul", "a vector", "v"), node("Unsqueeze", "v last", "b")],
}


@pytest.mark.parametrize("between", NOT_ROW_WISE)
def test_keeps_out_of_what_mixes_rows(between: str) -> None:
    weights = {
        "rows": RNG.normal(size=(5, 4)).astype(np.float32),
        "vector": RNG.normal(size=4).astype(np.float32),
        "last": np.array([-1]),
    }
    if between == "a vector of weights":
        nodes = linear("x", "a", weights) + NOT_ROW_WISE[between]
        model = make_model(nodes, {"x": ("n", 5, 4)}, ["b"], weights)
    else:
        model = chain(NOT_ROW_WISE[between], ("n", 5, 4), layers=2, weights=weights)
    assert_stays(model)


def test_reshapes_at_the_border_are_merged_or_vanish() -> None:
    """Heads are taken apart right after the product, and rows come as a matrix."""
    weights: dict[str, np.ndarray] = {
        "stack": np.array([-1, 5, 4]),
        "heads": np.array([0, 0, 2, 2]),
        "rows": np.array([-1, 4]),
    }
    nodes = [
        node("Reshape", "x stack", "s"),
        *linear("s", "q", weights),
        node("Reshape", "q heads", "y"),
        *linear("s", "v", weights),
        node("Reshape", "v rows", "z"),
        node("Neg", "z", "w"),
    ]
    model = make_model(nodes, {"x": ["n", 4]}, ["y", "w"], weights)
    after = assert_becomes(model, {"Reshape": 1, "Gemm": 2, "Neg": 1}, n=10)
    assert [each.input[0] for each in after.graph.node if each.op_type == "Gemm"] == ["x", "x"]


def test_a_result_that_others_use_is_led_back_and_keeps_its_name() -> None:
    between = [node("Relu", "a", "b"), node("ReduceMean", "b", "m", axes=[1], keepdims=0)]
    model = chain(between, ("n", 5, 4), layers=5, outputs=["y", "b", "m"])
    assert_becomes(model, {"Reshape": 3, "Gemm": 5, "Relu": 1, "ReduceMean": 1})


def test_double_fires_and_integers_stay() -> None:
    weights = {"w": np.ones((4, 4)), "b": RNG.normal(size=4)}
    steps = [
        node("MatMul", "x w", "p"),
        node("Add", "p b", "r"),
        node("MatMul", "r w", "q"),
        node("Add", "q b", "s"),
    ]
    steps += [node("MatMul", "s w", "t"), node("Add", "b t", "y")]
    for dtype, times in ((TensorProto.DOUBLE, 1), (TensorProto.INT32, 0)):
        cast = {name: each.astype(helper.tensor_dtype_to_np_dtype(dtype)) for name, each in weights.items()}
        model = make_model(steps, {"x": ["n", 5, 4]}, ["y"], cast, dtype=dtype)
        after = rewrite(model, RULE, GEMM)
        assert after.fired.get(RULE, 0) == times
        assert_same_answers(model, after.model)


def test_fires_in_both_branches_of_an_if() -> None:
    model = folds.in_branches(chain([node("Relu", "a", "b")], (2, 5, 4)))
    after = rewrite(model, RULE, GEMM)
    assert after.fired[RULE] == 2
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)


def test_does_not_keep_the_declared_shape_of_a_value_that_is_now_a_matrix() -> None:
    model = chain([node("Relu", "a", "b")], ("n", 5, 4))
    declared = onnx.shape_inference.infer_shapes(model)
    assert any(info.name == "b" for info in declared.graph.value_info)
    assert_becomes(declared, {"Reshape": 2, "Gemm": 3, "Relu": 1})


def test_matrix_of_a_value_that_a_rule_just_made_has_its_type(caplog: pytest.LogCaptureFixture) -> None:
    weights: dict[str, np.ndarray] = {
        "rows": np.array([-1, 4]),
        "stack": np.array([2, -1, 4]),
        "w": RNG.normal(size=(4, 4)).astype(np.float32),
        "c": RNG.normal(size=4).astype(np.float32),
    }
    nodes = [
        node("Reshape", "x rows", "m"),
        node("Gemm", "m w c", "g"),
        node("Reshape", "g stack", "a"),
        *linear("a", "b", weights),
        *linear("b", "y", weights),
    ]
    model = make_model(nodes, {"x": [2, "s", 2, 2]}, ["y"], weights)
    after = rewrite(model, "eliminate_flattened_product", RULE)
    assert after.fired.keys() == {"eliminate_flattened_product", RULE}
    assert_same_answers(model, after.model, random_feeds(model, s=5))
    assert caplog.messages == []  # onnx_ir warns of a value with a shape and without a type
