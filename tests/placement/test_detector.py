"""A detector goes through `place`, and two providers run it as it was placed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fuseonnx.placement.annotate import LAYER_ANNOTATION, SETTINGS
from fuseonnx.placement.report import Layout
from fuseonnx.placing import Placed, load_session, place
from fuseonnx.runtime.assignment import assignment_of
from fuseonnx.runtime.providers import as_backend
from fuseonnx.runtime.session import open_session
from tests.placement.conftest import SecondProvider
from tests.placement.detector import detector, images

CPU = "CPUExecutionProvider"
AFTER_THE_NETWORK = {"selected", "box_of", "boxes", "scores", "classes"}
CONVOLUTIONS = [f"/backbone{number}.conv/Conv" for number in range(4)] + [
    "/head0.conv/Conv",
    "/head1.conv/Conv",
]


def placed_at(folder: Path, batch: int | str = 1, **options: Any) -> Placed:
    onnx.save(detector(batch), folder / "detector.onnx")
    return place(folder / "detector.onnx", folder / "placed.onnx", **options)


def on_cpu(model: Path) -> list[np.ndarray]:
    return list(open_session(model).run(None, {"image": images()}))


def devices(layout: Layout) -> list[str]:
    return [block.device for block in layout.blocks]


@pytest.mark.parametrize("batch", [1, "N"])
def test_network_on_the_gpu_and_selection_on_the_cpu(tmp_path: Path, batch: int | str) -> None:
    report = placed_at(tmp_path, batch).report
    device_of = {node.name: node.device for node in report.nodes}
    assert {device_of[name] for name in CONVOLUTIONS} == {"gpu"}
    after = {name: device for name, device in device_of.items() if name.split("/")[1] in AFTER_THE_NETWORK}
    assert len(after) == 5
    assert set(after.values()) == {"cpu"}
    assert devices(report.placed) == ["gpu", "cpu"]
    assert [(hop.value, hop.from_block, hop.to_block, hop.nbytes) for hop in report.placed.hops] == [
        ("predictions", 0, 1, 4 * (16 * 16 + 8 * 8) * 9)
    ]
    assert report.placed.seconds < report.by_itself.seconds


def test_a_size_that_is_only_assumed_does_not_bring_the_network_to_the_cpu(tmp_path: Path) -> None:
    """On an image of a single pixel, all of it would be cheaper there."""
    model = detector()
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    onnx.save(model, tmp_path / "detector.onnx")
    report = place(tmp_path / "detector.onnx").report
    device_of = {node.name: node.device for node in report.nodes}
    assert {device_of[name] for name in CONVOLUTIONS} == {"gpu"}
    assert device_of["/selected/NonMaxSuppression"] == "cpu"
    (note,) = report.notes
    assert note.startswith(
        "image is counted as [1, 3, 1, 1], and work that depends on more than its batch stays"
    )


def test_shape_arithmetic_stays_beside_the_blocks(tmp_path: Path) -> None:
    nodes = {node.name: node for node in placed_at(tmp_path, "N").report.nodes}
    for name in ("/head0.batch/Gather", "/head1.target/Concat"):
        assert (nodes[name].device, nodes[name].block) == ("cpu", None)
        assert nodes[name].reason == "computes a shape"


@pytest.mark.parametrize("rules", [(), ("name:/predictions/*=cpu",), ("Exp=cuda", "name:/head0.*=cpu")])
def test_two_providers_run_it_as_placed(
    tmp_path: Path, second_provider: SecondProvider, rules: tuple[str, ...]
) -> None:
    made = placed_at(tmp_path, "N", rules=rules)
    assert made.path is not None
    model = onnx.load(made.path)
    opened = second_provider.open(model, SETTINGS)

    provider_of = {"gpu": second_provider.name, "cpu": CPU}
    assert opened.providers == {node.name: provider_of[node.device] for node in made.report.nodes}
    assert opened.copies == {(hop.value, hop.target): 1 for hop in made.report.placed.hops}
    found = opened.session.run(None, {"image": images()})
    for got, expected in zip(found, on_cpu(tmp_path / "detector.onnx"), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_load_session_opens_it_on_a_plugin_s_provider(
    tmp_path: Path, second_provider: SecondProvider
) -> None:
    """onnxruntime's own optimizations are on: it fuses each Conv with its BatchNormalization before."""
    made = placed_at(tmp_path)
    assert made.path is not None
    options = {"preferredLayout": "NCHW"}
    session = load_session(made.path, second_provider.name, provider_options=options)
    assert session.get_providers()[0] == second_provider.name
    counts = assignment_of(session).counts
    assert counts[second_provider.name]["Conv"] == 6
    assert counts[CPU]["NonMaxSuppression"] == 1
    assert not counts[second_provider.name].keys() & {"GatherND", "Gather", "Split", "Exp"}

    kept = tmp_path / "kept.onnx"
    backend = as_backend(second_provider.name, options)
    open_session(made.path, backend, optimized=True, save_optimized=kept)
    copies = [node.op_type for node in onnx.load(kept).graph.node if node.op_type.startswith("Memcpy")]
    assert copies == ["MemcpyToHost"] * len(made.report.placed.hops)


def test_the_answers_are_those_of_the_source(tmp_path: Path) -> None:
    made = placed_at(tmp_path)
    assert made.path is not None
    found = load_session(made.path, "cpu", optimized=False).run(None, {"image": images()})
    for got, expected in zip(found, on_cpu(tmp_path / "detector.onnx"), strict=True):
        np.testing.assert_array_equal(got, expected)
        assert got.size > 0


def test_every_node_that_runs_is_annotated(tmp_path: Path) -> None:
    made = placed_at(tmp_path)
    assert made.path is not None
    annotations = {
        node.name: entry.value
        for node in onnx.load(made.path).graph.node
        for entry in node.metadata_props
        if entry.key == LAYER_ANNOTATION
    }
    names = {"cpu": "C", "gpu": "G"}
    assert annotations == {node.name: names[node.device] for node in made.report.nodes}
