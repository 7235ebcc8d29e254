from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from fuseonnx.errors import OptionError
from fuseonnx.runtime import noise, reference, session, verify
from fuseonnx.runtime.providers import Backend, Provider
from fuseonnx.runtime.values import MULTIPLE
from fuseonnx.runtime.verify import Verifier

Build = Callable[..., Path]
Weights = dict[str, Any]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def value(name: str, dims: Any, dtype: Any = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


def verifier(path: Path, **options: Any) -> Verifier:
    return Verifier(path, graph_of=onnx.load(path), **options)


def net(depth: int = 12, channels: int = 16, seed: int = 0) -> tuple[list[onnx.NodeProto], Weights]:
    """Return nodes and weights of a deep Conv+BatchNormalization+Relu net with randomised statistics."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: Weights = {}
    last, width = "x", 3
    for layer in range(depth):
        weights |= {
            f"w{layer}": rng.normal(0, (2 / (9 * width)) ** 0.5, (channels, width, 3, 3)),
            f"scale{layer}": rng.uniform(0.5, 1.5, channels),
            f"shift{layer}": rng.normal(0, 0.3, channels),
            f"mean{layer}": rng.normal(0, 0.3, channels),
            f"var{layer}": rng.uniform(0.5, 2, channels),
        }
        statistics = [f"{name}{layer}" for name in ("scale", "shift", "mean", "var")]
        nodes += [
            helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", [f"c{layer}", *statistics], [f"b{layer}"]),
            helper.make_node("Relu", [f"b{layer}"], [f"r{layer}"]),
        ]
        last, width = f"r{layer}", channels
    weights["fc"] = rng.normal(0, 0.2, (channels, 10))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "fc"], ["y"]),
    ]
    return nodes, {name: array.astype(np.float32) for name, array in weights.items()}


X, Y = value("x", ["n", 3, "h", "w"]), value("y", ["n", 10])


def folded(nodes: list[onnx.NodeProto], weights: Weights) -> tuple[list[onnx.NodeProto], Weights]:
    """Return the net with every BatchNormalization folded into its Conv, in float64."""
    kept: list[onnx.NodeProto] = []
    result = dict(weights)
    for node in nodes:
        if node.op_type == "BatchNormalization":
            layer = node.input[0][1:]
            scale, shift, mean, var = (
                result.pop(f"{name}{layer}").astype(np.float64) for name in ("scale", "shift", "mean", "var")
            )
            factor = scale / np.sqrt(var + 1e-5)
            folded_weight = result[f"w{layer}"].astype(np.float64) * factor[:, None, None, None]
            result[f"w{layer}"] = folded_weight.astype(np.float32)
            result[f"bias{layer}"] = (shift - mean * factor).astype(np.float32)
            kept[-1] = helper.make_node(
                "Conv", [*kept[-1].input, f"bias{layer}"], [node.output[0]], pads=[1, 1, 1, 1]
            )
        else:
            kept.append(node)
    return kept, result


@pytest.fixture
def deep(build: Build) -> Path:
    nodes, weights = net()
    return build(nodes, [X], [Y], weights)


def test_a_model_equals_itself(deep: Path) -> None:
    outcome = verifier(deep).compare(deep)
    assert (outcome.status, outcome.reason, outcome.notes) == ("passed", "", ())
    assert outcome.runs >= 7
    (output,) = outcome.outputs
    assert (output.name, output.dtype, output.max_abs, output.passed) == ("y", "tensor(float)", 0.0, True)
    assert output.allowed == pytest.approx(MULTIPLE * output.noise_floor)
    assert output.noise_floor > 0


def test_what_takes_long_is_run_less_often(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_SECONDS", -1.0)
    outcome = verifier(deep).compare(deep)
    assert (outcome.status, outcome.runs) == ("passed", 4)
    assert outcome.notes == ("a large model: 4 of 9 runs were made",)


def test_onnxruntimes_own_optimized_model_passes(deep: Path, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "by_ort.onnx")
    ort.InferenceSession(str(deep), options, providers=["CPUExecutionProvider"])
    outcome = verifier(deep).compare(tmp_path / "by_ort.onnx")
    assert outcome.status == "passed"
    assert 0 < outcome.outputs[0].max_abs < 1e-3


@pytest.mark.parametrize("depth", [1, 12, 40])
def test_batch_norms_folded_in_float64_pass(build: Build, depth: int) -> None:
    nodes, weights = net(depth, seed=depth)
    original = build(nodes, [X], [Y], weights)
    nodes, weights = folded(nodes, weights)
    assert not any(node.op_type == "BatchNormalization" for node in nodes)
    outcome = verifier(original).compare(build(nodes, [X], [Y], weights, name="folded"))
    assert outcome.status == "passed", outcome.reason
    assert outcome.outputs[0].max_abs > 0


def flip_sign(weights: Weights) -> None:
    weights["w5"][3, 4, 1, 1] *= -1


def scale_channel(weights: Weights) -> None:
    weights["w5"][15] *= np.float32(1.001)


def scale_last_channel(weights: Weights) -> None:
    weights["fc"][:, 2] *= np.float32(1.001)


def forget_epsilon(weights: Weights) -> None:
    weights["var5"] += np.float32(1e-3)


def make_nan(weights: Weights) -> None:
    weights["fc"][0, 2] = np.nan


@pytest.mark.parametrize("damage", [flip_sign, scale_channel, scale_last_channel, forget_epsilon, make_nan])
def test_damaged_weights_fail(deep: Path, build: Build, damage: Callable[[Weights], None]) -> None:
    nodes, weights = net()
    damage(weights)
    outcome = verifier(deep).compare(build(nodes, [X], [Y], weights, name="damaged"))
    assert outcome.status == "failed"
    (output,) = outcome.outputs
    assert not output.passed
    assert output.max_abs > output.allowed or output.max_abs == np.inf
    assert outcome.reason.startswith("y: ")
    assert "run '" in outcome.reason


def test_a_new_nan_is_named(deep: Path, build: Build) -> None:
    nodes, weights = net()
    make_nan(weights)
    reason = verifier(deep).compare(build(nodes, [X], [Y], weights, name="damaged")).reason
    assert "nan at [0, 2] where the original has" in reason


def test_one_verifier_judges_many_candidates(deep: Path, build: Build) -> None:
    nodes, weights = net()
    scale_channel(weights)
    damaged = build(nodes, [X], [Y], weights, name="damaged")
    judge = verifier(deep)
    assert [judge.compare(path).status for path in (damaged, deep, damaged)] == ["failed", "passed", "failed"]


def test_a_wrong_score_beside_large_coordinates_fails(build: Build) -> None:
    """Channels 0-3 are pixels in the thousands, channel 4 a score, as detectors put them in one tensor."""
    weight = np.random.default_rng(0).normal(size=(5, 3, 1, 1)).astype(np.float32)
    weight[:4] *= 3000
    weight[4] *= 0.1
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    original = build(nodes, [X], [value("y", None)], {"w": weight})
    weight[4] *= np.float32(1.1)
    damaged = build(nodes, [X], [value("y", None)], {"w": weight}, name="damaged")
    assert verifier(original).compare(damaged).status == "failed"


def two_outputs(build: Build, swapped: bool = False, name: str = "original", second: str = "Cos") -> Path:
    nodes = [helper.make_node("Sin", ["x"], ["a"]), helper.make_node(second, ["x"], ["b"])]
    outputs = [value("a", ["n"]), value("b", ["n"])]
    return build(nodes, [value("x", ["n"])], outputs[::-1] if swapped else outputs, name=name)


def test_swapped_outputs_fail(build: Build) -> None:
    original = two_outputs(build)
    outcome = verifier(original).compare(two_outputs(build, swapped=True, name="swapped"))
    assert outcome.status == "failed"
    assert outcome.reason.startswith("outputs are b: tensor(float), a: tensor(float) instead of a: ")


def test_swapped_values_fail_by_name(build: Build) -> None:
    original = two_outputs(build)
    outcome = verifier(original).compare(two_outputs(build, name="sine", second="Sin"))
    assert [(output.name, output.passed) for output in outcome.outputs] == [("a", True), ("b", False)]


def one_op(
    build: Build,
    op: str,
    name: str = "original",
    *,
    inputs: Any = None,
    outputs: Any = None,
    **attributes: Any,
) -> Path:
    inputs = inputs or [value("x", ["n", 4])]
    node = helper.make_node(op, [item.name for item in inputs], ["y"], **attributes)
    return build([node], inputs, outputs or [value("y", None)], name=name)


def test_a_missing_output_fails(build: Build) -> None:
    original = two_outputs(build)
    candidate = one_op(build, "Sin", "short", inputs=[value("x", ["n"])], outputs=[value("y", ["n"])])
    assert "outputs are" in verifier(original).compare(candidate).reason


def test_a_missing_input_fails(build: Build) -> None:
    inputs = [value("x", ["n"]), value("unused", ["n"])]
    original = build([helper.make_node("Neg", ["x"], ["y"])], inputs, [value("y", ["n"])])
    candidate = one_op(build, "Neg", "short", inputs=inputs[:1], outputs=[value("y", ["n"])])
    assert verifier(original).compare(candidate).reason.startswith("inputs are x: tensor(float) instead of")


def test_another_dtype_fails(build: Build) -> None:
    original = one_op(build, "Cast", to=FLOAT)
    candidate = one_op(
        build, "Cast", "double", to=TensorProto.DOUBLE, outputs=[value("y", None, TensorProto.DOUBLE)]
    )
    assert "y: tensor(double) instead of y: tensor(float)" in verifier(original).compare(candidate).reason


def test_another_shape_fails(build: Build) -> None:
    original = one_op(build, "ReduceSum", keepdims=1)
    candidate = one_op(build, "ReduceSum", "squeezed", keepdims=0)
    assert "shape [] instead of [1, 1]" in verifier(original).compare(candidate).reason


def test_an_integer_off_by_one_in_one_place_fails(build: Build) -> None:
    weights = {"w": np.arange(40).reshape(10, 4)}
    nodes = [helper.make_node("Gather", ["w", "x"], ["y"])]
    inputs, outputs = [value("x", [64], INT64)], [value("y", None, INT64)]
    original = build(nodes, inputs, outputs, weights)
    weights["w"][5, 2] += 1
    outcome = verifier(original).compare(build(nodes, inputs, outputs, weights, name="off"))
    assert outcome.status == "failed"
    assert outcome.outputs[0].max_abs == 1
    assert outcome.outputs[0].allowed == 0
    assert "23 instead of 22" in outcome.reason


def test_another_bool_fails(build: Build) -> None:
    outputs = [value("y", None, TensorProto.BOOL)]
    inputs = [value("x", [64]), value("z", [64])]
    original = one_op(build, "Less", inputs=inputs, outputs=outputs)
    candidate = one_op(build, "Greater", "other", inputs=inputs, outputs=outputs)
    assert verifier(original).compare(original).status == "passed"
    assert verifier(original).compare(candidate).status == "failed"


def test_another_string_fails(build: Build) -> None:
    def lookup(cat: str, name: str) -> Path:
        return one_op(
            build,
            "LabelEncoder",
            name,
            inputs=[value("x", [64], TensorProto.STRING)],
            outputs=[value("y", [64], TensorProto.STRING)],
            domain="ai.onnx.ml",
            keys_strings=["cat", "mat"],
            values_strings=[cat, "carpet"],
        )

    original = lookup("lynx", "original")
    assert verifier(original).compare(original).status == "passed"
    assert "'wolf' instead of 'lynx'" in verifier(original).compare(lookup("wolf", "other")).reason


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_candidate_that_does_not_load_fails(deep: Path, tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(content)
    outcome = verifier(deep).compare(broken)
    assert outcome.status == "failed"
    assert "broken.onnx: onnxruntime cannot load it" in outcome.reason


def test_a_candidate_that_runs_at_one_size_only_fails(build: Build) -> None:
    inputs, outputs = [value("x", ["n", 4])], [value("y", None)]
    original = one_op(build, "Flatten", inputs=inputs, outputs=outputs)
    reshape = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    frozen = build(reshape, inputs, outputs, {"shape": np.array([1, 4])}, name="frozen")
    outcome = verifier(original).compare(frozen)
    assert outcome.status == "failed"
    assert "n=2" in outcome.reason


def test_an_original_that_onnxruntime_does_not_know_is_skipped(build: Build) -> None:
    original = one_op(build, "MyOp", domain="ai.onnx.ml")
    outcome = verifier(original).compare(original)
    assert outcome.status == "skipped"
    assert "MyOp" in outcome.reason
    assert "\n" not in outcome.reason


def test_an_original_that_refuses_every_input_is_skipped_with_the_cure(build: Build) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    original = build(nodes, [value("x", ["n"])], [value("y", None)], {"shape": np.array([7, 11])})
    outcome = verifier(original).compare(original)
    assert outcome.status == "skipped"
    assert "--input-shape" in outcome.reason
    assert verifier(original, shapes={"x": [77]}).compare(original).status == "passed"


def test_refused_sizes_are_noted(build: Build) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    original = build(nodes, [value("x", [1, "t"])], [value("y", None)], {"shape": np.array([16, 16])})
    notes = verifier(original).compare(original).notes
    assert "input sizes were refused by the original" in notes[0]
    assert "dimension 1 of input 'x' (t) was always 256" in notes


def random_model(build: Build, name: str = "original", factor: float = 1.0, **attributes: Any) -> Path:
    noise = helper.make_node("RandomNormalLike", ["x"], ["noise"], **attributes)
    body = helper.make_graph(
        [noise, helper.make_node("Add", ["x", "noise"], ["sum"])], "then", [], [value("sum", ["n"])]
    )
    nodes = [
        helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body),
        helper.make_node("Mul", ["x", "factor"], ["z"]),
    ]
    weights = {"flag": np.array(True), "factor": np.array(factor, np.float32)}
    return build(nodes, [value("x", ["n"])], [value("y", ["n"]), value("z", ["n"])], weights, name=name)


def test_random_outputs_are_excluded_and_noted(build: Build) -> None:
    original = random_model(build)
    outcome = verifier(original).compare(original)
    assert outcome.status == "passed"
    assert [output.name for output in outcome.outputs] == ["z"]
    assert outcome.notes == ("not compared, random (RandomNormalLike): y",)
    damaged = verifier(original).compare(random_model(build, "damaged", factor=1.001))
    assert damaged.status == "failed"


def test_outputs_that_come_out_alike_in_the_first_run_are_random_all_the_same(build: Build) -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("Sub", ["size", "one"], ["more"]),
        helper.make_node("Cast", ["more"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["noise", "factor"], ["y"]),  # 0 in a batch of 1
        helper.make_node("Relu", ["x"], ["z"]),
    ]
    outputs = [value("y", ["n"]), value("z", ["n"])]
    original = build(nodes, [value("x", ["n"])], outputs, {"one": np.array(1)})
    outcome = verifier(original).compare(original)
    assert outcome.status == "passed"
    assert outcome.notes == ("not compared, random (RandomNormalLike): y",)


def test_seeded_random_outputs_are_compared(build: Build) -> None:
    original = random_model(build, seed=1.0)
    outcome = verifier(original).compare(original)
    assert outcome.status == "passed"
    assert [output.name for output in outcome.outputs] == ["y", "z"]
    assert verifier(original).compare(random_model(build, "other", seed=2.0)).status == "failed"


def test_only_random_outputs_cannot_be_verified(build: Build) -> None:
    node = helper.make_node("RandomUniform", [], ["y"], shape=[4])
    original = build([node], [], [value("y", [4])])
    outcome = verifier(original).compare(original)
    assert outcome.status == "skipped"
    assert "random (RandomUniform)" in outcome.reason


def test_ties_of_arg_max_may_fall_either_way_but_no_more(build: Build) -> None:
    """Both halves hold the same numbers up to rounding, so arg max is decided by the last bit."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(64, 4)).astype(np.float32)
    same = np.concatenate([half, half * np.float32(1 + 1e-7)], axis=1)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["y"], axis=1),
    ]
    inputs, outputs = [value("x", [256, 64])], [value("y", None, INT64)]
    original = build(nodes, inputs, outputs, {"w": same})
    equal = np.concatenate([half, half], axis=1)
    outcome = verifier(original).compare(build(nodes, inputs, outputs, {"w": equal}, name="equal"))
    assert outcome.status == "passed"
    assert "do under rounding noise" in outcome.outputs[0].reason
    assert (
        verifier(original).compare(build(nodes, inputs, outputs, {"w": -same}, name="x")).status == "failed"
    )


