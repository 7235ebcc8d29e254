"""`fuseonnx export`, and `fuseonnx optimize` of a framework's model, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tests.helpers import run_reference


class Net(nn.Module):
    """A Conv and a BatchNormalization that says something, on any image size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.normal_(self.norm.running_mean)  # type: ignore[arg-type]
        nn.init.uniform_(self.norm.running_var, 0.5, 2)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(self.conv(image)).relu() * scale
        return result


FEEDS = {
    "image": np.random.default_rng(0).standard_normal((2, 3, 9, 11)).astype(np.float32),
    "scale": np.full((2, 1, 1, 1), -1.5, np.float32),
}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt"
    torch.jit.save(torch.jit.script(Net().eval()), path)
    return path


EXAMPLES = ("--input", "image=1x3x8x8", "--input", "scale=1x1x1x1:float32")
DYNAMIC = ("--batch", "dynamic", "--dynamic", "image:2=height,3=width")


def _expected() -> np.ndarray:
    with torch.inference_mode():
        answer: np.ndarray = Net().eval()(*(torch.from_numpy(value) for value in FEEDS.values())).numpy()
    return answer


def test_an_export_answers_as_the_framework(run_cli: Any, script: Path) -> None:
    result = run_cli("export", script, *EXAMPLES, *DYNAMIC, "--output-names", "features")
    assert result.exit_code == 0, result.output
    assert "TorchScript" in result.stdout or "torchscript" in result.stdout
    assert "Against PyTorch" in result.stdout and "verified on" in result.stdout
    model = onnx.load(script.with_suffix(".onnx"))
    answers = run_reference(model, FEEDS)
    assert list(answers) == ["features"] and model.ir_version <= 10
    np.testing.assert_allclose(answers["features"], _expected(), rtol=1e-4, atol=1e-5)


def test_optimize_takes_the_same_options(run_cli: Any, script: Path) -> None:
    result = run_cli("optimize", script, *EXAMPLES, *DYNAMIC, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["export"]["parity"]["status"] == report["parity"]["status"] == "passed"
    assert report["output"] == str(script.with_suffix(".opt.onnx"))
    model = onnx.load(script.with_suffix(".opt.onnx"))
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    (answer,) = run_reference(model, FEEDS).values()
    np.testing.assert_allclose(answer, _expected(), rtol=1e-4, atol=1e-5)


def test_frameworks_models_are_optimized_in_a_batch_too(run_cli: Any, script: Path, tmp_path: Path) -> None:
    shape = ("--input-shape", "image=1,3,8,8")
    assert run_cli("export", script, *EXAMPLES, "-o", tmp_path / "in" / "x.onnx").exit_code == 2  # no folder
    (tmp_path / "in").mkdir()
    assert run_cli("export", script, *EXAMPLES, "-o", tmp_path / "in").exit_code == 0
    result = run_cli("optimize", tmp_path / "in", tmp_path / "missing.pt", "-o", tmp_path / "out", *shape)
    assert result.exit_code == 2 and "missing.pt: cannot be read" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["net.opt.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "1,3,8,8"), "input '1,3,8,8': write 1x3x224x224:float32 or NAME=1x16:int64"),
        (
            ("--input", "1x3x8x8", "--input", "scale=1"),
            "--input: name all inputs, each once, or none of them",
        ),
        (("--batch", "many"), "--batch 'many': write dynamic, or a number"),
        (("--batch", "0"), "--batch '0': write dynamic, or a number"),
        (("--dynamic", "image=2"), "--dynamic 'image=2': write NAME:0=batch,2=height"),
        (("--dynamic", "image:two=height"), "--dynamic 'image:two=height': write NAME:0=batch"),
        ((), "image"),
    ],
)
def test_options_that_do_not_fit(
    run_cli: Any,
    check_error: Any,
    script: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    result = run_cli("export", script, *arguments)
    check_error(result, message)
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]
