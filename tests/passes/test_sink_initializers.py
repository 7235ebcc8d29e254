"""sink_initializers: each body holds what it alone reads, and weights are stored once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fuseonnx
from tests.helpers import assert_same_answers, f32, make_model, node, rewrite
from tests.passes.ifs import DIMS, assert_same_on_both_sides, branch, choice, model_of, step

RULE = "sink_initializers"
A, B, C = f32([1, -2, 3, -4]), f32([0.5, 2, -1, 4]), f32([-3, 1, 2, 0.25])
LARGE = np.random.default_rng(0).normal(size=(4, 4096)).astype(np.float32)


def held(graph: onnx.GraphProto, place: str = "main") -> dict[str, set[str]]:
    """Return the names of the initializers of a graph and of the bodies in it, by their places."""
    found = {place: {tensor.name for tensor in graph.initializer} - {"zero"}}
    for each in graph.node:
        for attribute in each.attribute:
            if attribute.HasField("g"):
                name = each.op_type if attribute.name == "body" else attribute.name.removesuffix("_branch")
                found |= held(attribute.g, f"{place}/{name}")
    return found


def product(weight: str, output: str, last: str = "Exp") -> onnx.GraphProto:
    """A branch that computes something of x * weight."""
    return branch([node("Mul", f"x {weight}", f"{output}m"), node(last, f"{output}m", output)], output)


def test_branches_take_what_they_alone_read() -> None:
    then = branch([node("Mul", "x a", "p"), node("Sub", "p both", "q"), node("Mul", "q a", "r")], "r")
    other = branch([node("Add", "x b", "p2"), node("Mul", "p2 both", "r2")], "r2")
    model = model_of([choice("y", then, other)], "y", {"a": A, "b": B, "both": C})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert held(after.model.graph) == {"main": {"both"}, "main/then": {"a"}, "main/else": {"b"}}
    assert_same_on_both_sides(model, after.model)
    assert rewrite(after.model, RULE).fired == {}


READERS: Mapping[str, tuple[str, str, str, str]] = {
    "the inner branch": ("Relu x", "Mul {} w", "Neg {}", "main/then/then"),
    "both inner branches": ("Relu x", "Mul {} w", "Sub w {}", "main/then"),
    "the branch and its inner one": ("Mul x w", "Mul {} w", "Neg {}", "main/then"),
    "the branch": ("Mul x w", "Exp {}", "Neg {}", "main/then"),
}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("case", READERS)
def test_as_deep_as_the_readers_are(case: str, inside: bool) -> None:
    first, then, other, place = READERS[case]

    def one(text: str, output: str) -> onnx.NodeProto:
        op, *inputs = text.format("r").split()
        return node(op, " ".join(inputs), output)

    inner = choice("i", branch([one(then, "p")], "p"), branch([one(other, "q")], "q"), on="flag")
    weights = {"w": A}
    body = branch([one(first, "r"), inner, node("Abs", "i", "t")], "t", weights if inside else None)
    nodes = [
        node("Less", "zero sum", "flag"),
        choice("y", body, branch([node("Neg", "x", "e")], "e"), on="flag"),
    ]
    model = model_of(nodes, "y", None if inside else weights)
    after = rewrite(model, RULE)
    assert after.fired == ({} if inside and place == "main/then" else {RULE: 1})
    assert {where for where, names in held(after.model.graph).items() if names} == {place}
    assert_same_on_both_sides(model, after.model)


def test_a_loop_and_a_scan_take_theirs() -> None:
    turn = step([node("Mul", "s a", "m"), node("Sin", "m", "s_next")], ["s"], ["s_next"])
    infos = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("h", "e", "h2", "o")
    }
    row = helper.make_graph(
        [node("Mul", "e b", "eb"), node("Add", "h eb", "h2"), node("Abs", "h2", "o")],
        "row",
        [infos["h"], infos["e"]],
        [infos["h2"], infos["o"]],
    )
    nodes = [
        node("Loop", "trips  x", "turned", body=turn),
        node("Scan", "start turned", "last rows", body=row, num_scan_inputs=1),
    ]
    nodes[0].input[:] = ["trips", "", "x"]
    weights = {"a": A, "b": B, "trips": np.array(3), "start": C}
    model = make_model(nodes, {"x": DIMS}, ["last", "rows"], weights)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert held(after.model.graph) == {"main": {"trips", "start"}, "main/Loop": {"a"}, "main/Scan": {"b"}}
    assert_same_answers(model, after.model)


PLAIN = product("w", "t"), branch([node("Neg", "x", "e")], "e")
STAYS = {
    "read before the If": ([node("Add", "x w", "z"), choice("y", *PLAIN)], "y z"),
    "read by two branches": ([choice("y", product("w", "t"), product("w", "e", "Neg"))], "y"),
    "read in two Ifs": ([choice("y", *PLAIN), choice("z", product("w", "t2"), PLAIN[1])], "y z"),
}


@pytest.mark.parametrize("case", STAYS)
def test_keeps_out(case: str) -> None:
    nodes, outputs = STAYS[case]
    model = model_of(nodes, outputs, {"w": A})
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert held(after.model.graph)["main"] == {"w"}
    assert_same_on_both_sides(model, after.model)


def test_a_result_stays() -> None:
    model = model_of([choice("y", *PLAIN)], "y", {"w": A})
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_on_both_sides(model, after.model)


def test_an_overridable_weight_stays_an_input() -> None:
    model = model_of([choice("y", *PLAIN)], "y", {"w": A})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))
    after = rewrite(model, RULE)
    assert after.fired == {}
    feeds = {"x": f32([[-1, -2, -3, -4]]), "w": B}
    assert_same_answers(model, after.model, feeds)


@pytest.mark.parametrize(("ir_version", "fired"), [(3, {}), (4, {RULE: 1})])
def test_bodies_hold_initializers_from_ir_version_4_on(ir_version: int, fired: dict[str, int]) -> None:
    model = model_of([choice("y", *PLAIN)], "y", {"w": A})
    model.ir_version = ir_version
    if ir_version == 3:
        for tensor in model.graph.initializer:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.input.append(info)
    assert rewrite(model, RULE).fired == fired


def test_keeps_out_of_the_bodies_of_custom_operators() -> None:
    model = model_of([node("Relu", "x", "y")], "y", {"w": A})
    body = product("w", "t")
    body.node[1].input.append("own")
    body.initializer.append(numpy_helper.from_array(B, "own"))
    custom = helper.make_node("Choose", ["negative"], ["y"], domain="test", body=body)
    model.graph.node[-1].CopyFrom(custom)
    model.opset_import.append(helper.make_opsetid("test", 1))
    after = fuseonnx.optimize(model, only=[RULE], verify=False)
    assert isinstance(after.model, onnx.ModelProto)
    assert after.report.rules == ()
    assert held(after.model.graph) == {"main": {"w"}, "main/Choose": {"own"}}


def scaled(weight: str, output: str) -> list[onnx.NodeProto]:
    """x times the largest number of each row of x @ weight."""
    return [
        node("MatMul", f"x {weight}", f"{output}m"),
        node("ReduceMax", f"{output}m", f"{output}x", axes=[1]),
        node("Mul", f"x {output}x", output),
    ]


@pytest.mark.parametrize("source_has", [False, True])
def test_with_external_data_the_weights_of_bodies_stay_within_reach(tmp_path: Path, source_has: bool) -> None:
    """For them, onnxruntime refuses a file that is a link."""
    choices = choice("y", branch(scaled("w", "t"), "t"), branch([node("Neg", "z", "e")], "e"))
    model = model_of([*scaled("v", "z"), choices], "y", {"v": LARGE, "w": -LARGE})
    source, out, links = (tmp_path / name for name in ("source.onnx", "out.onnx", "links"))
    onnx.save(model, source, save_as_external_data=source_has, location="source.data")
    result = fuseonnx.optimize(source, out, only=[RULE], measure=False, external_data=not source_has)
    assert result.report.verification.status == "passed"
    assert {use.name: use.fired for use in result.report.rules} == {RULE: 1}
    links.mkdir()
    for file in (out, tmp_path / "out.onnx.data"):
        (links / file.name).symlink_to(file)
    assert fuseonnx.verify(source, links / out.name, bisect=True).same
    written = onnx.load(out, load_external_data=False)
    assert held(written.graph) == {"main": {"v"}, "main/then": {"w"}, "main/else": set()}


def test_large_weights_are_written_and_read_again(tmp_path: Path) -> None:
    both = (branch(scaled(weight, output), output) for weight, output in ("vt", "we"))
    model = model_of([choice("y", *both)], "y", {"v": LARGE, "w": -LARGE})
    onnx.save(model, tmp_path / "model.onnx")
    fuseonnx.optimize(tmp_path / "model.onnx", tmp_path / "out.onnx", only=[RULE], verify=False)
    written = onnx.load(tmp_path / "out.onnx")
    assert held(written.graph) == {"main": set(), "main/then": {"v"}, "main/else": {"w"}}
    assert_same_on_both_sides(model, written)


def test_equal_weights_of_two_branches_are_stored_once() -> None:
    def body(weight: str, output: str, last: str) -> onnx.GraphProto:
        nodes = [node("Exp", "x", f"{output}e"), node("MatMul", f"{output}e {weight}", f"{output}m")]
        return branch([*nodes, node(last, f"{output}m x", output)], output)

    square = np.ascontiguousarray(LARGE[:, :4])
    model = model_of(
        [choice("y", body("v", "t", "Add"), body("w", "e", "Sub"))], "y", {"v": square, "w": square}
    )
    after = rewrite(model)
    stored = [name for names in held(after.model.graph).values() for name in names]
    assert sum(name in {"v", "w"} for name in stored) == after.ops["MatMul"] == 1
    assert_same_on_both_sides(model, after.model)


def test_the_whole_catalogue_leaves_its_result_alone() -> None:
    then = branch([node("MatMul", "x v", "p"), node("Add", "p a", "r")], "r", {"own": C})
    other = branch([node("MatMul", "x w", "p2"), node("Add", "p2 a", "r2")], "r2")
    weights = {"v": LARGE[:, :4], "w": LARGE[:, 4:8], "a": A}
    model = model_of([choice("y", then, other)], "y", weights)
    after = rewrite(model)
    assert after.fired[RULE] >= 2
    assert rewrite(after.model).fired == {}
    assert_same_on_both_sides(model, after.model)


def test_tensors_keep_every_bit() -> None:
    bits = np.array([0x80000000, 0x7FC00123, 1, 0x7F800000], np.uint32).view(np.float32)
    after = rewrite(model_of([choice("y", *PLAIN)], "y", {"w": bits}), RULE)
    then = next(each.g for each in after.model.graph.node[-1].attribute if each.name == "then_branch")
    assert numpy_helper.to_array(then.initializer[0]).tobytes() == bits.tobytes()
