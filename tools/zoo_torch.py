"""The PyTorch models of the zoo: real architectures in small, with random weights and example inputs.

Each is the module as a user holds it, in inference mode. The same seed makes the same weights; statistics of
BatchNormalization and all vectors are random, because folding zeros and ones proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Axes = Mapping[int, str]

BATCH = {0: "batch"}
SEQUENCE = {0: "batch", 1: "sequence"}
TOKENS = 16
ENCODED = 10
"""Number of states that a decoder's example attends to."""


@dataclass(frozen=True)
class Sample:
    """A module and what it takes.

    Attributes:
        model: in inference mode.
        inputs: name of the argument of `forward` to an example of it.
        dynamic: name of the argument to {axis: symbol}, the dimensions that vary.
        head: the output whose values come before any softmax; `output` if the module returns one tensor.
    """

    model: torch.nn.Module
    inputs: Mapping[str, torch.Tensor]
    dynamic: Mapping[str, Axes]
    head: str = "output"


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model in inference mode, its vectors and statistics moved off zero and one."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model.eval()


def _transformer(name: str) -> torch.nn.Module:
    """Return a model of tools/zoo_transformers.py."""
    import torch

    from tools import zoo_transformers

    torch.manual_seed(0)
    return randomised(getattr(zoo_transformers, name)())


def _floats(name: str, argument: str, shape: tuple[int, ...], axes: Axes, head: str = "logits") -> Sample:
    """A model of tools/zoo_transformers.py on signed normals: images, a spectrogram or a waveform."""
    import torch

    model = _transformer(name)
    return Sample(model, {argument: torch.randn(shape)}, {argument: axes}, head)


_images = partial(_floats, argument="pixel_values", axes=BATCH)


def _text(name: str, head: str = "logits", *, mask: bool = False, states: int = 0) -> Sample:
    """A model of tools/zoo_transformers.py on tokens.

    `mask` adds an attention mask, which hides the end of the second sequence; `states` is the width of an
    encoder's states that a decoder attends to.
    """
    import torch

    from tools.zoo_transformers import VOCABULARY

    model = _transformer(name)
    inputs = {"input_ids": torch.randint(0, VOCABULARY, (2, TOKENS))}
    dynamic = {"input_ids": SEQUENCE}
    if mask:
        inputs["attention_mask"] = torch.ones(2, TOKENS, dtype=torch.int64)
        inputs["attention_mask"][1, 11:] = 0
        dynamic["attention_mask"] = SEQUENCE
    if states:
        inputs["encoder_hidden_states"] = torch.randn(2, ENCODED, states)
        dynamic["encoder_hidden_states"] = {0: "batch", 1: "source"}
    return Sample(model, inputs, dynamic, head)


def _clip() -> Sample:
    """CLIP on texts and images, of which there may be different numbers."""
    import torch

    from tools.zoo_transformers import VOCABULARY

    model = _transformer("clip")
    tokens = torch.randint(0, VOCABULARY - 1, (3, TOKENS))
    tokens[:, -1] = VOCABULARY - 1  # the end, whose state stands for the text
    inputs = {
        "input_ids": tokens,
        "pixel_values": torch.randn(2, 3, 64, 64),
        "attention_mask": torch.ones_like(tokens),
    }
    texts = {0: "texts", 1: "sequence"}
    dynamic = {"input_ids": texts, "pixel_values": {0: "images"}, "attention_mask": texts}
    return Sample(model, inputs, dynamic, "logits_per_image")


def _module(name: str, argument: str, shape: tuple[int, ...], axes: Axes, **options: Any) -> Sample:
    """A module of tools/zoo_modules.py on signed normals."""
    import torch

    from tools import zoo_modules

    torch.manual_seed(0)
    model = randomised(getattr(zoo_modules, name)(**options))
    return Sample(model, {argument: torch.randn(shape)}, {argument: axes})


_recurrent = partial(_module, "Recurrent", "sequence", (2, 9, 12), SEQUENCE)


def _encoder() -> Sample:
    """TransformerEncoder and MultiheadAttention; the end of the second sequence is padding."""
    import torch

    sample = _module("Encoder", "sequence", (2, 9, 32), SEQUENCE)
    padding = torch.arange(9) >= torch.tensor([[9], [6]])
    dynamic = {"sequence": SEQUENCE, "padding": SEQUENCE}
    return Sample(sample.model, {**sample.inputs, "padding": padding}, dynamic)


MODELS: dict[str, Callable[[], Sample]] = {
    "resnet": partial(_images, "resnet", shape=(2, 3, 64, 64)),
    "mobilenet_v2": partial(_images, "mobilenet_v2", shape=(2, 3, 96, 96)),
    "convnext": partial(_images, "convnext", shape=(2, 3, 64, 64)),
    "swin": partial(_images, "swin", shape=(2, 3, 112, 112)),
    "vit": partial(_images, "vit", shape=(2, 3, 64, 64)),
    "segformer": partial(_images, "segformer", shape=(2, 3, 64, 64)),
    "detr": partial(_images, "detr", shape=(2, 3, 64, 64)),
    "clip": _clip,
    "bert": partial(_text, "bert", mask=True),
    "distilbert": partial(_text, "distilbert", mask=True),
    "gpt2": partial(_text, "gpt2"),
    "llama": partial(_text, "llama", mask=True),
    "t5_encoder": partial(_text, "t5_encoder", "last_hidden_state", mask=True),
    "t5_decoder": partial(_text, "t5_decoder", "last_hidden_state", states=64),
    "whisper_encoder": partial(
        _floats, "whisper_encoder", "input_features", (2, 80, 200), BATCH, "last_hidden_state"
    ),
    "whisper_decoder": partial(_text, "whisper_decoder", "last_hidden_state", states=64),
    "wav2vec2": partial(_floats, "wav2vec2", "input_values", (2, 4000), {0: "batch", 1: "samples"}),
    "conv1d": partial(_module, "Conv1dNet", "signal", (2, 4, 64), {0: "batch", 2: "length"}),
    "conv2d_unet": partial(_module, "Conv2dUnet", "image", (2, 3, 32, 32), BATCH),
    "conv3d": partial(_module, "Conv3dNet", "video", (2, 3, 8, 32, 32), BATCH),
    "vocoder": partial(_module, "Vocoder", "features", (2, 20, 16), {0: "batch", 2: "frames"}),
    "lstm": partial(_recurrent, kind="LSTM", bidirectional=False),
    "lstm_bidirectional": partial(_recurrent, kind="LSTM", bidirectional=True),
    "gru": partial(_recurrent, kind="GRU", bidirectional=False),
    "gru_bidirectional": partial(_recurrent, kind="GRU", bidirectional=True),
    "transformer_encoder": _encoder,
    "cond": partial(_module, "Branching", "values", (4, 16), BATCH),
}
