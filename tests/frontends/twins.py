"""The same networks in Keras (images [N, H, W, C]) and in PyTorch ([N, C, H, W]), with the same weights.

Each layer of the Keras model bears the dotted name of the PyTorch module whose weights it gets. All weights
and statistics are random; what PyTorch pads, Keras pads with ZeroPadding2D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras
    import torch

IMAGE = 64
CLASSES = 10
BATCH_NORM_EPSILON = 1e-5
RESNET_STAGES = ((8, 1), (16, 2), (32, 2), (64, 2))
"""ResNet-18 (He et al. 2015, arXiv:1512.03385): channels, and stride of the first of two blocks."""
MOBILENET_BLOCKS = ((1, 8, 1, 1), (6, 12, 2, 2), (6, 16, 2, 2), (6, 24, 1, 1))
"""Expansion, channels, blocks, stride of the first (Sandler et al. 2018, arXiv:1801.04381, table 2)."""
VOCABULARY, POSITIONS, WIDTH, HEADS, HIDDEN, LAYERS = 50, 16, 32, 4, 64, 2
LAYER_NORM_EPSILON = 1e-5

Twins = tuple["keras.Model", "torch.nn.Module"]


def resnet18() -> Twins:
    """ResNet-18, narrow: an image [N, 64, 64, 3] to logits [N, 10]."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.down = (
                nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
                if stride > 1
                else nn.Identity()
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.bn1(self.conv1(x)))
            return torch.relu(self.bn2(self.conv2(y)) + self.down(x))

    channels = RESNET_STAGES[0][0]
    module = nn.Sequential()
    module.add_module("conv1", nn.Conv2d(3, channels, 7, 2, 3, bias=False))
    module.add_module("bn1", nn.BatchNorm2d(channels))
    module.add_module("relu", nn.ReLU())
    module.add_module("pool", nn.MaxPool2d(3, 2, 1))
    for stage, (outputs, stride) in enumerate(RESNET_STAGES, 1):
        module.add_module(
            f"layer{stage}", nn.Sequential(Block(channels, outputs, stride), Block(outputs, outputs, 1))
        )
        channels = outputs
    module.add_module("mean", nn.AdaptiveAvgPool2d(1))
    module.add_module("flatten", nn.Flatten())
    module.add_module("fc", nn.Linear(channels, CLASSES))
    return _with_same_weights(_keras_resnet18(), module)


def _keras_resnet18() -> keras.Model:
    from keras import Input, Model, layers

    def block(x: Any, name: str, outputs: int, stride: int) -> Any:
        y = layers.ReLU()(_conv_norm(x, f"{name}.conv1", f"{name}.bn1", outputs, 3, stride))
        y = _conv_norm(y, f"{name}.conv2", f"{name}.bn2", outputs, 3, 1)
        if stride > 1:
            x = _conv_norm(x, f"{name}.down.0", f"{name}.down.1", outputs, 1, stride)
        return layers.ReLU()(layers.Add()([y, x]))

    image = Input((IMAGE, IMAGE, 3), name="image")
    x = layers.ReLU()(_conv_norm(image, "conv1", "bn1", RESNET_STAGES[0][0], 7, 2))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, (outputs, stride) in enumerate(RESNET_STAGES, 1):
        x = block(block(x, f"layer{stage}.0", outputs, stride), f"layer{stage}.1", outputs, 1)
    return Model(image, layers.Dense(CLASSES, name="fc")(layers.GlobalAveragePooling2D()(x)))


