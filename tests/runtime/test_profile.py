"""Profiles, held against onnxruntime's own trace and against the graph that it says it runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from fuseonnx.errors import BackendError, FuseOnnxError, OptionError
from fuseonnx.profile_tables import profile_sections
from fuseonnx.profiling import ProfileKeywords, compare_profiles, profile
from fuseonnx.runtime.profile import COPIES, OTHERS, OUTSIDE, PRODUCTS, REORDERS, kind_of
from fuseonnx.runtime.provider_options import CpuOptions
from fuseonnx.runtime.recording import WARMUP


def reordered(path: Path) -> Path:
    """Conv -> Mul -> Conv of 32 channels; the Mul broadcasts over channels, which has no blocked form."""
    model = parser.parse_model(
        """<ir_version: 10, opset_import: ["": 17]>
        g (float[1, 32, 8, 8] x) => (float[1, 32, 8, 8] y) {
            a = Conv(x, w)
            b = Mul(a, m)
            y = Conv(b, w)
        }"""
    )
    rng = np.random.default_rng(0)
    shapes = {"w": (32, 32, 1, 1), "m": (1, 1, 8, 8)}
    for name, shape in shapes.items():
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for node in model.graph.node:
        node.name = f"the_{node.output[0]}"
    onnx.save(model, path)
    return path


BODY = """<body = body (int64 i, bool go, float[64, 64] s) => (bool on, float[64, 64] t) {
    on = Identity(go)
    p = MatMul(s, s)
    t = Tanh(p)
}>"""


def looped(path: Path) -> Path:
    """A Loop of three turns, and the same Loop inside an If; nodes are named after their outputs."""
    model = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 17]>
        g (float[64, 64] x) => (float[64, 64] y) {{
            c = Less(zero, three)
            z = Loop(three, yes, x) {BODY}
            y = If(c) <
                then_branch = then () => (float[64, 64] o) {{
                    q = Loop(three, yes, z) {BODY}
                    o = Relu(q)
                }},
                else_branch = otherwise () => (float[64, 64] o) {{ o = Neg(z) }}
            >
        }}"""
    )
    for name, array in {"zero": np.array(0), "three": np.array(3), "yes": np.array(True)}.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    _name_nodes(model.graph)
    onnx.save(model, path)
    return path


