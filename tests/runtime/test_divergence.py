"""A damage deep in a net is found at the tensor where it is, in one file and with weights beside it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from fuseonnx.io.validate import tensors
from fuseonnx.runtime import divergence as module
from fuseonnx.runtime.divergence import Divergence
from fuseonnx.runtime.revealed import revealed
from fuseonnx.runtime.verify import Verifier

Build = Callable[..., Path]
LAYERS, WIDTH = 8, 40  # a weight of 6.4 kB is lifted out of the file


def mlp(build: Build, name: str = "original") -> Path:
    """Return MatMul, Add and Tanh, eight times, then a MatMul with the weight of a Constant node."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32) for i in range(LAYERS)}
    weights |= {f"b{i}": rng.normal(0, 0.2, WIDTH).astype(np.float32) for i in range(LAYERS)}
    nodes, last = [], "x"
    for i in range(LAYERS):
        nodes += [
            helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"], f"MatMul{i}"),
            helper.make_node("Add", [f"m{i}", f"b{i}"], [f"a{i}"], f"Add{i}"),
            helper.make_node("Tanh", [f"a{i}"], [f"t{i}"], f"Tanh{i}"),
        ]
        last = f"t{i}"
    head = numpy_helper.from_array(rng.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32), "head")
    nodes += [
        helper.make_node("Constant", [], ["head"], value=head),
        helper.make_node("MatMul", [last, "head"], ["y"], "Head"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", WIDTH]) for n in "xy")
    return build(nodes, [x], [y], weights, name=name)


def damage(path: Path, layer: int, **saving: Any) -> Path:
    """Scale one column of a weight and reorder nothing else; save under another name."""
    model = copy.deepcopy(onnx.load(path))
    tensor = next(each for each in model.graph.initializer if each.name == f"w{layer}")
    array = numpy_helper.to_array(tensor).copy()
    array[:, 3] *= np.float32(1.01)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path.with_name("damaged.onnx"), **saving)
    return path.with_name("damaged.onnx")


def locate(original: Path, candidate: Path) -> Divergence | None:
    verifier = Verifier(original, graph_of=onnx.load(original))
    return verifier.divergence(candidate, verifier.compare(candidate))


@pytest.mark.parametrize("layer", [0, 5, 7])
def test_a_wrong_weight_is_found_where_it_is(build: Build, layer: int) -> None:
    original = mlp(build)
    found = locate(original, damage(original, layer))
    assert found is not None and found.first is not None
    assert found.first.tensor == f"m{layer}"
    assert found.first.made_by == found.first.made_in_candidate_by == f"MatMul 'MatMul{layer}'"
    assert found.last_agreeing == (f"t{layer - 1}" if layer else "")
    assert found.common == 3 * LAYERS + 2
    assert sorted(each.name for each in original.parent.iterdir()) == ["damaged.onnx", "original.onnx"]


def test_the_difference_is_what_onnxruntime_says(build: Build) -> None:
    original = mlp(build)
    candidate = damage(original, 5)
    verifier = Verifier(original, graph_of=onnx.load(original))
    found = verifier.divergence(candidate, verifier.compare(candidate))
    assert found is not None and found.first is not None
    feeds = next(known.feeds for known in verifier.runs if known.label == found.run)
    answers = []
    for path in (original, candidate):
        model = onnx.load(path)
        model.graph.output.append(onnx.ValueInfoProto(name="m5"))
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        answers.append(session.run(["m5"], feeds)[0])
    assert found.first.max_abs == pytest.approx(np.abs(answers[0] - answers[1]).max())
    assert found.first.allowed < found.first.max_abs


def test_weights_in_a_file_of_their_own(build: Build) -> None:
    original = mlp(build)
    candidate = damage(original, 5, save_as_external_data=True, location="damaged.data", size_threshold=1000)
    assert (candidate.parent / "damaged.data").exists()
    found = locate(original, candidate)
    assert found is not None and found.first is not None and found.first.tensor == "m5"
    assert sorted(each.name for each in original.parent.iterdir()) == [
        "damaged.data",
        "damaged.onnx",
        "original.onnx",
    ]


def test_weights_of_bodies_in_a_file_of_their_own(build: Build, tmp_path: Path) -> None:
    """The main graph keeps a weight in the same file."""
    square = np.random.default_rng(0).normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", WIDTH]) for n in "xy")

    def write(name: str, factor: float) -> Path:
        body = helper.make_graph(
            [helper.make_node("MatMul", ["b", "v"], ["r"])],
            "body",
            [],
            [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(square, "v")],
        )
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Mul", ["a", "factor"], ["b"]),
            helper.make_node("If", ["yes"], ["y"], then_branch=body, else_branch=body),
        ]
        weights = {"w": square, "factor": np.float32(factor), "yes": np.array(True)}
        path = build(nodes, [x], [y], weights, name=name)
        move_out(path)
        return path

    found = locate(write("original", 1), write("wrong", 1.01))
    assert found is not None and found.first is not None
    assert (found.first.tensor, found.last_agreeing) == ("b", "a")


