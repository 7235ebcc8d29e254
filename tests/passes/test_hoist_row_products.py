"""hoist_row_products: the rows that a Loop takes one by one are multiplied with a weight before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.helpers import all_nodes, assert_same_answers, f32, node, rewrite
from tests.passes.repetitions import PASS, WEIGHT, assert_fires, body_of, feeds, loop, loops_of, model_of

RULE = "hoist_row_products"
ROW = node("Gather", "v i", "r", axis=0)
PRODUCT = node("MatMul", "r w0", "m")
STEP = [node("MatMul", "s w1", "h"), node("Add", "h m", "u"), node("Tanh", "u", "t")]
BIAS = f32([1, -2, 3])


def recurrent(
    nodes: list[onnx.NodeProto],
    weights: dict[str, Any] | None = None,
    *,
    given: str = "n3 yes x",
    before: tuple[onnx.NodeProto, ...] = (),
    results: str = "again t",
) -> onnx.ModelProto:
    """A Loop over the rows of v, with constants `b` and `n2`, and `weights` in the body."""
    body = body_of([PASS, *nodes], "i go s", results, weights)
    outputs = "y z:3" if len(results.split()) > 2 else "y"
    constants = {"w1": WEIGHT.T.copy(), "b": BIAS, "n2": np.array(2)}
    return model_of([*before, loop(given, outputs.replace(":3", ""), body)], outputs, constants)


def inside(model: onnx.ModelProto) -> list[str]:
    return [each.op_type for each in loops_of(model)[0].attribute[0].g.node]


def outside(model: onnx.ModelProto) -> list[str]:
    return [each.op_type for each in model.graph.node]


@pytest.mark.parametrize("start", ["yes", "-"])
@pytest.mark.parametrize("weights", [None, {"w0": WEIGHT}], ids=["outside", "in the body"])
def test_a_product(weights: dict[str, Any] | None, start: str) -> None:
    if weights:
        nodes = [ROW, node("MatMul", "r k", "m"), *STEP]
        weights = {"k": WEIGHT}
    else:
        nodes = [ROW, PRODUCT, *STEP]
    after = assert_fires(recurrent(nodes, weights, given=f"n3 {start} x"), RULE)
    assert outside(after) == ["MatMul", "Loop"]
    assert inside(after) == ["Identity", "Gather", "MatMul", "Add", "Tanh"]


@pytest.mark.parametrize("bias", [node("Add", "p b", "m"), node("Add", "b p", "m")], ids=["p + b", "b + p"])
def test_a_product_and_a_bias(bias: onnx.NodeProto) -> None:
    after = assert_fires(recurrent([ROW, node("MatMul", "r w0", "p"), bias, *STEP]), RULE, 2)
    assert outside(after) == ["MatMul", "Add", "Loop"]
    assert inside(after) == ["Identity", "Gather", "MatMul", "Add", "Tanh"]


def test_rows_that_are_matrices() -> None:
    widened = node("Unsqueeze", "v axis", "batch")
    row = node("Gather", "batch i", "r", axis=-3)
    model = recurrent([row, PRODUCT, *STEP], before=(node("Constant", "", "axis", value_ints=[1]), widened))
    assert_fires(model, RULE)


def test_the_row_is_read_by_others() -> None:
    nodes = [ROW, PRODUCT, *STEP[:2], node("Add", "u r", "q"), node("Tanh", "q", "t")]
    after = assert_fires(recurrent(nodes), RULE)
    assert inside(after).count("Gather") == 2


def test_the_product_is_stacked() -> None:
    assert_fires(recurrent([ROW, PRODUCT, *STEP], results="again t m"), RULE)


def test_in_a_loop_in_the_body() -> None:
    inner = body_of(
        [
            node("Identity", "go_", "again_"),
            node("Gather", "v i_", "r", axis=0),
            PRODUCT,
            node("Add", "p m", "q"),
        ],
        "i_ go_ p",
        "again_ q",
    )
    model = recurrent([loop("n3 yes s", "u", inner), node("Tanh", "u", "t")], given="times flag x")
    after = assert_fires(model, RULE)
    assert outside(after) == ["Loop"] or outside(after) == ["MatMul", "Loop"]
    assert [each.op_type for each in all_nodes(after.graph)].count("MatMul") == 1


KEPT: dict[str, dict[str, Any]] = {
    "fewer trips than rows": {"given": "n2 yes x"},
    "a limit that is not known": {"given": "times yes x"},
    "a start that is not known": {"given": "n3 flag x"},
    "a condition": {"results": "go2 t"},
    "another index": {"row": [node("Sub", "n2 i", "j"), node("Gather", "v j", "r", axis=0)]},
    "another axis": {"row": [node("Gather", "v i", "r", axis=1)]},
    "rows of a state": {"row": [node("Concat", "s s s", "c", axis=0), node("Gather", "c i", "r", axis=0)]},
    "a weight that is not constant": {"product": node("MatMul", "r v", "m")},
    "the row second": {"product": node("MatMul", "w0 r", "m")},
    "an Add of more dims": {"product": node("Add", "r w0", "m")},
}


@pytest.mark.parametrize("case", KEPT)
def test_keeps_out_of(case: str) -> None:
    options = dict(KEPT[case])
    nodes = [*options.pop("row", [ROW]), options.pop("product", PRODUCT), *STEP]
    if case == "a condition":
        nodes += [node("ReduceMax", "t", "p", keepdims=0), node("Less", "p big", "go2")]
    if case == "an Add of more dims":
        nodes = [*nodes[:2], node("MatMul", "s m", "u"), node("Tanh", "u", "t")]
    model = recurrent(nodes, {"big": np.float32(0.9)}, **options)
    if case == "a condition":
        model.graph.node[0].attribute[0].g.output[0].type.tensor_type.elem_type = onnx.TensorProto.BOOL
        onnx.checker.check_model(model)
    assert rewrite(model, RULE).fired == {}
    assert_same_answers(model, rewrite(model).model, feeds(3))


def test_keeps_out_of_scans() -> None:
    body = body_of(
        [node("MatMul", "r w0", "m"), node("Add", "s m", "t"), node("Neg", "t", "u")], "s r", "t u"
    )
    scan = helper.make_node("Scan", ["x", "v"], ["y", "z"], body=body, num_scan_inputs=1)
    assert rewrite(model_of([scan], "y z:3"), RULE).fired == {}
