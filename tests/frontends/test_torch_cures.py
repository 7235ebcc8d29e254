"""Where PyTorch's exporters, or modules that remember their calls, would give another model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from fuseonnx.frontends.conversion import Conversion
from fuseonnx.frontends.options import ExportOptions
from fuseonnx.frontends.torch import convert_torch
from fuseonnx.frontends.torch.state import inference

LENGTH = {0: "batch", 1: "length"}
MaskOf = Callable[[torch.Tensor], torch.Tensor]
LOWEST = torch.finfo(torch.float32).min


class HooksItself(nn.Module):
    """Doubles its input by a hook of its first call, as transformers installs those of hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.is_hooked = False

    def forward(self, x: torch.Tensor) -> Any:
        if not self.is_hooked:
            self.layer.register_forward_hook(lambda *arguments: 2 * arguments[2])
            self.is_hooked = True
        return self.layer(x)


class Attention(nn.Module):
    """One head on [batch, length, 8]; `mask_of` makes the mask of [batch, length], where 1 is a token."""

    def __init__(self, mask_of: MaskOf) -> None:
        super().__init__()
        self.mask_of = mask_of

    def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        heads = x[:, None]
        return F.scaled_dot_product_attention(heads, 2 * heads, 3 * heads, self.mask_of(tokens))[:, 0]


class Causal(nn.Module):
    """Attention to what comes no later, or with `strictly` to what comes before."""

    def __init__(self, *, strictly: bool) -> None:
        super().__init__()
        self.strictly = strictly

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        at = torch.arange(x.shape[1])
        mask = at[None] < at[:, None] if self.strictly else at[None] <= at[:, None]
        return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], mask)[:, 0]


