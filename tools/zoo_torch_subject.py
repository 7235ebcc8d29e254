"""The PyTorch models of tools/zoo_torch.py as tools/zoo.py measures them: row by row of their example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tools.zoo_subject import Arrays, Subject

if TYPE_CHECKING:
    import torch


def subject(name: str, images: int, threads: int) -> Subject:
    """Return a model of `tools.zoo_torch.MODELS`; its output is the head that comes before any softmax."""
    import torch

    from tools.zoo_torch import MODELS

    torch.set_num_threads(threads)
    sample = MODELS[name]()
    model = sample.model.eval()
    batches = [{key: _row(value, i) for key, value in sample.inputs.items()} for i in range(images)]

    def predict() -> list[Arrays]:
        return [[_head(model(**batch), sample.head).detach().numpy()] for batch in batches]

    def compiled() -> list[Arrays]:
        with torch.inference_mode():
            return [[_head(model(**batch), sample.head).numpy()] for batch in batches]

    return Subject(
        model=model,
        options={"inputs": sample.inputs, "dynamic": sample.dynamic},
        batches=[{key: value.numpy() for key, value in batch.items()} for batch in batches],
        predict=predict,
        compiled=compiled,
        input=", ".join(f"{key} {'×'.join(map(str, value.shape[1:]))}" for key, value in batches[0].items()),
        layers=sum(not list(module.children()) for module in model.modules()),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        outputs=(sample.head,),
    )


def _row(value: torch.Tensor, index: int) -> torch.Tensor:
    at = index % len(value)
    return value[at : at + 1].clone()


def _head(output: Any, name: str) -> torch.Tensor:
    import torch

    found: torch.Tensor = output if isinstance(output, torch.Tensor) else output[name]
    return found
