"""assign: what onnxruntime does by itself, on a real second provider; and on CUDA, by its known rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from fuseonnx.analysis.shapes import annotate
from fuseonnx.placement.assign import Decision, decide
from fuseonnx.placement.graph import Graph, read_graph
from fuseonnx.placement.kernels import Kernel, Kernels
from tests.placement.conftest import SecondProvider

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.onnx"
HEAD = '<ir_version: 10, opset_import: ["" : 17]>\n'
RESHAPE_BY_SHAPE = """g (float[n, 4, 6] x) => (float[n, m] y)
    <int64 zero = {0}, int64[1] axis = {0}, int64[1] minus = {-1}> {
  r = Relu (x)
  s = Shape (r)
  n0 = Gather <axis = 0> (s, zero)
  n1 = Unsqueeze (n0, axis)
  full = Concat <axis = 0> (n1, minus)
  y = Reshape (r, full)
}"""
MASK_BY_SHAPE = """g (float[n, 4] x) => (float[n, 4] y) <int64[1] k = {1}, float[1] two = {2}> {
  s = Shape (x)
  g1 = Gather <axis = 0> (s, k)
  b = Cast <to = 9> (g1)
  f = Cast <to = 1> (b)
  h = Mul (f, two)
  i = Cast <to = 6> (s)
  j = Cast <to = 1> (i)
  t = ReduceSum <keepdims = 0> (j)
  m = Mul (x, t)
  y = Add (m, h)
}"""
SIZE_AND_RANGE = """g (float[n, 4] x, int64 start) => (float[n, 4] y, float[k] z, int64[1] d)
    <int64 one = {1}, int64[1] axis = {0}> {
  count = Size (x)
  r = Range (start, count, one)
  z = Cast <to = 1> (r)
  s = Shape (x)
  t = Shape (s)
  u = Squeeze (t, axis)
  d = Unsqueeze (u, axis)
  y = Relu (x)
}"""
DATA_DEPENDENT = """g (float[8, 4] x) => (float[n] y) <int64[1] axis = {0}> {
  r = Relu (x)
  i = NonZero (r)
  t = Transpose <perm = [1, 0]> (i)
  e = GatherND (r, t)
  y = Neg (e)
}"""
OPTIONAL_LEFT_OUT = """g (float[n, 4] x) => (float[k] y, float[k] z) <float low = {1}> {
  s = Shape (x)
  f = Cast <to = 1> (s)
  y = Clip (f, , low)
  z = Clip (f)
}"""
READ_IN_CPU_MEMORY = """g (float[n, 4] x) => (float[k] y) {
  s = Shape (x)
  f = Cast <to = 1> (s)
  g = ReduceMax <keepdims = 0> (f)
  y = Clip (f, , g)
}"""
BRANCHES = """g (bool c, float[8, 8] x) => (float[8, 8] y) {
  a = Relu (x)
  y = If (c) <
    then_branch = t () => (float[8, 8] p) { p = MatMul (a, a) },
    else_branch = e () => (float[8, 8] q) { q = Neg (a) }
  >
}"""
NETS = [
    RESHAPE_BY_SHAPE,
    MASK_BY_SHAPE,
    SIZE_AND_RANGE,
    DATA_DEPENDENT,
    OPTIONAL_LEFT_OUT,
    READ_IN_CPU_MEMORY,
    BRANCHES,
]


def named(text: str) -> onnx.ModelProto:
    proto = parser.parse_model(HEAD + text)
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.checker.check_model(proto)
    return proto


def graph_of(proto: onnx.ModelProto, *, folds: bool = True) -> Graph:
    model = ir.from_proto(proto)
    annotate(model)
    return read_graph(model, folds_constants=folds)


def on_cuda(text: str) -> dict[str, Decision]:
    graph = graph_of(named(text))
    return {
        node.name: decision
        for node, decision in zip(graph.nodes, decide(graph, Kernels.load(), "cuda"), strict=True)
    }


INSIDE = """<ir_version: 10, opset_import: ["" : 17, "my" : 1]>
g (bool c, float[4] x) => (float[4] y, float[4] z) {
  y = If (c) <
      then_branch = t () => (float[4] p) { k = Constant <value = float {2}> () p = Det (x) },
      else_branch = e () => (float[4] q) { q = my.outer (x) }
  >
  z = my.inner (x)
}
<domain: "my", opset_import: ["" : 17, "my" : 1]> outer (v) => (r) { s = my.inner (v) r = Celu (s) }
<domain: "my", opset_import: ["" : 17]> inner (v) => (r) { t = Tan (v) r = Neg (t) }
"""


def test_operators_inside_that_stay_on_the_cpu() -> None:
    graph = graph_of(parser.parse_model(INSIDE))
    decisions = decide(graph, Kernels.load(), "cuda")
    assert [decision.left for decision in decisions] == [("Det", "Tan", "Celu"), ("Tan",)]


def table(definitions: Iterable[Any]) -> dict[str, list[Kernel]]:
    kernels: dict[str, list[Kernel]] = defaultdict(list)
    for each in definitions:
        operator = f"{each.domain}::{each.op_name}" if each.domain else each.op_name
        first, last = each.version_range
        kernels[operator].append(Kernel.defined(first, last, each.type_constraints))
    return kernels


@pytest.mark.parametrize(
    "proto", [*map(named, NETS), onnx.load(EXAMPLE)], ids=lambda proto: proto.graph.node[-1].name
)
def test_a_real_provider_takes_what_is_predicted(
    proto: onnx.ModelProto, second_provider: SecondProvider
) -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    for index, node in enumerate(proto.graph.node):
        node.name = f"n{index}"
    kernels = Kernels(
        {
            "cpu": table(each for each in state.get_all_opkernel_def() if each.provider.startswith("CPU")),
            second_provider.name: table(state.get_registered_ep_kernel_defs(second_provider.name)),
        }
    )
    graph = graph_of(proto, folds=False)
    predicted = {
        node.name: second_provider.name if decision.device == "gpu" else "CPUExecutionProvider"
        for node, decision in zip(graph.nodes, decide(graph, kernels, second_provider.name), strict=True)
        if not node.is_constant
    }
    real = second_provider.open(proto, "").providers
    assert {name: real[name] for name in predicted} == predicted


def test_what_a_shape_is_made_into_stays_on_the_cpu() -> None:
    shape = Decision("cpu", "computes a shape")
    assert on_cuda(RESHAPE_BY_SHAPE) == {
        "r": Decision("gpu"),
        "s": Decision("gpu"),
        "n0": shape,
        "n1": shape,
        "full": shape,
        "y": Decision("gpu"),
    }


def test_small_operands_on_the_cpu_keep_a_node_there() -> None:
    found = on_cuda(MASK_BY_SHAPE)
    small = "its operands are on the CPU"
    assert found.pop("s") == Decision("gpu")
    assert {each.reason for each in found.values()} == {small}  # even of m and y: x is an input of the graph
    found = on_cuda(MASK_BY_SHAPE.replace("s = Shape", "r = Relu (x) s = Shape").replace("Mul (x", "Mul (r"))
    assert {name for name, each in found.items() if each == Decision("gpu")} == {"r", "s", "m", "y"}
    found = on_cuda(SIZE_AND_RANGE)
    assert found["r"] == Decision("gpu")  # a CUDA kernel reads its operands in CPU memory anyway
    assert found["t"] == Decision("gpu", "constant")  # the rank of x is known
    assert found["s"].device == "gpu"


def test_operands_left_out_do_not_matter_but_those_in_cpu_memory_do() -> None:
    found = on_cuda(OPTIONAL_LEFT_OUT)
    assert {name: each.device for name, each in found.items() if name != "s"} == dict.fromkeys("fyz", "cpu")
    found = on_cuda(READ_IN_CPU_MEMORY)
    assert (found["g"].device, found["y"].device) == ("cpu", "gpu")


def test_why_not_cuda() -> None:
    found = on_cuda("""g (float[8, 4] x, string[3] s)
            => (float[n] u, string[3] t, bool[8, 4] w, float[8, 4] h) {
        u = Unique (x)
        t = Identity (s)
        i = Cast <to = 9> (x)
        w = Mod (i, i)
        h = HardSwish (x)
    }""")
    assert found["u"] == Decision("cpu", "no CUDA kernel for Unique, data-dependent", is_forced=True)
    assert found["t"] == Decision("cpu", "no CUDA kernel for string", is_forced=True)
    assert found["w"] == Decision("cpu", "no CUDA kernel for bool", is_forced=True)
    assert found["h"] == Decision("gpu", is_forced=True)  # the CPU provider has no kernel


def test_data_dependent_operators_are_named() -> None:
    found = on_cuda(DATA_DEPENDENT)
    assert found["i"] == Decision("gpu", "data-dependent: the CPU waits for the size")
    assert found["e"] == Decision("gpu")


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("ConvTranspose <pads = [0, 0, 1, 1]> (x, w)", "CUDA's ConvTranspose pads both sides alike"),
        ('ConvTranspose <auto_pad = "SAME_UPPER"> (x, w)', "CUDA's ConvTranspose pads both sides alike"),
        ("ConvTranspose <pads = [1, 1, 1, 1]> (x, w)", ""),
        ("ConvTranspose (x, w)", ""),
    ],
)
def test_what_cuda_kernels_do_not_do(node: str, reason: str) -> None:
    found = on_cuda(f"g (float[1, 4, 8, 8] x, float[4, 4, 3, 3] w) => (float[a, b, c, d] y) {{ y = {node} }}")
    assert found["y"] == Decision("cpu" if reason else "gpu", reason, is_forced=bool(reason))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ("hidden_size = 4", ""),
        ('hidden_size = 4, activations = ["Sigmoid", "Tanh", "Tanh"]', ""),
        (
            'hidden_size = 4, activations = ["Sigmoid", "Relu", "Tanh"]',
            "other activations",
        ),
        ("hidden_size = 4, clip = 1.0", "clip"),
        ("hidden_size = 4, input_forget = 1", "input_forget"),
    ],
)
def test_what_cudnn_recurrence_does_not_do(attributes: str, reason: str) -> None:
    found = on_cuda(f"""g (float[3, 1, 5] x, float[1, 16, 5] w, float[1, 16, 4] r) => (float[3, 1, 1, 4] y) {{
        y = LSTM <{attributes}> (x, w, r)
    }}""")
    assert found["y"].device == ("cpu" if reason else "gpu")
    assert found["y"].reason == (reason and f"CUDA's LSTM has no {reason}")


def test_local_functions_are_expanded() -> None:
    found = on_cuda("g (float[8] x) => (float[8] y) { y = Celu (x) }")
    assert found["y"] == Decision("cpu", "no CUDA kernel for Celu", is_forced=True)  # the CPU has one
    proto = parser.parse_model("""<ir_version: 10, opset_import: ["" : 17, "local" : 1]>
        g (float[8] x) => (float[8] y) { y = local.F (x) }
        <domain: "local", opset_import: ["" : 17]> F (a) => (b) { b = Relu (a) }
    """)
    graph = graph_of(proto)
    assert decide(graph, Kernels.load(), "cuda") == (Decision("gpu", "onnxruntime expands it"),)
