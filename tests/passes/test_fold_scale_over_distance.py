"""fold_scale_over_distance: what it keeps out of and why, then what fires, up and down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, batch_norm_weights, f32, node, rewrite
from tests.passes.distance import assert_folds, assert_stays, chain, channels, weights

RULE = "fold_scale_over_distance"
CONV = weights(w=(8, 4, 3, 3), b=(8,))
NUMBER, NEGATIVE = f32(0.37), f32(-1.7)
Nodes = Sequence[onnx.NodeProto]
Constants = dict[str, np.ndarray]


def after_conv(
    middle: Nodes, scale: np.ndarray, more: Constants | None = None, op: str = "Mul", opset: int = 17
) -> onnx.ModelProto:
    """x ─ Conv ─ c ─ middle ─ m ─ ·s ─ Tanh ─ y."""
    nodes = [node("Conv", "x w b", "c", pads=[1] * 4), *middle, node(op, "m s", "z"), node("Tanh", "z", "y")]
    return chain(nodes, {**CONV, "s": scale, **(more or {})}, opset=opset)


SAME: dict[str, tuple[Nodes, Constants]] = {  # leave the channels where they are
    "Relu": ([node("Relu", "c", "m")], {}),
    "LeakyRelu": ([node("LeakyRelu", "c", "m", alpha=0.3)], {}),
    "PRelu": ([node("PRelu", "c slope", "m")], {"slope": -channels(8, rank=3, axis=0)}),
    "Abs": ([node("Abs", "c", "m")], {}),
    "MaxPool": ([node("MaxPool", "c", "m", kernel_shape=[3, 3], pads=[1] * 4)], {}),
    "GlobalMaxPool": ([node("GlobalMaxPool", "c", "m")], {}),
    "ReduceMax": ([node("ReduceMax", "c", "m", axes=[2, 3])], {}),
    "ReduceMin": ([node("ReduceMin", "c", "m", axes=[3])], {}),
    "Identity": ([node("Identity", "c", "m")], {}),
    "Neg": ([node("Neg", "c", "m")], {}),
    "AveragePool": ([node("AveragePool", "c", "m", kernel_shape=[3, 3], pads=[1] * 4)], {}),
    "GlobalAveragePool": ([node("GlobalAveragePool", "c", "m")], {}),
    "ReduceMean": ([node("ReduceMean", "c", "m", axes=[2, 3])], {}),
    "ReduceSum": ([node("ReduceSum", "c axes", "m")], {"axes": np.array([2])}),
    "Add": ([node("Add", "c k", "m")], {"k": channels(8, rank=3, axis=0)}),
    "Add one": ([node("Add", "k c", "m")], {"k": f32(0.5)}),
    "Sub": ([node("Sub", "k c", "m")], {"k": f32([0.5])}),
    "a dividend": ([node("Div", "k c", "m")], {"k": channels(8, rank=3, axis=0)}),
    "two": ([node("Relu", "c", "r"), node("MaxPool", "r", "m", kernel_shape=[2, 2])], {}),
}
POSITIVE = ("Relu", "LeakyRelu", "PRelu", "Abs", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "two")
MOVE: dict[str, tuple[Nodes, Constants]] = {  # one number only
    "Pad": ([node("Pad", "c pads", "m")], {"pads": np.array([0, 0, 1, 2, 0, 0, 1, 0])}),
    "Pad reflect": ([node("Pad", "c pads", "m", mode="reflect")],
                    {"pads": np.array([0, 0, 1, 2, 0, 0, 1, 0])}),
    "Resize": ([node("Resize", "c none scales", "m", mode="linear")],
               {"none": f32([]), "scales": f32([1, 1, 2, 1.5])}),
    "Expand": ([node("Unsqueeze", "c one", "u"), node("Expand", "u shape", "m")],
               {"one": np.array([1]), "shape": np.array([1, 3, 1, 1, 1])}),
    "ReduceMean away": ([node("ReduceMean", "c", "m", axes=[2, 3], keepdims=0)], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_goes_up_channel_by_channel(name: str) -> None:
    middle, more = SAME[name]
    assert_folds(after_conv(middle, channels(8, rank=3, axis=0), more), RULE, "Mul")


@pytest.mark.parametrize("name", [*SAME, *MOVE])
def test_goes_up_as_one_number(name: str) -> None:
    middle, more = {**SAME, **MOVE}[name]
    assert_folds(after_conv(middle, NUMBER, more, op="Div"), RULE)


@pytest.mark.parametrize("name", [name for name in [*SAME, *MOVE] if name not in POSITIVE])
def test_goes_up_with_either_sign(name: str) -> None:
    middle, more = {**SAME, **MOVE}[name]
    assert_folds(after_conv(middle, NEGATIVE, more), RULE, "Mul")


@pytest.mark.parametrize("name", POSITIVE)
def test_stays_behind_what_needs_a_positive_number(name: str) -> None:
    middle, more = SAME[name]
    assert_stays(after_conv(middle, NEGATIVE, more), RULE)


@pytest.mark.parametrize(
    ("middle", "more"),
    [
        pytest.param([node("Sigmoid", "c", "m")], {}, id="Sigmoid"),
        pytest.param([node("Relu", "c", "m"), node("Neg", "m", "other")], {}, id="two users"),
        pytest.param([node("Exp", "c", "e"), node("Add", "c e", "m")], {}, id="a term that absorbs nothing"),
        pytest.param([node("Pad", "c pads one", "m")],
                     {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "one": f32(1)}, id="Pad with ones"),
        pytest.param([node("Relu", "c", "m")], {"s": f32(0)}, id="zero"),
        pytest.param([node("Relu", "c", "m")], {"s": f32(np.inf)}, id="infinity"),
        pytest.param([node("Relu", "c", "m")], {"s": channels(6, rank=1, axis=0)}, id="along another axis"),
        pytest.param([node("Relu", "c", "m")], {"s": np.ones((8, 6, 1), np.float32)}, id="along two axes"),
    ],
)  # fmt: skip
def test_stays(middle: Nodes, more: Constants) -> None:
    after = rewrite(after_conv(middle, NUMBER, more), RULE)
    assert after.fired == {}


def test_stays_where_the_middle_is_a_graph_output() -> None:
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "m"), node("Mul", "m s", "y")]
    assert_stays(chain(nodes, {**CONV, "s": NUMBER}, outputs=["y", "m"]), RULE)


def test_keeps_the_name_of_a_graph_output() -> None:
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "m"), node("Mul", "s m", "y")]
    assert_folds(chain(nodes, {**CONV, "s": NUMBER}), RULE, "Mul")


@pytest.mark.parametrize("name", ["w", "b", "s"])
def test_stays_where_the_caller_may_override(name: str) -> None:
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "m"), node("Mul", "m s", "y")]
    model = chain(nodes, {**CONV, "s": NUMBER}, overridable=[name])
    assert rewrite(model, RULE).fired == {}


def test_stays_where_weights_are_shared() -> None:
    large = weights(w=(64, 4, 3, 3))
    nodes = [
        node("Conv", "x w", "c"),
        node("Relu", "c", "m"),
        node("Mul", "m s", "y"),
        node("Conv", "x w", "z"),
    ]
    assert_stays(chain(nodes, {**large, "s": NUMBER}, outputs=["y", "z"]), RULE)


def test_shared_small_constants_are_not_changed_for_others() -> None:
    nodes = [
        node("Conv", "x w b", "c"), node("Add", "c k", "m"), node("Mul", "m s", "y"), node("Add", "x k", "z")
    ]  # fmt: skip
    model = chain(nodes, {**CONV, "s": NUMBER, "k": f32(2)}, outputs=["y", "z"])
    assert_folds(model, RULE, "Mul")


def test_stays_where_half_precision_cannot_hold_the_weights() -> None:
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "m"), node("Mul", "m s", "y")]
    large = {"w": CONV["w"] * 1e3, "b": CONV["b"], "s": f32(6e4)}
    model = chain(nodes, large, dtype=TensorProto.FLOAT16)
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"the folded weights do not fit float16": 1}


def test_stays_before_opset_7() -> None:
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "m"), node("Mul", "m s", "y", broadcast=1)]
    assert rewrite(chain(nodes, {**CONV, "s": f32([0.5])}, opset=6), RULE).fired == {}


LAYERS: dict[str, tuple[Nodes, Constants, tuple[int | str, ...]]] = {  # x to c, of 8 channels on axis 1
    "Conv in groups": ([node("Conv", "x w", "c", group=2)], weights(w=(8, 2, 3, 3)), ("batch", 4, 6, 6)),
    "ConvTranspose": ([node("ConvTranspose", "x w b", "c")], weights(w=(4, 8, 3, 3), b=(8,)), ("n", 4, 6, 6)),
    "ConvTranspose in groups": (
        [node("ConvTranspose", "x w b", "c", group=2)], weights(w=(4, 4, 3, 3), b=(8,)), ("n", 4, 6, 6)),
    "Gemm": ([node("Gemm", "x w b", "c", alpha=0.3, beta=2.0)], weights(w=(5, 8), b=(8,)), ("n", 5)),
    "Gemm transposed": ([node("Gemm", "x w", "c", transB=1)], weights(w=(8, 5)), ("n", 5)),
    "MatMul": ([node("MatMul", "x w", "c")], weights(w=(5, 8)), ("n", 5)),
    "MatMul and Add": (
        [node("MatMul", "x w", "p"), node("Add", "b p", "c")], weights(w=(5, 8), b=(8,)), ("n", 5)),
    "BatchNormalization": (
        [node("Relu", "x", "r"), node("BatchNormalization", "r gamma beta mean var", "c")],
        batch_norm_weights(8), ("n", 8, 6, 6)),
    "InstanceNormalization": (
        [node("InstanceNormalization", "x g h", "c")], weights(g=(8,), h=(8,)), ("n", 8, 6, 6)),
    "LayerNormalization": (
        [node("LayerNormalization", "x g h", "c")], weights(g=(8,), h=(8,)), ("n", 8)),
    "a constant factor": ([node("Exp", "x", "e"), node("Mul", "e k", "c")], {"k": f32(3)}, ("n", 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("spread", [False, True])
def test_ends_in_weights_before(name: str, spread: bool) -> None:
    nodes, constants, dims = LAYERS[name]
    scale = channels(8, rank=len(dims)) if spread else NUMBER
    nodes = [*nodes, node("Relu", "c", "m"), node("Mul", "m s", "z"), node("Tanh", "z", "y")]
    assert_folds(chain(nodes, {**constants, "s": scale}, dims), RULE)


def test_ends_in_an_embedding() -> None:
    nodes = [node("Relu", "x", "r"), node("Cast", "r", "i", to=TensorProto.INT64),
             node("Gather", "table i", "g"), node("Mul", "g s", "y")]  # fmt: skip
    assert_folds(chain(nodes, {**weights(table=(100, 4)), "s": NUMBER}, (2, 3)), RULE, "Mul")


def attention(scale: str, opset: int = 17) -> onnx.ModelProto:
    """Scores of q and k, each a part of one product; scaled behind the product, or both factors before it."""
    shape = {"shape": np.array([0, 5, 2, 4]), "sizes": np.array([8, 8])}
    nodes = [
        node("MatMul", "x w", "p"), node("Add", "p b", "qk"), node("Split", "qk sizes", "q k", axis=2),
        node("Reshape", "q shape", "q1"), node("Transpose", "q1", "q2", perm=[0, 2, 1, 3]),
        node("Reshape", "k shape", "k1"), node("Transpose", "k1", "k2", perm=[0, 2, 3, 1]),
    ]  # fmt: skip
    if scale == "scores":
        nodes += [node("MatMul", "q2 k2", "a"), node("Div", "a s", "z"), node("Softmax", "z", "y")]
    else:
        nodes += [node("Mul", "q2 s", "q3"), node("Mul", "k2 s", "k3"), node("MatMul", "q3 k3", "z"),
                  node("Softmax", "z", "y")]  # fmt: skip
    return chain(nodes, {**weights(w=(6, 16), b=(16,)), **shape, "s": f32(2.5)}, ("n", 5, 6))


def gathered(*indices: int) -> onnx.ModelProto:
    """Parts of one product, the first of them scaled."""
    shape = {"shape": np.array([0, 5, 3, 2, 4]), **{f"i{n}": np.array(i) for n, i in enumerate(indices)}}
    nodes = [
        node("MatMul", "x w", "p"), node("Add", "p b", "a"), node("Reshape", "a shape", "r"),
        node("Transpose", "r", "t", perm=[2, 0, 3, 1, 4]),
        *(node("Gather", f"t i{n}", f"g{n}", axis=0) for n in range(len(indices))),
        node("Mul", "g0 s", "m"), node("Concat", " ".join(["m", *(f"g{n}" for n in range(1, len(indices)))]),
                                       "y", axis=0),
    ]  # fmt: skip
    return chain(nodes, {**weights(w=(6, 24), b=(24,)), **shape, "s": NEGATIVE}, ("n", 5, 6))


@pytest.mark.parametrize("indices", [(0, 1, 2), (-1, 0, 1), (1, 0, 0)])
def test_goes_into_the_part_that_is_gathered(indices: tuple[int, ...]) -> None:
    assert_folds(gathered(*indices), RULE, "Mul")


@pytest.mark.parametrize("indices", [(0, 1, 0), (2, -1, 0)])
def test_stays_where_the_same_part_is_gathered_twice(indices: tuple[int, ...]) -> None:
    assert_stays(gathered(*indices), RULE)


def test_goes_from_scores_into_the_query() -> None:
    assert_folds(attention("scores"), RULE, "Div")


def test_goes_from_query_and_key_into_their_parts_of_the_weights() -> None:
    assert_folds(attention("both"), RULE, "Mul", times=2)


@pytest.mark.parametrize(
    ("middle", "more", "scale"),
    [
        pytest.param([node("Transpose", "c", "m", perm=[0, 2, 3, 1])], {}, channels(8, rank=1, axis=0),
                     id="last"),
        pytest.param([node("Transpose", "c", "m", perm=[1, 3, 0, 2])], {}, channels(8, axis=0), id="first"),
        pytest.param([node("Reshape", "c shape", "m")], {"shape": np.array([0, 8, -1])},
                     channels(8, rank=3), id="flattened pixels"),
        pytest.param([node("Reshape", "c shape", "m")], {"shape": np.array([-1, 2, 4, 36])},
                     channels(4, axis=2), id="channels of a group"),
        pytest.param([node("Reshape", "c shape", "m")], {"shape": np.array([-1, 2, 4, 36])},
                     channels(2, axis=1), id="groups of channels"),
        pytest.param([node("Unsqueeze", "c one", "m")], {"one": np.array([1])}, channels(8, rank=5, axis=2),
                     id="Unsqueeze"),
        pytest.param([node("Concat", "c c2", "m", axis=1), ], {}, channels(16), id="Concat"),
    ],
)  # fmt: skip
def test_follows_the_axis(middle: Nodes, more: Constants, scale: np.ndarray) -> None:
    branch = [node("Conv", "x w2", "c2", pads=[1] * 4)] if "c2" in middle[0].input else []
    nodes = [node("Conv", "x w b", "c", pads=[1] * 4), *branch, *middle, node("Mul", "m s", "y")]
    own = {"w2": CONV["w"][::-1].copy()} if branch else {}
    assert_folds(chain(nodes, {**CONV, **own, "s": scale, **more}), RULE, "Mul")


@pytest.mark.parametrize("shape", [[-1, 16, 18], [-1, 4, 72], [-1, 288]])
def test_stays_where_the_axis_is_lost(shape: list[int]) -> None:
    """Rows of 18 pixels, of two channels, of all: no axis of the Conv varies with one of them alone."""
    scale = channels(shape[1], rank=len(shape))
    nodes = [
        node("Conv", "x w b", "c", pads=[1] * 4),
        node("Reshape", "c shape", "m"),
        node("Mul", "m s", "y"),
    ]
    assert rewrite(chain(nodes, {**CONV, "shape": np.array(shape), "s": scale}), RULE).fired == (
        {RULE: 1} if shape == [-1, 4, 72] else {}
    )


def before(
    middle: Nodes,
    scale: np.ndarray,
    more: Constants,
    dims: Sequence[int | str | None] = ("n", 4, 6, 6),
    **options: int,
) -> onnx.ModelProto:
    """x ─ Exp ─ ·s ─ m ─ middle ─ y."""
    nodes = [node("Exp", "x", "e"), node("Mul", "s e", "m"), *middle]
    return chain(nodes, {**more, "s": scale}, dims, **options)  # type: ignore[arg-type]


BEHIND: dict[str, tuple[Nodes, Constants, tuple[int | str, ...]]] = {  # m, of 4 channels on axis 1, to y
    "Conv": ([node("Conv", "m w b", "y", pads=[1] * 4)], CONV, ("n", 4, 6, 6)),
    "Conv in groups": ([node("Conv", "m w", "y", group=2)], weights(w=(6, 2, 3, 3)), ("n", 4, 6, 6)),
    "Conv by channel": ([node("Conv", "m w", "y", group=4)], weights(w=(8, 1, 3, 3)), ("n", 4, 6, 6)),
    "ConvTranspose": ([node("ConvTranspose", "m w", "y", group=2)], weights(w=(4, 3, 3, 3)), ("n", 4, 6, 6)),
    "Gemm": ([node("Gemm", "m w b", "y", alpha=0.5)], weights(w=(4, 3), b=(3,)), ("n", 4)),
    "Gemm transposed": ([node("Gemm", "m w", "y", transB=1)], weights(w=(3, 4)), ("n", 4)),
    "MatMul": ([node("MatMul", "m w", "y")], weights(w=(4, 3)), ("n", 4)),
    "BatchNormalization": (
        [node("BatchNormalization", "m gamma beta mean var", "y")], batch_norm_weights(4), ("n", 4, 6, 6)),
    "a constant factor": ([node("Mul", "m k", "z"), node("Tanh", "z", "y")], {"k": f32(3)}, ("n", 4)),
    "a constant divisor": ([node("Div", "m k", "z"), node("Tanh", "z", "y")], {"k": f32(3)}, ("n", 4)),
    "a sum and MatMul": (
        [node("Sub", "m k", "d"), node("MatMul", "d w", "y")], {"k": f32(3), **weights(w=(4, 3))}, ("n", 4)),
    "Relu, pooling and Conv": (
        [node("Relu", "m", "r"), node("MaxPool", "r", "p", kernel_shape=[2, 2]), node("Conv", "p w b", "y")],
        CONV, ("n", 4, 6, 6)),
    "two Convs": (
        [node("Conv", "m w b", "u"), node("Conv", "m w2", "v"), node("Concat", "u v", "y", axis=1)],
        {**CONV, "w2": CONV["w"][:2].copy()}, ("n", 4, 6, 6)),
    "squeeze and excite": (
        [node("GlobalAveragePool", "m", "g"), node("Conv", "g w2", "h"), node("Sigmoid", "h", "gate"),
         node("Mul", "m gate", "n"), node("Conv", "n w b", "y")],
        {**CONV, **weights(w2=(4, 4, 1, 1))}, ("n", 4, 6, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", BEHIND)
@pytest.mark.parametrize("spread", [False, True])
def test_ends_in_weights_behind(name: str, spread: bool) -> None:
    nodes, constants, dims = BEHIND[name]
    scale = channels(4, rank=len(dims)) if spread else NUMBER
    model = before(nodes, scale, constants, dims)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert len(after.model.graph.node) == len(model.graph.node) - 1
    assert_same_answers(model, after.model, rtol=2e-5)


@pytest.mark.parametrize(
    ("middle", "more"),
    [
        pytest.param([node("Softmax", "m", "y")], {}, id="Softmax"),
        pytest.param([node("Conv", "m w b", "u"), node("Relu", "m", "v")], CONV,
                     id="a user that absorbs nothing"),
        pytest.param([node("Mul", "m m", "q"), node("Conv", "q w b", "u")], CONV, id="squared"),
        pytest.param([node("Relu", "m", "p"), node("Abs", "m", "q"), node("Mul", "p q", "r"),
                      node("Conv", "r w b", "u")], CONV, id="two ways to one weight"),
        pytest.param([node("Conv", "x m", "u")], {}, id="it is the weight"),
        pytest.param([node("Add", "m k", "a"), node("Conv", "a w b", "u", pads=[1] * 4)],
                     {**CONV, "k": f32(2)}, id="with the sum it makes a BatchNormalization"),
    ],
)  # fmt: skip
def test_stays_before(middle: Nodes, more: Constants) -> None:
    ends = [name for each in middle for name in each.output if name in {"u", "v", "y"}]
    nodes = [node("Exp", "x", "e"), node("Mul", "s e", "m"), *middle]
    assert_stays(chain(nodes, {**more, "s": NUMBER}, (4, 4, 6, 6), ends), RULE)


@pytest.mark.parametrize("core", ["Erf", "Tanh"])
def test_stays_in_a_gelu(core: str) -> None:
    nodes = [
        node("Relu", "x", "r"), node("Mul", "r root", "i"), node(core, "i", "e"), node("Add", "e one", "a"),
        node("Mul", "r a", "p"), node("Mul", "p half", "m"), node("MatMul", "m w", "y"),
    ]  # fmt: skip
    constants = {"root": f32(0.7), "one": f32(1), "half": f32(0.5), **weights(w=(4, 3))}
    assert rewrite(chain(nodes, constants, ("n", 4)), RULE).fired == {}


def test_stays_in_a_normalization() -> None:
    nodes = [
        node("ReduceMean", "x", "mean", axes=[-1]), node("Sub", "x mean", "d"), node("Pow", "d two", "q"),
        node("ReduceMean", "q", "v", axes=[-1]), node("Add", "v eps", "ve"), node("Sqrt", "ve", "sd"),
        node("Div", "d sd", "n"), node("Mul", "n gamma", "m"), node("MatMul", "m w", "y"),
    ]  # fmt: skip
    constants = {"two": f32(2), "eps": f32(1e-5), "gamma": channels(4, rank=1, axis=0), **weights(w=(4, 3))}
    assert rewrite(chain(nodes, constants, ("n", 4)), RULE).fired == {}


@pytest.mark.parametrize(("scale", "fires"), [(0.25, True), (4.0, False)])
def test_no_factor_grows_in_half_precision(scale: float, fires: bool) -> None:
    nodes = [
        node("MatMul", "x w", "q"),
        node("MatMul", "x v", "k"),
        node("Mul", "q k", "m"),
        node("Mul", "m s", "y"),
    ]
    model = chain(
        nodes, {**weights(w=(4, 4), v=(4, 4)), "s": f32(scale)}, ("n", 4), dtype=TensorProto.FLOAT16
    )
    after = rewrite(model, RULE)
    assert after.fired == ({RULE: 1} if fires else {})
    assert_same_answers(model, after.model, rtol=1e-2)


def test_fires_in_a_body() -> None:
    body = [node("Conv", "x w b", "c"), node("Relu", "c", "m"), node("Mul", "m s", "t")]
    other = [node("Conv", "x w b", "f")]
    info = [onnx.ValueInfoProto(name="t")], [onnx.ValueInfoProto(name="f")]
    branches = {
        "then_branch": helper.make_graph(body, "then", [], info[0]),
        "else_branch": helper.make_graph(other, "else", [], info[1]),
    }
    nodes = [
        node("ReduceSum", "x", "sum", keepdims=0), node("Greater", "sum s", "flag"),
        helper.make_node("If", ["flag"], ["y"], **branches),
    ]  # fmt: skip
    model = chain(nodes, {**CONV, "s": NUMBER})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)
    for feeds in ({"x": np.abs(x)}, {"x": -np.abs(x)}):
        assert_same_answers(model, after.model, feeds)
