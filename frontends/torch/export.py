"""PyTorch's two exporters, dynamo and TorchScript, behind one signature, and their reasons in one line."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import onnx_ir as ir

from fuseonnx.frontends._quiet import quiet, quiet_native
from fuseonnx.frontends.torch.attention import attention_symbolic, attention_translations, drop_idle_guards
from fuseonnx.frontends.torch.call import to_numpy
from fuseonnx.frontends.torch.constants import exact_constants
from fuseonnx.frontends.torch.dims import Axes
from fuseonnx.frontends.torch.experts import expert_translations

if TYPE_CHECKING:
    import torch

DYNAMO_OPSET = 21
TORCHSCRIPT_OPSET = 20  # the last that this exporter writes

NO_TRANSLATION = "has no ONNX translation"
ON_VALUES = "control flow or a shape depends on values"
FIXED = "is fixed"
OTHER_SIZES = "inputs of other sizes"
ANOTHER = "is not what PyTorch gives"
NO_KERNEL = "Could not find an implementation"


class ExporterFailed(Exception):
    """One exporter's reason, in one line."""


def export_dynamo(
    model: torch.nn.Module | torch.export.ExportedProgram,
    names: Sequence[str],
    tensors: Sequence[torch.Tensor],
    axes: Axes,
    opset: int,
) -> ir.Model:
    """Export with torch.export.

    Raises:
        ExporterFailed: PyTorch cannot.
    """
    import torch

    is_program = isinstance(model, torch.export.ExportedProgram)
    try:
        with silent(), exact_constants():
            program = torch.onnx.export(
                model,
                () if is_program else tuple(tensors),
                dynamic_shapes=None if is_program or not any(axes) else (tuple(axes),),
                opset_version=opset,
                dynamo=True,
                verbose=False,
                custom_translation_table={**attention_translations(), **expert_translations()},
            )
    except Exception as error:
        raise ExporterFailed(_reason(error, names)) from error
    assert program is not None
    written = program.model.opset_imports.get("", opset)
    if written != opset:
        raise ExporterFailed(f"it writes opset {written}, and cannot convert this model to {opset}")
    drop_idle_guards(program.model)
    return program.model


def export_torchscript(
    model: torch.nn.Module,
    names: Sequence[str],
    tensors: Sequence[torch.Tensor],
    axes: Axes,
    opset: int,
    folder: Path,
) -> tuple[ir.Model, list[str]]:
    """Export by tracing; parts that are TorchScript already keep their control flow.

    Returns:
        The model, whose weights may lie in `folder`, and the lines of Python whose result was fixed.

    Raises:
        ExporterFailed: PyTorch cannot.
    """
    import torch

    if opset > TORCHSCRIPT_OPSET:
        raise ExporterFailed(f"it writes opset {TORCHSCRIPT_OPSET} at most")
    own_names = [f"input_{index}" for index in range(len(tensors))]
    path = Path(tempfile.mkdtemp(dir=folder)) / "traced.onnx"
    try:
        with quiet_native(), silent() as caught, attention_symbolic(opset):
            if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
                model = torch.jit.trace(model, tuple(tensors), check_trace=False)  # type: ignore[no-untyped-call]
            torch.onnx.export(
                model,
                tuple(tensors),
                str(path),
                input_names=own_names,
                dynamic_axes={
                    name: symbols for name, symbols in zip(own_names, axes, strict=True) if symbols
                },
                opset_version=opset,
                dynamo=False,
            )
    except Exception as error:
        raise ExporterFailed(_reason(error, names)) from error
    traced = ir.load(path)
    drop_idle_guards(traced)
    _restore_unused(traced.graph, own_names, tensors)
    return traced, _baked_in(caught)


def _restore_unused(graph: ir.Graph, names: Sequence[str], tensors: Sequence[torch.Tensor]) -> None:
    """Put back the inputs that a traced model does not use."""
    present = {value.name for value in graph.inputs}
    for index, (name, tensor) in enumerate(zip(names, tensors, strict=True)):
        if name not in present:
            dtype = ir.DataType.from_numpy(to_numpy(tensor).dtype)
            value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(tensor.shape))
            graph.inputs.insert(index, value)


