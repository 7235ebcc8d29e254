"""carried: the placement in a model's metadata, and which nodes it keeps on the CPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

from fuseonnx.placement.annotate import LAYER_ANNOTATION, PROVIDER_KEY, SETTINGS, SETTINGS_KEY
from fuseonnx.runtime.carried import Carried, carried_placement, carries_placement, kept_on_cpu

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
HEAD = '<ir_version: 10, opset_import: ["" : 17]>\n'
CHAIN = "g (float[2] x) => (float[2] z) { [conv] a = Relu (x) [conv1] b = Sum (a, a) [last] z = Neg (b) }"
BRANCHES = """g (float[2] x, bool c) => (float[2] z) {
    [if] z = If (c) <
        then_branch = t () => (float[2] t) { [then] t = Relu (x) },
        else_branch = e () => (float[2] e) { [else] e = Neg (x) }
    >
}"""


def save(
    folder: Path, text: str = CHAIN, marks: str = "", settings: str = SETTINGS, provider: str = CUDA
) -> Path:
    """Write a model whose nodes are annotated with the letters of `marks`, `-` with none."""
    model = parser.parse_model(HEAD + text)
    for node, mark in zip(model.graph.node, marks, strict=False):
        if mark != "-":
            node.metadata_props.add(key=LAYER_ANNOTATION, value=mark)
    for key, value in ((SETTINGS_KEY, settings), (PROVIDER_KEY, provider)):
        if value:
            model.metadata_props.add(key=key, value=value)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize(
    ("made_for", "provider", "settings", "note"),
    [
        (CUDA, CUDA, SETTINGS, "runs with the placement that it carries"),
        ("", CUDA, SETTINGS, "runs with the placement that it carries"),
        (
            CUDA,
            "WebGpuExecutionProvider",
            SETTINGS,
            "runs with the placement that it carries, which was made for CUDA",
        ),
        (CUDA, TENSORRT, "", "runs without the placement that it carries, which was made for CUDA"),
        (TENSORRT, TENSORRT, SETTINGS, "runs with the placement that it carries"),
    ],
)
def test_what_a_provider_obeys(
    tmp_path: Path, made_for: str, provider: str, settings: str, note: str
) -> None:
    assert carried_placement(save(tmp_path, provider=made_for), provider) == Carried(settings, note)


def test_a_model_without_a_placement_carries_nothing(tmp_path: Path) -> None:
    path = save(tmp_path, settings="")
    assert carried_placement(path, CUDA) == Carried()
    assert not carries_placement(path)


@pytest.mark.parametrize("content", [None, b"", b"no model at all"])
def test_what_is_no_model_carries_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    assert carried_placement(tmp_path / "m.onnx", CUDA) == Carried()


@pytest.mark.parametrize(
    ("marks", "expected"),
    [("GCG", [False, True, False]), ("CGC", [True, False, True]), ("-G-", [False, False, False])],
)
def test_named_nodes(tmp_path: Path, marks: str, expected: list[bool]) -> None:
    """A node of one name is not taken for the one whose name it begins with."""
    nodes = [(name, "Op", CPU) for name in ("conv", "conv1", "last")]
    assert kept_on_cpu(save(tmp_path, marks=marks), nodes) == expected


def test_what_runs_elsewhere_is_not_kept(tmp_path: Path) -> None:
    path = save(tmp_path, marks="CCC")
    assert kept_on_cpu(path, [("conv", "Relu", CUDA), ("last", "Neg", CPU)]) == [False, True]


def test_what_onnxruntime_makes_of_a_node_is_as_that_node(tmp_path: Path) -> None:
    nodes = [(f"{name}/MatMulAddFusion", "Gemm", CPU) for name in ("conv", "conv1", "last", "other")]
    assert kept_on_cpu(save(tmp_path, marks="CGC"), nodes) == [True, False, True, False]
    assert kept_on_cpu(save(tmp_path, marks="CCC"), nodes) == [True] * 4


def test_nodes_without_name_are_counted(tmp_path: Path) -> None:
    text = "g (float[2] x) => (float[2] z) { a = Relu (x) b = Relu (a) z = Relu (b) }"
    nodes = [("", "Relu", CUDA), ("", "Relu", CPU), ("", "Relu", CPU), ("", "Neg", CPU)]
    assert kept_on_cpu(save(tmp_path, text, marks="GCG"), nodes) == [False, True, False, False]


@pytest.mark.parametrize("mark", ["C", "G"])
def test_bodies_are_where_their_node_is(tmp_path: Path, mark: str) -> None:
    nodes = [(name, "Op", CPU) for name in ("if", "then", "else")]
    assert kept_on_cpu(save(tmp_path, BRANCHES, marks=mark), nodes) == [mark == "C"] * 3


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    nodes = [("conv", "Relu", CPU)]
    assert kept_on_cpu(save(tmp_path, marks="CCC"), nodes) == [True]
    assert kept_on_cpu(save(tmp_path, marks="G--"), nodes) == [False]
