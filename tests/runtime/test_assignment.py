from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from fuseonnx.runtime.assignment import AssignedNode, Assignment, assignment_of
from fuseonnx.runtime.session import open_session

Build = Callable[..., Path]
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


def value(name: str, dims: Any, dtype: Any = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, dims)


@pytest.mark.parametrize("optimized", [False, True])
def test_a_session_on_the_cpu_names_every_node(build: Build, optimized: bool) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], "first"),
        helper.make_node("Gelu", ["a"], ["b"], "second", domain="com.microsoft"),
        helper.make_node("Neg", ["b"], ["y"], "third"),
    ]
    path = build(nodes, [value("x", ["n"])], [value("y", ["n"])])

    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, path)
    assignment = assignment_of(open_session(path, optimized=optimized))
    assert [node.name for node in assignment.nodes] == ["first", "second", "third"]
    assert assignment.counts == {CPU: {"Neg": 2, "com.microsoft.Gelu": 1}}
    assert (assignment.asked, assignment.missing, assignment.fallen) == (CPU, "", ())
    assert assignment.summary() == "3 nodes: 3 on CPU"


def test_bodies_count(build: Build) -> None:
    def body(operator: str) -> Any:
        node = helper.make_node(operator, ["x"], [operator], f"{operator}_node")
        return helper.make_graph([node], operator, [], [value(operator, [2])])

    node = helper.make_node("If", ["c"], ["y"], "if", then_branch=body("Neg"), else_branch=body("Abs"))
    path = build([node], [value("x", [2]), value("c", [], TensorProto.BOOL)], [value("y", [2])])
    names = {node.name for node in assignment_of(open_session(path)).nodes}
    assert names == {"if", "Neg_node", "Abs_node"}


def assigned(asked: str, *places: tuple[str, str]) -> Assignment:
    return Assignment(asked, tuple(AssignedNode("", op_type, provider) for op_type, provider in places))


def test_shapes_on_the_cpu_are_no_fall_back() -> None:
    assignment = assigned(CUDA, ("Conv", CUDA), ("Shape", CUDA), ("Gather", CPU), ("Concat", CPU))
    assert assignment.fallen == ()
    assert assignment.summary() == "4 nodes: 2 on CUDA, 2 on CPU"


def test_an_operator_that_computes_on_the_cpu_is_one() -> None:
    assignment = assigned(CUDA, ("Conv", CUDA), ("NonZero", CPU), ("LSTM", CPU), ("LSTM", CPU))
    assert [node.op_type for node in assignment.fallen] == ["NonZero", "LSTM", "LSTM"]
    assert assignment.summary().endswith("fallen back to the CPU: LSTM (2), NonZero")


def test_a_model_that_runs_on_the_cpu_altogether_is_one_whatever_its_operators() -> None:
    assert len(assigned(CUDA, ("Add", CPU), ("Reshape", CPU)).fallen) == 2


def test_a_contrib_operator_is_never_shape_arithmetic() -> None:
    assert len(assigned(CUDA, ("Conv", CUDA), ("com.example.Add", CPU)).fallen) == 1


def test_what_tensorrt_leaves_to_cuda_is_told_but_no_fall_back_to_the_cpu() -> None:
    assignment = assigned(TENSORRT, ("Conv", TENSORRT), ("NonZero", CUDA))
    assert assignment.fallen == ()
    assert assignment.summary() == "2 nodes: 1 on Tensorrt, 1 on CUDA"


def test_what_the_placement_keeps_on_the_cpu_is_no_fall_back() -> None:
    nodes = (
        AssignedNode("a", "Conv", CUDA),
        AssignedNode("b", "NonZero", CPU, kept=True),
        AssignedNode("c", "NonZero", CPU),
    )
    assert Assignment(CUDA, nodes).fallen == nodes[2:]
    summary = Assignment(CUDA, nodes[:2], placement="as placed").summary()
    assert summary == "2 nodes: 1 on CUDA, 1 on CPU; as placed"


def test_nothing_of_what_is_meant_for_the_provider_runs_there() -> None:
    nodes = (AssignedNode("a", "Add", CPU), AssignedNode("b", "NonZero", CPU, kept=True))
    assert Assignment(CUDA, nodes).fallen == nodes[:1]


def test_a_missing_provider_is_told() -> None:
    node = AssignedNode("n", "Neg", CPU)
    assignment = Assignment(CUDA, (node,), "no driver")
    assert assignment.summary() == "1 node, all on the CPU instead of CUDAExecutionProvider: no driver"
