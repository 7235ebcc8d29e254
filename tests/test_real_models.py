"""Other people's trained models: verified, smaller, deterministic, the same answers on lifelike inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import fuseonnx
from tests.helpers import Feeds, all_nodes

ROOT = Path(__file__).parents[1]
MAX_NODES = {
    "ch_PP-OCRv4_det_infer": 326,
    "ch_PP-OCRv4_rec_infer": 393,
    "ch_ppocr_mobile_v2.0_cls_infer": 179,
    "silero_vad": 150,
    "silero_vad_16k_op15": 85,
    "silero_vad_16k_sequence": 30,
    "silero_vad_half": 82,
    "silero_vad_op18_ifless": 90,
    "silero_vad_openvino_16k": 45,
}
TOLERANCE = 1e-4
"""Of an output's largest magnitude; tens of chunks of a recurrent net add up their rounding."""

Run = Callable[[Feeds], list[np.ndarray]]


@pytest.fixture(scope="module")
def optimized(
    real_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], fuseonnx.Result]:
    """Return what `optimize` makes of a model, once for the whole module."""
    folder = tmp_path_factory.mktemp("real")
    return cache(lambda name: fuseonnx.optimize(real_models[name], folder / f"{name}.onnx"))


def runner(path: Path | str) -> Run:
    """Return a function that runs a model on onnxruntime with all graph optimizations off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, dict(feeds))


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    atol = TOLERANCE * float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", MAX_NODES)
def test_is_verified_with_nothing_rolled_back(name: str, optimized: Callable[[str], fuseonnx.Result]) -> None:
    report = optimized(name).report
    assert report.verification.status == "passed"
    assert report.rolled_back == ()


@pytest.mark.parametrize("name", MAX_NODES)
def test_has_few_nodes_and_the_same_signature(
    name: str, real_models: dict[str, Path], optimized: Callable[[str], fuseonnx.Result]
) -> None:
    result = optimized(name)
    assert result.path is not None
    before, after = onnx.load(real_models[name]), onnx.load(result.path)
    onnx.checker.check_model(after)
    nodes = sum(1 for _ in all_nodes(after.graph))
    assert nodes == result.report.after.nodes
    assert nodes <= MAX_NODES[name]
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    opsets = [{each.domain: each.version for each in model.opset_import} for model in (before, after)]
    assert opsets[0] == opsets[1]
    assert after.ir_version == before.ir_version


@pytest.mark.parametrize("name", MAX_NODES)
def test_is_deterministic_and_settled(
    name: str, real_models: dict[str, Path], optimized: Callable[[str], fuseonnx.Result], tmp_path: Path
) -> None:
    first = optimized(name).path
    assert first is not None
    again = fuseonnx.optimize(real_models[name], tmp_path / "again.onnx", verify=False).path
    assert again is not None
    assert again.read_bytes() == first.read_bytes()
    settled = fuseonnx.optimize(first, tmp_path / "settled.onnx", verify=False)
    assert {use.name: use.fired for use in settled.report.rules if use.fired} == {}


GLYPHS = {
    "H": ("1...1", "1...1", "1...1", "11111", "1...1", "1...1", "1...1"),
    "E": ("11111", "1....", "1....", "1111.", "1....", "1....", "11111"),
    "L": ("1....", "1....", "1....", "1....", "1....", "1....", "11111"),
    "O": (".111.", "1...1", "1...1", "1...1", "1...1", "1...1", ".111."),
}


def pages(word: str, count: int, height: int, width: int) -> np.ndarray:
    """Return images of a dark word on an uneven bright ground, [count, 3, height, width] within -1 … 1."""
    rows = (".".join(GLYPHS[letter][row] for letter in word) for row in range(7))
    ink = np.kron([[dot == "1" for dot in row] for row in rows], np.ones((4, 4))) > 0
    top, left = (height - ink.shape[0]) // 2, (width - ink.shape[1]) // 2
    ground = np.linspace(0.8, 1.0, width) * np.linspace(1.0, 0.9, height)[:, None]
    ground[top : top + ink.shape[0], left : left + ink.shape[1]][ink] = 0.1
    noise = np.random.default_rng(0).normal(scale=0.02, size=(count, 3, height, width))
    return ((np.clip(ground + noise, 0, 1) - 0.5) / 0.5).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "word", "count", "height", "width"),
    [
        ("ch_PP-OCRv4_det_infer", "HELLO", 1, 96, 160),
        ("ch_PP-OCRv4_det_infer", "HE", 2, 128, 64),
        ("ch_PP-OCRv4_rec_infer", "HELLO", 1, 48, 160),
        ("ch_PP-OCRv4_rec_infer", "HELLOHELLO", 2, 48, 320),
        ("ch_ppocr_mobile_v2.0_cls_infer", "HELLO", 1, 48, 192),
        ("ch_ppocr_mobile_v2.0_cls_infer", "HELL", 3, 48, 128),
    ],
)
def test_reads_pages_as_before(
    name: str,
    word: str,
    count: int,
    height: int,
    width: int,
    real_models: dict[str, Path],
    optimized: Callable[[str], fuseonnx.Result],
) -> None:
    before, after = runner(real_models[name]), runner(str(optimized(name).path))
    feeds = {"x": pages(word, count, height, width)}
    (expected,), (found,) = before(feeds), after(feeds)
    assert expected.max() > 0.3, "the word must move the model's answer"
    assert_close(found, expected)
    assert ((found > 0.3) == (expected > 0.3)).all()


def speech(rate: int, seconds: float) -> np.ndarray:
    """Return syllables: harmonics of a gliding voice below two formants, with pauses, over faint noise."""
    rng = np.random.default_rng(7)
    time = np.arange(int(rate * seconds)) / rate
    pitch = 130 + 30 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = np.zeros_like(time)
    for harmonic in range(1, 25):
        frequency = harmonic * pitch
        gain = np.exp(-(((frequency - 600) / 300) ** 2)) + 0.5 * np.exp(-(((frequency - 1700) / 400) ** 2))
        wave += gain * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * time), 0, 1) * (np.sin(2 * np.pi * 0.8 * time) > -0.3)
    return np.asarray(0.2 * wave * syllables + 0.003 * rng.normal(size=time.shape), np.float32)


def chunks(rate: int, seconds: float) -> np.ndarray:
    """Return speech cut as Silero VAD takes it, [chunks, context + chunk]: 64 + 512 samples at 16 kHz."""
    size, context = rate // 125 * 4, rate // 250
    wave = np.concatenate([np.zeros(context, np.float32), speech(rate, seconds)])
    starts = range(0, len(wave) - size - context + 1, size)
    return np.stack([wave[start : start + context + size] for start in starts])


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("silero_vad", 16000),
        ("silero_vad", 8000),
        ("silero_vad_op18_ifless", 16000),
        ("silero_vad_op18_ifless", 8000),
        ("silero_vad_16k_op15", 16000),
        ("silero_vad_half", 16000),
        ("silero_vad_openvino_16k", 16000),
    ],
)
def test_hears_speech_as_before(
    name: str, rate: int, real_models: dict[str, Path], optimized: Callable[[str], fuseonnx.Result]
) -> None:
    before, after = runner(real_models[name]), runner(str(optimized(name).path))
    takes_rate = any(info.name == "sr" for info in onnx.load(real_models[name]).graph.input)
    states = [np.zeros((2, 1, 128), np.float32)] * 2
    voiced = []
    for chunk in chunks(rate, 2.5):
        feeds = {"input": chunk[None]} | ({"sr": np.array(rate)} if takes_rate else {})
        expected = before({**feeds, "state": states[0]})
        found = after({**feeds, "state": states[1]})
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
        voiced.append(expected[0].item())
        states = [expected[1], found[1]]
    assert max(voiced) - min(voiced) > 0.1, "the waveform must move the model's answer"


def test_hears_a_whole_sequence_as_before(
    real_models: dict[str, Path], optimized: Callable[[str], fuseonnx.Result]
) -> None:
    name = "silero_vad_16k_sequence"
    before, after = runner(real_models[name]), runner(str(optimized(name).path))
    zeros = np.zeros((1, 1, 128), np.float32)
    for seconds in (0.5, 2.5):
        feeds = {"input": chunks(16000, seconds), "h": zeros, "c": zeros}
        expected, found = before(feeds), after(feeds)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    assert np.ptp(expected[0]) > 0.1


def test_digits_are_recognised_as_well_as_before(tmp_path: Path) -> None:
    samples = np.load(ROOT / "examples" / "digits.npz")
    path = ROOT / "examples" / "digits.onnx"
    result = fuseonnx.optimize(path, tmp_path / "digits.onnx")
    assert result.report.verification.status == "passed"
    assert result.report.after.nodes < result.report.before.nodes
    accuracy = []
    for model in (path, result.path):
        (logits,) = runner(str(model))({"image": samples["image"]})
        accuracy.append(float((logits.argmax(1) == samples["label"]).mean()))
    assert accuracy[0] == accuracy[1]
    assert accuracy[1] >= 0.97