@pytest.mark.parametrize("onnx_type", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_precisions_have_their_own_tolerance(build: Build, onnx_type: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(onnx_type)
    eps = float(np.finfo(dtype).eps)

    def product(factor: float, name: str) -> Path:
        weight = np.random.default_rng(0).normal(size=(32, 32)) * factor
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        io = [value("x", ["n", 32], onnx_type)], [value("y", None, onnx_type)]
        return build([node], *io, {"w": weight.astype(dtype)}, name=name)

    original = product(1.0, "original")
    assert verifier(original).compare(product(1 + eps / 2, "rounded")).status == "passed"
    assert verifier(original).compare(product(1 + 200 * eps, "damaged")).status == "failed"


def test_bfloat16_outputs_are_compared(build: Build) -> None:
    def cast(factor: float, name: str) -> Path:
        nodes = [
            helper.make_node("Mul", ["x", "factor"], ["scaled"]),
            helper.make_node("Cast", ["scaled"], ["y"], to=TensorProto.BFLOAT16),
        ]
        outputs = [value("y", None, TensorProto.BFLOAT16)]
        return build(
            nodes, [value("x", ["n", 8])], outputs, {"factor": np.array(factor, np.float32)}, name=name
        )

    original = cast(1.0, "original")
    outcome = verifier(original).compare(original)
    assert (outcome.status, outcome.outputs[0].dtype) == ("passed", "tensor(bfloat16)")
    assert outcome.outputs[0].noise_floor > 2.0**-7
    assert verifier(original).compare(cast(1.5, "damaged")).status == "failed"


def test_sequences_are_compared_element_by_element(build: Build) -> None:
    def split(*names: str) -> Path:
        nodes = [
            helper.make_node("Neg", ["x"], ["neg"]),
            helper.make_node("SequenceConstruct", list(names), ["y"]),
        ]
        outputs = [helper.make_tensor_sequence_value_info("y", FLOAT, None)]
        return build(nodes, [value("x", ["n"])], outputs, name="".join(names))

    original = split("x", "neg")
    assert verifier(original).compare(original).status == "passed"
    assert "differs" in verifier(original).compare(split("x", "x")).reason
    assert "3 arrays instead of 2" in verifier(original).compare(split("x", "neg", "x")).reason


def test_maps_are_compared_by_key_and_value(build: Build) -> None:
    def zipmap(labels: list[int], factor: float, name: str) -> Path:
        nodes = [
            helper.make_node("Mul", ["x", "factor"], ["scaled"]),
            helper.make_node("ZipMap", ["scaled"], ["y"], domain="ai.onnx.ml", classlabels_int64s=labels),
        ]
        map_type = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
        outputs = [helper.make_value_info("y", helper.make_sequence_type_proto(map_type))]
        return build(
            nodes, [value("x", ["n", 2])], outputs, {"factor": np.array(factor, np.float32)}, name=name
        )

    original = zipmap([3, 5], 1.0, "original")
    assert verifier(original).compare(original).status == "passed"
    assert verifier(original).compare(zipmap([3, 6], 1.0, "keys")).status == "failed"
    assert verifier(original).compare(zipmap([3, 5], 1.001, "values")).status == "failed"


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def clip(build: Build, high: float, name: str) -> Path:
    nodes = [helper.make_node("Clip", ["x", "low", "high"], ["y"])]
    weights = {"low": np.array(-1e9, np.float32), "high": np.array(high, np.float32)}
    return build(nodes, [value("x", [1, 4])], [value("y", None)], weights, name=name)


def test_samples_find_what_generated_inputs_do_not(build: Build, tmp_path: Path) -> None:
    original, damaged = clip(build, 5000, "original"), clip(build, 6000, "damaged")
    assert verifier(original).compare(damaged).status == "passed"
    sample = save(tmp_path / "one.npz", x=np.full((1, 4), 9000.0))
    assert verifier(original, samples=sample).compare(damaged).status == "failed"
    assert "one.npz" in verifier(original, samples=tmp_path).compare(damaged).reason


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"z": np.ones((1, 4))}, r"holds \['z'\], the model's inputs are \['x'\]"),
        ({"x": np.ones((1, 4), complex)}, "complex128, the model takes float32"),
        ({"x": np.ones((1, 3))}, "does not run on this sample"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    build: Build, tmp_path: Path, arrays: dict[str, Any], reason: str
) -> None:
    original = clip(build, 5, "original")
    sample = save(tmp_path / "bad.npz", **arrays)
    with pytest.raises(OptionError, match=reason) as error:
        verifier(original, samples=sample).compare(original)
    assert "bad.npz" in str(error.value)


