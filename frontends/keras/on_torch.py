"""Keras models on the PyTorch backend: they are modules, and go through PyTorch's exporters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fuseonnx.errors import ExportError
from fuseonnx.frontends.conversion import Conversion
from fuseonnx.frontends.keras.call import Call, distinct, first_line
from fuseonnx.frontends.options import ExportOptions, InputSpec
from fuseonnx.frontends.torch import convert_torch

_OPEN_SIZE = 32
"""Of an example where the model leaves a size open; networks halve it a few times."""


def convert_on_torch(
    call: Call, folder: Path, options: ExportOptions, on_progress: Callable[[str], None]
) -> Conversion:
    """Write a Keras model by PyTorch's exporters, under the names that Keras gives.

    Raises:
        ExportError, OptionError: as `convert_torch`; the model does not run.
    """
    import torch

    class Flat(torch.nn.Module):
        """The model from flat tensors to flat tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.model = call.model

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(value for _, value in call(*tensors))

    examples, dynamic = [], {name: dict(axes) for name, axes in options.dynamic.items()}
    for leaf in call.leaves:
        batch = options.batch if isinstance(options.batch, int) else 2
        shape = [
            size if size is not None else (_OPEN_SIZE if axis else batch)
            for axis, size in enumerate(leaf.shape)
        ]
        examples.append(InputSpec(tuple(shape), leaf.dtype).example())
        axes = dynamic.setdefault(leaf.name, {})
        for axis, size in enumerate(leaf.shape):
            if size is None and (axis or not isinstance(options.batch, int)):
                axes.setdefault(axis, f"{leaf.name}_{axis}" if axis else "batch")
    inputs = list(options.input_names) or [leaf.name for leaf in call.leaves]
    if not options.output_names:
        try:
            names = [name for name, _ in call(*(torch.from_numpy(example) for example in examples))]
        except Exception as error:
            raise ExportError(f"does not run: {first_line(error)}") from error
        options = replace(options, output_names=distinct(names, taken=inputs))
    renamed = {name: dynamic.get(leaf.name, {}) for name, leaf in zip(inputs, call.leaves, strict=True)}
    options = replace(options, inputs=tuple(examples), input_names=inputs, dynamic=renamed)
    return convert_torch(Flat(), folder, options, on_progress)
