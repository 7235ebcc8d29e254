"""merge_added_branches: what fires, and each precondition broken once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, batch_norm_weights, f32, node, rewrite
from tests.passes import folds
from tests.passes.branches import assert_becomes, assert_kept, model_of, normal

RULE = "merge_added_branches"
C = 4
DIMS = ("batch", C, 7, 8)
Part = tuple[list[onnx.NodeProto], dict[str, np.ndarray], str]


def conv(
    name: str, size: tuple[int, ...], *, m: int = C, bias: bool = True, x: str = "x", **options: Any
) -> Part:
    """A Conv from `x`; the kernel is centred unless `pads` says otherwise."""
    group = options.get("group", 1)
    options = {"pads": [k // 2 for k in size] * 2, **options}
    weights = {f"{name}_w": normal(m, C // group, *size)}
    if bias:
        weights[f"{name}_b"] = normal(m, seed=1)
    return [helper.make_node("Conv", [x, *weights], [name], **options)], weights, name


def batch_norm(name: str = "bn", x: str = "x") -> Part:
    weights = {f"{name}_{key}": value for key, value in batch_norm_weights(C).items()}
    return [helper.make_node("BatchNormalization", [x, *weights], [name])], weights, name


def average(name: str = "pool", **options: Any) -> Part:
    options = {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1, **options}
    return [helper.make_node("AveragePool", ["x"], [name], **options)], {}, name


def factor(name: str = "factor") -> Part:
    return [node("Mul", f"x {name}_c", name)], {f"{name}_c": normal(C, 1, 1)}, name


IDENTITY: Part = ([], {}, "x")


def added(parts: list[Part], *, spelling: str = "left", **options: Any) -> onnx.ModelProto:
    """A model that adds the parts and ends in Relu."""
    nodes = [each for part in parts for each in part[0]]
    weights = {name: each for part in parts for name, each in part[1].items()}
    terms = [part[2] for part in parts]
    if spelling == "sum":
        nodes.append(helper.make_node("Sum", terms, ["sum"]))
    else:
        while len(terms) > 1:
            a, b = (terms[0], terms[1]) if spelling == "left" else (terms[-2], terms[-1])
            new = f"{a}+{b}" if len(terms) > 2 else "sum"
            nodes.append(helper.make_node("Add", [a, b], [new]))
            terms = [new, *terms[2:]] if spelling == "left" else [*terms[:-2], new]
    nodes.append(node("Relu", "sum", "y"))
    dims = options.pop("dims", DIMS)
    weights |= options.pop("weights", {})
    nodes += options.pop("more", [])
    return model_of(nodes, dims, weights, **options)


REPVGG = [conv("large", (3, 3)), conv("small", (1, 1)), batch_norm()]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("spelling", ["left", "right", "sum"])
def test_fires_in_any_order_and_association(order: tuple[int, ...], spelling: str) -> None:
    model = added([REPVGG[i] for i in order], spelling=spelling)
    assert_becomes(model, RULE, {"Conv": 1, "Relu": 1})


@pytest.mark.parametrize(
    "parts",
    [
        [conv("a", (3, 3)), IDENTITY],
        [IDENTITY, conv("a", (1, 1), bias=False)],
        [conv("a", (3, 3)), IDENTITY, batch_norm(), factor()],
        [conv("a", (3, 3)), average()],
        [conv("a", (3, 3), strides=[2, 1]), average(strides=[2, 1]), conv("b", (1, 1), strides=[2, 1])],
        [conv("a", (3, 3)), conv("b", (1, 3)), conv("c", (3, 1)), conv("d", (3, 3))],
        [conv("a", (5, 3)), conv("b", (3, 3)), conv("c", (1, 3), bias=False)],
        [
            conv("a", (3, 3), dilations=[2, 3], pads=[2, 3, 2, 3]),
            conv("b", (1, 1), dilations=[7, 7]),
            IDENTITY,
        ],
        [conv("a", (2, 3), pads=[0, 2, 1, 0]), conv("b", (1, 1)), IDENTITY],
        [conv("a", (3, 3), pads=[2, 0, 0, 2]), conv("b", (2, 1), pads=[1, 0, 0, 0])],
        [conv("a", (3, 3), group=C), conv("b", (1, 1), group=C), batch_norm(), IDENTITY],
        [conv("a", (3, 3), group=C), average()],
        [conv("a", (3, 3), group=2), conv("b", (1, 1), group=2, bias=False), batch_norm(), IDENTITY],
        [conv("a", (3, 3), m=6, strides=[2, 2]), conv("b", (1, 1), m=6, strides=[2, 2])],
        [conv("a", (3, 3), auto_pad="VALID", pads=None), conv("b", (3, 3), pads=[0] * 4)],
    ],
    ids=lambda parts: "+".join(part[2] for part in parts),
)
def test_fires_on_kernels_of_other_sizes_and_places(parts: list[Part]) -> None:
    assert_becomes(added(parts), RULE, {"Conv": 1, "Relu": 1})


@pytest.mark.parametrize(
    ("size", "dims"), [((3,), ("batch", C, 9)), ((3, 3, 1), ("batch", C, 4, 5, 3))], ids=str
)
def test_fires_in_one_and_three_dimensions(size: tuple[int, ...], dims: tuple[int | str, ...]) -> None:
    parts = [conv("a", size), conv("b", (1,) * len(size)), batch_norm(), IDENTITY]
    assert_becomes(added(parts, dims=dims), RULE, {"Conv": 1, "Relu": 1})


def test_fires_on_a_pointwise_conv_before_a_larger_one() -> None:
    first, w1, _ = conv("first", (1, 1), bias=False)
    second, w2, _ = conv("second", (3, 3), x="first")
    chain: Part = ([*first, *second], {**w1, **w2}, "second")
    assert_becomes(added([conv("a", (3, 3)), chain]), RULE, {"Conv": 1, "Relu": 1})


def test_fires_on_a_conv_before_an_average_without_padding() -> None:
    first, w, _ = conv("first", (1, 1))
    pool = node("AveragePool", "first", "pool", kernel_shape=[3, 3])
    chain: Part = ([*first, pool], w, "pool")
    assert_becomes(added([conv("a", (3, 3), pads=[0] * 4), chain]), RULE, {"Conv": 1, "Relu": 1})


def test_the_terms_that_stay_are_added_once_more() -> None:
    parts: list[Part] = [([], {}, "r"), conv("a", (3, 3)), ([], {}, "s"), conv("b", (1, 1))]
    inputs = {"r": DIMS, "s": [1, 1, 7, 8]}
    assert_becomes(added(parts, inputs=inputs), RULE, {"Conv": 1, "Add": 2, "Relu": 1})
    assert_becomes(added(parts, inputs=inputs, spelling="sum"), RULE, {"Conv": 1, "Sum": 1, "Relu": 1})


def test_two_pairs_of_branches_become_two_convs() -> None:
    parts = [conv("a", (3, 3)), conv("c", (3, 3), x="r"), conv("b", (1, 1)), conv("d", (1, 1), x="r")]
    model = added(parts, inputs={"r": DIMS})
    assert_becomes(model, RULE, {"Conv": 2, "Add": 1, "Relu": 1}, times=2)


@pytest.mark.parametrize("opset", [6, 7, 9, 13, 21])
def test_fires_in_any_opset(opset: int) -> None:
    parts = [conv("a", (3, 3)), conv("b", (1, 1))]
    model = added(parts, opset=opset, dims=(2, *DIMS[1:]))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    if opset >= 7:
        assert_same_answers(model, after.model)


@pytest.mark.parametrize(
    ("dtype", "rtol"),
    [(TensorProto.FLOAT16, 2e-2), (TensorProto.DOUBLE, 1e-5), (TensorProto.BFLOAT16, 0.2)],
)
def test_new_weights_keep_the_dtype(dtype: int, rtol: float) -> None:
    model = added([conv("a", (3, 3)), conv("b", (1, 1)), IDENTITY], dtype=dtype, opset=22)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert {tensor.data_type for tensor in after.model.graph.initializer} == {dtype}
    assert_same_answers(folds.as_float32(model), folds.as_float32(after.model), rtol=rtol)


def product(name: str, n: int = 6, *, x: str = "x", rows: int = 6) -> Part:
    return [node("MatMul", f"{x} {name}_w", name)], {f"{name}_w": normal(rows, n, seed=len(name))}, name


def adapter(rank: int) -> Part:
    """A low-rank product and its factor."""
    (down,), w1, _ = product("down", rank)
    (up,), w2, _ = product("up", 6, x="down", rows=rank)
    return [down, up, node("Mul", "up scale", "scaled")], {**w1, **w2, "scale": f32(0.5)}, "scaled"


@pytest.mark.parametrize("dims", [("batch", 6), ("batch", 3, 6), (6,)], ids=str)
@pytest.mark.parametrize("others", [[product("other")], [adapter(2)], [IDENTITY], [adapter(2), IDENTITY]])
def test_fires_on_products(dims: tuple[int | str, ...], others: list[Part]) -> None:
    assert_becomes(added([product("main"), *others], dims=dims), RULE, {"MatMul": 1, "Relu": 1})


def test_fires_on_products_with_a_bias() -> None:
    nodes, weights, _ = product("main")
    biased: Part = ([*nodes, node("Add", "bias main", "biased")], {**weights, "bias": normal(6)}, "biased")
    model = added([biased, adapter(2)], dims=("batch", 3, 6))
    assert_becomes(model, RULE, {"MatMul": 1, "Add": 1, "Relu": 1})


@pytest.mark.parametrize("trans_b", [0, 1])
def test_fires_on_a_gemm_beside_a_product(trans_b: int) -> None:
    weights = {"g_w": normal(6, 6), "g_b": normal(1, 6)}
    options = {"alpha": 0.5, "beta": 2.0, "transB": trans_b}
    gemm: Part = ([node("Gemm", "x g_w g_b", "g", **options)], weights, "g")
    assert_becomes(added([gemm, product("main")], dims=("batch", 6)), RULE, {"Gemm": 1, "Relu": 1})


def test_fires_in_both_branches_of_an_if_and_in_a_function() -> None:
    model = folds.in_branches(added(REPVGG))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)
    model = folds.in_function(added(REPVGG))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


def test_the_sum_may_be_a_graph_output() -> None:
    assert_becomes(added(REPVGG, outputs=["sum", "y"]), RULE, {"Conv": 1, "Relu": 1})


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([conv("a", (3, 3)), conv("b", (1, 1), x="r")], ""),  # they read two values
        ([batch_norm(), IDENTITY], ""),  # no Conv into which they go
        ([conv("a", (1, 3)), conv("b", (3, 1))], "one operator would multiply more"),
        ([conv("a", (3, 3), group=C), conv("b", (1, 1))], "one operator would multiply more"),
        ([conv("a", (3, 3), group=2), conv("b", (3, 3))], "the groups or the strides differ"),
        ([conv("a", (1, 1)), average()], "one operator would multiply more"),
        (
            [conv("a", (3, 3)), conv("b", (3, 3), dilations=[2, 2], pads=[2] * 4)],
            "the dilations differ",
        ),
        ([conv("a", (3, 3), dilations=[2, 2], pads=[1, 2, 3, 2]), IDENTITY], "the paddings do not fit"),
        (
            [conv("a", (3, 3)), average(count_include_pad=0)],
            "AveragePool divides by another number at the border",
        ),
        (
            [conv("a", (3, 3)), conv("b", (3, 3), auto_pad="SAME_UPPER", pads=None)],
            "the padding depends on the size of the input",
        ),
        ([conv("a", (3, 3), m=1), IDENTITY], "the channels differ"),  # the sum broadcasts
        ([conv("a", (3, 3)), conv("b", (1, 1), m=1)], "the channels differ"),
    ],
    ids=lambda each: "+".join(part[2] for part in each) if isinstance(each, list) else each,
)
def test_keeps_out(parts: list[Part], reason: str) -> None:
    model = added(parts, inputs={"r": DIMS} if reason == "" else None)
    assert_kept(model, RULE, *([reason] if reason else []))


def test_keeps_out_of_convs_whose_results_broadcast() -> None:
    parts = [conv("a", (3, 3)), conv("b", (3, 3), pads=[0] * 4)]
    assert_kept(added(parts, dims=(2, C, 3, 3)), RULE, "the paddings do not fit")


def test_keeps_out_of_a_biased_conv_before_a_padded_one() -> None:
    first, w1, _ = conv("first", (1, 1))
    second, w2, _ = conv("second", (3, 3), x="first")
    chain: Part = ([*first, *second], {**w1, **w2}, "second")
    reason = "the bias of the first stops at the padding of the second"
    assert_kept(added([conv("a", (3, 3)), chain]), RULE, reason)


@pytest.mark.parametrize("where", ["other users", "graph output"])
def test_keeps_out_of_results_that_others_read(where: str) -> None:
    more = [node("Neg", "small", "other")] if where == "other users" else []
    outputs = ["y", "other" if more else "small"]
    assert_kept(added([conv("large", (3, 3)), conv("small", (1, 1))], more=more, outputs=outputs), RULE)


def test_keeps_out_of_weights_that_may_come_with_a_run() -> None:
    large, (nodes, weights, name) = conv("large", (3, 3)), conv("small", (1, 1))
    assert_kept(added([large, (nodes, weights, name)], overridable=["small_w"]), RULE)
    given: Part = (nodes, {"small_b": weights["small_b"]}, name)
    assert_kept(added([large, given], inputs={"small_w": [C, C, 1, 1]}), RULE)


def test_keeps_out_of_shared_weights() -> None:
    twin = helper.make_node("Conv", ["r", "small_w"], ["twin"])
    parts = [conv("large", (3, 3)), conv("small", (1, 1))]
    model = added(parts, more=[twin], outputs=["y", "twin"], inputs={"r": DIMS})
    assert_kept(model, RULE, "the weights are shared")


def test_keeps_out_of_batch_normalization_in_training_mode() -> None:
    (bn,), weights, name = batch_norm()
    bn.attribute.append(helper.make_attribute("training_mode", 1))
    bn.output.extend(["running_mean", "running_var"])
    model = added([conv("large", (3, 3)), ([bn], weights, name)], dims=(2, C, 7, 8))
    assert_kept(model, RULE, "BatchNormalization in training mode")


def test_keeps_out_of_weights_that_do_not_fit() -> None:
    (bn,), weights, name = batch_norm()
    weights["bn_gamma"][:] = 6e4
    weights["bn_var"][:] = 1e-4
    model = added([conv("large", (3, 3)), ([bn], weights, name)], dtype=TensorProto.FLOAT16)
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"the folded weights do not fit float16": 1}


def test_keeps_out_of_a_product_beside_a_conv() -> None:
    parts = [conv("a", (3, 3)), product("p", 8, rows=8)]
    assert_kept(added(parts), RULE, "the ranks differ")


def test_keeps_out_of_integers() -> None:
    nodes = [node("MatMul", "x v", "p"), node("MatMul", "x w", "q"), node("Add", "p q", "y")]
    weights = {"v": np.arange(24, dtype=np.int32).reshape(4, 6), "w": np.ones((4, 6), np.int32)}
    model = model_of(nodes, ("batch", 4), weights, dtype=TensorProto.INT32)
    assert_kept(model, RULE, "the weights are no floats")


def test_keeps_out_of_constants_that_vary_along_other_axes() -> None:
    uneven: Part = ([node("Mul", "x k", "scaled")], {"k": normal(7, 1)}, "scaled")
    assert_kept(added([conv("a", (3, 3)), uneven]), RULE, "the constant is not one per channel")