def cure(reasons: Sequence[str]) -> str:
    """Return what the user can do about the reasons of the exporters."""
    text = " ".join(reasons)
    if FIXED in text or OTHER_SIZES in text:
        return "leave that dimension out of --dynamic and --batch"
    if NO_TRANSLATION in text:
        return "write that layer with other operators"
    if ON_VALUES in text:
        return "write it with torch.cond or torch.where, or export torch.jit.script(model)"
    if NO_KERNEL in text:
        return "onnxruntime's CPU provider lacks that operator for this dtype: export model.float()"
    if ANOTHER in text:
        return "if it draws random numbers or picks among equals, leave that out; else try the other exporter"
    return "change the model there, or export it yourself and give the .onnx file"


def one_line(error: BaseException) -> str:
    """Return the first line that an error says anything in."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line[:300]}" if line else type(error).__name__


@contextlib.contextmanager
def silent() -> Iterator[list[warnings.WarningMessage]]:
    """Run PyTorch's exporters, which also print, without a sound; yield the warnings."""
    import torch

    nowhere, disabled, log = io.StringIO(), logging.root.manager.disable, torch._C._jit_onnx_log
    logging.disable()
    torch._C._jit_onnx_log = lambda *_: None  # it writes to the file descriptor
    try:
        with quiet() as caught, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
            yield caught
    finally:
        torch._C._jit_onnx_log = log
        logging.disable(disabled)


def _baked_in(caught: list[warnings.WarningMessage]) -> list[str]:
    """Return where the tracer warned, besides PyTorch's own checks of sizes."""
    import torch

    own = Path(torch.__file__).parent
    places = [
        f"{Path(warning.filename).name}:{warning.lineno}"
        for warning in caught
        if issubclass(warning.category, torch.jit._trace.TracerWarning)
        and not Path(warning.filename).is_relative_to(own)
    ]
    return list(dict.fromkeys(places))


def _reason(error: BaseException, names: Sequence[str]) -> str:
    """Say in one line why PyTorch could not export: the operator, or the line of the model's source."""
    chain = [error]
    while (below := chain[-1].__cause__) is not None:
        chain.append(below)
    text = "\n".join(str(each) for each in reversed(chain))
    if match := re.search(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'", text):
        return f"operator {match[1]} {NO_TRANSLATION}{_layer(chain)}"
    if match := re.search(r"Exporting the operator '([\w:]+)' to ONNX opset", text):
        return f"operator {match[1]} {NO_TRANSLATION}"
    if match := re.search(
        r"static shape of (\d+) for dimension inputs\['\w+'\]\[(\d+)\]\.shape\[(\d+)\]", text
    ):
        return f"axis {match[3]} of '{names[int(match[2])]}' {FIXED} to {match[1]} by the model"
    if re.search(r"data-dependent|[Dd]ynamic control flow", text):
        return f"{ON_VALUES}{_source(text)}"
    return one_line(chain[-1]) + _source(text)


def _source(text: str) -> str:
    """Return the last line of Python that an error of torch.export quotes."""
    places = re.findall(r'File "([^"]+)", line (\d+), in [^\n]+\n\s+([^\n]+)', text)
    if not places:
        return ""
    file, line, code = places[-1]
    return f" ({Path(file).name}:{line}: {code.strip()})"


def _layer(chain: list[BaseException]) -> str:
    """Return the layer of the node that the exporter was at, found in the frames of its error."""
    for error in chain:
        trace: TracebackType | None = error.__traceback__
        while trace is not None:
            node = trace.tb_frame.f_locals.get("node")
            stack = getattr(node, "meta", {}).get("nn_module_stack")
            if stack:
                path, kind = list(stack.values())[-1]
                name = kind if isinstance(kind, str) else kind.__name__
                layer = path.removeprefix("model").removeprefix(".")
                return f" (layer '{layer}', a {name.rpartition('.')[2]})" if layer else ""
            trace = trace.tb_next
    return ""
