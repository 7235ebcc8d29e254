"""The PyTorch models of the zoo: real architectures in small, with random weights and example inputs.

Each maker gives the module as a user holds it, in inference mode. The same seed makes the same weights;
statistics of BatchNormalization and all vectors are random, because folding zeros and ones proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BATCH = {0: "batch"}
TOKENS = {0: "batch", 1: "sequence"}
VOCABULARY = 512


@dataclass(frozen=True)
class Sample:
    """A module and what it takes.

    Attributes:
        model: in inference mode.
        inputs: name of the argument of `forward` to an example of it.
        dynamic: name of the argument to {axis: symbol}, the dimensions that vary.
        head: the output whose values come before any softmax; the only one if the module returns a tensor.
        unit: what one row of the batch is.
    """

    model: torch.nn.Module
    inputs: Mapping[str, torch.Tensor]
    dynamic: Mapping[str, Mapping[int, str]]
    head: str = "output"
    unit: str = "image"

    @property
    def shape(self) -> str:
        """The inputs in words: `pixel_values 2×3×64×64`."""
        return ", ".join(f"{name} {'×'.join(map(str, value.shape))}" for name, value in self.inputs.items())

    @property
    def batch(self) -> int:
        """Number of rows of the example."""
        return len(next(iter(self.inputs.values())))


def _randomised(model: torch.nn.Module) -> torch.nn.Module:
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


def _images(make: Callable[[Any], torch.nn.Module], size: int, head: str = "logits") -> Sample:
    """A model on `pixel_values` float32 [batch, 3, size, size]."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = _randomised(make(transformers))
    return Sample(model, {"pixel_values": torch.randn(2, 3, size, size)}, {"pixel_values": BATCH}, head)


def _text(
    make: Callable[[Any], torch.nn.Module], head: str = "logits", *, mask: bool = False, states: int = 0
) -> Sample:
    """A model on `input_ids` int64 [batch, sequence]; `states` is the width of an encoder's states."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = _randomised(make(transformers))
    inputs = {"input_ids": torch.randint(0, VOCABULARY, (2, 16))}
    dynamic = {"input_ids": TOKENS}
    if mask:
        inputs["attention_mask"] = torch.ones(2, 16, dtype=torch.int64)
        inputs["attention_mask"][1, 11:] = 0
        dynamic["attention_mask"] = TOKENS
    if states:
        inputs["encoder_hidden_states"] = torch.randn(2, 10, states)
        dynamic["encoder_hidden_states"] = {0: "batch", 1: "source"}
    return Sample(model, inputs, dynamic, head, "sequence")


def _resnet(hf: Any) -> torch.nn.Module:
    config = hf.ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[2, 2, 2, 2], num_labels=100
    )
    return hf.ResNetForImageClassification(config)


def _mobilenet_v2(hf: Any) -> torch.nn.Module:
    config = hf.MobileNetV2Config(depth_multiplier=0.35, image_size=96, num_labels=100)
    return hf.MobileNetV2ForImageClassification(config)


def _convnext(hf: Any) -> torch.nn.Module:
    config = hf.ConvNextConfig(hidden_sizes=[24, 48, 96, 192], depths=[2, 2, 3, 2], num_labels=100)
    return hf.ConvNextForImageClassification(config)


def _swin(hf: Any) -> torch.nn.Module:
    config = hf.SwinConfig(
        image_size=112, embed_dim=24, depths=[2, 2, 2], num_heads=[1, 2, 4], window_size=7, num_labels=100
    )
    return hf.SwinForImageClassification(config)


def _vit(hf: Any) -> torch.nn.Module:
    config = hf.ViTConfig(
        image_size=64,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=192,
        num_labels=100,
    )
    return hf.ViTForImageClassification(config)


def _segformer(hf: Any) -> torch.nn.Module:
    config = hf.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 3, 4],
        decoder_hidden_size=64, num_labels=10
    )  # fmt: skip
    return hf.SegformerForSemanticSegmentation(config)


def _detr(hf: Any) -> torch.nn.Module:
    backbone = hf.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    config = hf.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        num_queries=10,
        num_labels=20,
    )
    return hf.DetrForObjectDetection(config)


def _bert(hf: Any) -> torch.nn.Module:
    config = hf.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        num_labels=5,
    )
    return hf.BertForSequenceClassification(config)


def _distilbert(hf: Any) -> torch.nn.Module:
    config = hf.DistilBertConfig(
        vocab_size=VOCABULARY, dim=64, n_layers=3, n_heads=4, hidden_dim=128, num_labels=5
    )
    return hf.DistilBertForTokenClassification(config)


def _gpt2(hf: Any) -> torch.nn.Module:
    config = hf.GPT2Config(
        vocab_size=VOCABULARY, n_layer=3, n_embd=64, n_head=4, bos_token_id=0, eos_token_id=0
    )
    return hf.GPT2LMHeadModel(config)


def _llama(hf: Any) -> torch.nn.Module:
    config = hf.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=160,
    )
    return hf.LlamaForCausalLM(config)


def _t5(hf: Any) -> Any:
    return hf.T5Config(
        vocab_size=VOCABULARY,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )


def _whisper(hf: Any) -> Any:
    config = hf.WhisperConfig(
        vocab_size=VOCABULARY,
        num_mel_bins=80,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_source_positions=100,
        max_target_positions=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
    )
    return hf.WhisperModel(config)


def _whisper_encoder() -> Sample:
    """Whisper's encoder on a spectrogram [batch, 80, 200]; the model takes no other length."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = _randomised(_whisper(transformers).encoder)
    inputs = {"input_features": torch.randn(2, 80, 200)}
    return Sample(model, inputs, {"input_features": BATCH}, "last_hidden_state", "clip")


