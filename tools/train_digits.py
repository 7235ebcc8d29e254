"""Train the small convolutional net of examples/ on scikit-learn's 8×8 digits; its BatchNorm stays unfolded.

    python tools/train_digits.py

Writes examples/digits.onnx (`image` float32 [batch, 1, 8, 8] to `logits` [batch, 10]) and examples/digits.npz
with the held-out samples: `image` float32 [360, 1, 8, 8] as the net takes them, `label` int64 [360].
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EPOCHS = 30
BATCH = 64
HELD_OUT = 360


def make_net() -> nn.Sequential:
    """Return the untrained net: one Conv, two depthwise-separable ones, pooling, and a linear layer."""
    return nn.Sequential(
        *_conv(1, 32, 3),
        *_conv(32, 32, 3, groups=32),
        *_conv(32, 64, 1),
        *_conv(64, 64, 3, stride=2, groups=64),
        *_conv(64, 64, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(outputs), nn.ReLU()


def load_samples() -> list[torch.Tensor]:
    """Return train images, held-out images, train labels, held-out labels; pixels 0..16 become -1..1."""
    digits = load_digits()
    images = (digits.images[:, None] / 8 - 1).astype(np.float32)
    labels = digits.target.astype(np.int64)
    split = train_test_split(images, labels, test_size=HELD_OUT, stratify=labels, random_state=0)
    return [torch.from_numpy(part) for part in split]


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Fit `net` with Adam and a one-cycle learning rate, and leave it in evaluation mode."""
    batches = DataLoader(TensorDataset(images, labels), BATCH, shuffle=True)
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.02, epochs=EPOCHS, steps_per_epoch=len(batches)
    )
    for _ in range(EPOCHS):
        for image, label in batches:
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(net(image), label))
            optimizer.step()
            schedule.step()
    net.eval()


def export(net: nn.Module, sample: torch.Tensor, path: Path) -> None:
    """Write the net to `path` with its BatchNormalization nodes in inference form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            net,
            (sample,),
            path,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=17,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # as in `eval`, without folding BatchNorm into Conv
            dynamo=False,
        )
    model = onnx.load(path)
    model.doc_string = "Digit classifier trained by tools/train_digits.py on scikit-learn's digits data set."
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main() -> None:
    """Train, test, and write both example files."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    net = make_net()
    train_images, test_images, train_labels, test_labels = load_samples()
    train(net, train_images, train_labels)
    with torch.no_grad():
        accuracy = (net(test_images).argmax(1) == test_labels).double().mean().item()
    export(net, test_images[:2], EXAMPLES / "digits.onnx")
    np.savez_compressed(EXAMPLES / "digits.npz", image=test_images.numpy(), label=test_labels.numpy())
    print(f"accuracy {accuracy:.4f} on {len(test_labels)} held-out images")


if __name__ == "__main__":
    main()
