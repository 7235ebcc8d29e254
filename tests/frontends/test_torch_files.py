"""PyTorch files: what each holds is told without running its code, in one line when it is no model."""

from __future__ import annotations

import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fuseonnx.errors import ExportError
from fuseonnx.frontends.options import ExportOptions
from fuseonnx.frontends.torch import is_torch_model, load_torch

SAFE, TRUSTING = ExportOptions(), ExportOptions(trust=True)


class Exploding:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return _explode, ("the pickle was run",)


def _explode(message: str) -> None:
    raise AssertionError(message)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh()).eval()


def _message(path: Path, options: ExportOptions = SAFE) -> str:
    with pytest.raises(ExportError) as caught:
        load_torch(path, options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def _assert_same(loaded: Any, net: nn.Module) -> None:
    assert is_torch_model(loaded)
    x = torch.randn(2, 4)
    run = loaded.module() if isinstance(loaded, torch.export.ExportedProgram) else loaded
    torch.testing.assert_close(run(x), net(x))


def test_exported_program(net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.randn(2, 4),)), path)
    _assert_same(load_torch(path, SAFE), net)


@pytest.mark.parametrize("suffix", ["pt", "ts", "pth"])
def test_torchscript(net: nn.Module, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.{suffix}"
    torch.jit.save(torch.jit.script(net), path)
    _assert_same(load_torch(path, SAFE), net)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_module_needs_trust(net: nn.Module, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(net, path, _use_new_zipfile_serialization=zipped)
    assert "--trust" in _message(path)
    _assert_same(load_torch(path, TRUSTING), net)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_is_not_run_without_trust(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"model": Exploding()}, path, _use_new_zipfile_serialization=zipped)
    assert "--trust" in _message(path)


def test_program_with_pickled_examples_needs_trust(net: nn.Module, tmp_path: Path) -> None:
    path, evil = tmp_path / "net.pt2", tmp_path / "evil.pt2"
    torch.export.save(torch.export.export(net, (torch.randn(2, 4),)), path)
    torch.save(((Exploding(),), {}), tmp_path / "inputs.pt")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(evil, "w") as target:
        for name in source.namelist():
            is_inputs = name.endswith("sample_inputs/model.pt")
            target.writestr(name, (tmp_path / "inputs.pt").read_bytes() if is_inputs else source.read(name))
    assert "--trust" in _message(evil)


def test_module_in_a_checkpoint(net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 3, "model": net}, path)
    _assert_same(load_torch(path, TRUSTING), net)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("trust", [True, False])
def test_weights_without_a_model(net: nn.Module, zipped: bool, trust: bool, tmp_path: Path) -> None:
    for content in (net.state_dict(), {"epoch": 1, "model": net.state_dict()}):
        path = tmp_path / "weights.bin"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        assert "weights without a model" in _message(path, ExportOptions(trust=trust))
        assert "package.module:factory" in _message(path, ExportOptions(trust=trust))


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    assert "weights without a model" in _message(path)


@pytest.mark.parametrize("trust", [True, False])
def test_damaged_and_foreign_files(net: nn.Module, trust: bool, tmp_path: Path) -> None:
    script, program, weights = tmp_path / "net.ts", tmp_path / "net.pt2", tmp_path / "net.pt"
    torch.jit.save(torch.jit.script(net), script)
    torch.export.save(torch.export.export(net, (torch.randn(2, 4),)), program)
    torch.save(net, weights, _use_new_zipfile_serialization=False)
    options = ExportOptions(trust=trust)
    for path in (script, program, weights):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert "damaged" in _message(path, options) or (path == weights and not trust)
    foreign = tmp_path / "picture.pt"
    foreign.write_bytes(b"\x89PNG\r\n")
    assert "no PyTorch file" in _message(foreign, options)
    plain = tmp_path / "list.pth"
    plain.write_bytes(pickle.dumps([1, 2]))
    _message(plain, options)


def test_zip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "archive.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "none that PyTorch writes" in _message(path)


def test_class_that_cannot_be_imported(net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    namespace = {"__name__": "module_of_yesterday"}
    exec("from torch import nn\nclass Gone(nn.Module):\n    pass\n", namespace)
    module = types.ModuleType("module_of_yesterday")
    module.Gone = namespace["Gone"]  # type: ignore[attr-defined]
    sys.modules["module_of_yesterday"] = module
    torch.save(module.Gone(), path)
    del sys.modules["module_of_yesterday"]
    assert "module_of_yesterday.Gone" in _message(path)
    assert "module_of_yesterday" in _message(path, TRUSTING)