def mobilenet_v2() -> Twins:
    """The blocks of MobileNetV2, few and narrow: an image [N, 64, 64, 3] to logits [N, 10]."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
            super().__init__()
            wide = inputs * expansion
            self.expand = _conv_norm_relu6(inputs, wide, 1) if expansion > 1 else nn.Identity()
            self.depthwise = _conv_norm_relu6(wide, wide, 3, stride, groups=wide)
            self.project = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
            self.is_residual = stride == 1 and inputs == outputs

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
            return x + y if self.is_residual else y

    channels = MOBILENET_BLOCKS[0][1]
    module = nn.Sequential()
    module.add_module("stem", _conv_norm_relu6(3, channels, 3, 2))
    for name, expansion, outputs, stride in _mobilenet_blocks():
        module.add_module(name, Block(channels, outputs, stride, expansion))
        channels = outputs
    module.add_module("head", _conv_norm_relu6(channels, 4 * channels, 1))
    module.add_module("mean", nn.AdaptiveAvgPool2d(1))
    module.add_module("flatten", nn.Flatten())
    module.add_module("fc", nn.Linear(4 * channels, CLASSES))
    return _with_same_weights(_keras_mobilenet_v2(), module)


def _conv_norm_relu6(
    inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1
) -> torch.nn.Module:
    from torch import nn

    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


def _mobilenet_blocks() -> list[tuple[str, int, int, int]]:
    """Return name, expansion, channels and stride of each block."""
    return [
        (f"stage{stage}_{index}", expansion, outputs, stride if index == 0 else 1)
        for stage, (expansion, outputs, count, stride) in enumerate(MOBILENET_BLOCKS)
        for index in range(count)
    ]


def _keras_mobilenet_v2() -> keras.Model:
    from keras import Input, Model, layers

    def block(x: Any, name: str, expansion: int, outputs: int, stride: int) -> Any:
        y, inputs = x, x.shape[-1]
        if expansion > 1:
            y = layers.ReLU(6)(
                _conv_norm(y, f"{name}.expand.0", f"{name}.expand.1", inputs * expansion, 1, 1)
            )
        y = layers.DepthwiseConv2D(3, stride, use_bias=False, name=f"{name}.depthwise.0")(
            layers.ZeroPadding2D(1)(y)
        )
        y = layers.ReLU(6)(
            layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"{name}.depthwise.1")(y)
        )
        y = _conv_norm(y, f"{name}.project.0", f"{name}.project.1", outputs, 1, 1)
        return layers.Add()([x, y]) if stride == 1 and inputs == outputs else y

    image = Input((IMAGE, IMAGE, 3), name="image")
    x = layers.ReLU(6)(_conv_norm(image, "stem.0", "stem.1", MOBILENET_BLOCKS[0][1], 3, 2))
    for name, expansion, outputs, stride in _mobilenet_blocks():
        x = block(x, name, expansion, outputs, stride)
    x = layers.ReLU(6)(_conv_norm(x, "head.0", "head.1", 4 * x.shape[-1], 1, 1))
    return Model(image, layers.Dense(CLASSES, name="fc")(layers.GlobalAveragePooling2D()(x)))


def _conv_norm(x: Any, conv: str, norm: str, outputs: int, size: int, stride: int) -> Any:
    """Convolve and normalise, padded on all sides as PyTorch has it."""
    from keras import layers

    padded = layers.ZeroPadding2D(size // 2)(x) if size > 1 else x
    y = layers.Conv2D(outputs, size, stride, use_bias=False, name=conv)(padded)
    return layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=norm)(y)


def transformer() -> Twins:
    """A pre-norm encoder (Xiong et al. 2020, arXiv:2002.04745): token ids int32 [N, 16] to logits [N, 10]."""
    import torch
    from torch import nn

    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(POSITIONS, WIDTH)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x: torch.Tensor = self.token(ids) + self.position(torch.arange(POSITIONS))
            return x

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = Embedding()
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(
                    WIDTH, HEADS, HIDDEN, 0.1, "gelu", LAYER_NORM_EPSILON, batch_first=True, norm_first=True
                )
                for _ in range(LAYERS)
            )
            self.norm = nn.LayerNorm(WIDTH, LAYER_NORM_EPSILON)
            self.fc = nn.Linear(WIDTH, CLASSES)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.embedding(ids)
            for layer in self.layers:
                x = layer(x)
            logits: torch.Tensor = self.fc(self.norm(x).mean(1))
            return logits

    return _with_same_weights(_keras_transformer(), Encoder())


def _keras_transformer() -> keras.Model:
    from keras import Input, Model, layers, ops

    class Embedding(layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="embedding")
            self.token, self.position = (
                layers.Embedding(VOCABULARY, WIDTH),
                layers.Embedding(POSITIONS, WIDTH),
            )

        def call(self, ids: Any) -> Any:
            return self.token(ids) + self.position(ops.arange(POSITIONS))

    def norm(x: Any, name: str) -> Any:
        return layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=name)(x)

    def layer(x: Any, name: str) -> Any:
        y = norm(x, f"{name}.norm1")
        y = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, dropout=0.1, name=f"{name}.self_attn")(y, y)
        x = layers.Add()([x, layers.Dropout(0.1)(y)])
        y = layers.Dense(HIDDEN, name=f"{name}.linear1")(norm(x, f"{name}.norm2"))
        y = layers.Dense(WIDTH, name=f"{name}.linear2")(layers.Activation("gelu")(y))
        return layers.Add()([x, layers.Dropout(0.1)(y)])

    ids = Input((POSITIONS,), dtype="int32", name="ids")
    x = Embedding()(ids)
    for index in range(LAYERS):
        x = layer(x, f"layers.{index}")
    return Model(ids, layers.Dense(CLASSES, name="fc")(layers.GlobalAveragePooling1D()(norm(x, "norm"))))


TWINS: dict[str, Callable[[], Twins]] = {
    "resnet18": resnet18,
    "mobilenet_v2": mobilenet_v2,
    "transformer": transformer,
}


def _with_same_weights(model: keras.Model, module: torch.nn.Module) -> Twins:
    """Make the weights and statistics of a module random, and copy them to the Keras model."""
    _randomise(module)
    parts = dict(module.named_modules())
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_keras_weights(parts[layer.name]))
    return model, module.eval()


def _randomise(module: torch.nn.Module) -> None:
    """Draw all weights and statistics, so that no scale is 1, no shift 0, and signals keep their size."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.ndim > 1:
                tensor.normal_(0, 1.4 / tensor[0].numel() ** 0.5, generator=generator)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.is_floating_point():
                is_scale = name.endswith("weight")
                tensor.normal_(1.0 if is_scale else 0.0, 0.2, generator=generator)


