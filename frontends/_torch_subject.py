"""What is exported: a PyTorch model, example inputs that suit the exporters, and names for what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends._torch_call import Call, bind, flat_module, named_outputs
from fuseonnx.frontends._torch_dims import (
    BATCH,
    Axes,
    dynamic_axes,
    other_sizes,
    sizes_of,
    spread,
    with_batch,
)
from fuseonnx.frontends._torch_export import one_line
from fuseonnx.frontends._torch_state import inference
from fuseonnx.frontends.options import ExportOptions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Subject:
    """A model and how it is called.

    Attributes:
        module: what PyTorch runs.
        call: the caller's example inputs.
        outputs: names of the tensors that it returns.
        axes: dynamic dimensions of the inputs.
        tensors: examples that the model is exported with.
        others: examples of other sizes, if there are dynamic dimensions and the model accepts them.
        program: the exported program that `module` is of.
        notes: what the user should know.
    """

    module: torch.nn.Module
    call: Call
    outputs: list[str]
    axes: Axes
    tensors: list[torch.Tensor]
    others: list[torch.Tensor] | None
    program: torch.export.ExportedProgram | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def flat(self) -> torch.nn.Module:
        """The module, from flat tensors to flat tensors."""
        return self.flattened(self.module)

    def flattened(self, module: torch.nn.Module) -> torch.nn.Module:
        """Return a module that is called as ours, from flat tensors to flat tensors."""
        return flat_module(module, self.call, self.outputs)

    def sizes(self) -> list[dict[str, int]]:
        """Return the sizes of the symbols in `tensors`, and in `others`."""
        return [sizes_of(tensors, self.axes) for tensors in (self.tensors, self.others or self.tensors)]

    def trials(self) -> list[list[torch.Tensor]]:
        """Return inputs to try an export with: the examples, of the other sign, and of other sizes."""
        negated = [-tensor if tensor.is_floating_point() else tensor for tensor in self.tensors]
        return [self.tensors, negated, *([self.others] if self.others else [])]


def subject_of(model: torch.nn.Module | torch.export.ExportedProgram, options: ExportOptions) -> Subject:
    """Run a model on the example inputs, and find out what is to be exported.

    Raises:
        ExportError: it does not run on them, returns no tensor, or was exported in training mode.
        OptionError: the options contradict the model.
    """
    import torch

    if isinstance(model, torch.export.ExportedProgram):
        return _of_program(model, options)
    module: torch.nn.Module = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    call = bind(module, options.inputs)
    axes, notes = dynamic_axes(call, options)
    tensors = with_batch(call, options.batch) if isinstance(options.batch, int) else call.tensors
    with inference(module):
        outputs, dropped = _outputs(module, call, tensors)
        accepts = _accepts(flat_module(module, call, outputs))
        tensors = spread(tensors, axes, accepts)
        others = other_sizes(tensors, axes, accepts)
    notes += [f"what it returns as '{name}' is no tensor, and left out" for name in dropped]
    return Subject(module, call, outputs, axes, tensors, others, None, notes)