def move_out(path: Path) -> None:
    """Move the large initializers of a model's graph and of its bodies into one file beside it."""
    model = onnx.load(path)
    with path.with_suffix(".data").open("wb") as file:
        for tensor in tensors(model):
            if len(tensor.raw_data) >= 1000:
                tensor.data_location = TensorProto.EXTERNAL
                tensor.external_data.add(key="location", value=f"{path.stem}.data")
                tensor.external_data.add(key="offset", value=str(file.tell()))
                file.write(tensor.raw_data)
                tensor.external_data.add(key="length", value=str(len(tensor.raw_data)))
                tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())


def test_tensors_are_compared_in_chunks(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_COUNT", 3)
    original = mlp(build)
    found = locate(original, damage(original, 5))
    assert found is not None and found.first is not None
    assert (found.first.tensor, found.last_agreeing) == ("m5", "t4")


def test_models_without_common_names_part_nowhere(build: Build) -> None:
    original = mlp(build)
    candidate = damage(original, 5)
    model = onnx.load(candidate)
    for node in model.graph.node:
        for names in (node.input, node.output):
            renamed = [f"other_{name}" if name[0] in "mat" else name for name in names]
            del names[:]
            names.extend(renamed)
    model.graph.node[-1].output[0] = "z"
    model.graph.output[0].name = "z"
    onnx.save(model, candidate)
    verifier = Verifier(original, graph_of=onnx.load(original))
    verification = verifier.compare(candidate, renamed=True)
    assert verification.status == "failed"
    found = verifier.divergence(candidate, verification)
    assert found is not None
    assert (found.first, found.common, found.last_agreeing) == (None, 1, "")


def test_models_that_agree_part_nowhere(build: Build) -> None:
    original = mlp(build)
    assert locate(original, original) is None


def test_what_is_random_is_passed_over(build: Build) -> None:
    """The noise never reaches the output, but would be the first tensor to differ."""
    zero: dict[str, Any] = {"zero": np.float32(0), "w": np.eye(WIDTH, dtype=np.float32)}
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Mul", ["noise", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", WIDTH]) for n in "xy")
    original = build(nodes, [x], [y], zero)
    wrong = build(nodes, [x], [y], {**zero, "w": zero["w"] * np.float32(1.01)}, name="wrong")
    found = locate(original, wrong)
    assert found is not None and found.first is not None and found.first.tensor == "y"