def _keras_weights(part: torch.nn.Module) -> list[np.ndarray]:
    """Return the weights of a PyTorch module in the layout and order of the Keras layer for it."""
    from torch import nn

    arrays = {name: tensor.numpy() for name, tensor in part.state_dict().items()}
    if isinstance(part, nn.Conv2d):  # [m, c, h, w] to [h, w, c, m], depthwise [m, 1, h, w] to [h, w, m, 1]
        return [arrays["weight"].transpose((2, 3, 0, 1) if part.groups > 1 else (2, 3, 1, 0))]
    if isinstance(part, nn.Linear):
        return [arrays["weight"].T, arrays["bias"]]
    if isinstance(part, nn.MultiheadAttention):
        return _keras_attention_weights(part.num_heads, arrays)
    return [array for name, array in arrays.items() if name != "num_batches_tracked"]


def _keras_attention_weights(heads: int, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Take Q, K and V apart, and the heads: kernels [c, heads, size], and [heads, size, c] of the output."""
    width = arrays["in_proj_weight"].shape[1]
    weights = []
    for kernel, bias in zip(
        np.split(arrays["in_proj_weight"], 3), np.split(arrays["in_proj_bias"], 3), strict=True
    ):
        weights += [kernel.T.reshape(width, heads, -1), bias.reshape(heads, -1)]
    output = arrays["out_proj.weight"].T.reshape(heads, -1, width)
    return [*weights, output, arrays["out_proj.bias"]]
