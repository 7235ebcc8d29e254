"""PyTorch models become ONNX files that answer as PyTorch does, and stay as they were."""

from __future__ import annotations

import dataclasses
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

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends.conversion import Conversion
from fuseonnx.frontends.options import ExportOptions, InputSpec
from fuseonnx.frontends.torch import convert_torch, is_torch_model

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class Of(nn.Module):
    """A function of its modules and inputs."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        return self.function(*self.parts, x) if y is None else self.function(*self.parts, x, y)


class KeywordsOnly(nn.Module):
    def forward(self, *, a: torch.Tensor, b: torch.Tensor | None = None) -> dict[str, Any]:
        return {"double": a * 2, "sum": a if b is None else a + b, "nothing": None}


class Nested(nn.Module):
    def forward(self, d: dict[str, torch.Tensor], scale: float = 3.0) -> dict[str, Any]:
        return {"o": d["a"] * scale, "pair": (d["b"], [d["a"] + 1])}


@dataclasses.dataclass
class Result:
    scores: torch.Tensor
    hidden: torch.Tensor | None = None


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x * 2
        return -x


class Loops(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while x.abs().max() > 1:
            x = x / 2
        return x


class Stateful(nn.Module):
    """Two layers share a weight; it counts its calls, and keeps what it saw last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.calls = nn.Buffer(torch.zeros(1))
        self.offset = nn.Buffer(torch.randn(4))
        self.last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor, unused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls.add_(1)
        self.last = x * 1
        return self.second(self.first(x)) + self.offset, x


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            for _ in range(x.size(0)):
                x = x + 0.1 * x
        y: torch.Tensor = self.drop(self.layer(x))
        return y


def _conditional(layer: nn.Module, x: torch.Tensor) -> Any:
    return torch.cond(x.sum() > 0, layer, lambda x: x - 1, (x,))


def _randomised(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(module.weight, -2, 2)
            nn.init.normal_(module.bias)
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.1, 3)
    return model


def _convert(model: Any, folder: Path, inputs: Any = None, **options: Any) -> Conversion:
    return convert_torch(model, folder, ExportOptions(inputs=inputs, **options), lambda _: None)


def _session(conversion: Conversion) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(conversion.path, options, providers=["CPUExecutionProvider"])


def _assert_right(conversion: Conversion, rtol: float = 1e-5) -> None:
    """Assert that onnxruntime and PyTorch agree on signed inputs, of two sizes of every dynamic dimension."""
    session = _session(conversion)
    for size in (3, 6):
        rng = np.random.default_rng(size)
        feeds = {}
        for value in session.get_inputs():
            shape = [dim if isinstance(dim, int) else size for dim in value.shape]
            dtype = DTYPES[value.type]
            whole = dtype is np.int64
            feeds[value.name] = (
                rng.integers(0, 3, shape) if whole else np.asarray(rng.standard_normal(shape)).astype(dtype)
            )
        expected = conversion.answers(feeds)
        for theirs, ours in zip(expected, session.run(None, feeds), strict=True):
            assert (theirs.dtype, theirs.shape) == (ours.dtype, ours.shape)
            scale = np.abs(theirs.astype(np.float64)).max(initial=0)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * scale)


def _ports(conversion: Conversion) -> tuple[dict[str, list[Any]], list[str]]:
    session = _session(conversion)
    return {each.name: each.shape for each in session.get_inputs()}, [
        each.name for each in session.get_outputs()
    ]


