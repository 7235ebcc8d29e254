"""Make the models that tools/bench_nodes.py and bench_latency.py measure: real architectures, random weights.

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
KERAS = {
    "mobilenet": "MobileNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3Small",
    "efficientnet_b0": "EfficientNetB0",
    "densenet121": "DenseNet121",
    "nasnet_mobile": "NASNetMobile",
    "resnet50": "ResNet50",
}
"""Name of a model to its constructor in keras.applications."""
IMAGES = (2, 3, 224, 224)


def make_keras(constructor: str, path: Path) -> None:
    """One of keras.applications: an image float32 [batch, height, width, 3] to probabilities."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf
    import tf2onnx

    from tools.zoo_keras import image_shape

    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, constructor)(weights=None)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.path.endswith(("moving_variance", "gamma")):
            weight.assign(rng.uniform(0.5, 1.5, shape))
        elif len(shape) == 1:
            weight.assign(rng.normal(0, 0.1, shape))
    signature = (tf.TensorSpec((None, *image_shape(model)), tf.float32, name="image"),)
    function = tf.function(lambda image: model(image, training=False))
    tf2onnx.convert.from_function(
        function, input_signature=signature, opset=KERAS_OPSET, output_path=str(path)
    )


def _transformers() -> Any:
    """Return `transformers`, whose configurations take more arguments than they declare."""
    import transformers

    return transformers


def make_swin_t(path: Path, *, dynamo: bool = False) -> None:
    """Swin-T: `pixel_values` float32 [batch, 3, 224, 224] to `pooler_output` [batch, 768]."""
    import torch

    hf = _transformers()
    torch.manual_seed(0)
    export, attention = (_dynamo, "eager") if dynamo else (_torchscript, "sdpa")  # dynamo stops at sdpa
    model = hf.SwinModel(hf.SwinConfig(attn_implementation=attention))
    export(model, path, {"pixel_values": torch.randn(IMAGES)}, "pooler_output", {0: "batch"})


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

    hf = _transformers()
    torch.manual_seed(0)
    model = hf.LevitForImageClassification(hf.LevitConfig(num_labels=1000))
    _dynamo(model, path, {"pixel_values": torch.randn(IMAGES)}, "logits", {0: "batch"})


def make_llama(path: Path) -> None:
    """Llama of 6 layers with grouped queries: `input_ids` int64 [batch, sequence] to `logits`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=320,
        use_cache=False,
    )
    inputs = {"input_ids": torch.randint(0, 512, (2, 16))}
    _dynamo(LlamaForCausalLM(config), path, inputs, "logits", {0: "batch", 1: "sequence"})


def make_convnext_t(path: Path) -> None:
    """ConvNeXt-T: `pixel_values` float32 [batch, 3, 224, 224] to `logits` [batch, 1000]."""
    import torch

    hf = _transformers()
    torch.manual_seed(0)
    model = hf.ConvNextForImageClassification(hf.ConvNextConfig(num_labels=1000))
    _dynamo(model, path, {"pixel_values": torch.randn(IMAGES)}, "logits", {0: "batch"})


def make_vit_s(path: Path) -> None:
    """ViT-S with patches of 16: `pixel_values` float32 [batch, 3, 224, 224] to `logits` [batch, 1000]."""
    import torch

    hf = _transformers()
    torch.manual_seed(0)
    config = hf.ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_labels=1000)
    _dynamo(
        hf.ViTForImageClassification(config),
        path,
        {"pixel_values": torch.randn(IMAGES)},
        "logits",
        {0: "batch"},
    )


def make_module(constructor: str, path: Path) -> None:
    """A network of tools/architectures_modules.py: float32 [batch, 3, 224, 224] to `logits` [batch, 1000]."""
    import torch

    from tools import architectures_modules

    torch.manual_seed(0)
    model = getattr(architectures_modules, constructor)()
    _torchscript(model, path, {"pixel_values": torch.randn(IMAGES)}, "", {0: "batch"})


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
    **{name: partial(make_keras, constructor) for name, constructor in KERAS.items()},
    "swin_t": make_swin_t,
    "swin_t_dynamo": partial(make_swin_t, dynamo=True),
    "vit_s": make_vit_s,
    "convnext_t": make_convnext_t,
    "bert_6": make_bert,
    "gpt2_6": make_gpt2,
    "llama_6": make_llama,
    "whisper_encoder_4": make_whisper_encoder,
    "levit128": make_levit128,
    "repvgg_a2": partial(make_module, "repvgg_a2"),
    "mobileone_s1": partial(make_module, "mobileone_s1"),
    "shufflenet_v2": partial(make_module, "shufflenet_v2"),
}


def model_path(name: str) -> Path:
    """Return the path of a model of `MAKERS`, making the model when it is not cached."""
    return cached(name, MAKERS, CACHE)


if __name__ == "__main__":
    make_named(MAKERS, CACHE, "Make real architectures with random weights.")
