from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fuseonnx.errors import BackendError, OptionError
from fuseonnx.runtime.inputs import make_inputs
from fuseonnx.runtime.session import Feeds, open_session, run

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def value(name: str, dims: Any, dtype: Any = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


def model(nodes: Any, inputs: Any, weights: Any = None, outputs: Any = ("y",)) -> onnx.ModelProto:
    """Return a model in memory whose outputs have no declared shape."""
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, [value(name, None) for name in outputs], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def feeds_of(proto: onnx.ModelProto, **options: Any) -> list[Feeds]:
    return [feeds for _, feeds in make_inputs(proto, **options)]


def accepted_by(proto: onnx.ModelProto, tmp_path: Path) -> Callable[[Feeds], bool]:
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    session = open_session(path)

    def accepts(feeds: Feeds) -> bool:
        try:
            run(session, feeds)
        except BackendError:
            return False
        return True

    return accepts


def neg(*inputs: onnx.ValueInfoProto) -> onnx.ModelProto:
    return model([helper.make_node("Neg", [inputs[0].name], ["y"])], list(inputs))


def test_floats_have_both_signs_and_several_magnitudes() -> None:
    found = {label: feeds["x"] for label, feeds in make_inputs(neg(value("x", [4, 64])))}
    assert list(found) == ["normal", "large", "small", "zeros", "again"]
    assert {name: x.std() for name, x in found.items()} == pytest.approx(
        {"normal": 1, "large": 30, "small": 1e-3, "zeros": 0, "again": 1}, rel=0.2
    )
    for name in ("normal", "large", "small", "again"):
        assert 0.3 < (found[name] > 0).mean() < 0.7
    assert (found["normal"] != found["again"]).all()


def test_equal_arguments_give_equal_inputs_and_another_seed_others() -> None:
    proto = neg(value("x", ["n", 3]))
    first, again, other = (feeds_of(proto, seed=seed) for seed in (0, 0, 1))
    assert all((a["x"] == b["x"]).all() for a, b in zip(first, again, strict=True))
    assert (first[0]["x"] != other[0]["x"]).all()


@pytest.mark.parametrize(
    "onnx_type", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT8E5M2]
)
def test_float_dtypes_are_respected(onnx_type: int) -> None:
    expected = helper.tensor_dtype_to_np_dtype(onnx_type)
    assert {feeds["x"].dtype for feeds in feeds_of(neg(value("x", [2], onnx_type)))} == {expected}


def test_every_dynamic_dim_gets_two_sizes_and_equal_symbols_equal_sizes() -> None:
    proto = neg(value("x", ["n", "t", 8]), value("z", [None, "t"]))
    shapes = [(feeds["x"].shape, feeds["z"].shape) for feeds in feeds_of(proto)]
    assert all(x[1] == z[1] and x[2] == 8 for x, z in shapes)
    assert all(len({shape[which][axis] for shape in shapes}) == 2 for which, axis in [(0, 0), (0, 1), (1, 0)])
    assert {x[0] for x, _ in shapes} == {1, 2}


def test_dims_named_question_mark_are_independent(tmp_path: Path) -> None:
    transpose = helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1])
    proto = model([transpose], [value("x", ["?", 3, "?", "?"])])
    shapes = {feeds["x"].shape for feeds in feeds_of(proto)}
    assert len(shapes) == 2
    assert all(height != width and height % 32 == 0 and width % 32 == 0 for _, _, height, width in shapes)


def test_sums_of_symbols_are_followed() -> None:
    proto = neg(
        value("x", ["n", "past"], INT64), value("mask", ["n", "past + new"]), value("z", ["new", "new+1"])
    )
    for feeds in feeds_of(proto):
        assert feeds["mask"].shape[1] == feeds["x"].shape[1] + feeds["z"].shape[0]
        assert feeds["z"].shape[1] == feeds["z"].shape[0] + 1


