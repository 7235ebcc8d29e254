"""`export` and `optimize` of a framework's model: compared with the framework, or not written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import fuseonnx
from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends import Conversion, source
from fuseonnx.frontends.dispatch import converter_of
from tests.helpers import batch_norm_weights, make_model, run_reference

Values = Mapping[str, Any]


def _model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32), **batch_norm_weights(4)}
    return make_model(nodes, {"x": ["batch", 3, 8, 8]}, ["y"], weights)


class Net:
    """Stands for a framework's model: what it exports to and what it answers are up to each test."""

    def __init__(self) -> None:
        self.exported = _model()
        self.largest_batch = 100
        self.wrong = 0.0
        self.outputs = 1

    def answers(self, feeds: Values) -> Sequence[Any]:
        """Answer as the exported model does, but for what a test asks."""
        if len(feeds["x"]) > self.largest_batch:
            raise ValueError("batch is too large\nin three\nlines")
        result = run_reference(_model(), feeds)["y"]
        return [result + np.float32(self.wrong)] * self.outputs


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    made = Net()

    def convert(folder: Path, options: fuseonnx.ExportOptions, _show: Any) -> Conversion:
        onnx.save(made.exported, folder / "model.onnx")
        return Conversion(folder / "model.onnx", "Frame 1.0", "exporter 2.0", made.answers, ("a note",))

    monkeypatch.setattr(
        source, "converter_of", lambda model: convert if model is made else converter_of(model)
    )
    return made


def test_an_export_is_compared_and_written(net: Any, tmp_path: Path) -> None:
    stages: list[str] = []
    exported = fuseonnx.export(net, tmp_path / "net.onnx", on_progress=stages.append)
    report = exported.report
    assert exported.path == tmp_path / "net.onnx" and report.output == str(exported.path)
    assert (report.framework, report.exporter, report.opset) == ("Frame 1.0", "exporter 2.0", 17)
    assert report.parity.status == "passed" and report.parity.runs >= 4 and report.notes == ("a note",)
    assert stages == ["compare with Frame 1.0", "save", "compare what was saved"] == list(report.seconds)
    assert json.loads(report.to_json())["parity"]["outputs"][0]["name"] == "y"
    x = np.random.default_rng(1).standard_normal((5, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(
        run_reference(onnx.load(exported.path), {"x": x})["y"], net.answers({"x": x})[0]
    )


def test_an_export_that_answers_otherwise_is_not_written(net: Any, tmp_path: Path) -> None:
    net.wrong = 0.01
    with pytest.raises(
        ExportError, match=r"^<Net>: exporter 2\.0 made a model .* as Frame 1\.0 does: y: differs"
    ):
        fuseonnx.export(net, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_unless_nobody_asks(net: Any, tmp_path: Path) -> None:
    net.wrong = 0.01
    report = fuseonnx.export(net, tmp_path / "net.onnx", verify=False).report
    assert (report.parity.status, report.parity.reason) == ("skipped", "verification was switched off")
    assert fuseonnx.optimize(net, verify=False).report.parity is None


def test_sizes_that_the_framework_refuses_are_not_compared(net: Any, tmp_path: Path) -> None:
    net.largest_batch = 1
    parity = fuseonnx.export(net, tmp_path / "net.onnx").report.parity
    assert parity.status == "passed"
    assert any("refused" in note for note in parity.notes)


def test_sizes_that_only_the_export_refuses_are_an_error(net: Any, tmp_path: Path) -> None:
    reshape = helper.make_node("Reshape", ["y", "shape"], ["flat"])
    node = net.exported.graph.node
    node.append(reshape)
    net.exported.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 4, 6, 6]), "shape"))
    node[-2].output[0], node[-1].input[0], node[-1].output[0] = "raw", "raw", "y"
    with pytest.raises(ExportError, match=r"onnxruntime refuses run .normal batch=2"):
        fuseonnx.export(net, tmp_path / "net.onnx")


def test_an_export_that_onnxruntime_cannot_load_is_an_error(net: Any, tmp_path: Path) -> None:
    net.exported.graph.node[-1].op_type = "StatefulPartitionedCall"
    with pytest.raises(ExportError, match=r"onnxruntime cannot load it.*StatefulPartitionedCall"):
        fuseonnx.export(net, tmp_path / "net.onnx")


def test_another_number_of_outputs_is_an_error(net: Any, tmp_path: Path) -> None:
    net.outputs = 2
    with pytest.raises(ExportError, match="the framework gives 2 outputs, the export 1"):
        fuseonnx.export(net, tmp_path / "net.onnx")


def test_optimize_exports_first_and_compares_the_artifact_too(net: Any, tmp_path: Path) -> None:
    result = fuseonnx.optimize(net, tmp_path / "net.opt.onnx")
    report = result.report
    assert report.export is not None and report.export.parity.status == "passed"
    assert report.parity is not None and report.parity.status == "passed"
    assert report.after.ops == {"Conv": 1, "Relu": 1}
    assert isinstance(result.model, onnx.ModelProto) and result.path == tmp_path / "net.opt.onnx"
    markdown = report.to_markdown()
    assert (
        "## Export" in markdown and "## Against Frame 1.0: verified on" in markdown and "- a note" in markdown
    )


def test_a_live_model_needs_a_place(net: Any) -> None:
    with pytest.raises(OptionError, match=r"<Net>: name the file to write"):
        fuseonnx.export(net)


def test_onnx_is_not_exported_again(tmp_path: Path) -> None:
    onnx.save(_model(), tmp_path / "m.onnx")
    with pytest.raises(OptionError, match=r"m\.onnx: is ONNX already; 'fuseonnx optimize' takes it"):
        fuseonnx.export(tmp_path / "m.onnx", tmp_path / "n.onnx")
    with pytest.raises(OptionError, match=r"m\.onnx: is ONNX already; the options of an export do not apply"):
        fuseonnx.optimize(tmp_path / "m.onnx", batch=2)


def test_in_place_is_for_onnx_files(net: Any) -> None:
    with pytest.raises(OptionError, match="in place means over the model's own ONNX file"):
        fuseonnx.optimize(net, in_place=True)