def test_a_folder_without_samples_and_a_broken_one_are_refused(build: Build, tmp_path: Path) -> None:
    original = clip(build, 5, "original")
    with pytest.raises(OptionError, match=r"has no \.npz file"):
        verifier(original, samples=tmp_path).compare(original)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(OptionError, match="not a readable"):
        verifier(original, samples=tmp_path).compare(original)


def test_weights_are_not_needed_in_the_graph(deep: Path) -> None:
    stub = onnx.load(deep)
    for tensor in stub.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="elsewhere")
    assert Verifier(deep, graph_of=stub).compare(deep).status == "passed"


def test_the_numbers_are_those_of_onnxruntimes_answers(deep: Path, build: Build) -> None:
    nodes, weights = net()
    scale_channel(weights)
    damaged = build(nodes, [X], [Y], weights, name="damaged")
    judge = verifier(deep)
    (output,) = judge.compare(damaged).outputs
    off = ort.SessionOptions()
    off.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    first, second, by_default = (
        ort.InferenceSession(path, options)
        for path, options in ((deep, off), (damaged, off), (damaged, ort.SessionOptions()))
    )
    pairs = [
        (known.label, first.run(None, known.feeds)[0], session.run(None, known.feeds)[0])
        for session in (second, by_default)
        for known in judge.runs
    ]
    a, b = next(
        (a, b)
        for label, a, b in pairs
        if label == output.run and output.max_abs in np.abs(a.astype(np.float64) - b)
    )
    assert output.multiple == pytest.approx(output.max_abs / output.noise_floor)
    assert output.multiple > MULTIPLE
    at = np.abs(a.astype(np.float64) - b) == output.max_abs
    bits = np.abs(a.view(np.int32).astype(np.int64) - b.view(np.int32))[at]  # same sign, so adjacent bits
    assert output.ulp in bits
    cosines, ratios = [], []
    for _, one, other in pairs:
        x, y = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
        cosines.append(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))
        ratios.append(10 * np.log10((x @ x) / ((x - y) @ (x - y))))
    assert output.cosine == pytest.approx(min(cosines), abs=1e-12)
    assert output.snr_db == pytest.approx(min(ratios), abs=1e-6)


