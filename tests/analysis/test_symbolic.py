"""Facts in symbols, checked number by number against what onnxruntime computes for several sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from fuseonnx.analysis.content import Contents
from fuseonnx.analysis.expr import Computed, Number
from fuseonnx.analysis.shapes import annotate
from fuseonnx.analysis.symbolic import dims_of, elements_of, note
from tests.helpers import make_model, node, random_feeds, reference_session

Sizes = Mapping[str, int]
CONSTANTS = {
    "zero": [0], "one": [1], "two": [2], "three": [3], "minus": [-1], "heads": [2], "end": [2**63 - 1],
    "i0": 0, "i1": 1, "i2": 2,
    "w": np.ones((6, 8), np.float32), "k": np.ones((5, 3, 3, 3), np.float32), "positions": [list(range(64))],
    "ones2": [1, 1], "minus2": [-1, -1], "table": np.ones((64, 4), np.float32),
}  # fmt: skip


def model_of(*nodes: onnx.NodeProto, dims: tuple[int | str, ...] = ("b", "n", 6)) -> onnx.ModelProto:
    """A model whose results are all outputs; `s` is the shape of x, `b` and `n` its first dims as scalars."""
    where = dims.index("n")
    first = [node("Shape", "x", "s"), node("Gather", "s i0", "b"), node("Gather", f"s i{where}", "n")]
    graph = [*first, *nodes]
    read = {name for each in graph for name in each.input}
    constants = {name: np.asarray(value) for name, value in CONSTANTS.items() if name in read}
    outputs = [name for each in graph for name in each.output]
    return make_model(graph, {"x": dims}, outputs, constants)


ARANGE = node("Range", "i0 n i1", "r")
ROWS = (node("Range", "i0 b i1", "q"), node("Unsqueeze", "q one", "q1"))
MODELS = {
    "heads": model_of(
        node("MatMul", "x w", "h"), node("Unsqueeze", "b zero", "b1"), node("Unsqueeze", "n zero", "n1"),
        node("Concat", "b1 n1 heads minus", "t", axis=0), node("Reshape", "h t", "r"),
        node("Transpose", "r", "u", perm=[0, 2, 3, 1]), node("Flatten", "u", "f", axis=2),
        node("Softmax", "u", "v"), node("ReduceSum", "v two", "m", keepdims=0),
        node("Squeeze", "b1 zero", "sq"), node("Size", "h", "size"), node("Shape", "u", "us"),
        node("ReduceProd", "us", "p", axes=[0]), node("Div", "p size", "q"),
    ),
    "slices": model_of(
        node("Slice", "x one end one", "a"), node("Slice", "x zero minus one", "c"),
        node("Unsqueeze", "n zero", "n1"), node("Slice", "x minus n1 one", "d"),
        node("Slice", "x zero three one", "e"), node("Slice", "x zero n1 one two", "f"),
        node("Concat", "a x e", "g", axis=1), node("Shape", "g", "gs"),
        node("Slice", "gs minus zero zero minus", "back"), node("Gather", "x zero", "row"),
        node("Split", "x", "p0 p1", axis=2), node("Tile", "n1 two", "tiled"),
    ),
    "arithmetic": model_of(
        node("Mul", "n i2", "n2"), node("Add", "n2 i1", "odd"), node("Div", "odd i2", "half"),
        node("Max", "n b", "most"), node("Min", "n i2", "least"), node("Sub", "odd n", "diff"),
        node("Mod", "n2 i2", "mod"), node("Equal", "n i2", "eq"), node("GreaterOrEqual", "n2 n", "ge"),
        node("Less", "odd n2", "lt"), node("And", "ge lt", "and"), node("Or", "ge eq", "or"),
        node("Not", "lt", "not"), node("Cast", "odd", "cast", to=TensorProto.INT32),
        node("Neg", "n", "neg"), node("Abs", "neg", "abs"), node("Where", "ge n2 n", "chosen"),
        node("Unsqueeze", "odd zero", "o1"), node("ConstantOfShape", "o1", "filled"),
    ),
    "expand": model_of(
        node("Unsqueeze", "n zero", "n1"), node("Concat", "minus n1", "t", axis=0),
        node("Equal", "t minus2", "e"), node("Where", "e ones2 t", "u"),
        node("Slice", "positions zero n1 one", "p"),
        node("Expand", "p u", "y"), node("Gather", "table p", "g"), node("Add", "g g", "sum"),
    ),
    "windows": model_of(
        node("Conv", "x k", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("MaxPool", "c", "m", kernel_shape=[2, 2], strides=[1, 1]),
        node("GlobalAveragePool", "m", "g"), node("Shape", "m", "ms"), node("Conv", "x k", "v"),
        dims=("b", 3, "n", 9),
    ),
    "positions": model_of(
        ARANGE, *ROWS, node("Mul", "q1 n", "rows"), node("Add", "rows r", "index"),
        node("GreaterOrEqual", "r i0", "all"), node("Equal", "r i1", "some"),
        node("Unsqueeze", "r zero", "r1"), node("Slice", "s zero two", "bn"),
        node("Expand", "r1 bn", "wide"), node("Slice", "wide zero one one", "first"),
        node("Sub", "first i1", "before"), node("Concat", "before wide", "moved", axis=1),
        node("Unsqueeze", "n zero", "n1"), node("Slice", "moved zero n1 one", "left"),
        node("Slice", "moved one end one", "right"), node("Sub", "right left", "steps"),
        node("Equal", "steps i1", "even"), node("Not", "even", "odd"),
        node("Cast", "odd", "number", to=TensorProto.INT64), node("CumSum", "number i1", "sum"),
        node("Unsqueeze", "r minus", "r2"), node("LessOrEqual", "r1 r2", "triangle"),
        node("Transpose", "wide", "turned"), node("Gather", "wide r", "picked", axis=1),
        node("Slice", "r one end zero two", "odds"), node("Reshape", "index minus", "flat"),
    ),
}  # fmt: skip


def value_of(number: Number, sizes: Sizes) -> int | None:
    """Return a number for given sizes, None if it holds an unknown that no name tells."""
    if isinstance(number, int):
        return number
    total = 0
    for names, factor in number.terms:
        product = factor
        for name in names:
            if isinstance(name, Computed):
                operands = [value_of(each, sizes) for each in name.operands]
                result = None if None in operands else name.function(*operands)  # type: ignore[arg-type]
            else:
                result = sizes.get(name)
            if not isinstance(result, int):
                return None
            product *= result
        total += product
    return total


def runs(model: onnx.ModelProto) -> Iterator[tuple[Sizes, dict[str, np.ndarray]]]:
    """Yield sizes, and all results for them."""
    session = reference_session(model)
    names = [each.name for each in session.get_outputs()]
    for b, n in ((2, 5), (1, 3), (3, 4), (2, 8)):
        feeds = random_feeds(model, b=b, n=n)
        yield {"b": b, "n": n}, dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("case", MODELS)
def test_what_is_said_is_true(case: str) -> None:
    model = ir.from_proto(MODELS[case])
    annotate(model)
    values = [value for each in model.graph for value in each.outputs]
    said = 0
    for sizes, results in runs(MODELS[case]):
        for value in values:
            found = results[value.name or ""]
            dims, elements, content = dims_of(value), elements_of(value), Contents().of(value)
            assert dims is not None, value.name
            assert len(dims) == found.ndim, value.name
            for dim, size in zip(dims, found.shape, strict=True):
                assert value_of(dim, sizes) in (None, size), (value.name, str(dim))
            for element, number in zip(elements or (), found.ravel(), strict=elements is not None):
                assert value_of(element, sizes) in (None, int(number)), (value.name, str(element))
            if content is not None and found.size:
                numbers = [value_of(each, sizes) for each in (content.start, *content.slopes)]
                known = [each for each in numbers if each is not None]
                if len(known) < len(numbers):
                    continue
                said, (start, *slopes) = said + 1, known
                expected = np.full(found.shape, start)
                for slope, axis in zip(slopes, np.indices(found.shape), strict=True):
                    expected += slope * axis
                np.testing.assert_array_equal(found.astype(np.int64), expected, err_msg=value.name or "")
    assert said


def test_symbols_reach_through_a_computed_reshape() -> None:
    model = ir.from_proto(MODELS["heads"])
    annotate(model)
    named = {value.name: value for each in model.graph for value in each.outputs}
    assert [str(dim) for dim in dims_of(named["r"]) or ()] == ["1*b", "1*n", "2", "4"]
    assert elements_of(named["q"]) == (1,)


def test_a_mask_of_positions_is_seen_through() -> None:
    model = ir.from_proto(MODELS["positions"])
    annotate(model)
    named = {value.name: value for each in model.graph for value in each.outputs}
    contents = Contents()
    for name, number in (("all", 1), ("steps", 1), ("even", 1), ("odd", 0), ("sum", 0)):
        content = contents.of(named[name])
        assert content is not None, name
        assert (content.is_uniform, content.start) == (True, number), name
    assert contents.of(named["some"]) is None
    assert contents.of(named["triangle"]) is None


def test_names_in_a_body_are_not_believed() -> None:
    """A Loop that grows its state: its body calls the dim `n`, and means another size each time."""
    body = helper.make_graph(
        [
            node("Concat", "state state", "next", axis=0),
            node("Shape", "next", "size"),
            node("Identity", "on", "go"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["n"]),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [node("Loop", "trips t x", "y", body=body)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            onnx.numpy_helper.from_array(np.array(2), "trips"),
            onnx.numpy_helper.from_array(np.array(True), "t"),
        ],
    )
    model = ir.from_proto(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    )
    annotate(model)
    inner = model.graph[0].attributes["body"].as_graph()
    state = dims_of(inner.inputs[2])
    assert state is not None
    assert value_of(state[0], {"n": 4}) is None
    assert (
        dims_of(model.graph.outputs[0]) is None
        or value_of((dims_of(model.graph.outputs[0]) or (0,))[0], {"n": 4}) is None
    )


def test_that_two_numbers_are_one_is_news() -> None:
    """Each of them is as unknown as before, but what computes them can be merged now."""
    nodes = [
        node("ReduceMax", "first", "a", axes=[0], keepdims=0),
        node("ReduceSum", "second zero", "b", keepdims=0),
    ]
    model = ir.from_proto(
        make_model(
            nodes, {"first": [1], "second": [1]}, ["a", "b"], {"zero": np.array([0])}, dtype=TensorProto.INT64
        )
    )
    first, second = model.graph
    note(model.graph)
    assert elements_of(first.outputs[0]) != elements_of(second.outputs[0])
    assert not note(model.graph)
    second.replace_input_with(0, model.graph.inputs[0])
    assert note(model.graph)
    assert elements_of(first.outputs[0]) == elements_of(second.outputs[0])
    assert not note(model.graph)
