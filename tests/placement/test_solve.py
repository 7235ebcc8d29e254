"""solve: the placement that costs least, against all placements of small graphs."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import onnx_ir as ir
import pytest
from onnx import parser

from fuseonnx.analysis.shapes import annotate
from fuseonnx.placement.assign import Decision, Device, decide
from fuseonnx.placement.graph import Graph, Node, Value, read_graph
from fuseonnx.placement.kernels import Kernels
from fuseonnx.placement.solve import Cost, place_best, total

COST = Cost(
    cpu_flops=1e9,
    cpu_bandwidth=1e9,
    gpu_flops=1e10,
    gpu_bandwidth=1e10,
    gpu_wait=1e-6,
    copy_latency=1e-7,
    copy_bandwidth=1e9,
)
"""In nanoseconds: 1 per operation or byte on the CPU, 1/10 on the GPU; 100 and 1 per byte for a copy."""

FREE = Decision("gpu")
DEVICES: tuple[Device, ...] = ("cpu", "gpu")


def value(name: str, nbytes: int = 4, **facts: bool) -> Value:
    known = dict.fromkeys(("is_initializer", "is_input", "is_output", "is_shape"), False)
    return Value(name, "float32", (nbytes // 4,), nbytes, **(known | facts))


def node(index: int, op_type: str, inputs: str, outputs: str, flops: int = 0) -> Node:
    names, results = tuple(inputs.split()), tuple(outputs.split())
    return Node(
        index,
        f"n{index}",
        op_type,
        "",
        17,
        names,
        results,
        ("",) * len(names),
        ("",) * len(results),
        flops=flops,
    )


def graph_of(nodes: list[Node], *values: Value) -> Graph:
    known = {each.name: each for each in values}
    names = {name for each in nodes for name in (*each.inputs, *each.outputs)}
    return Graph(tuple(nodes), {name: known.get(name, value(name)) for name in sorted(names)})


def random_graph(rng: random.Random) -> tuple[Graph, list[Decision]]:
    values = [value("x", rng.choice([4, 400]), is_input=True), value("w", is_initializer=True)]
    values.append(value("d", is_initializer=True, is_input=True))
    nodes = []
    for index in range(rng.randrange(3, 9)):
        inputs = [rng.choice(values).name for _ in range(rng.randrange(1, 4))]
        results = [value(f"v{index}{k}", rng.choice([4, 40, 4000])) for k in range(rng.randrange(1, 3))]
        op_type = rng.choice(["Relu", "Relu", "NonZero", "Reshape", "Shape", "MatMul", "Add"])
        made = node(index, op_type, " ".join(inputs), " ".join(each.name for each in results))
        made = replace(made, flops=rng.choice([0, 100, 3000]), nbytes=rng.choice([0, 50]))
        hosts = frozenset({1}) if op_type == "Reshape" else frozenset()
        made = replace(made, host_inputs=hosts, host_outputs=frozenset({0} if op_type == "Shape" else ()))
        nodes.append(made)
        values += [replace(each, is_output=rng.random() < 0.2) for each in results]
    decisions = [
        Decision(rng.choice(DEVICES), is_forced=True) if rng.random() < 0.3 else Decision(rng.choice(DEVICES))
        for _ in nodes
    ]
    return Graph(tuple(nodes), {each.name: each for each in values}), decisions


def is_allowed(graph: Graph, devices: tuple[Device, ...], fixed: dict[int, Device]) -> bool:
    """Whether a placement keeps to what is fixed, and what belongs together together."""
    if any(devices[index] != device for index, device in fixed.items()):
        return False
    groups = [[each.index for each in graph.nodes if "d" in each.inputs]]
    for first in graph.nodes:
        name = first.outputs[0]
        users = [each for each in graph.nodes if name in each.inputs]
        if first.op_type == "MatMul" and len(users) == 1 and not graph.values[name].is_output:
            pair = [first.index, users[0].index]
            if users[0].op_type == "Add" and not set(pair) & fixed.keys():
                groups.append(pair)
    for group in groups:
        bound = {fixed[index] for index in group if index in fixed}
        if len(bound) < 2 and len({devices[index] for index in group}) > 1:
            return False
    return True


def price(graph: Graph, devices: tuple[Device, ...]) -> int:
    """Return the nanoseconds of a placement, worked out value by value from the definition."""
    nanoseconds = 0
    for each in graph.nodes:
        if each.op_type not in ("Reshape", "Shape"):
            work = max(each.flops, each.nbytes)
            waits = 1000 if each.op_type == "NonZero" else 0
            nanoseconds += work if devices[each.index] == "cpu" else work // 10 + waits
    for name, each_value in graph.values.items():
        if each_value.is_initializer:
            continue
        sides = set()
        for each in graph.nodes:
            for position, operand in enumerate(each.inputs):
                if operand == name:
                    sides.add("cpu" if position in each.host_inputs else devices[each.index])
        for each in graph.nodes:
            if name in each.outputs and sides:
                stays = each.outputs.index(name) in each.host_outputs
                sides.add("cpu" if stays else devices[each.index])
        nanoseconds += (100 + each_value.nbytes) * (len(sides) == 2)
    return nanoseconds


@pytest.mark.parametrize("seed", range(150))
def test_no_placement_costs_less(seed: int) -> None:
    rng = random.Random(seed)
    graph, decisions = random_graph(rng)
    pins = {each.index: rng.choice(DEVICES) for each in graph.nodes if rng.random() < 0.15}
    fixed = {**pins, **{i: each.device for i, each in enumerate(decisions) if each.is_forced}}

    best = place_best(graph, decisions, pins, COST)
    every = [
        devices
        for devices in itertools.product(DEVICES, repeat=len(graph.nodes))
        if is_allowed(graph, devices, fixed)
    ]
    moved = {
        devices: sum(device != each.device for device, each in zip(devices, decisions, strict=True))
        for devices in every
    }
    assert best in every
    assert total(graph, best, COST) == price(graph, best)
    assert (price(graph, best), moved[best]) == min((price(graph, each), moved[each]) for each in every)


def test_a_value_is_copied_once_for_all_its_users() -> None:
    forced = Decision("cpu", is_forced=True)
    nodes = [node(0, "Conv", "x", "a", 10_000), *(node(i, "Relu", "a", f"b{i}") for i in (1, 2, 3))]
    graph = graph_of(nodes, value("x", is_input=True), value("a", 1000))
    best = place_best(graph, [FREE, forced, forced, forced], {}, COST)
    assert best == ("gpu", "cpu", "cpu", "cpu")
    assert total(graph, best, COST) == 1000 + (100 + 1000)


def test_an_island_of_cheap_nodes_is_pulled_over() -> None:
    forced = Decision("cpu", is_forced=True)
    nodes = [node(0, "Unique", "x", "a"), node(1, "Relu", "a", "b", 50), node(2, "Unique", "b", "c")]
    graph = graph_of(nodes, value("x", is_input=True))
    assert place_best(graph, [forced, FREE, forced], {}, COST) == ("cpu", "cpu", "cpu")
    heavy = graph_of([nodes[0], replace(nodes[1], flops=10_000), nodes[2]], value("x", is_input=True))
    assert place_best(heavy, [forced, FREE, forced], {}, COST) == ("cpu", "gpu", "cpu")


def test_who_waits_for_sizes_goes_to_the_cpu_with_what_follows() -> None:
    scores = replace(value("scores", 400), dims=(1, 80, 5))
    nms = node(1, "NonMaxSuppression", "boxes scores", "kept", 100)
    nodes = [node(0, "Conv", "x", "boxes scores", 10**6), nms, node(2, "Gather", "boxes kept", "y", 10)]
    graph = graph_of(nodes, value("x", is_input=True), scores)
    assert place_best(graph, [FREE] * 3, {}, COST) == ("gpu", "cpu", "cpu")
    assert COST.running(nms, graph, "gpu") == 10 + 80 * 1000


def test_pins_outrank_costs_but_not_missing_kernels() -> None:
    nodes = [node(0, "Conv", "x", "a", 10**6), node(1, "Unique", "a", "y")]
    graph = graph_of(nodes, value("x", is_input=True))
    decisions = [FREE, Decision("cpu", is_forced=True)]
    assert place_best(graph, decisions, {0: "cpu", 1: "gpu"}, COST) == ("cpu", "cpu")


def test_work_of_unknown_size_stays_where_onnxruntime_puts_it() -> None:
    forced = Decision("cpu", is_forced=True)
    island = replace(node(1, "Relu", "a", "b"), is_counted=False)
    nodes = [node(0, "Tokenizer", "x", "a"), island, node(2, "Tokenizer", "b", "c")]
    graph = graph_of(nodes, value("x", is_input=True))
    assert place_best(graph, [forced, FREE, forced], {}, COST) == ("cpu", "gpu", "cpu")
    after_data = graph_of([node(0, "Unique", "x", "a"), *nodes[1:]], value("x", is_input=True))
    assert place_best(after_data, [forced, FREE, forced], {}, COST) == ("cpu", "cpu", "cpu")
    multiplying = graph_of([node(0, "Unique", "x", "a"), replace(island, op_type="MatMul"), nodes[2]])
    assert place_best(multiplying, [forced, FREE, forced], {}, COST) == ("cpu", "gpu", "cpu")


def test_shapes_stay_on_the_cpu_and_bodies_where_they_are() -> None:
    forced = Decision("gpu", is_forced=True)
    small = [value("a", is_shape=True), value("x", is_input=True)]
    nodes = [node(0, "Add", "x", "a", 10**6), node(1, "Conv", "x a", "y")]
    assert place_best(graph_of(nodes, *small), [Decision("cpu"), forced], {}, COST)[0] == "cpu"
    assert place_best(graph_of(nodes, small[1]), [Decision("cpu"), forced], {}, COST)[0] == "gpu"
    body = [replace(nodes[0], bodies=1), nodes[1]]
    assert place_best(graph_of(body, small[1]), [Decision("cpu"), forced], {}, COST)[0] == "cpu"


def test_what_a_body_captures_is_needed_where_the_node_is() -> None:
    forced = Decision("cpu", is_forced=True)
    branches = replace(node(2, "If", "c", "y"), bodies=2, captures=("b", "x"))
    nodes = [node(0, "Unique", "t", "a"), node(1, "Expand", "a", "b", 10), branches]
    graph = graph_of(nodes, value("b", 4000), value("x", is_input=True), value("c", is_input=True))
    assert place_best(graph, [forced, FREE, FREE], {}, COST) == ("cpu", "gpu", "gpu")
    assert total(graph, ["cpu", "cpu", "gpu"], COST) == 10 + (100 + 4000)


def test_constant_nodes_cost_nothing() -> None:
    folded = replace(node(0, "Expand", "w s", "c", 10**6), is_constant=True, host_inputs=frozenset({1}))
    graph = graph_of([folded, node(1, "Add", "x c", "y", 10)], value("c", is_initializer=True))
    assert total(graph, ["cpu", "cpu"], COST) == 10


DETECTOR = """<ir_version: 10, opset_import: ["" : 17]>
detector (float[1, 3, 640, 640] image, float[64, 3, 8, 8] w, float[84, 64, 1, 1] v, float k)
    => (float[n, 4] boxes_kept, int64[n, 1] classes)
    <int64[3] flat = {1, 84, -1}, int64[2] parts = {4, 80}, int64 most = {100}, float iou = {0.5},
     int64[1] last = {2}, int64[1] second = {1}, int64[1] end = {3}, int64[1] first = {0}> {
  c = Conv <strides = [8, 8]> (image, w)
  r = Relu (c)
  d = Conv (r, v)
  f = Reshape (d, flat)
  b, s = Split <axis = 1> (f, parts)
  scores = Sigmoid (s)
  boxes = Transpose <perm = [0, 2, 1]> (b)
  kept = NonMaxSuppression (boxes, scores, most, iou, iou)
  which = Slice (kept, last, end, second)
  at = Squeeze (which, second)
  classes = Slice (kept, second, last, second)
  all_boxes = Squeeze (boxes, first)
  boxes_kept = Gather (all_boxes, at)
}"""


def test_a_detector_is_cut_once_before_its_suppression() -> None:
    model = ir.from_proto(parser.parse_model(DETECTOR))
    annotate(model)
    graph = read_graph(model)
    decisions = decide(graph, Kernels.load(), "cuda")
    best = place_best(graph, decisions, {}, Cost())
    assert {each.outputs[0] for each, device in zip(graph.nodes, best, strict=True) if device == "cpu"} == {
        *("kept", "which", "at", "classes", "all_boxes", "boxes_kept")
    }
    by_itself = [decision.device for decision in decisions]
    assert total(graph, best, Cost()) < total(graph, by_itself, Cost())
