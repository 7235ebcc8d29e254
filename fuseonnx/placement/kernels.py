"""Which execution provider of onnxruntime has a kernel for a node.

The rules of a match are onnxruntime's own (core/framework/kernel_registry.cc): a kernel is for the versions
of the operator in its range, and for each of its type constraints the first operand of that parameter that
is there has one of the types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import onnx_ir as ir

from fuseonnx.analysis.stats import dtype_name
from fuseonnx.errors import OptionError
from fuseonnx.placement.graph import Node

_TABLE = Path(__file__).with_name("kernels.json")
_NO_LAST = 2**31 - 1


class Kernel(NamedTuple):
    """A kernel for versions `first` to `last` of an operator, and the types that it takes by parameter."""

    first: int
    last: int
    types: Mapping[str, frozenset[str]]

    @classmethod
    def defined(cls, first: int, last: int, types: Mapping[str, Iterable[str]]) -> Kernel:
        """Return the kernel that onnxruntime defines so: `[13, 2147483647, {"T": ["tensor(float)"]}]`.

        One without a last opset is for the first one alone, not for versions that come after it.
        """
        names = {name: frozenset(map(_type_name, each)) for name, each in types.items()}
        return cls(first, first if last == _NO_LAST else last, names)


Table = Mapping[str, Sequence[Kernel]]
"""Kernels by operator: `MatMul`, `com.microsoft::FusedMatMul`."""


class Kernels:
    """The kernels of some execution providers.

    Args:
        tables: kernels by provider, called `cuda` or `CUDAExecutionProvider` alike.
    """

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = {_short(provider): table for provider, table in tables.items()}
        self._answers: dict[tuple[object, ...], str] = {}

    @classmethod
    def load(cls) -> Kernels:
        """Return the kernels of onnxruntime's CPU and CUDA providers, from the table that fuseonnx ships."""
        return cls(_shipped())

    def refuses(self, provider: str, node: Node) -> str:
        """Return why a provider has no kernel for a node, "" if it has one.

        A type that is unknown matches any.

        Args:
            provider: `cpu`, `cuda`, or another one there is a table for; onnxruntime's own names do as well.
            node: any node.

        Returns:
            "", "no kernel", "no kernel at opset 22" or "no kernel for int64".

        Raises:
            OptionError: there is no table for the provider.
        """
        table = self._tables.get(_short(provider))
        if table is None:
            known = " or ".join(name for name in self._tables if name != "cpu")
            raise OptionError(f"the kernels of '{provider}' are not known: give {known}")
        key = (_short(provider), node.operator, node.opset, node.input_types, node.output_types)
        if key not in self._answers:
            self._answers[key] = _refusal(table.get(node.operator, ()), node)
        return self._answers[key]


def is_expanded(node: Node) -> bool:
    """Whether onnxruntime replaces a node by others where no provider has a kernel for it."""
    schema: Any = _schema(node.op_type, node.opset, node.domain)
    is_function = schema is not None and (schema.has_function or schema.has_context_dependent_function)
    return node.is_function or bool(is_function)


def _refusal(kernels: Sequence[Kernel], node: Node) -> str:
    schema = _schema(node.op_type, node.opset, node.domain)
    if schema is not None:
        since = schema.since_version
        fitting = [kernel for kernel in kernels if kernel.first <= since <= kernel.last]
        refused = [_types_refused(kernel, schema, node) for kernel in fitting]
    else:
        fitting = list(kernels)
        refused = [_types_refused_by_name(kernel, node) for kernel in fitting]
    if not kernels:
        return "no kernel"
    if not fitting:
        return f"no kernel at opset {node.opset}"
    fewest = min(refused, key=len)
    return f"no kernel for {', '.join(dict.fromkeys(fewest))}" if fewest else ""


def _types_refused(kernel: Kernel, schema: onnx.defs.OpSchema, node: Node) -> list[str]:
    actual = ((name, _first_type(name, schema, node)) for name in kernel.types)
    return [kind for name, kind in actual if kind and kind not in kernel.types[name]]


def _first_type(name: str, schema: onnx.defs.OpSchema, node: Node) -> str:
    """Return the type of the first operand that is there of a type parameter, or of that name itself."""
    for formals, types in ((schema.inputs, node.input_types), (schema.outputs, node.output_types)):
        for formal, kind in zip(formals, types, strict=False):
            if name in (formal.type_str, formal.name) and kind:
                return kind
    return ""


def _types_refused_by_name(kernel: Kernel, node: Node) -> list[str]:
    """Return the types of a node whose operator onnx does not know, if the kernel takes none of them."""
    actual = [kind for kind in (*node.input_types, *node.output_types) if kind]
    taken = frozenset[str]().union(*kernel.types.values())
    return [] if not taken or not actual or taken.intersection(actual) else actual


@cache
def _schema(op_type: str, opset: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, max_inclusive_version=opset, domain=domain)
    except onnx.defs.SchemaError:
        return None


@cache
def _shipped() -> dict[str, Table]:
    data = json.loads(_TABLE.read_text())
    sets = [frozenset(types) for types in data["types"]]
    return {
        provider: {
            operator: [
                Kernel(first, last, {name: sets[number] for name, number in types.items()})
                for first, last, types in rows
            ]
            for operator, rows in data[provider].items()
        }
        for provider in ("cpu", "cuda")
    }


def _type_name(text: str) -> str:
    """Return a type of onnxruntime's as fuseonnx writes it: `float32`, `sequence(float32)`."""
    text = text.replace("seq(", "sequence(").replace("sparse_tensor(", "sparse(")
    return re.sub(r"\b(?:tensor\((\w+)\)|(?<=sparse\()(\w+))", _element_type, text)


def _element_type(match: re.Match[str]) -> str:
    return dtype_name(ir.DataType[(match[1] or match[2]).upper()])


def _short(provider: str) -> str:
    return provider.lower().removesuffix("executionprovider")
