"""Make the models whose nodes tools/bench_nodes.py counts: real architectures, random weights.

    python -m tools.architectures                     # all of them
    python -m tools.architectures levit128 mobilenet  # some

They are kept in `.cache/nodes/<name>.onnx`. The same seed makes the same weights; statistics of
BatchNormalization and all vectors are random, because folding zeros and ones would prove nothing.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.model_cache import cached, make_named
from tools.zoo_torch import randomised

if TYPE_CHECKING:
    import torch

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "nodes"
KERAS_OPSET = 18
TORCHSCRIPT_OPSET = 17
DYNAMO_OPSET = 18
REPVGG_A2_BLOCKS = ((64, 1), (96, 2), (192, 4), (384, 14), (1408, 1))
"""Channels and number of blocks of each stage; the first block of each halves the image."""


def make_keras(constructor: str, path: Path) -> None:
    """One of keras.applications: an image float32 [batch, height, width, 3] to probabilities."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf
    import tf2onnx

    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, constructor)(weights=None)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.path.endswith(("moving_variance", "gamma")):
            weight.assign(rng.uniform(0.5, 1.5, shape))
        elif len(shape) == 1:
            weight.assign(rng.normal(0, 0.1, shape))
    signature = (tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32, name="image"),)
    function = tf.function(lambda image: model(image, training=False))
    tf2onnx.convert.from_function(
        function, input_signature=signature, opset=KERAS_OPSET, output_path=str(path)
    )


def make_swin_t(path: Path) -> None:
    """Swin-T: `pixel_values` float32 [batch, 3, 224, 224] to `pooler_output` [batch, 768]."""
    import torch
    from transformers import SwinConfig, SwinModel

    torch.manual_seed(0)
    images = torch.randn(2, 3, 224, 224)
    _torchscript(SwinModel(SwinConfig()), path, {"pixel_values": images}, "pooler_output", {0: "batch"})


def make_bert(path: Path) -> None:
    """BERT of 6 layers: `input_ids` and `attention_mask` int64 [batch, sequence] to `last_hidden_state`."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        num_hidden_layers=6, hidden_size=128, num_attention_heads=4, intermediate_size=256, vocab_size=512
    )
    inputs = {
        "input_ids": torch.randint(0, 512, (2, 16)),
        "attention_mask": torch.ones(2, 16, dtype=torch.int64),
    }
    axes = {0: "batch", 1: "sequence"}
    _torchscript(BertModel(config, add_pooling_layer=False), path, inputs, "last_hidden_state", axes)


def make_gpt2(path: Path) -> None:
    """GPT-2 of 6 layers: `input_ids` int64 [batch, sequence] to `logits`."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=6, n_embd=128, n_head=4, vocab_size=512, bos_token_id=0, eos_token_id=0, use_cache=False
    )
    inputs = {"input_ids": torch.randint(0, 512, (2, 16))}
    _dynamo(GPT2LMHeadModel(config), path, inputs, "logits", {0: "batch", 1: "sequence"})


def make_whisper_encoder(path: Path) -> None:
    """Whisper's encoder of 4 layers: `input_features` float32 [batch, 80, 3000] to `last_hidden_state`."""
    import torch
    from transformers import WhisperConfig, WhisperModel

    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=128,
        encoder_layers=4,
        encoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_layers=1,
        decoder_attention_heads=4,
    )
    encoder = WhisperModel(config).encoder
    features = {"input_features": torch.randn(2, 80, 3000)}
    _dynamo(encoder, path, features, "last_hidden_state", {0: "batch"})


def make_levit128(path: Path) -> None:
    """LeViT-128: `pixel_values` float32 [batch, 3, 224, 224] to `logits` [batch, 1000]."""
    import torch
    from transformers import LevitConfig, LevitForImageClassification

    torch.manual_seed(0)
    model = LevitForImageClassification(LevitConfig(num_labels=1000))
    _dynamo(model, path, {"pixel_values": torch.randn(2, 3, 224, 224)}, "logits", {0: "batch"})


def make_repvgg_a2(path: Path) -> None:
    """RepVGG-A2 in training form (Ding et al. 2021, arXiv:2101.03697): [batch, 3, 224, 224] to `logits`."""
    import torch
    from torch import nn

    class Block(nn.Module):
        """Relu of a 3×3 Conv + a 1×1 Conv + the input where its shape fits, each normalised."""

        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.large = nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
            )
            self.small = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, 0, bias=False), nn.BatchNorm2d(outputs)
            )
            self.same = nn.BatchNorm2d(inputs) if inputs == outputs and stride == 1 else None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.large(x) + self.small(x)
            return torch.relu(y if self.same is None else y + self.same(x))

    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    channels = 3
    for width, count in REPVGG_A2_BLOCKS:
        for index in range(count):
            blocks.append(Block(channels, width, 2 if index == 0 else 1))
            channels = width
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))
    _torchscript(model, path, {"pixel_values": torch.randn(2, 3, 224, 224)}, "", {0: "batch"})


def _torchscript(
    model: torch.nn.Module, path: Path, inputs: dict[str, torch.Tensor], output: str, axes: dict[int, str]
) -> None:
    """Export by tracing, with nothing folded."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks about Python control flow
        torch.onnx.export(
            _one_output(model, list(inputs), output),
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=[output or "logits"],
            dynamic_axes=dict.fromkeys([*inputs, output or "logits"], axes),
            opset_version=TORCHSCRIPT_OPSET,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamo=False,
        )


def _dynamo(
    model: torch.nn.Module, path: Path, inputs: dict[str, torch.Tensor], output: str, axes: dict[int, str]
) -> None:
    """Export with torch.export, as it comes but for the exporter's own clean-up."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _one_output(model, list(inputs), output),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=(tuple(dict(axes) for _ in inputs),),
            opset_version=DYNAMO_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)


def _one_output(model: torch.nn.Module, names: list[str], output: str) -> torch.nn.Module:
    """Return the model in inference mode, with random vectors and statistics, and one of its outputs."""
    import torch

    class OneOutput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: torch.Tensor) -> Any:
            if not output:
                return self.model(*values)
            return self.model(**dict(zip(names, values, strict=True)), return_dict=True)[output]

    randomised(model)
    return OneOutput().eval()


MAKERS: dict[str, Callable[[Path], None]] = {
    "mobilenet": partial(make_keras, "MobileNet"),
    "mobilenet_v2": partial(make_keras, "MobileNetV2"),
    "efficientnet_b0": partial(make_keras, "EfficientNetB0"),
    "densenet121": partial(make_keras, "DenseNet121"),
    "nasnet_mobile": partial(make_keras, "NASNetMobile"),
    "swin_t": make_swin_t,
    "bert_6": make_bert,
    "gpt2_6": make_gpt2,
    "whisper_encoder_4": make_whisper_encoder,
    "levit128": make_levit128,
    "repvgg_a2": make_repvgg_a2,
}


def model_path(name: str) -> Path:
    """Return the path of a model of `MAKERS`, making the model when it is not cached."""
    return cached(name, MAKERS, CACHE)


if __name__ == "__main__":
    make_named(MAKERS, CACHE, "Make the models that tools/bench_nodes.py counts.")