def test_sizes_are_searched_until_the_model_runs(tmp_path: Path) -> None:
    """The Reshape holds only for a height of 48, the width is free: as in a text recognition net."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    proto = model([node], [value("x", [None, 3, None, None])], {"shape": np.array([0, 3 * 48, -1])})
    proto.graph.node.insert(0, helper.make_node("Slice", ["x", "from", "to", "axis"], ["row"]))
    proto.graph.node[0].output[0] = "x48"
    proto.graph.node[1].input[0] = "x48"
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.array([v]), k) for k, v in [("from", 0), ("to", 48), ("axis", 2)]
    )
    accepts = accepted_by(proto, tmp_path)
    shapes = {feeds["x"].shape for feeds in feeds_of(proto, accepts=accepts)}
    assert len({shape[3] for shape in shapes}) == 2
    assert all(accepts({"x": np.zeros(shape, np.float32)}) for shape in shapes)


def test_lengths_that_depend_on_each_other_are_found(tmp_path: Path) -> None:
    """As with a cache: `total` must be `past` + `seq`, which no name says."""
    nodes = [
        helper.make_node("Concat", ["past", "new"], ["all"], axis=1),
        helper.make_node("Concat", ["all", "mask"], ["y"], axis=0),
    ]
    inputs = [value("past", ["n", "past"]), value("new", ["n", "seq"]), value("mask", ["n", "total"])]
    proto = model(nodes, [*inputs, value("ids", ["n", "seq"], INT64)])
    found = feeds_of(proto, accepts=accepted_by(proto, tmp_path))
    lengths = [{name: feeds[name].shape[1] for name in ("past", "new", "mask")} for feeds in found]
    assert lengths[0]["past"] > 1 < lengths[0]["new"]
    assert all(each["mask"] == each["past"] + each["new"] for each in lengths)
    assert len({each["mask"] for each in lengths}) == 2


def test_channels_come_from_the_weights_of_the_first_conv() -> None:
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["c"]),
        helper.make_node("Conv", ["c", "w"], ["y"], group=2),
    ]
    weights = {"w": np.zeros((4, 5, 3, 3), np.float32), "mean": np.zeros(1, np.float32)}
    found = feeds_of(model(nodes, [value("x", ["n", "c", "h", "w_"])], weights))
    assert {feeds["x"].shape[1] for feeds in found} == {10}


def test_given_shapes_win_and_are_checked() -> None:
    proto = neg(value("x", ["n", 3, "h", "w"]), value("z", ["n"]))
    found = feeds_of(proto, shapes={"x": (5, 3, 7, 9)})
    assert {feeds["x"].shape for feeds in found} == {(5, 3, 7, 9)}
    assert {feeds["z"].shape for feeds in found} == {(5,)}


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"nope": [1]}, "no input is named 'nope'; the model's inputs are: x"),
        ({"x": [1, 2]}, "rank 2, not 3"),
        ({"x": [1, 4, 2]}, "has 4, the model has 3"),
        ({"x": [-1, 3, 2]}, "has -1"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: Any, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        feeds_of(neg(value("x", ["n", 3, "t"])), shapes=shapes)


def test_overridable_initializers_are_not_fed() -> None:
    proto = model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x", [2]), value("w", [2])],
        {"w": np.ones(2, np.float32)},
    )
    assert all(feeds.keys() == {"x"} for feeds in feeds_of(proto))


def test_a_model_without_inputs_runs_twice_on_nothing() -> None:
    proto = model([helper.make_node("Neg", ["w"], ["y"])], [], {"w": np.ones(2, np.float32)})
    assert feeds_of(proto) == [{}, {}]


def ids_of(nodes: Any, weights: Any, dims: Any = ("n", 32), others: Any = ()) -> Any:
    return np.concatenate(
        [
            feeds["ids"].ravel()
            for feeds in feeds_of(model(nodes, [value("ids", dims, INT64), *others], weights))
        ]
    )


def test_gather_indices_are_in_range_and_use_it() -> None:
    table = {"table": np.zeros((50, 4), np.float32)}
    ids = ids_of([helper.make_node("Gather", ["table", "ids"], ["y"])], table)
    assert ids.min() >= 0
    assert 40 < ids.max() <= 49


def test_gather_range_needs_no_weights() -> None:
    proto = model(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        [value("ids", [64], INT64)],
        {"table": np.zeros((50, 4), np.float32)},
    )
    table = proto.graph.initializer[0]
    table.ClearField("raw_data")
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key="location", value="weights.bin")
    assert 40 < max(feeds["ids"].max() for feeds in feeds_of(proto)) <= 49


def test_gather_range_follows_axis_casts_shifts_and_bodies() -> None:
    inner = helper.make_graph(
        [helper.make_node("Gather", ["table", "moved"], ["out"], axis=1)], "then", [], [value("out", None)]
    )
    nodes = [
        helper.make_node("Cast", ["ids"], ["narrow"], to=TensorProto.INT32),
        helper.make_node("Add", ["narrow", "two"], ["moved"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner),
    ]
    weights = {"table": np.zeros((3, 9), np.float32), "two": np.array(2, np.int32)}
    ids = ids_of(nodes, weights, others=[value("flag", [], TensorProto.BOOL)])
    assert set(ids.tolist()) == set(range(-2, 7))


def test_the_tighter_of_two_tables_counts() -> None:
    nodes = [helper.make_node("Gather", [table, "ids"], [f"{table}y"]) for table in ("a", "b")]
    weights = {"a": np.zeros(9, np.float32), "b": np.zeros(4, np.float32)}
    assert set(ids_of([*nodes, helper.make_node("Add", ["ay", "by"], ["y"])], weights).tolist()) == {
        0,
        1,
        2,
        3,
    }


def test_converted_and_compared_integers_are_masks() -> None:
    nodes = [helper.make_node("Cast", ["ids"], ["m"], to=FLOAT), helper.make_node("Neg", ["m"], ["y"])]
    assert set(ids_of(nodes, {}).tolist()) == {0, 1}


def test_padding_ids_appear_among_the_indices() -> None:
    nodes = [
        helper.make_node("Equal", ["ids", "pad"], ["y"]),
        helper.make_node("Gather", ["table", "ids"], ["z"]),
    ]
    ids = ids_of(nodes, {"pad": np.array(777), "table": np.zeros((1000, 1), np.float32)})
    assert 0.03 < (ids == 777).mean() < 0.3
    assert ids.max() < 1000


def test_divisors_are_never_zero() -> None:
    ids = ids_of([helper.make_node("Div", ["n", "ids"], ["y"])], {"n": np.array(7)})
    assert ids.min() >= 1


def test_quantized_images_use_all_of_uint8() -> None:
    proto = model(
        [helper.make_node("Cast", ["x"], ["y"], to=FLOAT)], [value("x", ["n", 3, 64, 64], TensorProto.UINT8)]
    )
    x = feeds_of(proto)[0]["x"]
    assert (x.min(), x.max(), x.dtype) == (0, 255, np.uint8)


@pytest.mark.parametrize(
    ("node", "name", "dims"),
    [
        (helper.make_node("Reshape", ["x", "k"], ["y"]), "k", [3]),
        (helper.make_node("Expand", ["x", "k"], ["y"]), "k", [2]),
        (helper.make_node("Tile", ["x", "k"], ["y"]), "k", [2]),
        (helper.make_node("TopK", ["x", "k"], ["y", "i"]), "k", [1]),
        (helper.make_node("ConstantOfShape", ["k"], ["y"]), "k", [3]),
        (helper.make_node("Unsqueeze", ["x", "k"], ["y"]), "k", [2]),
        (helper.make_node("ReduceSum", ["x", "k"], ["y"]), "k", [2]),
        (helper.make_node("Slice", ["x", "zero", "k"], ["y"]), "k", [1]),
        (helper.make_node("GatherND", ["x", "k"], ["y"]), "k", [4, 2]),
        (helper.make_node("GatherElements", ["x", "k"], ["y"], axis=1), "k", [3, 2]),
        (helper.make_node("OneHot", ["k", "depth", "values"], ["y"]), "k", [5]),
    ],
)
def test_shape_like_inputs_run(tmp_path: Path, node: onnx.NodeProto, name: str, dims: Any) -> None:
    weights = {"zero": np.array([0]), "depth": np.array(5), "values": np.array([0.0, 1.0], np.float32)}
    proto = model([node], [value("x", [3, 6]), value(name, dims, INT64)], weights)
    accepts = accepted_by(proto, tmp_path)
    found = feeds_of(proto)
    assert found
    assert all(accepts(feeds) for feeds in found)


def test_compared_scalars_take_each_case(tmp_path: Path) -> None:
    """As in a voice detector: the sampling rate chooses the branch, and the branch the number of samples."""

    def branch(samples: int) -> onnx.GraphProto:
        constant = numpy_helper.from_array(np.ones((samples, 1), np.float32))
        nodes = [
            helper.make_node("Constant", [], [f"w{samples}"], value=constant),
            helper.make_node("MatMul", ["x", f"w{samples}"], [f"y{samples}"]),
        ]
        return helper.make_graph(nodes, "branch", [], [value(f"y{samples}", None)])

    nodes = [
        helper.make_node("Constant", [], ["rate"], value_int=16000),
        helper.make_node("Equal", ["sr", "rate"], ["wide"]),
        helper.make_node("If", ["wide"], ["y"], then_branch=branch(512), else_branch=branch(256)),
    ]
    proto = model(nodes, [value("x", [None, None]), value("sr", [], INT64)])
    accepts = accepted_by(proto, tmp_path)
    seen = {(feeds["sr"].item() == 16000, feeds["x"].shape) for feeds in feeds_of(proto, accepts=accepts)}
    assert seen == {(True, (1, 512)), (True, (2, 512)), (False, (1, 256)), (False, (2, 256))}


def test_bool_scalars_take_both_values_and_bool_tensors_are_mixed() -> None:
    proto = neg(value("x", [2]), value("flag", [], TensorProto.BOOL), value("mask", [64], TensorProto.BOOL))
    found = feeds_of(proto)
    assert {bool(feeds["flag"]) for feeds in found} == {True, False}
    assert 0.2 < found[0]["mask"].mean() < 0.8


def test_the_last_run_has_open_masks_and_the_last_row() -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["y"]),
        helper.make_node("Cast", ["mask"], ["z"], to=FLOAT),
        helper.make_node("Not", ["open"], ["w"]),
    ]
    inputs = [value("ids", ["n"], INT64), value("mask", ["n"], INT64), value("open", [4], TensorProto.BOOL)]
    proto = model(nodes, inputs, {"table": np.zeros((1000, 1), np.float32)}, ["y", "z", "w"])
    *others, (label, feeds) = make_inputs(proto)
    assert label.startswith("highest")
    assert {name: set(array.tolist()) for name, array in feeds.items()} == {
        "ids": {999},
        "mask": {1},
        "open": {True},
    }
    assert not any(label.startswith("highest") for label, _ in others)


def test_no_run_has_what_the_model_refuses() -> None:
    proto = model([helper.make_node("Cast", ["x"], ["y"], to=FLOAT)], [value("x", [8], INT64)])
    labels = [label for label, _ in make_inputs(proto, accepts=lambda feeds: not feeds["x"].all())]
    assert labels == ["normal", "again"]


def test_strings_include_the_words_that_the_model_knows() -> None:
    node = helper.make_node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=["wolf", "lynx"], values_int64s=[1, 2]
    )
    words = {
        word
        for feeds in feeds_of(model([node], [value("x", [64], TensorProto.STRING)]))
        for word in feeds["x"]
    }
    assert {"wolf", "lynx", "cat"} <= words


def test_sequences_are_lists_of_tensors() -> None:
    x = helper.make_tensor_sequence_value_info("x", FLOAT, ["n", 3])
    node = helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)
    found = feeds_of(model([node], [x]))
    assert all([a.shape[1] for a in feeds["x"]] == [3, 3] for feeds in found)


def test_maps_cannot_be_made() -> None:
    x = onnx.ValueInfoProto(name="x")
    x.type.map_type.key_type = INT64
    x.type.map_type.value_type.tensor_type.elem_type = FLOAT
    with pytest.raises(BackendError, match="'x' is neither a tensor nor a sequence"):
        feeds_of(model([helper.make_node("CastMap", ["x"], ["y"], domain="ai.onnx.ml")], [x]))


@pytest.mark.parametrize("dtype", [FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_a_float_scalar_is_an_array_that_onnxruntime_takes(tmp_path: Path, dtype: int) -> None:
    proto = model([helper.make_node("Cast", ["x"], ["y"], to=FLOAT)], [value("x", [], dtype)])
    accepts = accepted_by(proto, tmp_path)
    found = feeds_of(proto, accepts=accepts)
    assert len({feeds["x"].item() for feeds in found}) == len(found) == 5
