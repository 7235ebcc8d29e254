"""A PyTorch module in inference mode, and as it was before afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def inference(model: torch.nn.Module) -> Iterator[None]:
    """Run a block with `model` in evaluation mode and without gradients.

    Training flags, attributes that forward() sets, values of buffers and the state of PyTorch's random
    generators are put back, also after an error. The module of an exported program keeps the mode it was
    exported in.
    """
    import torch

    modules = list(model.modules())
    training = [(module, module.training) for module in modules if hasattr(module, "training")]
    plain = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    attributes = [(vars(module), vars(module).copy(), module._buffers.copy()) for module in plain]
    values = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {tensor.device.index for tensor in model.parameters() if tensor.is_cuda}
    try:
        with torch.random.fork_rng(sorted(devices)), torch.no_grad():
            with contextlib.suppress(NotImplementedError):  # of an exported program
                model.eval()
            yield
    finally:
        with torch.no_grad():
            for buffer, value in values:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
        for current, before, buffers in attributes:
            current.clear()
            current.update(before)
            current["_buffers"].clear()
            current["_buffers"].update(buffers)
        for module, flag in training:
            module.training = flag
