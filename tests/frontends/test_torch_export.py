"""A PyTorch model, through either exporter and fuseonnx, answers as PyTorch does."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import fuseonnx


class Net(nn.Module):
    """Two convolutions with BatchNormalization, a residual, a hard-swish, pooling and a Linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardswish()
        )
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), nn.BatchNorm1d(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        result: torch.Tensor = self.head(x + self.branch(x))
        return result


def _net() -> Net:
    torch.manual_seed(0)
    net = Net().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -2, 2)
            nn.init.normal_(module.bias)
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.1, 3)
    return net


def _export(net: Net, path: Path, *, dynamo: bool) -> None:
    example = (torch.randn(2, 3, 16, 16),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            dynamic = {"x": {0: torch.export.Dim("batch")}}
            program = torch.onnx.export(
                net,
                example,
                dynamo=True,
                opset_version=18,
                dynamic_shapes=dynamic,
                optimize=False,
                verbose=False,
            )
            assert program is not None
            program.save(str(path))
        else:
            torch.onnx.export(
                net,
                example,
                str(path),
                dynamo=False,
                opset_version=17,
                input_names=["x"],
                dynamic_axes={"x": {0: "batch"}},
                do_constant_folding=False,
                training=torch.onnx.TrainingMode.PRESERVE,
            )
    model = onnx.load(path)
    assert any(node.op_type == "BatchNormalization" for node in model.graph.node), (
        "the test needs one to fold"
    )


@pytest.mark.parametrize("dynamo", [False, True])
def test_answers_of_the_framework_are_kept(dynamo: bool, tmp_path: Path) -> None:
    net, path = _net(), tmp_path / "net.onnx"
    _export(net, path, dynamo=dynamo)
    result = fuseonnx.optimize(path)
    assert result.report.verification.status == "passed"
    assert result.report.rolled_back == ()
    assert "BatchNormalization" not in result.report.after.ops
    session = onnxruntime.InferenceSession(str(result.path), providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        x = torch.randn(batch, 3, 16, 16) * 3
        with torch.no_grad():
            expected = net(x).numpy()
        (found,) = session.run(None, {"x": x.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


class Boxes(nn.Module):
    """As in LayoutLM: sizes of boxes are looked up, so that a box must not end before it begins."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = nn.Embedding(8, 4)

    def forward(self, box: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.sizes(box[:, 1] - box[:, 0])
        return result


def test_the_example_is_compared_where_no_made_up_input_is_accepted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    boxes, example = Boxes(), torch.tensor([[100, 103], [200, 207]])
    result = fuseonnx.export(boxes, tmp_path / "boxes.onnx", inputs={"box": example})
    parity = result.report.parity
    assert (parity.status, parity.runs) == ("passed", 1)
    found = onnxruntime.InferenceSession(result.path).run(None, {"box": example.numpy()})[0]
    np.testing.assert_array_equal(found, boxes(example).detach().numpy())
