"""PyTorch networks of tools/architectures.py that no library here has: RepVGG, MobileOne, ShuffleNetV2."""

from __future__ import annotations

import torch
from torch import nn

REPVGG_A2_STAGES = ((64, 1), (96, 2), (192, 4), (384, 14), (1408, 1))
MOBILEONE_S1_STAGES = ((96, 2), (192, 8), (512, 10), (1280, 1))
SHUFFLENET_V2_STAGES = ((116, 4), (232, 8), (464, 4))
"""Channels and number of blocks of each stage; the first block of each halves the image."""


def normalised(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a Conv that keeps the size of the image, up to its stride, and a BatchNormalization."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Branches(nn.Module):
    """Relu of a Conv + a 1×1 Conv + the input where its shape fits, each normalised.

    A Conv of kernel 1 has no second one of that kernel beside it.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        kernels = (kernel, 1) if kernel > 1 else (kernel,)
        self.convs = nn.ModuleList(normalised(inputs, outputs, size, stride, groups) for size in kernels)
        self.same = nn.BatchNorm2d(inputs) if inputs == outputs and stride == 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activation [batch, outputs, height / stride, width / stride]."""
        branches = [conv(x) for conv in self.convs]
        if self.same is not None:
            branches.append(self.same(x))
        return torch.relu(sum(branches[1:], branches[0]))


def _classifier(blocks: list[nn.Module], channels: int) -> nn.Module:
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def repvgg_a2() -> nn.Module:
    """RepVGG-A2 in training form (Ding et al. 2021, arXiv:2101.03697)."""
    blocks: list[nn.Module] = []
    channels = 3
    for width, count in REPVGG_A2_STAGES:
        for index in range(count):
            blocks.append(Branches(channels, width, 3, 2 if index == 0 else 1))
            channels = width
    return _classifier(blocks, channels)


def mobileone_s1() -> nn.Module:
    """MobileOne-S1 in training form (Vasu et al. 2022, arXiv:2206.04040): depthwise and pointwise blocks."""
    channels = 64
    blocks: list[nn.Module] = [Branches(3, channels, 3, 2)]
    for width, count in MOBILEONE_S1_STAGES:
        for index in range(count):
            depthwise = Branches(channels, channels, 3, 2 if index == 0 else 1, groups=channels)
            blocks += [depthwise, Branches(channels, width, 1)]
            channels = width
    return _classifier(blocks, channels)


class Shuffle(nn.Module):
    """The block of ShuffleNetV2: two halves of the channels, one through three Convs, then interleaved."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half = outputs // 2
        entering = inputs if stride == 2 else half
        self.short: nn.Module = nn.Identity()
        if stride == 2:
            self.short = nn.Sequential(
                *normalised(inputs, inputs, 3, stride, groups=inputs), *normalised(inputs, half, 1), nn.ReLU()
            )
        self.long = nn.Sequential(
            *normalised(entering, half, 1),
            nn.ReLU(),
            *normalised(half, half, 3, stride, groups=half),
            *normalised(half, half, 1),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activation [batch, outputs, height / stride, width / stride]."""
        left, right = (x, x) if self.stride == 2 else x.chunk(2, dim=1)
        joined = torch.cat([self.short(left), self.long(right)], dim=1)
        batch, channels, height, width = joined.shape
        halves = joined.view(batch, 2, channels // 2, height, width)
        return halves.transpose(1, 2).reshape(batch, channels, height, width)


def shufflenet_v2() -> nn.Module:
    """ShuffleNetV2 1× (Ma et al. 2018, arXiv:1807.11164)."""
    channels = 24
    blocks: list[nn.Module] = [*normalised(3, channels, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for width, count in SHUFFLENET_V2_STAGES:
        for index in range(count):
            blocks.append(Shuffle(channels, width, 2 if index == 0 else 1))
            channels = width
    blocks += [*normalised(channels, 1024, 1), nn.ReLU()]
    return _classifier(blocks, 1024)
