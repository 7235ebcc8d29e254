"""PyTorch models: modules, exported programs and TorchScript."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends._ports import name_ports
from fuseonnx.frontends._quiet import quiet
from fuseonnx.frontends._torch_call import Call, bind, flat_module, named_outputs, to_numpy, to_torch
from fuseonnx.frontends._torch_dims import Axes, dynamic_axes, other_sizes, spread, with_batch
from fuseonnx.frontends._torch_export import (
    DYNAMO_OPSET,
    TORCHSCRIPT_OPSET,
    ExporterFailed,
    cure,
    export_dynamo,
    export_torchscript,
    one_line,
)
from fuseonnx.frontends._torch_files import load_torch
from fuseonnx.frontends._torch_finish import clean, fixed_dims, label_outputs, misfit, save, without_effect
from fuseonnx.frontends._torch_state import inference
from fuseonnx.frontends.conversion import Conversion, require
from fuseonnx.frontends.options import ExportOptions

if TYPE_CHECKING:
    import torch

__all__ = ["convert_torch", "is_torch_model", "load_torch"]


def is_torch_model(model: object) -> bool:
    """Whether an object is a module, TorchScript or an exported program; torch is not imported for that."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(model, torch.nn.Module | torch.export.ExportedProgram)


def convert_torch(
    model: torch.nn.Module | torch.export.ExportedProgram,
    folder: Path,
    options: ExportOptions,
    on_progress: Callable[[str], None],
) -> Conversion:
    """Write a model in inference mode as `folder/model.onnx`; the model is left as it was.

    Raises:
        ExportError: there are no example inputs, the model does not run on them, or no exporter can.
        OptionError: an option names an input or an axis that does not exist, or contradicts the model.
    """
    torch = require("torch", "torch")
    require("onnxscript", "torch")
    subject = _program(model, options) if _is_program(model) else _module(model, options)
    with inference(subject.module), quiet():
        exporter, notes = _export(subject, folder, options, on_progress)
    return Conversion(
        folder / "model.onnx",
        f"PyTorch {torch.__version__.partition('+')[0]}",
        f"torch.onnx {torch.__version__.partition('+')[0]} ({exporter})",
        subject.answers(options.input_names),
        notes,
    )


@dataclass(frozen=True)
class _Subject:
    """A model and how it is called.

    Attributes:
        module: what PyTorch runs.
        flat: the same from flat tensors to flat tensors.
        call: the example inputs.
        tensors: they, of sizes that suit the exporters.
        outputs: names of the flat outputs.
        axes: dynamic dimensions of the inputs.
        others: example inputs of other sizes, if there are dynamic dimensions and the model accepts them.
        notes: what the user should know so far.
        program: of an exported program.
    """

    module: torch.nn.Module
    flat: torch.nn.Module
    call: Call
    tensors: list[torch.Tensor]
    outputs: list[str]
    axes: Axes
    others: list[torch.Tensor] | None
    notes: list[str]
    program: torch.export.ExportedProgram | None = None

    def answers(self, new_names: Sequence[str]) -> Callable[[Mapping[str, Any]], list[Any]]:
        """Return what runs the model on numpy arrays by name."""
        names = list(new_names) or self.call.names
        devices = [tensor.device for tensor in self.tensors]

        def run(feeds: Mapping[str, Any]) -> list[Any]:
            tensors = [to_torch(feeds[name]).to(device) for name, device in zip(names, devices, strict=True)]
            with inference(self.module), quiet():
                return [to_numpy(tensor) for tensor in self.flat(*tensors)]

        return run
