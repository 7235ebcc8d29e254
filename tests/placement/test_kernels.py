"""kernels: the answers against the definitions that the table was made from, kernel by kernel."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import onnx
import pytest

from fuseonnx.errors import OptionError
from fuseonnx.placement.graph import Node
from fuseonnx.placement.kernels import Kernel, Kernels, is_expanded

ROOT = Path(__file__).parents[2]
DUMP = ROOT.parent / "shared" / "data" / "ort_1.31.1_kernels.json"
NO_LAST = 2**31 - 1
TYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "string": "string",
    "bool": "bool",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}
"""onnxruntime's names and ours."""

Rows = Sequence[tuple[int, int, Mapping[str, Sequence[str]]]]


def make_node(
    op_type: str, inputs: Sequence[str], outputs: Sequence[str] = (), opset: int = 17, domain: str = ""
) -> Node:
    """Return a node by the types of its operands."""
    return Node(
        index=0,
        name="n",
        op_type=op_type,
        domain=domain,
        opset=opset,
        inputs=tuple(f"i{index}" if kind else "" for index, kind in enumerate(inputs)),
        outputs=tuple(f"o{index}" for index in range(len(outputs))),
        input_types=tuple(inputs),
        output_types=tuple(outputs),
    )


def nodes_of_one_type(operator: str) -> Iterator[tuple[int, str, Node]]:
    """Yield nodes of every version and type of an operator all of whose operands have type parameter T."""
    domain, _, op_type = operator.rpartition("::")
    domain = "" if domain == "ai.onnx" else domain
    versions = {opset: _schema(op_type, opset, domain) for opset in range(1, 27)}
    for opset, schema in versions.items():
        if schema is None or {each.type_str for each in (*schema.inputs, *schema.outputs)} != {"T"}:
            continue
        for theirs, ours in TYPES.items():
            node = make_node(
                op_type, [ours] * len(schema.inputs), [ours] * len(schema.outputs), opset, domain
            )
            yield schema.since_version, f"tensor({theirs})", node


def _schema(op_type: str, opset: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, max_inclusive_version=opset, domain=domain)
    except onnx.defs.SchemaError:
        return None


def check(kernels: Kernels, provider: str, dump: Mapping[str, Rows]) -> int:
    """Assert that nodes of one type are refused exactly where no definition admits them; return how many."""
    count = 0
    for operator, rows in dump.items():
        for since, kind, node in nodes_of_one_type(operator):
            admitted = any(
                (first == since or (last != NO_LAST and first <= since <= last))
                and all(kind in types for name, types in constraints.items() if name == "T")
                for first, last, constraints in rows
            )
            assert (kernels.refuses(provider, node) == "") == admitted, (operator, node.opset, kind)
            count += 1
    return count


def live_rows() -> dict[str, list[tuple[int, int, dict[str, list[str]]]]]:
    """Return the definitions of the installed onnxruntime's CPU provider."""
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    if ort.__version__ != "1.31.1":
        pytest.skip(f"the table is of onnxruntime 1.31.1, {ort.__version__} is installed")
    rows: dict[str, list[tuple[int, int, dict[str, list[str]]]]] = {}
    for each in state.get_all_opkernel_def():
        if each.provider == "CPUExecutionProvider":
            operator = f"{each.domain or 'ai.onnx'}::{each.op_name}"
            rows.setdefault(operator, []).append((*each.version_range, each.type_constraints))
    return rows


def test_the_cpu_table_is_that_of_onnxruntime() -> None:
    assert check(Kernels.load(), "cpu", live_rows()) > 10_000


def test_the_tables_are_those_of_the_dump() -> None:
    if not DUMP.exists():
        pytest.skip(f"no {DUMP.name} beside the checkout")
    dump = json.loads(DUMP.read_text())
    for provider in ("CPUExecutionProvider", "CUDAExecutionProvider"):
        assert check(Kernels.load(), provider, dump["kernels"][provider]) > 5_000
    assert _builder().table(dump) == (ROOT / "fuseonnx" / "placement" / "kernels.json").read_text()


def _builder() -> ModuleType:
    path = ROOT / "tools" / "build_kernel_table.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("node", "refusal"),
    [
        (make_node("Relu", ["float32"], ["float32"]), ""),
        (make_node("Relu", ["string"], ["string"]), "no kernel for string"),
        (make_node("Unique", ["float32"], ["float32"]), "no kernel"),
        (make_node("Mod", ["bool", "bool"], ["bool"]), "no kernel for bool"),
        (make_node("Clip", ["float32", "", "float32"], ["float32"]), ""),
        (make_node("Cast", ["float32"], ["string"]), "no kernel for string"),
        (make_node("Cast", ["string"], ["float32"]), "no kernel for string"),
        (make_node("Relu", [""], [""]), ""),  # of unknown type
        (make_node("Gather", ["float32", "int64"], ["float32"]), ""),
        (make_node("Gather", ["float32", "int8"], ["float32"]), "no kernel for int8"),
        (make_node("FusedMatMul", ["float32", "float32"], ["float32"], 1, "com.microsoft"), ""),
        (make_node("FusedMatMul", ["int8", "int8"], ["int8"], 1, "com.microsoft"), "no kernel for int8"),
        (make_node("Tokenizer", ["string"], ["string"], 1, "com.microsoft"), "no kernel"),
        (make_node("Anything", ["float32"], ["float32"], 1, "my.domain"), "no kernel"),
        (make_node("NonMaxSuppression", ["float32", "float32"], ["int64"]), ""),
    ],
)
def test_why_cuda_refuses(node: Node, refusal: str) -> None:
    assert Kernels.load().refuses("cuda", node) == refusal
    assert Kernels.load().refuses("CUDAExecutionProvider", node) == refusal


def test_a_kernel_without_a_last_opset_is_for_no_later_version_of_the_operator() -> None:
    kernels = Kernels(
        {"MyExecutionProvider": {"Relu": [Kernel.defined(6, NO_LAST, {"T": ["tensor(float)"]})]}}
    )
    assert kernels.refuses("my", make_node("Relu", ["float32"], ["float32"], opset=12)) == ""  # is Relu-6
    refusal = kernels.refuses("MY", make_node("Relu", ["float32"], ["float32"], opset=13))
    assert refusal == "no kernel at opset 13"


def test_types_of_sequences_and_of_parameters_named_after_an_operand() -> None:
    kernel = Kernel.defined(
        1, 20, {"shape": ["tensor(int64)"], "T": ["seq(tensor(double))", "tensor(float)"]}
    )
    assert kernel.types["T"] == {"sequence(float64)", "float32"}
    kernels = Kernels({"x": {"Reshape": [kernel]}})
    assert kernels.refuses("x", make_node("Reshape", ["float32", "int64"], ["float32"])) == ""
    assert (
        kernels.refuses("x", make_node("Reshape", ["float32", "int32"], ["float32"])) == "no kernel for int32"
    )


def test_a_provider_without_a_table_is_an_error() -> None:
    with pytest.raises(OptionError, match=r"'npu' are not known: give cuda$"):
        Kernels.load().refuses("npu", make_node("Relu", ["float32"]))


def test_operators_that_onnx_defines_by_others_are_expanded() -> None:
    assert is_expanded(make_node("HardSwish", ["float32"], ["float32"]))
    assert is_expanded(make_node("Celu", ["float32"], ["float32"]))
    assert not is_expanded(make_node("Conv", ["float32", "float32"], ["float32"]))
    assert not is_expanded(make_node("Anything", ["float32"], domain="my.domain"))
