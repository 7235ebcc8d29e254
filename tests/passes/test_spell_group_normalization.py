"""spell_group_normalization: each form it takes, how exact it is, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import (
    IR_VERSION,
    Feeds,
    assert_same_answers,
    f32,
    node,
    random_feeds,
    rewrite,
    run_reference,
)
from tests.passes.folds import in_branches

RULE = "spell_group_normalization"
Dims = Sequence[int | str]
INSTANCES = {"Reshape": 2, "InstanceNormalization": 1, "Mul": 1, "Add": 1}
LAYERS = {"Reshape": 2, "LayerNormalization": 1, "Mul": 1, "Add": 1}
EPSILON = 1e-3


def parameters(size: int) -> dict[str, np.ndarray]:
    """Return a scale of either sign, and a bias."""
    rng = np.random.default_rng(1)
    return {"s": f32(rng.uniform(-2, 2, size)), "t": f32(rng.normal(size=size))}


def normalization(
    dims: Dims = ("batch", 6, "height", "width"),
    groups: int = 3,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 21,
    dtype: int = TensorProto.FLOAT,
    stash_type: int | None = None,
    overridable: Sequence[str] = (),
    then: Sequence[onnx.NodeProto] = (),
) -> onnx.ModelProto:
    """A GroupNormalization of 6 channels, and maybe more nodes from y to z; onnx infers no type of it."""
    weights = weights or parameters(groups if opset < 21 else 6)
    numpy_dtype = helper.tensor_dtype_to_np_dtype(dtype)
    initializers = [
        numpy_helper.from_array(array.astype(numpy_dtype), name) for name, array in weights.items()
    ]
    first = node(
        "GroupNormalization", "x s t", "y", num_groups=groups, epsilon=EPSILON, stash_type=stash_type
    )
    result = helper.make_tensor_value_info("z" if then else "y", dtype, [None] * len(dims))
    inputs = [helper.make_tensor_value_info("x", dtype, dims)]
    inputs += [helper.make_tensor_value_info(name, dtype, weights[name].shape) for name in overridable]
    graph = helper.make_graph([first, *then], "test", inputs, [result], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)


def exactly(x: np.ndarray, groups: int, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Return the normalization as the paper defines it, in float64."""
    rows = x.astype(np.float64).reshape(len(x), groups, -1)
    deviation = np.sqrt(rows.var(-1, keepdims=True) + EPSILON)
    unit = ((rows - rows.mean(-1, keepdims=True)) / deviation).reshape(x.shape)
    scale, shift = (
        np.repeat(weights[name], x.shape[1] // weights[name].size).reshape(-1, *(1,) * (x.ndim - 2))
        for name in "st"
    )
    return np.asarray(unit * scale + shift)


def assert_spells(
    model: onnx.ModelProto, leaves: dict[str, int], feeds: Feeds | None = None
) -> onnx.ModelProto:
    """Assert that the rule fires once and for all, leaves these operators, and keeps the answers."""
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == leaves
    assert list(after.model.graph.output) == list(model.graph.output)
    assert_same_answers(model, after.model, feeds)
    assert rewrite(after.model, RULE).fired == {}
    return after.model


def assert_stays(model: onnx.ModelProto, reason: str) -> None:
    """Assert that the rule keeps out for a reason; "" is that its pattern does not match."""
    after = rewrite(model, RULE)
    assert not after.fired
    assert set(after.declined.get(RULE, {})) == ({reason} if reason else set())


@pytest.mark.parametrize(
    "dims",
    [("n", 6), ("n", 6, "l"), ("n", 6, "h", "w"), ("n", 6, "d", "h", "w"), (2, 6, 5, 4), ("n", 6, 4, "w")],
)
def test_fires_on_any_rank_and_unknown_sizes(dims: Dims) -> None:
    model = normalization(dims)
    assert_spells(model, INSTANCES)
    sizes = {name: 2 + index for index, name in enumerate(dims) if isinstance(name, str)}
    assert_spells(model, INSTANCES, random_feeds(model, **sizes))


@pytest.mark.parametrize("dims", [("n", 6), ("n", 6, 7), ("n", 6, 3, 4), ("n", 6, 2, 3, 4)])
@pytest.mark.parametrize(("opset", "groups"), [(22, 2), (23, 1)])
def test_normalizes_layers_where_cuda_has_no_instances(dims: Dims, opset: int, groups: int) -> None:
    assert_spells(normalization(dims, groups, opset=opset), LAYERS)


def test_normalizes_single_channels_without_reshapes() -> None:
    assert_spells(normalization(groups=6), {"InstanceNormalization": 1})
    assert_spells(normalization(("n", 6, 3, 4), 6, opset=22), {"LayerNormalization": 1, "Mul": 1, "Add": 1})


def test_normalizes_one_group() -> None:
    assert_spells(normalization(groups=1), INSTANCES)


def test_a_net_with_many_comes_to_rest() -> None:
    """onnx infers nothing of what comes after one: each would be news to the next."""
    then = []
    for index in range(60):
        then += [
            node("Conv", f"{f'c{index}' if index else 'y'} w", f"a{index}"),
            node("GroupNormalization", f"a{index} s t", f"c{index + 1}", num_groups=3, epsilon=EPSILON),
        ]
    then.append(node("Relu", "c60", "z"))
    weights = {**parameters(6), "w": f32(np.random.default_rng(4).normal(size=(6, 6, 1, 1)))}
    model = normalization(weights=weights, then=then)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 61}
    assert_same_answers(model, after.model, rtol=1e-4)


