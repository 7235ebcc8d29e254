"""Models of `transformers` for the zoo: few layers, real kernels and forms of attention, random weights."""

from __future__ import annotations

from typing import Any

import transformers

VOCABULARY = 512
HF: Any = transformers  # its configurations take more arguments than they declare


def resnet() -> Any:
    """A ResNet of bottleneck blocks."""
    config = HF.ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[2, 2, 2, 2], num_labels=100
    )
    return HF.ResNetForImageClassification(config)


def mobilenet_v2() -> Any:
    """MobileNetV2 of width 0.35, with TensorFlow's padding."""
    config = HF.MobileNetV2Config(depth_multiplier=0.35, image_size=96, num_labels=100)
    return HF.MobileNetV2ForImageClassification(config)


def convnext() -> Any:
    """ConvNeXt with its four stages."""
    config = HF.ConvNextConfig(hidden_sizes=[24, 48, 96, 192], depths=[2, 2, 3, 2], num_labels=100)
    return HF.ConvNextForImageClassification(config)


def swin() -> Any:
    """Swin with three stages of windows of 7, every second one shifted."""
    config = HF.SwinConfig(
        image_size=112, embed_dim=24, depths=[2, 2, 2], num_heads=[1, 2, 4], window_size=7, num_labels=100
    )
    return HF.SwinForImageClassification(config)


def vit() -> Any:
    """ViT with patches of 16."""
    config = HF.ViTConfig(
        image_size=64,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=192,
        num_labels=100,
    )
    return HF.ViTForImageClassification(config)


def segformer() -> Any:
    """SegFormer with its four stages and the decoder."""
    config = HF.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 3, 4],
        decoder_hidden_size=64, num_labels=10
    )  # fmt: skip
    return HF.SegformerForSemanticSegmentation(config)


def detr() -> Any:
    """DETR on a ResNet backbone."""
    backbone = HF.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    config = HF.DetrConfig(
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
    return HF.DetrForObjectDetection(config)


def bert() -> Any:
    """BERT with a head that classifies sequences."""
    config = HF.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        num_labels=5,
    )
    return HF.BertForSequenceClassification(config)


def distilbert() -> Any:
    """DistilBERT with a head that classifies tokens."""
    config = HF.DistilBertConfig(
        vocab_size=VOCABULARY, dim=64, n_layers=3, n_heads=4, hidden_dim=128, num_labels=5
    )
    return HF.DistilBertForTokenClassification(config)


def gpt2() -> Any:
    """GPT-2; it keeps its cache switched on, as it comes."""
    config = HF.GPT2Config(
        vocab_size=VOCABULARY, n_layer=3, n_embd=64, n_head=4, bos_token_id=0, eos_token_id=0
    )
    return HF.GPT2LMHeadModel(config)


def llama() -> Any:
    """Llama with grouped queries: two heads of keys for four of queries."""
    config = HF.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=160,
    )
    return HF.LlamaForCausalLM(config)


def _t5() -> Any:
    return HF.T5Config(
        vocab_size=VOCABULARY,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )


def _whisper() -> Any:
    config = HF.WhisperConfig(
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
    return HF.WhisperModel(config)


def t5_encoder() -> Any:
    """T5's encoder."""
    return HF.T5EncoderModel(_t5())


def t5_decoder() -> Any:
    """T5's decoder, which attends to the states of an encoder."""
    return HF.T5Model(_t5()).decoder


def whisper_encoder() -> Any:
    """Whisper's encoder for spectrograms of 200 frames."""
    return _whisper().encoder


def whisper_decoder() -> Any:
    """Whisper's decoder, which attends to the states of an encoder."""
    return _whisper().decoder


def clip() -> Any:
    """CLIP: a text and an image encoder."""
    layers = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = HF.CLIPConfig(
        text_config={**layers, "vocab_size": VOCABULARY, "eos_token_id": VOCABULARY - 1},
        vision_config={**layers, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )
    return HF.CLIPModel(config)


def wav2vec2() -> Any:
    """Wav2Vec2 for CTC, with its own seven convolutions."""
    config = HF.Wav2Vec2Config(
        vocab_size=32,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(32,) * 7,
        num_conv_pos_embedding_groups=4,
    )
    return HF.Wav2Vec2ForCTC(config)
