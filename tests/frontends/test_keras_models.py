"""Eight of keras.applications, from the live model to the optimized artifact, against Keras itself.

Random weights, statistics of BatchNormalization taken from a batch and shaken, signed images. All of
keras.applications: `python -m tools.zoo keras`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fuseonnx
from fuseonnx.report import Report
from fuseonnx.runtime.session import open_session
from tools.zoo_keras import build, draw

SIDE, CLASSES = 32, 10
MODELS: dict[str, dict[str, Any]] = {
    "ConvNeXtTiny": {},
    "DenseNet121": {},
    "EfficientNetB0": {},
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {"minimalistic": False},
    "NASNetMobile": {},
    "ResNet50V2": {},
}
LOGITS_TOLERANCE = 2e-5
"""Of the largest logit: a few float32 roundings in each of some hundred layers."""
PROBABILITIES_TOLERANCE = 1e-4


class Case(NamedTuple):
    model: Any
    magnitude: float
    artifact: Path
    report: Report


@pytest.fixture(scope="module", params=MODELS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    import keras

    keras.backend.clear_session()
    arguments = MODELS[request.param]
    model, magnitude = build(
        request.param, calibration_images=16, input_shape=(SIDE, SIDE, 3), classes=CLASSES, **arguments
    )
    artifact = tmp_path_factory.mktemp("keras") / f"{request.param}.onnx"
    result = fuseonnx.optimize(model, artifact, output_names=("logits", "probabilities"))
    return Case(model, magnitude, artifact, result.report)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_artifact_answers_as_keras_does(case: Case, batch: int) -> None:
    images = draw(np.random.default_rng(batch), (batch, SIDE, SIDE, 3), case.magnitude)
    logits, probabilities = case.model.predict(images, batch_size=batch, verbose=0)
    session = open_session(case.artifact)
    (image,) = session.get_inputs()
    found = session.run(["logits", "probabilities"], {image.name: images})
    assert 1 < np.abs(logits).max() < 100
    np.testing.assert_allclose(found[0], logits, rtol=0, atol=LOGITS_TOLERANCE * np.abs(logits).max())
    np.testing.assert_allclose(found[1], probabilities, rtol=0, atol=PROBABILITIES_TOLERANCE)


def test_nothing_is_rolled_back_and_everything_is_checked(case: Case) -> None:
    report = case.report
    assert report.rolled_back == ()
    assert report.export is not None and report.parity is not None
    assert [report.export.parity.status, report.verification.status, report.parity.status] == ["passed"] * 3
    assert report.after.nodes < report.before.nodes
