"""PyTorch models: modules, exported programs and TorchScript."""

from __future__ import annotations

from fuseonnx.frontends.torch.convert import convert_torch, is_torch_model
from fuseonnx.frontends.torch.files import load_torch

__all__ = ["convert_torch", "is_torch_model", "load_torch"]
