"""Time single predictions of small networks, where the call itself counts, and print them as Markdown.

    python -m tools.bench_overhead            # print the table
    python -m tools.bench_overhead --write    # put it into docs/benchmarks.md as well

A dense and a convolutional network of the size of MNIST, the same architecture in Keras and in PyTorch, one
image a call, one thread. All ways to call a network take turns in one process (fuseonnx/runtime/race.py).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fuseonnx
from fuseonnx.frontends._quiet import quiet_first_import
from fuseonnx.runtime.providers import Backend
from fuseonnx.runtime.race import heats
from fuseonnx.runtime.session import open_session
from tools.pages import BENCHMARKS, publish
from tools.zoo_keras import randomise
from tools.zoo_subject import setup
from tools.zoo_torch import randomised

Call = Callable[[], object]

MARKERS = ("<!-- overhead -->", "<!-- /overhead -->")
PREDICTIONS = 10_000
NETWORKS = ("dense", "convolutional")
INTRODUCTION = """## What a single prediction costs

`python -m tools.bench_overhead --write` measures this table: one image of 28×28 a call, one thread, all rows
of a network in turn in one process. The networks have the same architecture in Keras and PyTorch, and random
weights. p50 is the median of the calls; *10,000 predictions* is p50 times 10,000, from as many calls as the
last column says. onnxruntime runs at its default level.
"""


@dataclass(frozen=True)
class Timing:
    """One way to call a network: microseconds of the median call, and how many calls that is of."""

    way: str
    microseconds: float
    calls: int


def keras_network(kind: str) -> Any:
    """Return a Keras classifier of images [28, 28, 1] into 10 classes."""
    with quiet_first_import():
        import keras
    layers = keras.layers
    body = (
        [layers.Flatten(), layers.Dense(128, activation="relu")]
        if kind == "dense"
        else [
            layers.Conv2D(32, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
        ]
    )
    keras.utils.set_random_seed(0)
    logits = keras.Sequential([keras.Input((28, 28, 1)), *body, layers.Dense(10)])
    rng = np.random.default_rng(0)
    randomise(logits, rng.normal(size=(4, 28, 28, 1)).astype(np.float32), rng)
    return keras.Sequential([keras.Input((28, 28, 1)), *logits.layers, layers.Softmax()])


def torch_network(kind: str) -> Any:
    """Return the same architecture in PyTorch, for images [1, 28, 28]."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    body: list[nn.Module] = [nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)]
    if kind != "dense":
        body = []
        for inputs, outputs in ((1, 32), (32, 64)):
            conv = nn.Conv2d(inputs, outputs, 3, bias=False)
            body += [conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        body += [nn.Flatten(), nn.Linear(1600, 10)]
    return randomised(nn.Sequential(*body, nn.Softmax(dim=1)))


def calls_of(kind: str, folder: Path) -> dict[str, Call]:
    """Return every way to call a network on one image."""
    keras_model, torch_model = keras_network(kind), torch_network(kind)
    return {
        **_keras_calls(keras_model),
        **_onnxruntime_calls("Keras", keras_model, folder, {}),
        **_torch_calls(torch_model),
        **_onnxruntime_calls("PyTorch", torch_model, folder, _torch_example()),
    }


def _image(*shape: int) -> Any:
    return np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)


def _keras_calls(model: Any) -> dict[str, Call]:
    import tensorflow as tf

    image = _image(28, 28, 1)
    compiled = tf.function(lambda pixels: model(pixels, training=False))
    tensor = tf.constant(image)
    return {
        "Keras `model.predict(image)`": lambda: model.predict(image, verbose=0),
        "Keras `model(image)`": lambda: model(tensor, training=False).numpy(),
        "Keras in `tf.function`": lambda: compiled(tensor).numpy(),
    }


def _torch_example() -> dict[str, Any]:
    import torch

    return {"inputs": (torch.from_numpy(_image(1, 28, 28)),)}


def _torch_calls(model: Any) -> dict[str, Call]:
    import torch

    (image,) = _torch_example()["inputs"]

    def inference_mode() -> object:
        with torch.inference_mode():
            return model(image).numpy()

    return {
        "PyTorch eager": lambda: model(image).detach().numpy(),
        "PyTorch in `torch.inference_mode`": inference_mode,
    }


def _onnxruntime_calls(
    framework: str, model: Any, folder: Path, options: Mapping[str, Any]
) -> dict[str, Call]:
    """Return the calls of a model's export and of what fuseonnx makes of it."""
    exported, optimized = folder / f"{framework}.onnx", folder / f"{framework}.opt.onnx"
    fuseonnx.export(model, exported, **options)
    fuseonnx.optimize(exported, optimized)
    calls: dict[str, Call] = {}
    for title, path in (("export", exported), ("export, fuseonnx", optimized)):
        session = open_session(path, Backend(threads=1), optimized=True)
        (taken,) = session.get_inputs()
        feeds = {taken.name: _image(*taken.shape[1:])}
        calls[f"onnxruntime, {framework} {title}"] = partial(session.run, None, feeds)
    return calls


def measure(kind: str, seconds: float) -> list[Timing]:
    """Time every way to call a network; they take turns."""
    with tempfile.TemporaryDirectory() as folder:
        calls = calls_of(kind, Path(folder))
        raced = heats([partial(_itself, call) for call in calls.values()], seconds=seconds)
    singles = [[single for heat in runs for single in heat] for runs in raced.runs]
    return [
        Timing(way, 1e6 * median(single), len(single)) for way, single in zip(calls, singles, strict=True)
    ]


def _itself(call: Call) -> Call:
    """Open what is open already."""
    return call


def table(measured: Mapping[str, Sequence[Timing]]) -> Iterator[str]:
    """Yield a row for each way to call a network, with what it costs over the fastest of that network."""
    yield "| network | call | p50, µs | 10,000 predictions, s | × fastest | calls timed |"
    yield "|---|---|---:|---:|---:|---:|"
    for network, timings in measured.items():
        fastest = min(timing.microseconds for timing in timings)
        for timing in timings:
            yield (
                f"| {network} | {timing.way} | {timing.microseconds:,.1f} "
                f"| {timing.microseconds * PREDICTIONS / 1e6:,.2f} "
                f"| {timing.microseconds / fastest:,.1f} | {timing.calls:,} |"
            )


def one_thread() -> None:
    """Hold both frameworks to one thread; before they are first used."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_first_import():
        import tensorflow as tf
    import torch

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    torch.set_num_threads(1)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Time single predictions of small networks.")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each way to call (default 5)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    one_thread()
    measured = {network: measure(network, options.seconds) for network in NETWORKS}
    lines = [INTRODUCTION, f"Machine: {setup()}.\n", *table(measured)]
    publish(lines, BENCHMARKS, write=options.write, markers=MARKERS)


if __name__ == "__main__":
    main()