def test_integers_have_no_ulps(build: Build) -> None:
    original = one_op(build, "Cast", to=INT64, outputs=[value("y", None, INT64)])
    (output,) = verifier(original).compare(original).outputs
    assert (output.ulp, output.max_ulp, output.mean_ulp, output.cosine, output.snr_db) == (None,) * 5


def test_other_names_and_another_order_are_forgiven_if_asked(build: Build) -> None:
    original, swapped = two_outputs(build), two_outputs(build, swapped=True, name="swapped")
    outcome = verifier(original).compare(swapped, renamed=True)
    assert outcome.status == "passed"
    assert outcome.notes == ("the outputs are in another order: b, a",)
    wrong = two_outputs(build, swapped=True, name="wrong", second="Sin")
    assert [each.passed for each in verifier(original).compare(wrong, renamed=True).outputs] == [True, False]


@pytest.mark.parametrize(("factor", "credible"), [(1 + 3e-5, True), (1.1, False)])
def test_what_another_provider_does_to_the_original_is_noise_if_it_is_rounding(
    deep: Path, monkeypatch: pytest.MonkeyPatch, factor: float, credible: bool
) -> None:
    """A provider that scales all answers stands in for one that rounds otherwise, or is wrong."""
    elsewhere = Backend(Provider("OtherExecutionProvider"))
    asked: list[tuple[str, bool]] = []

    def replay(model: Path, inputs: Any, backend: Backend, *, optimized: bool = False) -> Any:
        asked.append((backend.provider.name, optimized))
        scale = np.float32(factor if backend == elsewhere else 1)
        return (
            [each * scale for each in values] for values in session.replay(model, inputs, optimized=optimized)
        )

    def open_session(model: Path, backend: Backend, **options: Any) -> Any:
        assert backend == elsewhere
        return session.open_session(model, **options)

    quiet = verifier(deep).compare(deep).outputs[0]
    monkeypatch.setattr(noise, "replay", replay)
    monkeypatch.setattr(verify, "open_session", open_session)
    outcome = verifier(deep, backend=elsewhere).compare(deep)
    cpu = "CPUExecutionProvider"
    assert asked == [(cpu, False), (cpu, True), ("OtherExecutionProvider", True)]
    assert (outcome.outputs[0].noise_floor > 2 * quiet.noise_floor) is credible
    changed = [
        note for note in outcome.notes if note.endswith("OtherExecutionProvider itself changes the answer")
    ]
    assert bool(changed) is not credible