def _message(model: Any, folder: Path, inputs: Any = None, **options: Any) -> str:
    with pytest.raises(ExportError) as caught:
        _convert(model, folder, inputs, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


SEQUENCE = {"x": {1: "time"}}
RECURRENT = Of(
    lambda lstm, gru, x: gru(lstm(x)[0]),
    nn.LSTM(8, 5, batch_first=True, bidirectional=True),
    nn.GRU(10, 3, batch_first=True),
)
MODELS: dict[str, tuple[nn.Module, Any, dict[str, Any]]] = {
    "conv1d": (
        nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), nn.ReLU()),
        torch.randn(1, 4, 9),
        {"dynamic": {"input": {-1: "time"}}},
    ),
    "conv2d": (
        nn.Sequential(
            nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.GELU(), nn.ConvTranspose2d(6, 4, 3, 2), nn.Dropout(0.5)
        ),
        torch.randn(1, 4, 8, 8),
        {},
    ),
    "conv3d": (
        nn.Sequential(nn.Conv3d(2, 6, 3), nn.BatchNorm3d(6), nn.GroupNorm(2, 6)),
        torch.randn(1, 2, 5, 5, 5),
        {},
    ),
    "recurrent": (RECURRENT, torch.randn(2, 7, 8), {}),
    "attention": (
        Of(lambda layer, x: layer(x), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
        torch.randn(2, 7, 8),
        {"dynamic": SEQUENCE},
    ),
    "cond": (Of(_conditional, nn.Linear(4, 4)), torch.randn(3, 4), {}),
    "resize": (
        Of(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
        torch.randn(2, 3, 4, 5),
        {"dynamic": {"x": {2: "height", 3: "width"}}},
    ),
    "grid_sample": (
        Of(lambda x, y: F.grid_sample(x, y, align_corners=False)),
        (torch.randn(2, 4, 8, 8), torch.randn(2, 5, 5, 2)),
        {},
    ),
    "embedding": (nn.Embedding(10, 4), InputSpec((1, 5), "int64"), {"dynamic": {"input": {1: "time"}}}),
    "scatter": (
        Of(lambda x, y: (x.scatter(1, y, 0.5), x.index_put((y[:, 0],), torch.tensor(1.0)))),
        (torch.randn(3, 4), torch.tensor([[0, 3], [1, 1], [2, 0]])),
        {"batch": None},
    ),
    "diff": (Of(lambda x: torch.diff(x, dim=1)), torch.randn(3, 5), {}),
    "half": (nn.Linear(4, 4).half(), torch.randn(3, 4).half(), {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_dynamo(name: str, tmp_path: Path) -> None:
    model, inputs, options = MODELS[name]
    conversion = _convert(_randomised(model), tmp_path, inputs, **{"batch": "dynamic", **options})
    assert conversion.exporter.endswith("(dynamo)")
    assert conversion.notes == ()
    _assert_right(conversion, 2e-3 if name == "half" else 1e-5)
    shapes, _ = _ports(conversion)
    symbols = {dim for shape in shapes.values() for dim in shape if isinstance(dim, str)}
    wanted = {symbol for axes in options.get("dynamic", {}).values() for symbol in axes.values()}
    assert symbols == (wanted | {"batch"} if options.get("batch", "dynamic") else wanted)


@pytest.mark.parametrize("name", ["conv2d", "recurrent", "attention", "grid_sample"])
def test_torchscript(name: str, tmp_path: Path) -> None:
    model, inputs, _ = MODELS[name]
    conversion = _convert(_randomised(model), tmp_path, inputs, batch="dynamic", exporter="torchscript")
    assert conversion.exporter.endswith("(torchscript)")
    _assert_right(conversion)
    assert all(value.shape[0] in ("batch", 1) for value in _session(conversion).get_outputs())


def test_what_is_written(tmp_path: Path) -> None:
    conversion = _convert(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), tmp_path, torch.randn(2, 4))
    model = onnx.load(conversion.path)
    onnx.checker.check_model(model)
    assert (model.opset_import[0].version, model.ir_version) == (21, 10)
    assert [tensor.name for tensor in model.graph.initializer] == ["0.weight", "0.bias"]
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert Path(__file__).name.encode() not in conversion.path.read_bytes()
    assert conversion.framework == f"PyTorch {torch.__version__.partition('+')[0]}"


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_same_bytes_twice(exporter: str, tmp_path: Path) -> None:
    model, inputs, _ = MODELS["conv2d"]
    files = []
    for _ in range(2):
        files.append(_convert(model, tmp_path, inputs, batch="dynamic", exporter=exporter).path.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("opset", [18, 20])
def test_opset(opset: int, tmp_path: Path) -> None:
    conversion = _convert(MODELS["conv3d"][0], tmp_path, MODELS["conv3d"][1], opset=opset)
    assert onnx.load(conversion.path).opset_import[0].version == opset


def test_old_opset_is_left_to_torchscript(tmp_path: Path) -> None:
    model = Of(lambda x: F.pad(x, (1, 1), mode="reflect"))  # onnx has no way to opset 17 for Pad
    conversion = _convert(model, tmp_path, torch.randn(2, 3, 5), opset=17)
    assert conversion.exporter.endswith("(torchscript)")
    assert "opset 18" in conversion.notes[0]
    assert onnx.load(conversion.path).opset_import[0].version == 17
    _assert_right(conversion)


def test_keywords(tmp_path: Path) -> None:
    inputs = {"a": torch.randn(2, 3), "b": np.ones((2, 3), np.float32)}
    conversion = _convert(KeywordsOnly(), tmp_path, inputs, batch="dynamic")
    _assert_right(conversion)
    assert _ports(conversion) == ({"a": ["batch", 3], "b": ["batch", 3]}, ["double", "sum"])


def test_named_input_specs(tmp_path: Path) -> None:
    conversion = _convert(
        KeywordsOnly(), tmp_path, [InputSpec((2, 3), name="b"), InputSpec((2, 3), name="a")]
    )
    assert list(_ports(conversion)[0]) == ["b", "a"]
    _assert_right(conversion)


def test_nested_inputs_and_outputs(tmp_path: Path) -> None:
    inputs = ({"a": torch.randn(2, 3), "b": torch.randn(2)}, 5.0)
    conversion = _convert(Nested(), tmp_path, inputs, batch="dynamic", dynamic={"d_a": {1: "width"}})
    _assert_right(conversion)
    shapes = {"d_a": ["batch", "width"], "d_b": ["batch"]}
    assert _ports(conversion) == (shapes, ["o", "pair_0", "pair_1_0"])


def test_dataclass_output(tmp_path: Path) -> None:
    conversion = _convert(Of(lambda x: Result(x * 2)), tmp_path, torch.randn(2, 3))
    assert _ports(conversion)[1] == ["scores"]


def test_names_of_the_caller(tmp_path: Path) -> None:
    conversion = _convert(
        nn.Linear(4, 4),
        tmp_path,
        torch.randn(2, 4),
        input_names=["image"],
        output_names=["logits"],
        dynamic={"image": {0: "n"}},
    )
    assert _ports(conversion) == ({"image": ["n", 4]}, ["logits"])
    _assert_right(conversion)


def test_batch_of_a_size(tmp_path: Path) -> None:
    conversion = _convert(nn.Linear(4, 4), tmp_path, torch.randn(2, 4), batch=8)
    assert _ports(conversion)[0] == {"input": [8, 4]}
    _assert_right(conversion)


def test_axes_of_other_sizes_are_not_the_batch(tmp_path: Path) -> None:
    inputs = (torch.randn(2, 4), torch.randn(7, 4))
    conversion = _convert(Of(lambda x, y: x @ y.T), tmp_path, inputs, batch="dynamic")
    assert _ports(conversion)[0] == {"x": ["batch", 4], "y": [7, 4]}
    assert "'y'" in conversion.notes[0]
    _assert_right(conversion)


@pytest.mark.parametrize("model", [Branches(), Loops()])
def test_control_flow_on_values_is_scripted(model: nn.Module, tmp_path: Path) -> None:
    conversion = _convert(model, tmp_path, torch.randn(3, 3), batch="dynamic")
    assert conversion.exporter.endswith("(torchscript)")
    assert "test_torch.py" in conversion.notes[0]
    assert "depends on values" in conversion.notes[0]
    session = _session(conversion)
    for x in (np.full((2, 3), 9, np.float32), np.full((4, 3), -9, np.float32)):
        (expected,) = conversion.answers({"x": x})
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)


def test_length_that_dynamo_fixes_is_left_to_torchscript(tmp_path: Path) -> None:
    conversion = _convert(RECURRENT, tmp_path, torch.randn(2, 7, 8), batch="dynamic", dynamic=SEQUENCE)
    assert conversion.exporter.endswith("(torchscript)")
    assert "other sizes" in conversion.notes[0]
    _assert_right(conversion)


@pytest.mark.parametrize("traced", [False, True])
def test_torchscript_module(traced: bool, tmp_path: Path) -> None:
    model = Scripted().eval()
    trace: Any = torch.jit.trace
    module: Any = trace(model.layer, torch.ones(2, 4)) if traced else torch.jit.script(model)
    module.train()
    conversion = _convert(module, tmp_path, torch.ones(3, 4))
    assert conversion.exporter.endswith("(torchscript)")
    assert all(each.training for each in module.modules())
    _assert_right(conversion)


def test_exported_program(tmp_path: Path) -> None:
    model = _randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).eval()
    shapes = ({0: torch.export.Dim("n")},)
    program = torch.export.export(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes=shapes)
    conversion = _convert(program, tmp_path, batch="dynamic")
    assert _ports(conversion)[0] == {"input": ["batch", 3, 8, 8]}
    _assert_right(conversion)
    with pytest.raises(OptionError, match="axis 2 of 'input' is 8 in the exported program"):
        _convert(program, tmp_path, dynamic={"input": {2: "height"}})
    with pytest.raises(OptionError, match="leave --input out"):
        _convert(program, tmp_path, torch.randn(2, 3, 8, 8))
    with pytest.raises(OptionError, match="exported with dynamo"):
        _convert(program, tmp_path, exporter="torchscript")


def test_program_in_training_mode(tmp_path: Path) -> None:
    program = torch.export.export(nn.Sequential(nn.Linear(4, 4), nn.Dropout()), (torch.randn(2, 4),))
    assert "training mode (aten.dropout" in _message(program, tmp_path)


@pytest.mark.parametrize("fails", [False, True])
def test_model_is_left_as_it_was(fails: bool, tmp_path: Path) -> None:
    model = Stateful()
    model.train()
    model.second.eval()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    if fails:
        _message(model, tmp_path, (torch.randn(3, 5), torch.randn(3)))
        torch.set_rng_state(before)
        _message(model, tmp_path, (torch.ones(3, 5), torch.ones(3)))
    else:
        conversion = _convert(model, tmp_path, (torch.ones(3, 4), torch.ones(3)), batch="dynamic")
        assert conversion.notes == ("input 'unused' has no effect on the outputs",)
        _assert_right(conversion)
        assert _ports(conversion) == ({"x": ["batch", 4], "unused": ["batch"]}, ["output_0", "output_1"])
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training and model.first.training and not model.second.training
    assert model.second.weight is model.first.weight
    assert model.last is None
    assert torch.is_grad_enabled()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_torch_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _convert(Branches(), tmp_path, torch.randn(3, 3))
    _message(Of(torch.diff), tmp_path, torch.randn(3, 3), exporter="torchscript")
    assert capfd.readouterr() == ("", "")


def test_operator_without_translation(tmp_path: Path) -> None:
    class Svd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            values: torch.Tensor = torch.linalg.svd(x)[1]
            return values

    message = _message(nn.Sequential(nn.Linear(4, 4), Svd()), tmp_path, torch.randn(3, 4))
    assert "dynamo: operator aten._linalg_svd has no ONNX translation (layer '1', a Svd)" in message
    assert "TorchScript: operator aten::linalg_svd" in message
    message = _message(MODELS["diff"][0], tmp_path, torch.randn(3, 4), exporter="torchscript")
    assert "operator aten::diff has no ONNX translation" in message
    assert "dynamo" not in message


def test_dimension_that_the_model_fixes(tmp_path: Path) -> None:
    message = _message(Of(lambda x: x.reshape(3, 2, 2)), tmp_path, torch.randn(3, 4), batch="dynamic")
    assert "axis 0 of 'x' is fixed to 3 by the model" in message
    assert "leave that dimension out" in message


def test_wrong_inputs(tmp_path: Path) -> None:
    linear, example = nn.Linear(4, 4), torch.randn(2, 4)
    assert "forward(x, y): --input x=1x3x224x224:float32" in _message(Of(abs), tmp_path)
    assert "mat1 and mat2 shapes cannot be multiplied" in _message(linear, tmp_path, torch.randn(2, 5))
    assert "positional argument" in _message(linear, tmp_path, (example, example))
    assert "'image'" in _message(linear, tmp_path, {"image": example})
    assert "'input' is a object" in _message(linear, tmp_path, object())
    assert "none of the example inputs is a tensor" in _message(linear, tmp_path, 3)
    assert "input 'input' is complex" in _message(linear, tmp_path, example.to(torch.complex64))
    assert "output 'output' is complex" in _message(Of(torch.fft.fft), tmp_path, example)
    assert "returns no tensor" in _message(Of(lambda x: None), tmp_path, example)
    assert "lazy layers" in _message(nn.LazyLinear(3), tmp_path, example)
    assert "meta device" in _message(nn.Linear(4, 4, device="meta"), tmp_path, example)


def test_random_numbers_are_refused(tmp_path: Path) -> None:
    message = _message(Of(lambda x: x + torch.randn_like(x)), tmp_path, torch.ones(2, 4))
    assert "if it draws random numbers" in message


def test_wrappers_of_modules(tmp_path: Path) -> None:
    linear = nn.Linear(4, 4)
    for wrapper in (torch.compile(linear), nn.DataParallel(linear)):
        conversion = _convert(wrapper, tmp_path, torch.randn(2, 4))
        assert list(_ports(conversion)[0]) == ["input"]
        _assert_right(conversion)


def test_packed_sequence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def run(lstm: nn.Module, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)[0]

    inputs = (torch.randn(3, 6, 4), torch.tensor([6, 2, 4]))
    conversion = _convert(Of(run, nn.LSTM(4, 3, batch_first=True)), tmp_path, inputs)
    assert conversion.exporter.endswith("(torchscript)")
    assert capfd.readouterr() == ("", "")
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 6, 4)).astype(np.float32)}
    feeds["y"] = np.array([3, 6, 1])
    (found,) = _session(conversion).run(None, feeds)
    np.testing.assert_allclose(found, conversion.answers(feeds)[0], atol=1e-6)