def test_a_folder_that_cannot_be_written_is_left_alone(
    build: Build, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = mlp(build)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    plain = tempfile.TemporaryDirectory

    def refusing(prefix: str, dir: Path | None = None) -> Any:
        if dir is not None:
            raise PermissionError(13, "Permission denied")
        return plain(prefix=prefix, dir=elsewhere)

    monkeypatch.setattr("fuseonnx.runtime.revealed.tempfile.TemporaryDirectory", refusing)
    with revealed(original, ["t3"]) as path:
        assert path.is_relative_to(elsewhere)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert [each.name for each in session.get_outputs()] == ["t3"]
        assert path.stat().st_size < 20_000 < original.stat().st_size


def test_a_factor_that_only_moved_is_not_the_culprit(build: Build) -> None:
    """A rewrite may scale one tensor and the next weight the other way: what follows agrees again."""
    weights = {f"w{i}": np.random.default_rng(i).normal(size=(WIDTH, WIDTH)) for i in range(4)}
    nodes, last = [], "x"
    for i in range(4):
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], ["y" if i == 3 else f"m{i}"]))
        last = f"m{i}"
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", WIDTH]) for n in "xy")

    def write(name: str, *factors: float) -> Path:
        scaled = {k: (w * f).astype(np.float32) for (k, w), f in zip(weights.items(), factors, strict=True)}
        return build(nodes, [x], [y], scaled, name=name)

    original = write("original", 1, 1, 1, 1)
    assert locate(original, write("moved", 4, 0.25, 1, 1)) is None
    found = locate(original, write("wrong", 4, 0.25, 1.01, 1))
    assert found is not None and found.first is not None
    assert (found.first.tensor, found.last_agreeing) == ("m2", "m1")


def test_what_a_body_reads_is_on_the_way(build: Build) -> None:
    branches = {
        key: helper.make_graph(
            [helper.make_node(op, ["inner"], [f"{key}_out"])],
            key,
            [],
            [helper.make_tensor_value_info(f"{key}_out", TensorProto.FLOAT, None)],
        )
        for key, op in (("then_branch", "Sin"), ("else_branch", "Cos"))
    }
    nodes = [
        helper.make_node("Neg", ["x"], ["negative"]),
        helper.make_node("Mul", ["negative", "factor"], ["inner"]),
        helper.make_node("If", ["yes"], ["y"], **branches),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    yes = {"yes": np.array(True)}
    original = build(nodes, [x], [y], {**yes, "factor": np.float32(1)})
    found = locate(original, build(nodes, [x], [y], {**yes, "factor": np.float32(1.01)}, name="wrong"))
    assert found is not None and found.first is not None
    assert (found.first.tensor, found.last_agreeing) == ("inner", "negative")


def test_another_layout_is_no_difference(build: Build) -> None:
    """Two layers on [n, t, d] are computed on [n * t, d] and transposed by a rewrite; the third is wrong."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) for i in range(3)}
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 5, WIDTH]) for n in "xy")
    first, second = (helper.make_node("Tanh", [f"m{i}"], [f"t{i}"]) for i in (0, 1))
    original = build(
        [
            helper.make_node("MatMul", ["x", "w0"], ["m0"]),
            first,
            helper.make_node("MatMul", ["t0", "w1"], ["m1"]),
            second,
            helper.make_node("MatMul", ["t1", "w2"], ["m2"]),
            helper.make_node("Neg", ["m2"], ["y"]),
        ],
        [x],
        [y],
        weights,
    )
    wrong = build(
        [
            helper.make_node("Reshape", ["x", "flat"], ["rows"]),
            helper.make_node("MatMul", ["rows", "w0"], ["m0"]),
            first,
            helper.make_node("Gemm", ["w1", "t0"], ["m1"], transA=1, transB=1),
            second,
            helper.make_node("Gemm", ["t1", "w2"], ["m2"], transA=1),
            helper.make_node("Reshape", ["m2", "shape"], ["back"]),
            helper.make_node("Neg", ["back"], ["y"]),
        ],
        [x],
        [y],
        {
            **weights,
            "w2": weights["w2"] * np.float32(1.01),
            "flat": np.array([-1, WIDTH]),
            "shape": np.array([2, 5, WIDTH]),
        },
        name="wrong",
    )
    found = locate(original, wrong)
    assert found is not None and found.first is not None
    assert (found.first.tensor, found.last_agreeing) == ("m2", "t1")
