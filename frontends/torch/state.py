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

    The dicts among the attributes get their contents back, too: transformers installs hooks at the first
    call, and remembers it in an attribute; if only that were put back, a second call would do it twice.
    """
    import torch

    modules = list(model.modules())
    training = [(module, module.training) for module in modules if hasattr(module, "training")]
    plain = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    attributes = [vars(module) for module in plain]
    dicts = [value for each in attributes for value in each.values() if isinstance(value, dict)]
    contents = [(each, each.copy()) for each in attributes + dicts]
    values = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {tensor.device.index for tensor in model.parameters() if tensor.is_cuda}
    try:
        with torch.random.fork_rng(sorted(devices)), torch.no_grad(), _without_fast_path():
            with contextlib.suppress(NotImplementedError):  # of an exported program
                model.eval()
            yield
    finally:
        with torch.no_grad():
            for buffer, value in values:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
        for current, before in contents:
            current.clear()
            current.update(before)
        for module, flag in training:
            module.training = flag


@contextlib.contextmanager
def _without_fast_path() -> Iterator[None]:
    """Let nn.MultiheadAttention and nn.TransformerEncoder run as their Python code says.

    Without gradients they take fused operators, which ONNX has not, and which drop padded positions: the
    length of the result shrinks to that of the longest text.
    """
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
