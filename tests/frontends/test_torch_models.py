"""A third of the PyTorch models of the zoo: exported, proved and optimized; all by `tools/zoo.py torch`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import fuseonnx
from tools.zoo_torch import MODELS, Sample

EXPORTERS = {
    "segformer": "dynamo",
    "gpt2": "dynamo",
    "bert": "dynamo",
    "t5_decoder": "dynamo",
    "conv1d": "dynamo",
    "conv3d": "dynamo",
    "gru_bidirectional": "torchscript",
    "transformer_encoder": "dynamo",
    "cond": "dynamo",
}
GROWTH = 3


def _grown(sample: Sample) -> dict[str, torch.Tensor]:
    """Return inputs whose dynamic dimensions are larger: signed normals, or values drawn from the example."""
    torch.manual_seed(1)
    inputs = {}
    for name, example in sample.inputs.items():
        shape = [size + GROWTH * (axis in sample.dynamic[name]) for axis, size in enumerate(example.shape)]
        drawn = example.flatten()[torch.randint(example.numel(), shape)]
        inputs[name] = 2 * torch.randn(shape) if example.is_floating_point() else drawn
    return inputs


def _negated(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: -value if value.is_floating_point() else value for name, value in inputs.items()}


def _head(sample: Sample, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    with torch.no_grad():
        result = sample.model(**inputs)
    head: torch.Tensor = result if isinstance(result, torch.Tensor) else result[sample.head]
    return head.numpy()


@pytest.mark.parametrize("name", EXPORTERS)
def test_model_is_exported_and_optimized_with_the_answers_of_pytorch(name: str, tmp_path: Path) -> None:
    sample, path = MODELS[name](), tmp_path / "model.onnx"
    report = fuseonnx.optimize(sample.model, path, inputs=sample.inputs, dynamic=sample.dynamic).report

    assert report.export is not None and report.parity is not None
    assert f"({EXPORTERS[name]})" in report.export.exporter
    assert report.export.parity.status == "passed"
    assert report.parity.status == "passed"
    assert report.verification.status == "passed"
    assert report.rolled_back == ()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    declared = {output.name: output.shape for output in session.get_outputs()}[sample.head]
    grown = _grown(sample)
    for inputs in (grown, _negated(grown)):
        theirs = _head(sample, inputs)  # only now: the export got a model that had never been called
        feeds = {key: value.numpy() for key, value in inputs.items()}
        (ours,) = session.run([sample.head], feeds)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
        assert all(
            dim in (size, None) or isinstance(dim, str)
            for dim, size in zip(declared, ours.shape, strict=True)
        )
