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
from tools.zoo_keras import build, draw, image_shape

SMALL = {"input_shape": (32, 32, 3), "classes": 10}
MODELS: dict[str, dict[str, Any]] = {
    "ConvNeXtTiny": {**SMALL, "input_shape": (64, 64, 3)},
    "DenseNet121": SMALL,
    "EfficientNetB0": SMALL,
    "MobileNet": {**SMALL, "alpha": 0.25},
    "MobileNetV2": {**SMALL, "alpha": 0.35},
    "MobileNetV3Small": SMALL,
    "NASNetMobile": SMALL,
    "ResNet50V2": SMALL,
}
LOGITS_TOLERANCE = 2e-5
"""Of the largest logit: a few float32 roundings in each of some hundred layers."""
PROBABILITIES_TOLERANCE = 1e-4


class Case(NamedTuple):
    answers: list[tuple[Any, Any, Any]]
    """Images, and what `predict` makes of them: logits and probabilities."""
    artifact: Path
    report: Report


@pytest.fixture(scope="module", params=MODELS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    import keras

    keras.backend.clear_session()
    model, magnitude = build(request.param, calibration_images=16, **MODELS[request.param])
    artifact = tmp_path_factory.mktemp("keras") / f"{request.param}.onnx"
    result = fuseonnx.optimize(model, artifact, output_names=("logits", "probabilities"))
    answers = []
    for batch in (1, 3):
        images = draw(np.random.default_rng(batch), (batch, *image_shape(model)), magnitude)
        answers.append((images, *model.predict(images, verbose=0)))
    return Case(answers, artifact, result.report)


@pytest.mark.parametrize("level", ["off", "default"])
def test_the_artifact_answers_as_keras_does(case: Case, level: str) -> None:
    """On onnxruntime without its optimizations and at its default level, at two batch sizes."""
    session = open_session(case.artifact, optimized=level == "default")
    (image,) = session.get_inputs()
    for images, logits, probabilities in case.answers:
        largest = np.abs(logits).max()
        assert 1 < largest < 100
        found = session.run(["logits", "probabilities"], {image.name: images})
        np.testing.assert_allclose(found[0], logits, rtol=0, atol=LOGITS_TOLERANCE * largest)
        np.testing.assert_allclose(found[1], probabilities, rtol=0, atol=PROBABILITIES_TOLERANCE)


def test_nothing_is_rolled_back_and_everything_is_checked(case: Case) -> None:
    report = case.report
    assert report.rolled_back == ()
    assert report.export is not None and report.parity is not None
    assert [report.export.parity.status, report.verification.status, report.parity.status] == ["passed"] * 3
    assert report.after.nodes < report.before.nodes
