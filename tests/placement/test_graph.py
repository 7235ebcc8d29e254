"""graph: sizes against what onnxruntime computes, work against the model's total, and what is a shape."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import parser

from fuseonnx.analysis.shapes import annotate
from fuseonnx.analysis.stats import estimate_flops
from fuseonnx.errors import OptionError
from fuseonnx.placement.graph import Graph, read_graph

HEAD = '<ir_version: 10, opset_import: ["" : 17]>\n'
NET = """net (float[batch, 3, height, 20] x, int64[batch, k] ids, float[8, 3, 3, 3] w, float[8] b)
    => (float[batch, n] y, int64[batch, k, m] z)
    <int64[2] flat = {0, -1}, int64[1] one = {1}> {
  c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
  r = Relu (c)
  y = Reshape (r, flat)
  s = Shape (ids)
  full = Concat <axis = 0> (s, one)
  z = Reshape (ids, full)
}"""


def read(text: str, input_shapes: dict[str, tuple[int, ...]] | None = None, *, folds: bool = True) -> Graph:
    model = ir.from_proto(parser.parse_model(HEAD + text))
    annotate(model)
    return read_graph(model, input_shapes, folds_constants=folds)


def test_sizes_are_those_of_a_run() -> None:
    shapes = {"x": (2, 3, 10, 20), "ids": (2, 5)}
    graph = read(NET, shapes)
    proto = parser.parse_model(HEAD + NET)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("c", "r", "s", "full"))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {
        each.name: np.ones(
            shapes.get(each.name, tuple(each.shape)), np.int64 if each.name == "ids" else np.float32
        )
        for each in session.get_inputs()
    }
    names = [each.name for each in session.get_outputs()]
    for name, array in zip(names, session.run(names, feeds), strict=True):
        found = graph.values[name]
        assert (found.dims, found.nbytes, found.dtype) == (array.shape, array.nbytes, str(array.dtype)), name


def test_dynamic_dims_count_as_one_unless_given() -> None:
    assert read(NET).values["c"].dims == (1, 8, 1, 20)
    assert read(NET, {"ids": (7, 2)}).values["c"].dims == (7, 8, 1, 20)
    with pytest.raises(OptionError, match="no input is named 'q'"):
        read(NET, {"q": (1,)})


@pytest.mark.parametrize("shapes", [{}, {"x": (2, 3, 10, 20), "ids": (2, 5)}])
def test_the_work_is_that_of_the_whole_model(shapes: dict[str, tuple[int, ...]]) -> None:
    graph = read(NET, shapes)
    cost = estimate_flops(ir.from_proto(parser.parse_model(HEAD + NET)), shapes)
    assert (sum(node.flops for node in graph.nodes), sum(node.nbytes for node in graph.nodes)) == (
        cost.flops,
        cost.bytes_moved,
    )
    batch, height = (2, 10) if shapes else (1, 1)
    assert graph.nodes[0].flops == 2 * batch * 8 * height * 20 * 27
    assert all(node.is_counted for node in graph.nodes) == bool(shapes)


def test_sizes_are_not_taken_for_known_that_are_only_assumed() -> None:
    text = """g (float[batch, 3, side, side] x, float[3, n] t) => (float[batch, 3, h, h] y, float[3, n] z) {
      p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
      y = Relu (p)
      z = Neg (t)
    }"""
    assumed = read(text)
    assert [node.is_counted for node in assumed.nodes] == [False, False, False]
    assert assumed.values["p"].dims == (1, 3, None, None)  # half of an assumed 1 is no size
    assert assumed.values["p"].nbytes == 12
    given = read(text, {"x": (2, 3, 8, 8)})
    assert [node.is_counted for node in given.nodes] == [True, True, False]
    assert given.values["p"].dims == (2, 3, 4, 4)


def test_what_serves_only_as_a_shape() -> None:
    graph = read(NET)
    assert {name for name, value in graph.values.items() if value.is_shape} == {"flat", "s", "one", "full"}
    computed = read("""g (float[n, 4] x, float[n] t) => (float[n, 4] y, float[n] u) {
        s = Shape (x)
        f = Cast <to = 1> (s)
        h = Floor (f)
        back = Cast <to = 7> (h)
        y = Expand (x, back)
        kept = Shape (t)
        wide = Cast <to = 1> (kept)
        u = Mul (t, wide)
    }""")
    assert {name for name, value in computed.values.items() if value.is_shape} == {"s", "f", "h", "back"}


def test_sizes_after_data_dependent_operators_are_unknown() -> None:
    graph = read("""g (float[4, 8] x) => (int64[2, n] y) { i = NonZero (x)  y = Neg (i) }""")
    assert graph.values["y"].dims == (2, None)
    assert graph.values["y"].nbytes == 16
    assert [node.is_counted for node in graph.nodes] == [False, False]


FOLDED = """g (float[2, 4] x, float[n] t) => (float[2, 4] y, float[m] z, float[2] v)
    <float[2] v0 = {1, 2}, int64[1] k = {3}, float one = {1}> {
  c = Constant <value = float[1] {5}> ()
  two = Add (c, one)
  s = Shape (x)
  e = Expand (two, s)
  y = Mul (x, e)
  d = Shape (t)
  z = Expand (c, d)
  v = Neg (v0)
}"""


def test_constants_are_folded_where_onnxruntime_folds_them() -> None:
    def constant(*, folds: bool) -> set[str]:
        return {node.outputs[0] for node in read(FOLDED, folds=folds).nodes if node.is_constant}

    assert constant(folds=False) == {"c"}
    assert constant(folds=True) == {"c", "two", "s", "e"}
    graph = read(FOLDED)
    assert {name for name, value in graph.values.items() if value.is_initializer} == {
        *("v0", "k", "one", "c", "two", "s", "e")
    }
    assert graph.users["x"] == (4,)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    proto = parser.parse_model(HEAD + FOLDED)
    for node in proto.graph.node:
        node.name = node.output[0]
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    left = {node.name for part in session.get_provider_graph_assignment_info() for node in part.get_nodes()}
    assert left - {"v"} == {"y", "d", "z"}  # onnxruntime folds even what is an output


def test_bodies_and_what_they_capture() -> None:
    graph = read("""g (bool c, float[8, 8] x, float[8, 8] w) => (float[8, 8] y) {
        a = Relu (x)
        y = If (c) <
            then_branch = t () => (float[8, 8] p) { p = MatMul (a, w) },
            else_branch = e () => (float[8, 8] q) { q = Neg (a) }
        >
    }""")
    branches = graph.nodes[1]
    assert (branches.bodies, branches.captures, branches.inputs) == (2, ("a", "w"), ("c",))
    assert [each.op_type for each in branches.inner] == ["MatMul", "Neg"]
    assert branches.flops == 2 * 8**3 + 8 * 8
    assert branches.host_inputs == {0}


def test_defaults_that_may_be_overridden() -> None:
    proto = parser.parse_model(HEAD + "g (float[2] x, float[2] d) => (float[2] y) { y = Add (x, d) }")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, np.float32), "d"))
    model = ir.from_proto(proto)
    annotate(model)
    found = read_graph(model).values
    assert (found["d"].is_initializer, found["d"].is_input) == (True, True)
    assert (found["x"].is_initializer, found["x"].is_input) == (False, True)