def _name_nodes(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        node.name = f"the_{node.output[0]}"
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _name_nodes(attribute.g)


def chain(path: Path, ops: list[str], dims: str = "2, 3") -> Path:
    """Operators of one input, one after the other."""
    values = ["x", *(f"v{index}" for index in range(1, len(ops))), "y"]
    nodes = "\n".join(f"{values[i + 1]} = {op}({values[i]})" for i, op in enumerate(ops))
    text = f'<ir_version: 10, opset_import: ["": 17]> g (float[{dims}] x) => (float[{dims}] y) {{ {nodes} }}'
    onnx.save(parser.parse_model(text), path)
    return path


def executed_ops(model: Path, folder: Path) -> dict[str, int]:
    """Return how often each operator is in the graph that onnxruntime says it runs."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "executed.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "executed.onnx").graph.node)


def parsed(trace: Path, pid: int = 1) -> list[tuple[int, dict[str, int]]]:
    """Return, for each run in a trace, its microseconds and those of each kernel by name, read naively."""
    events = [event for event in json.loads(trace.read_text()) if event["ph"] == "X" and event["pid"] == pid]
    result = []
    for run in (event for event in events if event["name"] == "model_run"):
        kernels: dict[str, int] = {}
        for event in events:
            inside = run["ts"] <= event["ts"] <= run["ts"] + run["dur"]
            if inside and event["name"].endswith("_kernel_time"):
                name = event["name"].removesuffix("_kernel_time")
                kernels[name] = kernels.get(name, 0) + event["dur"]
        result.append((run["dur"], kernels))
    return result


def test_one_run_is_the_last_one_of_the_trace(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    found = profile(reordered(tmp_path / "m.onnx"), runs=1, trace=trace, threads=1)
    runs = parsed(trace)
    assert len(runs) == WARMUP + 1
    us, kernels = runs[-1]
    assert found.ms == pytest.approx(us / 1000)
    assert {node.name: node.ms for node in found.nodes} == pytest.approx(
        {name: spent / 1000 for name, spent in kernels.items()}
    )
    assert found.kinds[-1].name == OUTSIDE
    assert found.kinds[-1].ms == pytest.approx((us - sum(kernels.values())) / 1000)


def test_of_four_runs_each_time_is_the_median_and_the_warm_up_is_left_out(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    found = profile(reordered(tmp_path / "m.onnx"), runs=4, trace=trace, threads=1)
    runs = parsed(trace)
    assert len(runs) == WARMUP + 4
    counted = [kernels for _, kernels in runs[-4:]]  # the interquartile mean of four numbers is their median
    expected = {name: median(kernels[name] for kernels in counted) / 1000 for name in counted[0]}
    assert {node.name: node.ms for node in found.nodes} == pytest.approx(expected)
    outside = median(us - sum(kernels.values()) for us, kernels in runs[-4:]) / 1000
    assert found.kinds[-1].ms == pytest.approx(outside)
    assert found.ms == pytest.approx(sum(expected.values()) + outside)


def test_parts_add_up(tmp_path: Path) -> None:
    found = profile(looped(tmp_path / "m.onnx"), runs=5)
    assert sum(kind.ms for kind in found.kinds) == pytest.approx(found.ms)
    assert sum(kind.share for kind in found.kinds) == pytest.approx(1)
    for groups in (found.ops, found.kinds[:-1]):
        assert sum(group.nodes for group in groups) == len(found.nodes)
        assert sum(group.ms for group in groups) == pytest.approx(sum(node.ms for node in found.nodes))


def test_layout_reorders_are_those_of_the_graph_that_onnxruntime_runs(tmp_path: Path) -> None:
    model = reordered(tmp_path / "m.onnx")
    executed = executed_ops(model, tmp_path)
    found = profile(model, runs=1)
    assert {op.name: op.nodes for op in found.ops} == executed
    assert {kind.name: kind.nodes for kind in found.kinds} == {
        PRODUCTS: 2,
        REORDERS: executed["ReorderInput"] + executed["ReorderOutput"],
        COPIES: 0,
        OTHERS: 1,
        OUTSIDE: 0,
    }
    if not executed["ReorderInput"]:
        pytest.skip("onnxruntime has no blocked Conv for this CPU, so there is nothing to reorder")
    assert executed["ReorderInput"] == executed["ReorderOutput"] == 2


def test_with_the_optimizations_off_the_nodes_are_the_models_own(tmp_path: Path) -> None:
    found = profile(reordered(tmp_path / "m.onnx"), runs=1, optimized=False)
    assert {node.name: node.op for node in found.nodes} == {"the_a": "Conv", "the_b": "Mul", "the_y": "Conv"}
    first = next(node for node in found.nodes if node.name == "the_a")
    assert first.inputs == ("float[1,32,8,8]", "float[32,32,1,1]")
    assert first.outputs == ("float[1,32,8,8]",)
    assert first.provider == "CPUExecutionProvider"
    assert not found.optimized


def test_what_runs_in_a_body_is_not_counted_twice(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    found = profile(looped(tmp_path / "m.onnx"), runs=1, optimized=False, trace=trace, threads=1)
    us, kernels = parsed(trace)[-1]
    assert found.ms == pytest.approx(us / 1000)
    on_top = sum(kernels[name] for name in ("the_c", "the_z", "the_y"))
    assert sum(node.ms for node in found.nodes) == pytest.approx(on_top / 1000)
    own = {node.name: node.ms for node in found.nodes}
    branch = kernels["the_q"] + kernels["the_o"]
    assert own["the_y"] == pytest.approx((kernels["the_y"] - branch) / 1000)
    assert own["the_z/the_p"] + own["the_y/the_q/the_p"] == pytest.approx(kernels["the_p"] / 1000)
    said = "the time of If, Loop and Scan leaves out the nodes inside, but has what it took to record them"
    assert said in found.notes


def test_nodes_of_a_body_are_named_after_the_nodes_around_them(tmp_path: Path) -> None:
    found = profile(looped(tmp_path / "m.onnx"), runs=2, optimized=False)
    assert {node.name: node.calls for node in found.nodes} == {
        "the_c": 1,
        "the_z": 1,
        **{f"the_z/the_{name}": 3 for name in ("on", "p", "t")},
        "the_y": 1,
        "the_y/the_q": 1,
        **{f"the_y/the_q/the_{name}": 3 for name in ("on", "p", "t")},
        "the_y/the_o": 1,
    }


@pytest.mark.parametrize(
    ("kind", "ops"),
    {
        PRODUCTS: "Conv ConvTranspose FusedConv NhwcFusedConv QLinearConv ConvInteger Gemm FusedGemm QGemm "
        "MatMul FusedMatMul TransposeMatMul MatMulNBits DynamicQuantizeMatMul MatMulIntegerToFloat Attention "
        "QAttention MultiHeadAttention GroupQueryAttention",
        REORDERS: "ReorderInput ReorderOutput",
        COPIES: "MemcpyToHost MemcpyFromHost",
        OTHERS: "Relu Transpose Reshape LSTM BatchNormalization Softmax Loop",
    }.items(),
)
def test_kinds_of_operators(kind: str, ops: str) -> None:
    assert {op: kind_of(op) for op in ops.split()} == dict.fromkeys(ops.split(), kind)


def test_two_models_run_in_turn_on_the_same_inputs(tmp_path: Path) -> None:
    before = chain(tmp_path / "a.onnx", ["Relu", "Exp", "Abs"], "N, 3")
    after = chain(tmp_path / "b.onnx", ["Relu", "Neg"], "N, 3")
    trace = tmp_path / "trace.json"
    diff = compare_profiles(before, after, runs=3, optimized=False, trace=trace, input_shapes={"x": (5, 3)})
    assert diff.before.inputs == diff.after.inputs == {"x": "float32[5,3]"}
    assert {op.name: op.nodes for op in diff.ops} == {
        "Relu": (1, 1),
        "Exp": (1, 0),
        "Abs": (1, 0),
        "Neg": (0, 1),
    }
    assert diff.ratio == pytest.approx(diff.after.unprofiled_ms / diff.before.unprofiled_ms)
    changes = [abs(op.ms[1] - op.ms[0]) for op in diff.ops]
    assert changes == sorted(changes, reverse=True)
    events = json.loads(trace.read_text())
    runs = sorted((event["ts"], event["pid"]) for event in events if event["name"] == "model_run")
    assert [pid for _, pid in runs] == [1, 2, 2, 1] * 3
    names = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert names == {1: str(before), 2: str(after)}
    for side, pid in ((diff.before, 1), (diff.after, 2)):
        assert side.ms == pytest.approx(sum(kind.ms for kind in side.kinds)), (
            "the parts of each model are its own"
        )
        assert {node.name for node in side.nodes} == set(parsed(trace, pid)[-1][1])


def test_json_holds_everything(tmp_path: Path) -> None:
    found = profile(reordered(tmp_path / "m.onnx"), runs=1)
    read = json.loads(found.to_json())
    assert read["ms"] == found.ms
    assert [node["name"] for node in read["nodes"]] == [node.name for node in found.nodes]
    assert read["onnxruntime"] == ort.__version__


def test_where_to_run_is_said_as_in_bench_and_verify(tmp_path: Path) -> None:
    model = chain(tmp_path / "m.onnx", ["Relu"])
    with pytest.raises(BackendError, match="knows no NoSuchExecutionProvider"):
        profile(model, runs=1, provider="NoSuchExecutionProvider")
    everywhere: tuple[ProfileKeywords, ...] = (
        {"provider": "NoSuchExecutionProvider", "provider_options": {"key": 1}, "allow_fallback": True},
        {"provider": CpuOptions()},
    )
    for options in everywhere:
        options |= {"runs": 1, "threads": 2}
        diff = compare_profiles(model, model, **options)
        for found in (diff.before, diff.after):
            assert found.threads == 2
            assert [node.provider for node in found.nodes] == ["CPUExecutionProvider"]


def test_sizes_that_were_guessed_are_told(tmp_path: Path) -> None:
    model = chain(tmp_path / "m.onnx", ["Relu"], "N, 3")
    guess = "sizes that the model leaves open are a guess (x): --input-shape gives others"
    assert guess in profile(model, runs=1).notes
    assert guess not in profile(model, runs=1, input_shapes={"x": (4, 3)}).notes


def test_samples_are_fed(tmp_path: Path) -> None:
    model = chain(tmp_path / "m.onnx", ["Relu"], "N, 3")
    np.savez(tmp_path / "s.npz", x=np.zeros((7, 3), np.float32))
    found = profile(model, runs=1, samples=tmp_path / "s.npz")
    assert found.inputs == {"x": "float32[7,3]"}
    assert found.nodes[0].outputs == ("float[7,3]",)


def test_a_model_in_memory(tmp_path: Path) -> None:
    model = onnx.load(chain(tmp_path / "m.onnx", ["Relu"]))
    assert [node.op for node in profile(model, runs=1).nodes] == ["Relu"]


def test_nothing_but_the_trace_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain(tmp_path / "m.onnx", ["Relu"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    profile(model, runs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    profile(model, runs=1, trace="t.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "t.json"]


def test_a_run_that_fails_leaves_an_earlier_trace_alone(tmp_path: Path) -> None:
    model, other = chain(tmp_path / "a.onnx", ["Relu"]), chain(tmp_path / "b.onnx", ["Relu"], "4, 5")
    trace = tmp_path / "t.json"
    trace.write_text("earlier")
    with pytest.raises(BackendError, match=r"b\.onnx: does not run on these inputs: .*x"):
        compare_profiles(model, other, trace=trace)
    assert trace.read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "t.json"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"runs": 0}, "0 runs"),
        ({"provider": "abacus"}, "'abacus' is no execution provider"),
        ({"provider": "cuda", "provider_options": {"device": 0}}, "has no option 'device'"),
        ({"threads": 100_000}, "threads 100000"),
        ({"trace": "no/such/t.json"}, r"there is no folder"),
        ({"trace": "."}, "is a folder"),
        ({"trace": "m.onnx"}, "is the model"),
        ({"input_shapes": {"z": (1,)}}, "no input is named 'z'"),
        ({"input_shapes": {"x": (9, 3)}}, "has 9, the model has 2"),
    ],
)
def test_options_that_cannot_be(
    options: ProfileKeywords, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = chain(tmp_path / "m.onnx", ["Relu"])
    with pytest.raises(OptionError, match=reason):
        profile(model, **options)
    assert onnx.load(model).graph.node[0].op_type == "Relu"


def test_a_missing_second_model_is_told_before_the_first_one_runs(tmp_path: Path) -> None:
    stages: list[str] = []
    with pytest.raises(FuseOnnxError, match=r"b\.onnx: cannot be read"):
        compare_profiles(chain(tmp_path / "a.onnx", ["Relu"]), tmp_path / "b.onnx", on_progress=stages.append)
    assert stages == []


@pytest.mark.parametrize(
    ("dims", "shape"), [("n, 3, h, w", "float32[1,3,224,224]"), ("n, 3, 48, w", "float32[1,3,48,320]")]
)
def test_dynamic_sizes_are_those_of_a_benchmark(dims: str, shape: str, tmp_path: Path) -> None:
    text = f'<ir_version: 10, opset_import: ["": 17]> g (float[{dims}] x) => (y) {{ y = Relu(x) }}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    assert profile(tmp_path / "m.onnx", runs=1).inputs == {"x": shape}


def test_what_ran_on_the_cpu_instead_is_told(tmp_path: Path) -> None:
    found = profile(chain(tmp_path / "m.onnx", ["Relu"]), runs=1, provider="cuda", allow_fallback=True)
    assert (found.provider, found.provider_options) == ("CUDAExecutionProvider", {})
    assert found.assignment.startswith("1 node, all on the CPU instead of CUDAExecutionProvider: ")
    assert found.assignment in found.notes
    on_cpu = profile(chain(tmp_path / "m.onnx", ["Relu"]), runs=1)
    assert (on_cpu.provider, on_cpu.assignment) == ("CPUExecutionProvider", "1 node: 1 on CPU")
    assert not any("CPU" in note for note in on_cpu.notes)


def test_a_model_without_nodes_has_no_empty_tables(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 17]> g () => (float[1] y) <float[1] c = {1}> { y = Relu(c) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    found = profile(tmp_path / "m.onnx", runs=1)
    sections = list(profile_sections(found, top=5))
    assert [section.title for section in sections] == ["Where the time goes", "Conditions"]
    assert ("ran on", "nothing: no node is left") in sections[-1].rows
