"""A live PyTorch model as an ONNX file."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import onnx_ir as ir

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends._ports import name_ports
from fuseonnx.frontends._quiet import quiet
from fuseonnx.frontends.conversion import Conversion, require
from fuseonnx.frontends.options import ExportOptions
from fuseonnx.frontends.torch.call import to_numpy, to_torch
from fuseonnx.frontends.torch.export import (
    DYNAMO_OPSET,
    FIXED,
    ON_VALUES,
    TORCHSCRIPT_OPSET,
    ExporterFailed,
    cure,
    export_dynamo,
    export_torchscript,
    silent,
)
from fuseonnx.frontends.torch.finish import clean, label_inputs, label_outputs, misfit, save, without_effect
from fuseonnx.frontends.torch.state import inference
from fuseonnx.frontends.torch.subject import Subject, subject_of

if TYPE_CHECKING:
    import torch

OnProgress = Callable[[str], None]


def is_torch_model(model: object) -> TypeGuard[torch.nn.Module | torch.export.ExportedProgram]:
    """Whether an object is a module, TorchScript or an exported program; torch is not imported for that."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module | torch.export.ExportedProgram)


def convert_torch(
    model: torch.nn.Module | torch.export.ExportedProgram,
    folder: Path,
    options: ExportOptions,
    on_progress: OnProgress,
) -> Conversion:
    """Write a model in inference mode as `folder/model.onnx`; the model is left as it was.

    Raises:
        ExportError: there are no example inputs, the model does not run on them, or no exporter can.
        OptionError: an option names an input or an axis that does not exist, or contradicts the model.
    """
    torch = require("torch", "torch")
    require("onnxscript", "torch")
    version = torch.__version__.partition("+")[0]
    with quiet():
        subject = subject_of(model, options)
        with inference(subject.module):
            exporter, notes = _export(subject, folder, options, on_progress)
    return Conversion(
        folder / "model.onnx",
        f"PyTorch {version}",
        f"torch.onnx {version} ({exporter})",
        _answers(subject, _names(subject, options)),
        (*subject.notes, *notes),
        examples=dict(zip(_names(subject, options), map(to_numpy, subject.call.tensors), strict=True)),
    )


def _export(
    subject: Subject, folder: Path, options: ExportOptions, on_progress: OnProgress
) -> tuple[str, list[str]]:
    """Try the exporters in turn; return the one that could, and notes."""
    failures: list[str] = []
    for exporter in _exporters(subject, options):
        title = {"dynamo": "dynamo", "torchscript": "TorchScript"}[exporter]
        on_progress(f"export with {title}")
        try:
            export = _with_dynamo if exporter == "dynamo" else _with_torchscript
            notes = export(subject, folder, options, failures)
        except ExporterFailed as error:
            failures.append(f"{title}: {error}")
            continue
        return exporter, [*(f"exported with {title}, because {reason}" for reason in failures), *notes]
    raise ExportError(f"cannot be exported: {'; '.join(failures)}; {cure(failures)}")


def _exporters(subject: Subject, options: ExportOptions) -> list[str]:
    import torch

    able = ["dynamo", "torchscript"]
    if subject.program is not None:
        able = ["dynamo"]
    elif isinstance(subject.module, torch.jit.ScriptModule):
        able = ["torchscript"]
    if options.exporter is None:
        return able
    if options.exporter not in able:
        kind = type(subject.program or subject.module).__name__
        raise OptionError(f"a {kind} is exported with {able[0]}; leave --exporter {options.exporter} out")
    return [options.exporter]


def _with_dynamo(
    subject: Subject, folder: Path, options: ExportOptions, _failures: Sequence[str]
) -> list[str]:
    opset = options.opset or DYNAMO_OPSET
    model = export_dynamo(
        subject.program or subject.flat, subject.call.names, subject.tensors, subject.axes, opset
    )
    return _finish(model, subject, folder, options)


def _with_torchscript(
    subject: Subject, folder: Path, options: ExportOptions, failures: Sequence[str]
) -> list[str]:
    if any(FIXED in reason for reason in failures) and not subject.all_sizes_vary():
        raise ExporterFailed("it takes no other size in PyTorch either")
    flat = _scripted(subject) if any(ON_VALUES in reason for reason in failures) else None
    opset = options.opset or TORCHSCRIPT_OPSET
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        model, baked_in = export_torchscript(
            flat or subject.flat, subject.call.names, subject.tensors, subject.axes, opset, Path(scratch)
        )
        if subject.others is not None:
            shapes = [
                [array.shape for array in subject.run(each)] for each in (subject.tensors, subject.others)
            ]
            label_outputs(model.graph, subject.sizes(), shapes)
        notes = _finish(model, subject, folder, options)
    if baked_in:
        places = ", ".join(baked_in[:5]) + (", ..." if len(baked_in) > 5 else "")
        notes.append(f"traced: what Python computed from the example inputs is a constant now ({places})")
    return notes


def _scripted(subject: Subject) -> torch.nn.Module | None:
    """Return the module as TorchScript, which keeps control flow on values; None where it cannot be."""
    import torch

    try:
        with silent():
            return subject.flattened(torch.jit.script(subject.module))
    except Exception:
        return None


def _finish(model: ir.Model, subject: Subject, folder: Path, options: ExportOptions) -> list[str]:
    """Name, clean, write and try the model; return notes."""
    graph, names = model.graph, subject.call.names
    if fixed := label_inputs(graph, subject.axes):
        input_, axis = fixed[0]
        size = subject.tensors[input_].shape[axis]
        raise ExporterFailed(f"axis {axis} of '{names[input_]}' {FIXED} to {size}")
    clean(model)
    inputs = _names(subject, options)
    outputs = [f"{name}_out" if name in inputs else name for name in subject.outputs]
    name_ports(graph, inputs, options.output_names or outputs)
    path = folder / "model.onnx"
    save(model, path)
    if reason := misfit(path, subject.run, subject.trials()):
        raise ExporterFailed(reason)
    return [f"input '{name}' has no effect on the outputs" for name in without_effect(graph)]


def _names(subject: Subject, options: ExportOptions) -> Sequence[str]:
    return options.input_names or subject.call.names


def _answers(subject: Subject, names: Sequence[str]) -> Callable[[Mapping[str, Any]], list[Any]]:
    devices = [tensor.device for tensor in subject.tensors]

    def run(feeds: Mapping[str, Any]) -> list[Any]:
        tensors = [to_torch(feeds[name]).to(device) for name, device in zip(names, devices, strict=True)]
        with quiet():
            return subject.run(tensors)

    return run
