"""Make the models that tools/bench_optimize.py measures: random weights, real architectures.

    python -m tools.make_models                # all of them
    python -m tools.make_models gpt2 swin_t    # some

They are kept in `.cache/bench/<name>.onnx`, weights inside the file. The same seed makes the same weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tools.model_cache import cached, make_named

if TYPE_CHECKING:
    import torch

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "bench"
OPSET = 17
IR_VERSION = 10
CHANNELS = 4
NODES_PER_BLOCK = 10


def make_gpt2(path: Path) -> None:
    """GPT-2 small with a byte vocabulary, 328 MiB.

    `input_ids` and `attention_mask` int64 [batch, sequence] to `logits` float32 [batch, sequence, 256].
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=256, bos_token_id=0, eos_token_id=0, use_cache=False))
    inputs = {
        "input_ids": torch.randint(0, 256, (2, 16)),
        "attention_mask": torch.ones(2, 16, dtype=torch.int64),
    }
    _export(model, path, inputs, "logits", {0: "batch", 1: "sequence"})


def make_vit_b(path: Path) -> None:
    """ViT-B/16, 330 MiB: `pixel_values` float32 [batch, 3, 224, 224] to `pooler_output` [batch, 768]."""
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    model = ViTModel(ViTConfig())
    _export(model, path, {"pixel_values": torch.randn(2, 3, 224, 224)}, "pooler_output", {0: "batch"})


def make_swin_t(path: Path) -> None:
    """Swin-T with its third stage deepened from 6 to 14 blocks, for about 7,600 nodes with nothing folded.

    `pixel_values` float32 [batch, 3, 224, 224] to `pooler_output` [batch, 768].
    """
    import torch
    from transformers import SwinConfig, SwinModel

    torch.manual_seed(0)
    model = SwinModel(SwinConfig(depths=[2, 2, 14, 2]))
    _export(model, path, {"pixel_values": torch.randn(2, 3, 224, 224)}, "pooler_output", {0: "batch"})


def _export(
    model: torch.nn.Module, path: Path, inputs: dict[str, torch.Tensor], output: str, axes: dict[int, str]
) -> None:
    """Export `model` to `path` with these inputs, one of its outputs, and the dynamic axes of them all."""
    import torch

    class OneOutput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: torch.Tensor) -> Any:
            return self.model(**dict(zip(inputs, values, strict=True)))[output]

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # as initialised they are all zeros and ones, and folding them is vacuous
                parameter.add_(0.1 * torch.randn_like(parameter))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks about Python control flow
        torch.onnx.export(
            OneOutput().eval(),
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes=dict.fromkeys([*inputs, output], axes),
            opset_version=OPSET,
            do_constant_folding=False,
            dynamo=False,
        )


def make_blocks(nodes: int, path: Path) -> None:
    """A chain of `nodes` nodes, ten a block; `x` to `y`, float32 [batch, 4, 8, 8]."""
    rng = np.random.default_rng(0)
    graph = helper.make_graph([], f"blocks_{nodes}", [_image("x")], [_image("y")])
    value = "x"
    for index in range(nodes // NODES_PER_BLOCK):
        value = _add_block(graph, value, f"block{index}", rng)
    graph.node[-1].output[0] = "y"
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.save(model, path)


def _image(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", CHANNELS, 8, 8])


def _add_block(graph: onnx.GraphProto, value: str, block: str, rng: np.random.Generator) -> str:
    """Append Conv, BatchNormalization, Relu, Identity, Mul, Add and two Transposes; return their result."""

    def node(op: str, *inputs: str, **attributes: Any) -> str:
        output = f"{block}/{op}_{len(graph.node)}"
        graph.node.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def initializer(name: str, array: NDArray[np.float64]) -> str:
        tensor = numpy_helper.from_array(array.astype(np.float32), f"{block}/{name}")
        graph.initializer.append(tensor)
        return tensor.name

    def constant(low: float, high: float) -> str:
        array = rng.uniform(low, high, (1, CHANNELS, 1, 1)).astype(np.float32)
        return node("Constant", value=numpy_helper.from_array(array))

    # Weights this small keep the chain contracting, so that values stay near 1 through 10,000 blocks.
    weight = initializer("weight", rng.normal(0, 0.1, (CHANNELS, CHANNELS, 3, 3)))
    bias = initializer("bias", rng.normal(0, 0.1, CHANNELS))
    statistics = [
        initializer("scale", rng.uniform(0.5, 1.5, CHANNELS)),
        initializer("shift", rng.uniform(0.5, 1.5, CHANNELS)),
        initializer("mean", rng.normal(0, 0.2, CHANNELS)),
        initializer("variance", rng.uniform(0.5, 1.5, CHANNELS)),
    ]
    value = node("Conv", value, weight, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    value = node("Relu", node("BatchNormalization", value, *statistics))
    value = node("Mul", node("Identity", value), constant(0.5, 1.0))
    value = node("Add", value, constant(-0.5, 0.5))
    return node("Transpose", node("Transpose", value, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])


MAKERS: dict[str, Callable[[Path], None]] = {
    "gpt2": make_gpt2,
    "vit_b": make_vit_b,
    "swin_t": make_swin_t,
    "blocks_10000": partial(make_blocks, 10_000),
    "blocks_100000": partial(make_blocks, 100_000),
}


def model_path(name: str) -> Path:
    """Return the path of a model of `MAKERS`, making the model when it is not cached."""
    return cached(name, MAKERS, CACHE)


if __name__ == "__main__":
    make_named(MAKERS, CACHE, "Make the models that tools/bench_optimize.py measures.")