def test_wrong_options(tmp_path: Path) -> None:
    linear, example = nn.Linear(4, 4), torch.randn(2, 4)
    for match, options in (
        ("no such input; the inputs are input", {"dynamic": {"image": {0: "n"}}}),
        ("has 2 axes; there is no axis 2", {"dynamic": {"input": {2: "n"}}}),
        ("'n' are 2 and 4", {"dynamic": {"input": {0: "n", 1: "n"}}}),
        ("2 input names are given", {"input_names": ["a", "b"]}),
    ):
        with pytest.raises(OptionError, match=match):
            _convert(linear, tmp_path, example, **options)
    with pytest.raises(OptionError, match="exported with torchscript"):
        _convert(torch.jit.script(linear), tmp_path, example, exporter="dynamo")


def test_is_torch_model() -> None:
    assert is_torch_model(nn.Linear(1, 1))
    assert not is_torch_model(nn.Linear)
    assert not is_torch_model({"weight": torch.ones(1)})


def test_cache_of_keys_and_values(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=1, n_embd=16, n_head=2, vocab_size=20, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config).train()
    prompt = torch.randint(0, 20, (2, 7))
    conversion = _convert(model, tmp_path, {"input_ids": prompt}, batch="dynamic")
    assert _ports(conversion)[1] == ["logits"]
    assert conversion.notes == ("output 'past_key_values' is left out: a DynamicCache is no tensor",)
    _assert_right(conversion)

    cache = transformers.DynamicCache(config=config)
    with torch.no_grad():
        model(input_ids=prompt, past_key_values=cache)
    inputs = {"input_ids": prompt[:, :1], "past_key_values": cache}
    conversion = _convert(model, tmp_path, inputs, batch="dynamic", dynamic={"past_key_values": {2: "past"}})
    shapes, outputs = _ports(conversion)
    assert shapes["past_key_values_key_cache_0"] == ["batch", 2, "past", 8]
    assert outputs[:2] == ["logits", "past_key_values_key_cache_0_out"]
    _assert_right(conversion)
    assert model.training
    assert model.config.use_cache