class Padded(nn.Module):
    """nn.TransformerEncoder without the tokens that are padding."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> Any:
        return self.encoder(x, src_key_padding_mask=tokens == 0)


def _causal(tokens: torch.Tensor) -> torch.Tensor:
    at = torch.arange(tokens.shape[1])
    return (at[None] <= at[:, None]) & (tokens[:, None, None] > 0)


def _hidden_by(number: float) -> MaskOf:
    return lambda tokens: torch.zeros(()).masked_fill(tokens[:, None, None] == 0, number)


MASKS: dict[str, MaskOf] = {
    "booleans": lambda tokens: tokens[:, None, None] > 0,
    "causal": _causal,
    "infinity": _hidden_by(-np.inf),
    "lowest": _hidden_by(LOWEST),
}


def _convert(model: nn.Module, folder: Path, inputs: Any, **options: Any) -> Conversion:
    return convert_torch(model, folder, ExportOptions(inputs=inputs, **options), lambda _: None)


def _found(conversion: Conversion, feeds: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(conversion.path, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def _padded_feeds(length: int) -> dict[str, Any]:
    """Return signed inputs: a text in full, one padded on the left, one on the right, padding alone."""
    x = np.random.default_rng(length).standard_normal((4, length, 8)).astype(np.float32)
    tokens = np.ones((4, length), np.int64)
    tokens[1, : length // 2], tokens[2, length // 2 :], tokens[3] = 0, 0, 0
    return {"x": x, "tokens": tokens}


def _operators(conversion: Conversion) -> list[str]:
    return [node.op_type for node in onnx.load(conversion.path).graph.node]


def test_hooks_of_the_first_call_are_taken_away() -> None:
    model, x = HooksItself(), torch.ones(2)
    for _ in range(2):
        with inference(model):
            assert model(x).tolist() == [2, 2]
        assert not model.layer._forward_hooks
        assert not model.is_hooked


@pytest.mark.parametrize("enabled", [False, True])
def test_fast_path_is_off_inside_only(enabled: bool) -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(enabled)
        with pytest.raises(ZeroDivisionError), inference(nn.Linear(1, 1)):
            assert not torch.backends.mha.get_fastpath_enabled()
            raise ZeroDivisionError
        assert torch.backends.mha.get_fastpath_enabled() is enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def test_encoder_of_padded_texts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = (torch.randn(2, 5, 8), torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]))
    dynamic = {"x": LENGTH, "tokens": LENGTH}
    conversion = _convert(Padded(), tmp_path, example, dynamic=dynamic)
    assert conversion.exporter.endswith("(dynamo)")
    feeds = _padded_feeds(6)
    feeds["tokens"][:, -1] = 0  # the fast path would answer with five positions
    (expected,) = conversion.answers(feeds)
    assert expected.shape == (4, 6, 8)
    np.testing.assert_allclose(_found(conversion, feeds), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", MASKS)
def test_attention_of_texts_that_are_padding(name: str, exporter: str, tmp_path: Path) -> None:
    dynamic = {"x": LENGTH, "tokens": LENGTH}
    example = (torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.int64))
    conversion = _convert(Attention(MASKS[name]), tmp_path, example, dynamic=dynamic, exporter=exporter)
    for length in (2, 7):
        feeds = _padded_feeds(length)
        (expected,) = conversion.answers(feeds)
        assert (expected[3] == 0).all() == (name != "lowest")
        np.testing.assert_allclose(_found(conversion, feeds), expected, rtol=0, atol=1e-5)


def test_attention_of_padding_in_an_older_opset(tmp_path: Path) -> None:
    example = (torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.int64))
    model = Attention(MASKS["infinity"])
    conversion = _convert(model, tmp_path, example, batch="dynamic", exporter="torchscript", opset=17)
    feeds = _padded_feeds(5)
    np.testing.assert_allclose(_found(conversion, feeds), conversion.answers(feeds)[0], rtol=0, atol=1e-5)


def test_attention_in_half_precision(tmp_path: Path) -> None:
    example = (torch.randn(2, 5, 8).half(), torch.ones(2, 5, dtype=torch.int64))
    conversion = _convert(
        Attention(MASKS["booleans"]), tmp_path, example, dynamic={"x": LENGTH, "tokens": LENGTH}
    )
    assert conversion.exporter.endswith("(dynamo)")
    feeds = _padded_feeds(7)
    feeds["x"] = feeds["x"].astype(np.float16)
    (expected,) = conversion.answers(feeds)
    np.testing.assert_allclose(_found(conversion, feeds), expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("strictly", [False, True])
def test_causal_attention(strictly: bool, tmp_path: Path) -> None:
    """Only where a position does not see itself, the first has nothing to see, and a guard is needed."""
    conversion = _convert(Causal(strictly=strictly), tmp_path, torch.randn(2, 5, 8), dynamic={"x": LENGTH})
    assert ("ReduceMax" in _operators(conversion)) == strictly
    x = np.random.default_rng(0).standard_normal((3, 7, 8)).astype(np.float32)
    (expected,) = conversion.answers({"x": x})
    assert (expected[:, 0] == 0).all() == strictly
    np.testing.assert_allclose(_found(conversion, {"x": x}), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mask", [torch.randn(5, 5), torch.ones(5, 5, dtype=torch.bool).tril()])
def test_constant_mask_costs_nothing(mask: torch.Tensor, tmp_path: Path) -> None:
    model = Attention(lambda _: mask)
    example = (torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.int64))
    conversion = _convert(model, tmp_path, example, batch="dynamic")
    assert conversion.exporter.endswith("(dynamo)")
    assert not {"ReduceMax", "IsInf"} & set(_operators(conversion))
    assert _operators(conversion)[-2:] == ["MatMul", "Gather"]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_of_dynamic_length(kind: Any, bidirectional: bool, tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = kind(8, 5, batch_first=True, bidirectional=bidirectional)

        def forward(self, x: torch.Tensor) -> Any:
            return self.layer(x)[0]

    conversion = _convert(Recurrent(), tmp_path, torch.randn(2, 9, 8), dynamic={"x": LENGTH})
    assert conversion.exporter.endswith("(torchscript)")
    (output,) = onnx.load(conversion.path).graph.output
    dims = [dim.dim_param or dim.dim_value for dim in output.type.tensor_type.shape.dim]
    assert dims == ["batch", "length", 10 if bidirectional else 5]
    x = np.random.default_rng(0).standard_normal((3, 4, 8)).astype(np.float32)
    np.testing.assert_allclose(
        _found(conversion, {"x": x}), conversion.answers({"x": x})[0], rtol=0, atol=1e-5
    )


class Normed(nn.Module):
    """Divides by a norm that a small term keeps from being 0, and scales by what is nearly 1."""

    def __init__(self, term: float) -> None:
        super().__init__()
        self.term = term

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.000009 * x / (x.pow(2).mean(1, keepdim=True) + self.term) + 0.0


@pytest.mark.parametrize("term", [1e-8, 1e-12])
def test_small_terms_stay(tmp_path: Path, term: float) -> None:
    torch.manual_seed(0)
    conversion = _convert(Normed(term), tmp_path, torch.randn(3, 8), exporter="dynamo")
    assert sum(operator == "Add" for operator in _operators(conversion)) == 1
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    x[1] = 0
    (expected,) = conversion.answers({"x": x})
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(_found(conversion, {"x": x}), expected, rtol=2e-6)


@pytest.mark.parametrize("kind", ["Mixtral", "Qwen3Moe"])
def test_mixture_of_experts(tmp_path: Path, kind: str) -> None:
    transformers: Any = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "moe_intermediate_size": 24}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    experts = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "use_cache": False}
    config = getattr(transformers, f"{kind}Config")(**sizes, **layers, **experts)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) / 4)
    dynamic = {"input_ids": {0: "batch", 1: "length"}}
    example = {"input_ids": torch.randint(0, 40, (2, 7))}
    conversion = _convert(model, tmp_path, example, dynamic=dynamic)
    assert conversion.exporter.endswith("(dynamo)")
    for shape in ((2, 7), (1, 1), (3, 12)):
        feeds = {"input_ids": np.random.default_rng(1).integers(0, 40, shape)}
        (expected,) = conversion.answers(feeds)
        np.testing.assert_allclose(_found(conversion, feeds), expected, rtol=0, atol=2e-5)