def to_scalars(build: Build, name: str, *, op: str = "ReduceSum", factor: float = 1.0) -> Path:
    """Return a model whose outputs are a float, an integer and a bool without dimensions."""
    nodes = [
        helper.make_node(op, ["x"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "factor"], ["y"]),
        helper.make_node("Cast", ["y"], ["i"], to=INT64),
        helper.make_node("Greater", ["y", "x0"], ["b"]),
    ]
    outputs = [value("y", []), value("i", [], INT64), value("b", [], TensorProto.BOOL)]
    weights = {"factor": np.array(factor, np.float32)}
    return build(nodes, [value("x", ["n", 4]), value("x0", [])], outputs, weights, name=name)


def test_scalars_go_in_and_come_out(build: Build) -> None:
    judge = verifier(to_scalars(build, "original"))
    same = judge.compare(to_scalars(build, "same"))
    assert (same.status, len(same.outputs)) == ("passed", 3)
    other = judge.compare(to_scalars(build, "other", factor=-1.0))
    assert [output.passed for output in other.outputs] == [False, False, False]
    assert "y: differs by " in other.reason
    assert " at []" not in other.reason
    broken = judge.compare(to_scalars(build, "broken", factor=float("nan")))
    assert re.match(r"y: nan where the original has -?\d", broken.reason)


def test_what_is_wrong_without_any_noise_is_infinitely_many_times_it(build: Build) -> None:
    other = verifier(to_scalars(build, "original")).compare(to_scalars(build, "broken", factor=float("nan")))
    for output in other.outputs:
        assert (output.noise_floor, output.multiple) == (0.0, np.inf)
    assert other.outputs[0].mean_abs == np.inf
    same = verifier(to_scalars(build, "original")).compare(to_scalars(build, "same"))
    assert [output.multiple for output in same.outputs] == [0.0, 0.0, 0.0]


def test_a_model_of_random_outputs_alone_is_named_with_the_cure(build: Build) -> None:
    original = one_op(build, "RandomNormalLike")
    outcome = verifier(original).compare(original)
    assert outcome.status == "skipped"
    assert outcome.reason == (
        f"{original}: every output is random (RandomNormalLike): nothing can be compared;"
        " give these operators a seed"
    )
