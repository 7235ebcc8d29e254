"""Hand-written PyTorch modules of the zoo: the layers and forms that the models of `transformers` lack."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn


class Conv1dNet(nn.Module):
    """Classify a signal [batch, 4, length]: Conv1d (strided, dilated, grouped), BatchNorm1d, GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(4, 16, 7, 2, 3, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(3, 2, 1)
        )
        self.branch = nn.Sequential(
            nn.Conv1d(16, 16, 3, padding=2, dilation=2, groups=4), nn.GroupNorm(4, 16), nn.SiLU()
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.Linear(12, 10)
        )

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, 10]."""
        signal = self.stem(signal)
        logits: torch.Tensor = self.head(signal + self.branch(signal))
        return logits


class Conv2dUnet(nn.Module):
    """Segment an image [batch, 3, height, width]: Conv2d, BatchNorm2d, ConvTranspose2d, a skip, Upsample."""

    def __init__(self) -> None:
        super().__init__()
        self.top = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.down = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.LeakyReLU(0.1))
        self.deep = nn.Sequential(
            nn.AvgPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.GroupNorm(8, 32),
            nn.GELU(),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        )
        self.up = nn.Sequential(nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16))
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, 5, height, width]."""
        top = self.top(image)
        down = self.down(top)
        up = self.up(down + self.deep(down))
        logits: torch.Tensor = self.head(torch.cat([top, torch.relu(up)], 1))
        return logits


class Conv3dNet(nn.Module):
    """Classify a video [batch, 3, frames, height, width]: Conv3d, BatchNorm3d, pooling in three axes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 8, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), nn.BatchNorm3d(8), nn.ReLU()
        )
        self.spatial = nn.Sequential(nn.Conv3d(8, 16, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(16))
        self.temporal = nn.Sequential(nn.Conv3d(16, 8, (3, 1, 1), padding=(1, 0, 0)), nn.BatchNorm3d(8))
        self.head = nn.Sequential(nn.MaxPool3d(2), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 10))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, 10]."""
        video = self.stem(video)
        logits: torch.Tensor = self.head(video + self.temporal(torch.relu(self.spatial(video))))
        return logits


class Vocoder(nn.Module):
    """Make a waveform [batch, 1, 8·frames] of features [batch, 20, frames]: ConvTranspose1d, residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(20, 32, 7, padding=3)
        self.up = nn.ModuleList(
            [
                nn.Sequential(nn.ConvTranspose1d(32, 16, 8, 4, 2), nn.BatchNorm1d(16)),
                nn.Sequential(nn.ConvTranspose1d(16, 8, 4, 2, 1), nn.BatchNorm1d(8)),
            ]
        )
        self.residual = nn.ModuleList(
            [nn.Conv1d(16, 16, 3, padding=3, dilation=3), nn.Conv1d(8, 8, 3, padding=1)]
        )
        self.head = nn.Conv1d(8, 1, 7, padding=3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return a waveform between -1 and 1."""
        x = self.stem(features)
        for up, residual in zip(self.up, self.residual, strict=True):
            x = up(nn.functional.leaky_relu(x, 0.1))
            x = x + residual(nn.functional.leaky_relu(x, 0.1))
        return torch.tanh(self.head(x))


class Recurrent(nn.Module):
    """Tag a sequence [batch, length, 12] with an LSTM or a GRU: two layers, one or both directions."""

    def __init__(self, kind: Literal["LSTM", "GRU"], *, bidirectional: bool) -> None:
        super().__init__()
        self.cells = getattr(nn, kind)(12, 16, num_layers=2, batch_first=True, bidirectional=bidirectional)
        self.norm = nn.LayerNorm(32 if bidirectional else 16)
        self.head = nn.Linear(32 if bidirectional else 16, 6)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, length, 6]."""
        states, _ = self.cells(sequence)
        logits: torch.Tensor = self.head(self.norm(states))
        return logits


class Encoder(nn.Module):
    """Encode a sequence [batch, length, 32] by TransformerEncoder; `padding` [batch, length] hides."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu", norm_first=False)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.query = nn.Parameter(torch.randn(1, 3, 32))

    def forward(self, sequence: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        """Return three summaries of each sequence: [batch, 3, 32]."""
        states = self.layers(sequence, src_key_padding_mask=padding)
        query = self.query.expand(len(sequence), -1, -1)
        summary: torch.Tensor = self.attention(query, states, states, key_padding_mask=padding)[0]
        return summary


class Branching(nn.Module):
    """Take one of two paths by the mean of the input [batch, 16], by `torch.cond`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(16, 24), nn.BatchNorm1d(24), nn.ReLU())
        self.left = nn.Sequential(nn.Linear(24, 8), nn.BatchNorm1d(8), nn.Tanh())
        self.right = nn.Linear(24, 8)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return [batch, 8]."""
        hidden = self.stem(values)
        chosen: torch.Tensor = torch.cond(
            values.mean() > 0, self.left, lambda x: self.right(x) * 2.0, (hidden,)
        )
        return chosen