def _clip() -> Sample:
    """CLIP on texts [batch, sequence] and images [images, 3, 64, 64]."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    layers = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = hf.CLIPConfig(
        text_config={**layers, "vocab_size": VOCABULARY, "eos_token_id": VOCABULARY - 1},
        vision_config={**layers, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )
    tokens = torch.randint(0, VOCABULARY - 1, (3, 12))
    tokens[:, -1] = VOCABULARY - 1
    inputs = {
        "input_ids": tokens,
        "pixel_values": torch.randn(2, 3, 64, 64),
        "attention_mask": torch.ones_like(tokens),
    }
    texts = {0: "texts", 1: "sequence"}
    dynamic = {"input_ids": texts, "pixel_values": {0: "images"}, "attention_mask": texts}
    return Sample(_randomised(hf.CLIPModel(config)), inputs, dynamic, "logits_per_image")


def _wav2vec2() -> Sample:
    """Wav2Vec2 for CTC on waveforms [batch, samples] with its own seven convolutions."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    config = hf.Wav2Vec2Config(
        vocab_size=32,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(32,) * 7,
        num_conv_pos_embedding_groups=4,
    )
    inputs = {"input_values": torch.randn(2, 4000)}
    dynamic = {"input_values": {0: "batch", 1: "samples"}}
    return Sample(_randomised(hf.Wav2Vec2ForCTC(config)), inputs, dynamic, "logits", "clip")


def _module(
    name: str, shapes: Mapping[str, tuple[int, ...]], axes: Mapping[int, str], unit: str, **options: Any
) -> Sample:
    """A module of tools/zoo_modules.py on signed normals."""
    import torch

    from tools import zoo_modules

    torch.manual_seed(0)
    model = _randomised(getattr(zoo_modules, name)(**options))
    inputs = {key: torch.randn(shape) for key, shape in shapes.items()}
    return Sample(model, inputs, dict.fromkeys(inputs, axes), unit=unit)


def _recurrent(kind: str, bidirectional: bool) -> Sample:
    import torch

    axes = {0: "batch", 1: "length"}
    options = {"kind": getattr(torch.nn, kind), "bidirectional": bidirectional}
    return _module("Recurrent", {"sequence": (2, 9, 12)}, axes, "sequence", **options)


def _encoder() -> Sample:
    import torch

    axes = {0: "batch", 1: "length"}
    sample = _module("Encoder", {"sequence": (2, 9, 32)}, axes, "sequence")
    padding = torch.arange(9) >= torch.tensor([[9], [6]])
    return Sample(
        sample.model,
        {**sample.inputs, "padding": padding},
        {"sequence": axes, "padding": axes},
        unit="sequence",
    )


MODELS: dict[str, Callable[[], Sample]] = {
    "resnet": partial(_images, _resnet, 64),
    "mobilenet_v2": partial(_images, _mobilenet_v2, 96),
    "convnext": partial(_images, _convnext, 64),
    "swin": partial(_images, _swin, 112),
    "vit": partial(_images, _vit, 64),
    "segformer": partial(_images, _segformer, 64),
    "detr": partial(_images, _detr, 64),
    "clip": _clip,
    "bert": partial(_text, _bert, mask=True),
    "distilbert": partial(_text, _distilbert, mask=True),
    "gpt2": partial(_text, _gpt2),
    "llama": partial(_text, _llama, mask=True),
    "t5_encoder": partial(_text, lambda hf: hf.T5EncoderModel(_t5(hf)), "last_hidden_state", mask=True),
    "t5_decoder": partial(_text, lambda hf: hf.T5Model(_t5(hf)).decoder, "last_hidden_state", states=64),
    "whisper_encoder": _whisper_encoder,
    "whisper_decoder": partial(_text, lambda hf: _whisper(hf).decoder, "last_hidden_state", states=64),
    "wav2vec2": _wav2vec2,
    "conv1d": partial(
        _module, "Conv1dNet", {"signal": (2, 4, 64)}, {0: "batch", 2: "length"}, "sequence"
    ),
    "conv2d_unet": partial(
        _module, "Conv2dUnet", {"image": (2, 3, 32, 32)}, {0: "batch"}, "image"
    ),
    "conv3d": partial(_module, "Conv3dNet", {"video": (2, 3, 8, 32, 32)}, BATCH, "clip"),
    "vocoder": partial(
        _module, "Vocoder", {"features": (2, 20, 16)}, {0: "batch", 2: "frames"}, "clip"
    ),
    "lstm": partial(_recurrent, "LSTM", False),
    "lstm_bidirectional": partial(_recurrent, "LSTM", True),
    "gru": partial(_recurrent, "GRU", False),
    "gru_bidirectional": partial(_recurrent, "GRU", True),
    "transformer_encoder": _encoder,
    "cond": partial(_module, "Branching", {"values": (4, 16)}, BATCH, "row"),
}