@pytest.mark.parametrize("scale", [[1] * 6, [2, 2, -1, -1, 0, 0]])
def test_gives_parameters_of_groups_to_the_normalization(scale: list[float]) -> None:
    weights = {"s": f32(scale), "t": f32([0.5] * 6)}
    assert_spells(normalization(weights=weights), {"Reshape": 2, "InstanceNormalization": 1})


def test_does_so_before_opset_21() -> None:
    model = normalization(opset=18)
    after = rewrite(model, RULE)
    assert after.ops == {"Reshape": 2, "InstanceNormalization": 1}
    x = random_feeds(model, batch=2, height=5, width=4)["x"]
    np.testing.assert_allclose(
        run_reference(after.model, {"x": x})["y"], exactly(x, 3, parameters(3)), rtol=0, atol=1e-5
    )
    assert_same_answers(model, after.model, {"x": x})


@pytest.mark.parametrize(("opset", "size"), [(18, 3), (21, 6)])
def test_parameters_that_are_nan_are_those_of_groups_too(opset: int, size: int) -> None:
    weights = {"s": f32(np.full(size, np.nan)), "t": f32([0.5] * size)}
    assert_spells(normalization(weights=weights, opset=opset), {"Reshape": 2, "InstanceNormalization": 1})


@pytest.mark.parametrize("varies", ["s", "t"])
def test_maps_channels_of_which_one_parameter_varies(varies: str) -> None:
    weights = {"s": f32([2] * 6), "t": f32([0.5] * 6), varies: f32(range(6))}
    assert_spells(normalization(weights=weights), INSTANCES)


@pytest.mark.parametrize(("opset", "mean"), [(21, 0), (21, 300), (22, 0), (22, 300)])
def test_is_no_less_exact(opset: int, mean: float) -> None:
    model = normalization((2, 6, 30, 30), opset=opset)
    x = f32(np.random.default_rng(2).normal(mean, 1, (2, 6, 30, 30)))
    exact = exactly(x, 3, parameters(6))

    def error(of: onnx.ModelProto) -> float:
        return float(np.sqrt(np.mean((run_reference(of, {"x": x})["y"] - exact) ** 2)))

    assert error(rewrite(model, RULE).model) <= (error(model) / 10 if mean else 1.2 * error(model)) < 0.05


def test_leaves_an_affine_map_that_becomes_one_operator() -> None:
    after = rewrite(normalization(), RULE, "fuse_batch_normalization")
    assert after.ops == {"Reshape": 2, "InstanceNormalization": 1, "BatchNormalization": 1}


def test_leaves_an_affine_map_that_a_convolution_takes() -> None:
    weights = {**parameters(6), "w": f32(np.random.default_rng(3).normal(size=(4, 6, 1, 1)))}
    model = normalization(weights=weights, then=[node("Conv", "y w", "z")])
    after = rewrite(model)
    assert after.ops == {"Reshape": 2, "InstanceNormalization": 1, "Conv": 1}
    assert_same_answers(model, after.model)


def test_keeps_the_parameters_that_others_use() -> None:
    model = normalization((2, 6, 6), then=[node("Mul", "y s", "z")])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


def test_fires_in_both_branches_of_an_if() -> None:
    model = in_branches(normalization())
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    feeds = {name: value for name, value in random_feeds(model).items() if name != "flag"}
    for flag in (True, False):
        assert_same_answers(model, after.model, {**feeds, "flag": np.array(flag)})


@pytest.mark.parametrize("dims", [("n", "c", 3, 3), ("n", "c")])
def test_keeps_out_of_unknown_channels(dims: Dims) -> None:
    assert_stays(normalization(dims), "the channels are unknown")


@pytest.mark.parametrize(
    ("groups", "sizes"), [(3, (3, 3)), (3, (6, 1)), (4, (6, 6)), (0, (6, 6)), (12, (6, 6))]
)
def test_keeps_out_of_what_does_not_fit(groups: int, sizes: tuple[int, int]) -> None:
    weights = {name: f32(np.ones(size)) for name, size in zip("st", sizes, strict=True)}
    model = normalization(groups=groups, weights=weights)
    assert_stays(model, "the groups, channels and parameters do not fit")


def test_keeps_out_of_a_vector() -> None:
    assert_stays(normalization(("n",)), "the channels are unknown")


@pytest.mark.parametrize("dims", [("n", 6, "h", 4), ("n", 6, 4, "w"), ("n", 6, "l")])
def test_keeps_out_of_unknown_sizes_of_a_layer(dims: Dims) -> None:
    assert_stays(normalization(dims, opset=22), "LayerNormalization needs the spatial sizes")


@pytest.mark.parametrize(
    ("dtype", "stash_type"),
    [
        (TensorProto.FLOAT16, TensorProto.FLOAT),
        (TensorProto.DOUBLE, TensorProto.FLOAT),
        (TensorProto.FLOAT, TensorProto.DOUBLE),
    ],
)
def test_keeps_out_of_other_dtypes(dtype: int, stash_type: int) -> None:
    model = normalization(dtype=dtype, stash_type=stash_type)
    assert_stays(model, "onnxruntime has InstanceNormalization for float32")


@pytest.mark.parametrize("name", ["s", "t"])
def test_keeps_out_of_parameters_that_may_come_with_a_run(name: str) -> None:
    assert_stays(normalization(overridable=[name]), "")
