"""Paths and objects find their frontend; what cannot be read is said in one line."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import fuseonnx
from fuseonnx.errors import ExportError, ModelLoadError

NETS = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        torch.nn.init.normal_(self.norm.running_mean)
        torch.nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, image):
        return torch.relu(self.norm(self.conv(image)))

model = Net()

def make():
    return Net()

def make_with_inputs():
    return Net(), torch.randn(2, 3, 8, 8)

def make_nothing():
    return {"weight": 1}

def fail():
    raise RuntimeError("no weights\\nhere")
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    (folder / "nets_of_a_user.py").write_text(NETS)
    return folder


@pytest.fixture(autouse=True)
def _here(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nets)


@pytest.mark.parametrize("name", ["make", "model"])
def test_a_factory_or_a_model_of_a_module(name: str) -> None:
    spec = fuseonnx.InputSpec((1, 3, 8, 8))
    exported = fuseonnx.export(f"nets_of_a_user:{name}", inputs=spec, batch="dynamic")
    assert exported.path == Path(f"{name}.onnx") and exported.report.parity.status == "passed"
    graph = onnx.load(exported.path).graph
    assert graph.input[0].name == "image"
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_factory_may_bring_its_inputs() -> None:
    result = fuseonnx.optimize("nets_of_a_user:make_with_inputs")
    assert result.path == Path("make_with_inputs.opt.onnx")
    assert result.report.after.ops == {"Conv": 1, "Relu": 1}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nets_of_a_user:nowhere", "nets_of_a_user:nowhere: the module has no 'nowhere'"),
        ("no_such_module:make", "no_such_module:make: no module 'no_such_module'"),
        (
            "nets_of_a_user:make_nothing",
            "nets_of_a_user:make_nothing: gives a dict; let it return a Keras or",
        ),
        ("nets_of_a_user:fail", "nets_of_a_user:fail: RuntimeError: no weights"),
        ("missing.keras", "missing.keras: cannot be read: No such file or directory"),
        ("missing.pt", "missing.pt: cannot be read: No such file or directory"),
        ("missing.tflite", "missing.tflite: cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_exported(source: str, message: str) -> None:
    with pytest.raises(ExportError) as caught:
        fuseonnx.export(source)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["keras", "h5", "pb", "tflite", "pt", "pt2", "safetensors"])
@pytest.mark.parametrize(("content", "reason"), [(b"", "the file is empty"), (b"not a model at all" * 9, "")])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes, reason: str) -> None:
    file = tmp_path / f"damaged.{suffix}"
    file.write_bytes(content)
    with pytest.raises(ExportError) as caught:
        fuseonnx.optimize(file)
    assert str(caught.value).startswith(f"{file}: {reason}") and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [file]


def test_no_model_at_all() -> None:
    with pytest.raises(ModelLoadError, match=r"<int>: not a model; give a path.* or a Keras, TensorFlow or"):
        fuseonnx.optimize(7)
