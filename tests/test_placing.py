"""`place` and `load_session`: what is written, what is refused, and what is opened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from fuseonnx import placing
from fuseonnx.api import optimize
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule, Stage
from fuseonnx.errors import BackendError, ModelLoadError, ModelSaveError, OptionError, RewriteError
from fuseonnx.markdown import summary
from fuseonnx.placement.annotate import LAYER_ANNOTATION, PROVIDER_KEY, SETTINGS, SETTINGS_KEY
from fuseonnx.placement.kernels import Kernels
from fuseonnx.placing import load_session, place
from fuseonnx.runtime.assignment import assignment_of

HEAD = '<ir_version: 10, opset_import: ["" : 17]>\n'
PINS = ("Relu=gpu", "Neg=cpu")
CHAIN = "chain (float[2, 300] x) => (float[2, 300] z) { y = Relu (x) z = Neg (y) }"


def save(folder: Path, text: str = CHAIN, name: str = "m.onnx") -> Path:
    onnx.save(parser.parse_model(HEAD + text), folder / name)
    return folder / name


def without_placement(path: Path) -> onnx.ModelProto:
    """Return a model without what a placement is written as."""
    model = onnx.load(path)
    for owner in (model, *model.graph.node):
        kept = [
            entry
            for entry in owner.metadata_props
            if entry.key not in {LAYER_ANNOTATION, SETTINGS_KEY, PROVIDER_KEY}
        ]
        del owner.metadata_props[:]
        owner.metadata_props.extend(kept)
    return model


def annotated(path: Path) -> list[str]:
    return [node.metadata_props[0].value for node in onnx.load(path).graph.node]


def default_model(folder: Path) -> Path:
    """Write a model whose two nodes read a default that the caller may override."""
    default = numpy_helper.from_array(np.ones(3, np.float32), "d")
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xdyz"]
    nodes = [helper.make_node("Add", ["x", "d"], ["y"], "A"), helper.make_node("Sub", ["x", "d"], ["z"], "S")]
    graph = helper.make_graph(nodes, "g", infos[:2], infos[2:], [default])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, folder / "default.onnx")
    return folder / "default.onnx"


def test_only_metadata_is_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], doc_string="kept"),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(2, np.float32))),
        helper.make_node("Mul", ["y", "c"], ["z"]),
    ]
    nodes[0].metadata_props.add(key="theirs", value="kept")
    weight = numpy_helper.from_array(rng.standard_normal((64, 64)).astype(np.float32), "w")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 64]) for name in ("x", "z")]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], [weight])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    model.metadata_props.add(key="author", value="kept")
    onnx.save(model, tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    made = place(tmp_path / "m.onnx", tmp_path / "out.onnx")
    assert made.path == made.model == tmp_path / "out.onnx"
    assert (tmp_path / "m.onnx").read_bytes() == before
    assert without_placement(tmp_path / "out.onnx") == without_placement(tmp_path / "m.onnx")
    metadata = {entry.key: entry.value for entry in onnx.load(made.path).metadata_props}
    assert metadata[SETTINGS_KEY] == made.report.settings == SETTINGS
    assert metadata[PROVIDER_KEY] == "CUDAExecutionProvider"


def test_without_an_output_there_is_only_a_report(tmp_path: Path) -> None:
    made = place(save(tmp_path))
    assert (made.path, made.model, made.report.output) == (None, None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_model_in_memory_comes_back_annotated() -> None:
    model = parser.parse_model(HEAD + CHAIN)
    made = place(model, rules=PINS)
    assert isinstance(made.model, onnx.ModelProto)
    assert made.path is None
    assert [node.metadata_props[0].value for node in made.model.graph.node] == ["G", "C"]
    assert not model.graph.node[0].metadata_props


def test_rules_of_the_user(tmp_path: Path) -> None:
    path = save(tmp_path)
    out = tmp_path / "out.onnx"
    place(path, out, rules=["Relu=cpu", "Neg=gpu"])
    assert annotated(out) == ["C", "G"]
    place(path, out, rules=["*=cpu", lambda node: "cuda" if node.op_type == "Relu" else None])
    assert annotated(out) == ["G", "C"]
    place(path, out, rules="*=cpu")
    assert annotated(out) == ["C", "C"]


def test_input_shapes_size_the_copies(tmp_path: Path) -> None:
    path = save(tmp_path, "g (float[n, 5] x) => (float[n, 5] z) { y = Relu (x) z = Neg (y) }")
    guessed = place(path, rules=PINS).report
    given = place(path, rules=PINS, input_shapes={"x": (7, 5)}).report
    assert guessed.notes == ("x is counted as [1, 5]; --input-shape x=... counts another size",)
    assert (guessed.placed.copied_bytes, given.placed.copied_bytes) == (20, 140)
    assert given.notes == ()


def test_sizes_follow_computed_shapes(tmp_path: Path) -> None:
    text = """g (float[n, 4, k] x) => (float[p, q] z)
        <int64[1] first = {0}, int64[1] second = {1}, int64[1] four = {4}, int64[1] rest = {-1}> {
      y = Relu (x)
      s = Shape (x)
      n = Slice (s, first, second)
      rows = Mul (n, four)
      t = Concat <axis = 0> (rows, rest)
      r = Reshape (y, t)
      z = Neg (r)
    }"""
    made = place(save(tmp_path, text), rules=[*PINS, "Reshape=gpu"], input_shapes={"x": (3, 4, 6)})
    assert [(hop.value, hop.nbytes) for hop in made.report.placed.hops] == [("r", 3 * 4 * 6 * 4)]
    assert made.report.notes == ()


def test_kernels_of_another_provider(tmp_path: Path) -> None:
    """The provider has no kernel for Neg."""
    every = Kernels.load()

    class Other(Kernels):
        def refuses(self, provider: str, node: object) -> str:
            known = "cuda" if provider == "OtherExecutionProvider" else provider
            refused = provider != "cpu" and getattr(node, "op_type", "") == "Neg"
            return "no kernel" if refused else every.refuses(known, node)  # type: ignore[arg-type]

    made = place(save(tmp_path), provider="OtherExecutionProvider", kernels=Other({}), rules=["Relu=gpu"])
    assert made.report.provider == "OtherExecutionProvider"
    assert [(node.op_type, node.device, node.reason) for node in made.report.nodes] == [
        ("Relu", "gpu", ""),
        ("Neg", "cpu", "no OTHER kernel for Neg"),
    ]


@pytest.mark.parametrize(("before", "after"), [(8, 11), (12, 12)])
def test_standard_fields_are_saved(tmp_path: Path, before: int, after: int) -> None:
    model = parser.parse_model(HEAD + CHAIN)
    model.ir_version = before
    onnx.save(model, tmp_path / "m.onnx")
    made = place(tmp_path / "m.onnx", tmp_path / "out.onnx", standard=True, rules=PINS)
    saved = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(saved, full_check=True)
    assert saved.ir_version == after
    assert any("IR version is raised from 8 to 11" in note for note in made.report.notes) == (before < 11)
    assert [node.device_configurations[0].sharding_spec[0].device[0] for node in saved.graph.node] == [1, 0]


def test_the_ir_version_stays_unless_asked(tmp_path: Path) -> None:
    place(save(tmp_path), tmp_path / "out.onnx")
    saved = onnx.load(tmp_path / "out.onnx")
    assert (saved.ir_version, len(saved.configuration)) == (10, 0)


def test_standard_fields_follow_a_second_placement(tmp_path: Path) -> None:
    place(save(tmp_path), tmp_path / "a.onnx", standard=True, rules=["*=cpu"])
    place(tmp_path / "a.onnx", tmp_path / "b.onnx", rules=["*=cuda"])
    nodes = onnx.load(tmp_path / "b.onnx").graph.node
    assert [node.device_configurations[0].sharding_spec[0].device[0] for node in nodes] == [1, 1]


def test_an_annotation_that_is_lost_is_told(tmp_path: Path) -> None:
    model = parser.parse_model(HEAD + CHAIN)
    model.graph.node[0].metadata_props.add(key=LAYER_ANNOTATION, value="mine")
    onnx.save(model, tmp_path / "m.onnx")
    made = place(tmp_path / "m.onnx", tmp_path / "out.onnx")
    assert made.report.notes == ("1 node had an annotation of its own, which is replaced",)


def test_readers_of_an_overridable_default_stay_together(tmp_path: Path) -> None:
    """onnxruntime feeds one device only, if both read such a default."""
    path = default_model(tmp_path)
    devices = {node.device for node in place(path, rules=["Add=cpu"]).report.nodes}
    assert devices == {"cpu"}
    with pytest.raises(OptionError, match="nodes that read input 'd' have to be pinned to one device"):
        place(path, rules=["Add=cpu", "Sub=cuda"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"provider": "cpu"}, OptionError, "give the provider on the other one, such as cuda"),
        (
            {"provider": "abacus"},
            OptionError,
            "'abacus' is no execution provider whose kernels are known: give cuda",
        ),
        ({"standard": True}, OptionError, "--standard needs -o OUT.onnx"),
        ({"provider": "tensorrt"}, OptionError, "the kernels of 'TensorrtExecutionProvider' are not known"),
        ({"rules": ["Relu"]}, OptionError, "--pin 'Relu': write OPERATOR=DEVICE"),
        ({"rules": ["Conv=cpu"]}, OptionError, "m.onnx: --pin 'Conv' matches no node"),
        ({"input_shapes": {"q": (1,)}}, OptionError, "no input is named 'q'"),
        ({"output": "m.onnx"}, ModelSaveError, "m.onnx: would overwrite the model"),
        ({"output": "no/out.onnx"}, ModelSaveError, "no/out.onnx: the folder does not exist"),
    ],
)
def test_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path)
    with pytest.raises(error) as raised:
        place("m.onnx", **options)  # type: ignore[arg-type]
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_place_needs_no_onnxruntime(tmp_path: Path) -> None:
    path = save(tmp_path)
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from fuseonnx.placing import place\n"
        f"print(place({str(path)!r}, {str(tmp_path / 'out.onnx')!r}).report.to_json())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [node["device"] for node in json.loads(done.stdout)["nodes"]] == [
        {"G": "gpu", "C": "cpu"}[each] for each in annotated(tmp_path / "out.onnx")
    ]


def test_load_session_where_the_provider_is_not(tmp_path: Path) -> None:
    import onnxruntime as ort

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    place(save(tmp_path), tmp_path / "out.onnx")
    with pytest.raises(BackendError, match=r"out\.onnx: this onnxruntime .* has no CUDAExecutionProvider"):
        load_session(tmp_path / "out.onnx")
    session = load_session(tmp_path / "out.onnx", allow_fallback=True)
    assert "no CUDAExecutionProvider" in assignment_of(session).missing


@pytest.mark.parametrize("name", ["out.onnx", "m.onnx"])
def test_load_session_on_the_cpu(tmp_path: Path, name: str) -> None:
    """The model that was not placed opens as well; one device needs no settings."""
    place(save(tmp_path), tmp_path / "out.onnx")
    session = load_session(tmp_path / name, "cpu", threads=1)
    feed = np.linspace(-1, 1, 600, dtype=np.float32).reshape(2, 300)
    np.testing.assert_array_equal(session.run(None, {"x": feed})[0], -np.maximum(feed, 0))
    assert assignment_of(session).summary() == "2 nodes: 2 on CPU"


def test_after_optimizing_it_is_to_be_placed_again(tmp_path: Path) -> None:
    text = "g (float[2, 300] x) => (float[2, 300] z) { y = Relu (x) i = Identity (y) z = Neg (i) }"
    source = save(tmp_path, text)
    assert optimize(source, tmp_path / "plain.opt.onnx", verify=False).report.notes == ()

    place(source, tmp_path / "out.onnx", rules=PINS)
    report = optimize(tmp_path / "out.onnx", verify=False).report
    assert report.notes == (
        "the placement that it carries was made for other nodes: place it again with 'fuseonnx place'",
    )
    assert report.notes[0] in summary(report)
    assert report.notes[0] in report.to_markdown()
    assert annotated(tmp_path / "out.opt.onnx") == ["G", "C"]

    assert optimize(tmp_path / "out.opt.onnx", verify=False).report.notes == ()


def test_load_session_of_a_model_in_memory() -> None:
    model = place(parser.parse_model(HEAD + CHAIN)).model
    with pytest.raises(OptionError, match="opens a file, and no ModelProto: save the model to one"):
        load_session(model)  # type: ignore[arg-type]


def test_load_session_of_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"none\.onnx: cannot be read"):
        load_session(tmp_path / "none.onnx")


TANGENT = "tangent (float[2, 300] x) => (float[2, 300] z) { a = Relu (x) b = Tan (a) z = Neg (b) }"


def test_an_operator_without_a_cuda_kernel_is_decomposed(tmp_path: Path) -> None:
    source = save(tmp_path, TANGENT)
    report = place(source, tmp_path / "out.onnx").report
    assert {use.name: use.fired for use in report.rewrites} == {"decompose_tan": 1}
    assert report.by_itself.nodes == {"cpu": 1, "gpu": 2}
    assert report.placed.nodes["cpu"] == 0
    operators = [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node]
    assert "Tan" not in operators
    x = np.random.default_rng(0).uniform(-1, 1, (2, 300)).astype(np.float32)
    answers = [
        load_session(path, "cpu", optimized=False).run(None, {"x": x})[0]
        for path in (source, tmp_path / "out.onnx")
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5, atol=1e-6)


def test_nothing_is_decomposed_if_that_is_not_wanted(tmp_path: Path) -> None:
    report = place(save(tmp_path, TANGENT), tmp_path / "out.onnx", rewrite=False).report
    assert not report.rewrites
    assert "Tan" in [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node]


def test_a_wrong_decomposition_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(m: Match, new: Builder) -> ir.Value:
        return new.op("Sin", m["x"])

    wrong = Stage("wrong", (Rule("sine", op("Tan", var("x")), replace),))
    monkeypatch.setattr(placing, "_FOR_THE_GPU", wrong)
    source = save(tmp_path, TANGENT)
    with pytest.raises(RewriteError, match=r"m\.onnx: decomposing .* changes the answers .*--no-rewrite"):
        place(source, tmp_path / "out.onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]
