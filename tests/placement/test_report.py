"""Blocks, hops and reasons of placements that are given."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import pytest
from onnx import parser

from fuseonnx.analysis import shapes
from fuseonnx.placement.assign import Decision, Device
from fuseonnx.placement.blocks import blocks_of
from fuseonnx.placement.copies import copies_of
from fuseonnx.placement.graph import Graph, read_graph
from fuseonnx.placement.notes import notes_on
from fuseonnx.placement.report import CHEAPER, PINNED, Layout, Placement, layout_of, placed_nodes
from fuseonnx.placement.solve import Cost
from fuseonnx.placement_tables import placement_heading, placement_sections

HEAD = '<ir_version: 10, opset_import: ["" : 17]>\n'
FORK = """fork (float[2, 8] x) => (float[2, 8] out) {
  a = Relu (x)
  b = Neg (a)
  c = Abs (a)
  d = Sigmoid (c)
  out = Add (b, d)
}"""
SHAPED = """shaped (float[n, 8] x, float[m, 8] other) => (float[p, q] out) <int64[1] rest = {-1}> {
  a = Relu (x)
  s = Shape (other)
  t = Concat <axis = 0> (s, rest)
  r = Reshape (a, t)
  out = Neg (r)
}"""
CPU: Device = "cpu"
GPU: Device = "gpu"


def read(text: str) -> Graph:
    model = ir.from_proto(parser.parse_model(HEAD + text))
    shapes.annotate(model)
    return read_graph(model)


def blocks(graph: Graph, devices: Sequence[Device]) -> list[tuple[str, tuple[int, ...]]]:
    return [(each.device, each.nodes) for each in blocks_of(graph, devices, copies_of(graph, devices))]


def layout(text: str, devices: Sequence[Device]) -> Layout:
    return layout_of(read(text), devices, Cost())


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([GPU] * 5, [(GPU, (0, 1, 2, 3, 4))]),
        ([GPU, CPU, GPU, GPU, CPU], [(GPU, (0, 2, 3)), (CPU, (1, 4))]),
        ([GPU, GPU, CPU, GPU, GPU], [(GPU, (0, 1)), (CPU, (2,)), (GPU, (3, 4))]),
        ([CPU, GPU, GPU, GPU, GPU], [(CPU, (0,)), (GPU, (1, 2, 3, 4))]),
    ],
)
def test_blocks_change_device_as_seldom_as_can_be(
    devices: Sequence[Device], expected: list[tuple[str, tuple[int, ...]]]
) -> None:
    assert blocks(read(FORK), devices) == expected


def test_shape_arithmetic_interrupts_no_block() -> None:
    assert blocks(read(SHAPED), [GPU, GPU, CPU, GPU, GPU]) == [(GPU, (0, 3, 4))]


def test_numbers_of_a_layout() -> None:
    found = layout(FORK, [GPU, GPU, CPU, GPU, GPU])
    assert found.nodes == {"cpu": 1, "gpu": 4}
    assert [(hop.value, hop.source, hop.target, hop.from_block, hop.to_block) for hop in found.hops] == [
        ("a", "gpu", "cpu", 0, 1),
        ("c", "cpu", "gpu", 1, 2),
    ]
    size = 2 * 8 * 4
    assert (found.copied_bytes, found.fed_bytes) == (2 * size, 2 * size)
    assert [(block.nodes, block.ops) for block in found.blocks] == [
        (2, {"Relu": 1, "Neg": 1}),
        (1, {"Abs": 1}),
        (2, {"Sigmoid": 1, "Add": 1}),
    ]


def test_an_input_that_both_devices_read_comes_from_no_block() -> None:
    text = "g (float[4] x) => (float[4] a, float[4] b) { a = Relu (x) b = Neg (x) }"
    found = layout(text, [GPU, CPU])
    assert [(hop.value, hop.source, hop.target, hop.from_block) for hop in found.hops] == [
        ("x", "cpu", "gpu", None)
    ]
    assert (found.copied_bytes, found.fed_bytes) == (16, 16)  # the input is copied, an output is fetched


def test_inputs_that_a_body_captures_are_fed_to_its_device() -> None:
    text = """g (bool c, float[8] x) => (float[8] y) {
        y = If (c) <
            then_branch = t () => (float[8] p) { p = Neg (x) },
            else_branch = e () => (float[8] q) { q = Abs (x) }
        >
    }"""
    assert layout(text, [GPU]).fed_bytes == 2 * 8 * 4
    assert layout(text, [CPU]).fed_bytes == 0


def test_what_runs_on_the_cpu_inside_others_is_told() -> None:
    graph = read(FORK)
    decisions = [Decision(GPU, left=("Unique", "Tan"))] * 3 + [Decision(GPU)] * 2
    (note,) = notes_on(graph, decisions, [GPU, CPU, GPU, GPU, GPU], {}, "m.onnx")
    assert note.startswith("Unique, Tan inside (a) and 1 more: onnxruntime has no kernel on the GPU")


def test_the_tables_count_in_words_and_microseconds() -> None:
    text = "g (float[1000, 1000] x) => (float[1000, 1000] y) { y = Relu (x) }"
    found = layout(text, [GPU])
    report = Placement("m.onnx", None, "CUDAExecutionProvider", "0", (), found, found, "")
    assert placement_heading(report) == "m.onnx: 1 node on the GPU, 0 on the CPU, 0 copies of 0 bytes a run"
    summary = next(placement_sections(report, top=0))
    # 8 MB at 1 TB/s
    assert ("cost of a run, estimated", "8.0 µs", "8.0 µs") in summary.rows


def test_nothing_crosses_if_all_is_on_the_cpu() -> None:
    found = layout(FORK, [CPU] * 5)
    assert (found.hops, found.copied_bytes, found.fed_bytes) == ((), 0, 0)


def test_reasons() -> None:
    decisions = [
        Decision(GPU),
        Decision(CPU, "no CUDA kernel for Neg", is_forced=True),
        Decision(GPU, "data-dependent"),
        Decision(CPU, "its operands are small"),
        Decision(GPU),
    ]
    devices = [GPU, CPU, CPU, GPU, CPU]
    nodes = placed_nodes(read(FORK), decisions, devices, {4})
    assert [(node.name, node.reason) for node in nodes] == [
        ("(a)", ""),
        ("(b)", "no CUDA kernel for Neg"),
        ("(c)", "data-dependent"),
        ("(d)", CHEAPER),
        ("(out)", PINNED),
    ]
    assert [(node.by_itself, node.device) for node in nodes[2:4]] == [(GPU, CPU), (CPU, GPU)]


def test_a_pin_that_cannot_be_obeyed_is_told() -> None:
    graph = read(FORK)
    decisions = [Decision(CPU, "no CUDA kernel for it", is_forced=True)] * 5
    (note,) = notes_on(graph, decisions, [CPU] * 5, {1: GPU}, "m.onnx")
    assert note == "(b) cannot be pinned to the GPU: no CUDA kernel for it"
