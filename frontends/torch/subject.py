"""What is exported: a PyTorch model, example inputs that suit the exporters, names for what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends.options import ExportOptions
from fuseonnx.frontends.torch.call import Call, bind, bind_program, flat_module, named_outputs, to_numpy
from fuseonnx.frontends.torch.dims import (
    Axes,
    dynamic_axes,
    other_sizes,
    sizes_of,
    spread,
    with_batch,
)
from fuseonnx.frontends.torch.export import OTHER_SIZES, one_line
from fuseonnx.frontends.torch.state import inference

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

    def all_sizes_vary(self) -> bool:
        """Whether `others` differ from `tensors` in every dynamic dimension."""
        before, after = self.sizes()
        return all(after[symbol] != size for symbol, size in before.items())

    def trials(self) -> dict[str, list[torch.Tensor]]:
        """Return inputs to try an export with, each by what it is."""
        negated = [-tensor if tensor.is_floating_point() else tensor for tensor in self.tensors]
        trials = {"the example inputs": self.tensors, "inputs of the other sign": negated}
        return trials if self.others is None else {**trials, OTHER_SIZES: self.others}

    def run(self, tensors: Sequence[torch.Tensor]) -> list[Any]:
        """Run the model as it is on flat tensors; return numpy arrays."""
        with inference(self.module):
            return [to_numpy(tensor) for tensor in self.flat(*tensors)]


def subject_of(model: torch.nn.Module | torch.export.ExportedProgram, options: ExportOptions) -> Subject:
    """Run a model on the example inputs, and find out what is to be exported.

    Raises:
        ExportError: it does not run on them, returns no tensor, or was exported in training mode.
        OptionError: the options contradict the model.
    """
    import torch

    if isinstance(model, torch.export.ExportedProgram):
        return _of_program(model, options)
    module = _unwrapped(model)
    call = bind(module, options.inputs)
    axes, notes = dynamic_axes(call, options)
    tensors = with_batch(call, options.batch) if isinstance(options.batch, int) else call.tensors
    with inference(module):
        outputs, left_out = _outputs(module, call, tensors)
        accepts = _accepts(module, flat_module(module, call, outputs))
        tensors = spread(tensors, axes, accepts)
        others = other_sizes(tensors, axes, accepts)
    return Subject(module, call, outputs, axes, tensors, others, None, notes + left_out)


def _unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """Return the module inside torch.compile or data parallelism."""
    import torch

    model = getattr(model, "_orig_mod", model)
    if isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        model = model.module
    return model


def _of_program(program: torch.export.ExportedProgram, options: ExportOptions) -> Subject:
    if options.inputs is not None:
        raise OptionError("an exported program has its example inputs in it; leave --input out")
    if program.example_inputs is None:
        raise ExportError("the program was saved without its example inputs; export and save it again")
    if layer := _in_training(program):
        raise ExportError(
            f"the program was exported in training mode ({layer}); call model.eval() and export it again"
        )
    module = program.module()
    call = bind_program(module, program)
    axes = _declared_axes(program, call, options)
    with inference(module):
        outputs, left_out = _outputs(module, call, call.tensors)
        others = other_sizes(call.tensors, axes, _accepts(module, flat_module(module, call, outputs)))
    return Subject(module, call, outputs, axes, call.tensors, others, program, left_out)


def _in_training(program: torch.export.ExportedProgram) -> str | None:
    """Return an operator of the program that behaves as in training, if there is one."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for argument, value in zip(schema.arguments if schema else (), node.args, strict=False):
            if argument.name in ("train", "training") and value is True:
                return str(node.target)
    return None


def _declared_axes(program: torch.export.ExportedProgram, call: Call, options: ExportOptions) -> Axes:
    """Return the program's own dynamic dimensions, with the caller's symbols where there are any."""
    import torch

    wanted, _ = dynamic_axes(call, options)
    shapes = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder"}
    axes: Axes = []
    for name, symbols, example in zip(call.names, wanted, call.tensors, strict=True):
        declared = {axis: str(dim) for axis, dim in enumerate(shapes[name]) if isinstance(dim, torch.SymInt)}
        fixed = sorted(symbols.keys() - declared.keys())
        fixed += (
            [0]
            if isinstance(options.batch, int) and example.ndim and example.shape[0] != options.batch
            else []
        )
        if fixed:
            raise OptionError(
                f"axis {fixed[0]} of '{name}' is {shapes[name][fixed[0]]} in the exported program; "
                "give torch.export.export other inputs or dynamic_shapes"
            )
        axes.append({axis: symbols.get(axis, dim) for axis, dim in declared.items() if dim.isidentifier()})
    return axes


def _outputs(module: torch.nn.Module, call: Call, tensors: list[torch.Tensor]) -> tuple[list[str], list[str]]:
    """Run the model; return the names of the tensors that it returns, and notes on the rest."""
    import torch

    args, kwargs = call.unflatten(tensors)
    try:
        found = list(named_outputs(module(*args, **kwargs), call.kept))
    except Exception as error:
        raise ExportError(f"does not run on the example inputs: {one_line(error)}") from error
    outputs = {name: value for name, value in found if isinstance(value, torch.Tensor)}
    if not outputs:
        raise ExportError("returns no tensor; an ONNX model needs an output")
    if name := next((name for name, value in outputs.items() if value.is_complex()), None):
        raise ExportError(f"output '{name}' is complex, which ONNX has not; return torch.view_as_real of it")
    rest = [(name, type(value).__name__) for name, value in found if name not in outputs]
    return list(outputs), [f"output '{name}' is left out: a {kind} is no tensor" for name, kind in rest]


def _accepts(module: torch.nn.Module, flat: torch.nn.Module) -> Callable[[list[torch.Tensor]], bool]:
    """Return what tells whether `module`, as `flat`, runs on some inputs."""

    def accepts(tensors: list[torch.Tensor]) -> bool:
        try:
            with inference(module):
                flat(*tensors)
        except Exception:
            return False
        return True

    return accepts
