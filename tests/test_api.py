"""optimize and plan: what goes in comes out as its own kind, unchanged where it must be."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import fuseonnx
from fuseonnx import GraphPass, Rule, op, var
from fuseonnx.core.journal import Journal
from fuseonnx.errors import BackendError, FuseOnnxError, ModelLoadError, ModelSaveError, OptionError
from tests.helpers import assert_same_answers, batch_norm_weights, make_model, run_reference
from tests.io.models import add_model, every_place, every_place_feeds, info, model_of, weight

ROOT = Path(__file__).parents[1]


def _model() -> onnx.ModelProto:
    weights = {"w": np.random.default_rng(0).normal(size=(8, 4, 3, 3)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["b"], "bn"),
        helper.make_node("Relu", ["b"], ["y"], "relu"),
    ]
    dims: list[int | str | None] = ["batch", 4, "height", 8]
    return make_model(nodes, {"x": dims}, ["y"], weights | batch_norm_weights(8))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(_model().SerializeToString())
    return path


def _as_bytes(model: onnx.ModelProto) -> Any:
    return model.SerializeToString()


def _as_ir(model: onnx.ModelProto) -> Any:
    return ir.from_proto(model)


def _as_surgeon(model: onnx.ModelProto) -> Any:
    return gs.import_onnx(model)


def _proto_of(model: Any) -> onnx.ModelProto:
    if isinstance(model, bytes):
        model = onnx.ModelProto.FromString(model)
    if isinstance(model, ir.Model):
        return ir.to_proto(model)
    if isinstance(model, gs.Graph):
        exported: onnx.ModelProto = gs.export_onnx(model)
        exported.ir_version = 10
        return exported
    assert isinstance(model, onnx.ModelProto)
    return model


KINDS: dict[str, Callable[[onnx.ModelProto], Any]] = {
    "bytes": _as_bytes,
    "ModelProto": lambda model: model,
    "ir.Model": _as_ir,
    "gs.Graph": _as_surgeon,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("saved", [False, True])
def test_a_model_in_memory_comes_back_as_its_kind(kind: str, saved: bool, tmp_path: Path) -> None:
    model = KINDS[kind](_model())
    before = _proto_of(model).SerializeToString()
    output = tmp_path / "out.onnx" if saved else None
    result = fuseonnx.optimize(model, output)
    assert type(result.model) is type(model)
    assert result.model is not model
    assert result.path == output
    assert result.report.output == (str(output) if saved else None)
    assert result.report.verification.status == "passed"
    assert _proto_of(model).SerializeToString() == before
    after = _proto_of(result.model)
    assert [node.op_type for node in after.graph.node] == ["Conv", "Relu"]
    assert_same_answers(_model(), after)
    assert list(tmp_path.iterdir()) == ([output] if saved else [])
    if output is not None:
        assert_same_answers(_model(), onnx.load(output))


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_comes_back_as_a_path(kind: type, path: Path) -> None:
    before = path.read_bytes()
    result = fuseonnx.optimize(kind(path))
    assert result.path == result.model == path.with_name("model.opt.onnx")
    assert path.read_bytes() == before
    assert_same_answers(_model(), onnx.load(result.path))


@pytest.mark.parametrize("kind", ["bytes", "ModelProto", "ir.Model"])
def test_weights_in_every_place_survive_the_temporary_folder(kind: str) -> None:
    model = KINDS[kind](every_place())
    after = _proto_of(fuseonnx.optimize(model, only=["eliminate_identity"]).model)
    for flag in (True, False):
        feeds = every_place_feeds(flag)
        np.testing.assert_array_equal(
            run_reference(after, feeds)["y"], run_reference(every_place(), feeds)["y"]
        )


def test_in_place(path: Path) -> None:
    model = _model()
    result = fuseonnx.optimize(path, in_place=True)
    assert result.path == path
    assert_same_answers(model, onnx.load(path))
    assert [node.op_type for node in onnx.load(path).graph.node] == ["Conv", "Relu"]
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]


def test_outputs_that_contradict_the_input(path: Path) -> None:
    before = path.read_bytes()
    link = path.with_name("link.onnx")
    link.symlink_to(path)
    for output in (path, str(path), path.parent / "." / "model.onnx", link):
        with pytest.raises(ModelSaveError, match="would overwrite the model"):
            fuseonnx.optimize(path, output)
    with pytest.raises(OptionError, match="in place"):
        fuseonnx.optimize(path, path.with_name("other.onnx"), in_place=True)
    with pytest.raises(OptionError, match="in place"):
        fuseonnx.optimize(_model(), in_place=True)
    with pytest.raises(ModelSaveError, match="is a folder"):
        fuseonnx.optimize(path, path.parent)
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["link.onnx", "model.onnx"]


@pytest.mark.parametrize(
    "model", [None, 3, [], np.zeros(3), {"a": 1}], ids=lambda value: type(value).__name__
)
def test_what_is_no_model(model: Any) -> None:
    with pytest.raises(ModelLoadError, match=f"<{type(model).__name__}>: not a model"):
        fuseonnx.optimize(model)


@pytest.mark.parametrize(
    "model", [b"", b"not a model", onnx.ModelProto(), ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)]
)
def test_broken_models_in_memory_are_named_by_their_kind(model: Any) -> None:
    with pytest.raises(ModelLoadError, match=f"^<{type(model).__name__}>: ") as caught:
        fuseonnx.optimize(model)
    assert "\n" not in str(caught.value)


def test_a_proto_whose_weights_are_elsewhere_is_refused() -> None:
    for place in ("initializer", "body"):
        model = every_place()
        graph = model.graph if place == "initializer" else model.graph.node[-1].attribute[0].g
        graph.initializer[0].ClearField("raw_data")
        graph.initializer[0].data_location = TensorProto.EXTERNAL
        graph.initializer[0].external_data.add(key="location", value="weights.bin")
        with pytest.raises(ModelLoadError, match="give the path of the model"):
            fuseonnx.optimize(model)


def test_only_and_skip(path: Path) -> None:
    def fired(**options: Any) -> set[str]:
        report = fuseonnx.optimize(path, verify=False, **options).report
        return {use.name for use in report.rules if use.fired}

    everything = fired()
    assert "fold_batchnorm_into_conv" in everything
    assert fired(only=["fold_batchnorm_into_conv"]) == {"fold_batchnorm_into_conv"}
    assert "fold_batchnorm_into_conv" not in fired(skip=["fold_batchnorm_into_conv"])
    with pytest.raises(OptionError, match="did you mean fold_batchnorm_into_conv"):
        fired(only=["fold_batchnorm_into_con"])
    with pytest.raises(OptionError, match="no rule is called 'zzz'; 'fuseonnx rules' lists them"):
        fired(skip=["zzz"])


def test_plan_says_what_optimize_does(path: Path, real_models: dict[str, Path]) -> None:
    for model in (path, min(real_models.values(), key=lambda each: each.stat().st_size)):
        before = sorted(path.parent.iterdir())
        planned = fuseonnx.plan(model)
        assert sorted(path.parent.iterdir()) == before
        done = fuseonnx.optimize(model, path.with_name("out.onnx"), verify=False).report.rules
        assert planned == done
        assert sum(use.fired for use in planned) > 0
        path.with_name("out.onnx").unlink()


def test_extra_rules_of_each_kind() -> None:
    def run(model: ir.Model, journal: Journal) -> None:
        for node in model.graph:
            if node.op_type == "Neg" and journal.admits("double_neg", node.outputs[0].name or ""):
                node.op_type = "Identity"
                journal.record("double_neg", node.outputs[0].name or "")

    def surgeon(graph: gs.Graph) -> None:
        """Abs(Abs(x)) is Abs(x)."""
        for node in graph.nodes:
            if node.op == "Abs" and node.inputs[0].inputs and node.i().op == "Abs":
                node.inputs = list(node.i().inputs)
        graph.cleanup()

    names = ["x", "a", "b", "c", "d", "y"]
    ops = ["Abs", "Abs", "Neg", "Neg", "Relu"]
    nodes = [helper.make_node(each, [names[i]], [names[i + 1]]) for i, each in enumerate(ops)]
    model = make_model(nodes, {"x": ["n", 3]}, ["y"])
    rule = Rule(
        "relu_to_prelu",
        op("Relu", var("x")),
        lambda m, new: new.op("PRelu", m["x"], new.const(np.zeros(1, np.float32))),
    )
    result = fuseonnx.optimize(model, extra_rules=[rule, GraphPass("double_neg", run), surgeon])
    assert result.report.rolled_back == ()
    assert {"relu_to_prelu": 1, "double_neg": 2, "surgeon": 1}.items() <= {
        use.name: use.fired for use in result.report.rules
    }.items()
    assert isinstance(result.model, onnx.ModelProto)
    assert [node.op_type for node in result.model.graph.node] == ["Abs", "PRelu"]
    assert_same_answers(model, result.model)


def test_a_surgeon_function_may_return_a_graph_and_touch_large_weights(path: Path) -> None:
    def scale_and_undo(graph: gs.Graph) -> gs.Graph:
        tensors = graph.tensors()
        tensors["w"].values = np.ascontiguousarray(tensors["w"].values[::1])
        return graph.copy()

    large = add_model(weight("w", 40, 40), ["n", 40])
    large.metadata_props.add(key="kept", value="yes")
    result = fuseonnx.optimize(large, extra_rules=[scale_and_undo])
    assert isinstance(result.model, onnx.ModelProto)
    assert "kept" in {each.key for each in result.model.metadata_props}
    assert result.model.graph.input == large.graph.input
    assert result.model.graph.output == large.graph.output
    x = np.random.default_rng(0).normal(size=(2, 40)).astype(np.float32)
    large.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    feeds = {"x": np.repeat(x, 20, axis=0)}
    expected, found = (run_reference(each, feeds)["y"] for each in (large, result.model))
    np.testing.assert_array_equal(found, expected)


def test_a_wrong_surgeon_function_is_rolled_back() -> None:
    def wrong(graph: gs.Graph) -> None:
        graph.nodes[-1].op = "Abs"

    result = fuseonnx.optimize(_model(), extra_rules=[wrong])
    assert [(each.rule, each.at) for each in result.report.rolled_back] == [("wrong", "wrong")]


def test_a_surgeon_function_may_not_change_the_signature() -> None:
    def more(graph: gs.Graph) -> None:
        graph.outputs.append(graph.nodes[0].outputs[0])

    def fewer(graph: gs.Graph) -> None:
        graph.inputs.clear()

    for function in (more, fewer):
        with pytest.raises(FuseOnnxError, match=f"{function.__name__} changes the model's inputs or outputs"):
            fuseonnx.optimize(_model(), extra_rules=[function], verify=False)


def test_extra_rules_need_names_of_their_own() -> None:
    rule = Rule("eliminate_identity", op("Relu", var("x")), lambda m, _new: m["x"])
    functions: list[Callable[[gs.Graph], None]] = [lambda _graph: None, lambda _graph: None]
    for extra in ([rule], functions):
        with pytest.raises(OptionError, match="give it a name of its own"):
            fuseonnx.optimize(_model(), extra_rules=extra)


def _shapes(infos: Any) -> list[list[int | str]]:
    return [
        [
            dim.dim_param if dim.HasField("dim_param") else dim.dim_value
            for dim in each.type.tensor_type.shape.dim
        ]
        for each in infos
    ]


def test_fix_shapes_goes_wherever_the_symbol_does() -> None:
    dims: list[int | str | None] = ["batch", "time.1", 3]
    nodes = [helper.make_node("Add", ["a", "b"], ["s"]), helper.make_node("Relu", ["s"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [info("a", dims), info("b", dims), info("c", ["batch", "?", "?"])],
        [info("y", dims)],
        value_info=[info("s", dims)],
    )
    graph.node.append(helper.make_node("Abs", ["c"], ["z"]))
    graph.output.append(info("z", ["batch", "?", "?"]))
    result = fuseonnx.optimize(model_of(graph), fix_shapes={"a": [2, 5, 3], "c": [2, 7, 9]})
    assert isinstance(result.model, onnx.ModelProto)
    assert result.report.verification.status == "passed"
    after = result.model.graph
    assert _shapes(after.input) == [[2, 5, 3], [2, 5, 3], [2, 7, 9]]
    assert _shapes(after.output) == [[2, 5, 3], [2, "?", "?"]]
    assert _shapes(after.value_info) == [[2, 5, 3]]


def test_fix_shapes_of_an_input_of_unknown_rank_or_size() -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, None), info("b", [-1, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    result = fuseonnx.optimize(model_of(graph), fix_shapes={"a": [2, 3], "b": [2, 3]})
    assert isinstance(result.model, onnx.ModelProto)
    assert result.report.verification.status == "passed"
    assert _shapes(result.model.graph.input) == [[2, 3], [2, 3]]


@pytest.mark.parametrize(
    ("option", "shapes"),
    [
        (option, shapes)
        for shapes in ({"z": [1]}, {"x": [1, 4, 8]}, {"x": [1, 5, 8, 8]}, {"x": [-1, 4, 8, 8]})
        for option in ("fix_shapes", "input_shapes")
    ]
    + [("fix_shapes", {"x": [0, 4, 8, 8]})],
)
def test_shapes_that_do_not_fit(path: Path, option: str, shapes: dict[str, list[int]]) -> None:
    with pytest.raises(OptionError) as caught:
        fuseonnx.optimize(path, **{option: shapes})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]


def test_conflicting_sizes_of_one_symbol() -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        "g",
        [info("a", ["n"]), info("b", ["n"])],
        [info("y", ["n"])],
    )
    with pytest.raises(OptionError, match="dim 0 of input 'b' is 2, not 3"):
        fuseonnx.optimize(model_of(graph), fix_shapes={"a": [2], "b": [3]})


def test_input_shapes_are_what_is_compared_on(path: Path) -> None:
    with pytest.raises(OptionError):
        fuseonnx.optimize(path, input_shapes={"x": [2, 4, 11, 9]})
    result = fuseonnx.optimize(path, input_shapes={"x": [2, 4, 11, 8]})
    assert result.report.verification.status == "passed"
    assert result.report.verification.runs > 0
    assert _shapes(onnx.load(path.with_name("model.opt.onnx")).graph.input) == [["batch", 4, "height", 8]]


def test_samples_are_compared_on_too(path: Path) -> None:
    sample = path.with_name("sample.npz")
    np.savez(sample, x=np.random.default_rng(0).normal(size=(1, 4, 9, 8)).astype(np.float32))
    plain = fuseonnx.optimize(path).report.verification.runs
    assert fuseonnx.optimize(path, samples=sample).report.verification.runs == plain + 1
    np.savez(sample, wrong=np.zeros(3, np.float32))
    with pytest.raises(OptionError):
        fuseonnx.optimize(path, samples=sample)
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "model.onnx",
        "model.opt.onnx",
        "sample.npz",
    ]


def test_metadata_says_what_was_done(path: Path) -> None:
    result = fuseonnx.optimize(path, verify=False)
    found = {each.key: each.value for each in onnx.load(path.with_name("model.opt.onnx")).metadata_props}
    assert found["fuseonnx.version"] == fuseonnx.__version__
    assert found["fuseonnx.source_sha256"] == result.report.source_sha256
    assert json.loads(found["fuseonnx.rules"])["fold_batchnorm_into_conv"] == 1


def test_a_second_run_finds_nothing_and_changes_nothing(path: Path) -> None:
    first = fuseonnx.optimize(path)
    second = fuseonnx.optimize(path.with_name("model.opt.onnx"), path.with_name("again.onnx"))
    assert {use.name: use.fired for use in second.report.rules if use.fired} == {}
    assert path.with_name("again.onnx").read_bytes() == path.with_name("model.opt.onnx").read_bytes()
    assert first.report.after.ops == second.report.after.ops


def test_external_data_option(path: Path) -> None:
    fuseonnx.optimize(path, external_data=True, only=["eliminate_identity"])
    assert path.with_name("model.opt.onnx").exists()
    large = path.with_name("large.onnx")
    large.write_bytes(add_model(weight("w", 40, 40), ["n", 40]).SerializeToString())
    result = fuseonnx.optimize(large, external_data=True)
    assert path.with_name("large.opt.onnx.data").stat().st_size == 6400
    assert result.report.verification.status == "passed"
    assert result.report.after.file_bytes > 6400


def test_without_onnxruntime(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"pip install 'fuseonnx\[cpu\]'"):
        fuseonnx.optimize(path)
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]
    result = fuseonnx.optimize(path, verify=False)
    assert result.report.verification.status == "skipped"
    assert path.with_name("model.opt.onnx").exists()


_IMPORTED = """
import sys, fuseonnx
heavy = {"onnxruntime", "torch", "tensorflow", "onnx", "onnx_ir", "numpy", "rich", "typer"}
before = set(sys.modules) & heavy
assert fuseonnx.optimize and fuseonnx.Rule and fuseonnx.Report
after = set(sys.modules) & {"onnxruntime", "torch", "tensorflow", "onnx_graphsurgeon"}
print(sorted(before), sorted(after), {name for name in fuseonnx.__all__ if not hasattr(fuseonnx, name)})
"""


def test_importing_is_light() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _IMPORTED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]", "set()"]


def test_an_interruption_after_the_verification_leaves_no_files(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fuseonnx.api.measure_and_choose", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fuseonnx.optimize(path)
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("options", [{"provider": "cuda"}, {"target": "cuda"}, {"provider": "tensorrt"}])
def test_a_provider_that_is_missing(options: dict[str, Any], path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(BackendError, match=r"^this onnxruntime .* has no .*fuseonnx\[gpu\]"):
        fuseonnx.optimize(path, **options)
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]
    assert fuseonnx.optimize(path, **options, allow_fallback=True).report.verification.status == "passed"


def test_a_provider_without_a_name(path: Path) -> None:
    with pytest.raises(OptionError, match="'gpu' is no execution provider"):
        fuseonnx.optimize(path, provider="gpu")


def test_an_interrupt_at_the_last_stage_writes_nothing(path: Path) -> None:
    stages: list[str] = []

    def interrupt(stage: str) -> None:
        stages.append(stage)
        if stage == "save" and "verify" in stages:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fuseonnx.optimize(path, on_progress=interrupt)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_progress_tells_the_stages(path: Path) -> None:
    stages: list[str] = []
    result = fuseonnx.optimize(path, on_progress=stages.append)
    assert stages[0] == "load"
    assert {"analyse", "save", "verify"} <= set(stages)
    assert set(result.report.seconds) == set(stages)


def test_initializers_as_inputs_stay_constants_before_ir_4(tmp_path: Path) -> None:
    model = _model()
    model.ir_version = 3
    model.graph.input.extend(info(each.name, list(each.dims)) for each in model.graph.initializer)
    after = fuseonnx.optimize(model).model
    assert isinstance(after, onnx.ModelProto)
    onnx.checker.check_model(after)
    assert [node.op_type for node in after.graph.node] == ["Conv", "Relu"]
    assert after.ir_version == 3
    assert_same_answers(_model(), after)


def test_constants_in_bodies_before_ir_4() -> None:
    """Such a body may hold no initializer that is not an input of it: the result must still be valid."""
    bodies = {}
    for name, number in (("then_branch", 1.0), ("else_branch", 2.0)):
        constant = helper.make_node(
            "Constant", [], [f"{name}_c"], value=numpy_helper.from_array(np.array([number], np.float32))
        )
        add = helper.make_node("Add", ["x", f"{name}_c"], [f"{name}_y"])
        bodies[name] = helper.make_graph([constant, add], name, [], [info(f"{name}_y", [3])])
    graph = helper.make_graph(
        [helper.make_node("If", ["flag"], ["y"], **bodies)],
        "g",
        [info("x", [3]), info("flag", [], TensorProto.BOOL)],
        [info("y", [3])],
    )
    model = model_of(graph, opset=11, ir_version=3)
    onnx.checker.check_model(model)
    result = fuseonnx.optimize(model)
    assert isinstance(result.model, onnx.ModelProto)
    assert result.report.rolled_back == ()
    onnx.checker.check_model(result.model)


def test_damaged_models_fail_in_one_line_or_work() -> None:
    """Change bytes of a model; whatever optimize makes of it, it is a result or a FuseOnnxError."""
    chance = random.Random(11)
    weights: dict[str, np.ndarray] = {"w": np.ones((2, 3), np.float32), "axes": np.array([0], np.int64)}
    nodes = [
        helper.make_node("Add", ["x", "w"], ["a"], "add"),
        helper.make_node("Unsqueeze", ["a", "axes"], ["u"], "unsqueeze"),
        helper.make_node("Shape", ["u"], ["s"], "shape"),
        helper.make_node("Reshape", ["w", "s"], ["r"], "reshape"),
        helper.make_node("Concat", ["u", "r"], ["y"], "concat", axis=0),
    ]
    data = make_model(nodes, {"x": [2, 3]}, ["y"], weights).SerializeToString()
    outcomes = {True: 0, False: 0}
    for _ in range(1200):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 2))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            fuseonnx.optimize(bytes(damaged), verify=False)
            outcomes[True] += 1
        except FuseOnnxError as error:
            assert "\n" not in str(error)
            outcomes[False] += 1
    assert min(outcomes.values()) > 100
