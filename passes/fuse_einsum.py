"""Spell an Einsum out as the operator that it is.

Einsum("bhij,bhjd->bhid", x, y)   ⇒   MatMul(x, y)
Einsum("bhid,bhjd->bhij", x, y)   ⇒   MatMul(x, Transpose(y))
Einsum("bsc,c->bsc", x, y)        ⇒   Mul(x, y)
Einsum("ij->ji", x)               ⇒   Transpose(x)
Einsum("ijk->ij", x)              ⇒   ReduceSum(x, axes=[2])

A product may take two Transposes beside it: Einsum does the same work less well (measured on onnxruntime with
one thread: MatMul with two Transposes takes 0.4 of its time). Keeps out where a dim that is summed may
broadcast, and of sums over the first axis, for which ReduceSum is slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import Var, op
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import AXES_ARE_INPUTS, int64s, same_dim

_DTYPES = {
    ir.DataType.FLOAT,
    ir.DataType.DOUBLE,
    ir.DataType.FLOAT16,
    ir.DataType.INT32,
    ir.DataType.INT64,
}
"""What onnxruntime multiplies and sums."""
_MAX_TRANSPOSES = 2


def guard(m: Match) -> str | None:
    """Keep out of other equations, dtypes and unknown dims."""
    terms = _terms(m)
    if terms is None or m.root.inputs[0] is None or m.root.inputs[0].dtype not in _DTYPES:
        return "the equation or its dtype is unknown"
    return None if _plan(m, terms) is not None else "it is no single operator"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the operator."""
    terms = _terms(m)
    plan = None if terms is None else _plan(m, terms)
    assert plan is not None
    kind, order, perms = plan
    inputs = [m.root.inputs[index] for index in order]
    x = inputs[0]
    assert x is not None
    if kind == "ReduceSum":
        axes = perms[0]
        if m.opset < AXES_ARE_INPUTS:
            return new.op("ReduceSum", x, attributes={"axes": axes, "keepdims": 0})
        return new.op("ReduceSum", x, int64s(new, axes), attributes={"keepdims": 0})
    if kind == "Transpose":
        return new.op("Transpose", x, attributes={"perm": perms[0]})
    operands = [_permuted(new, value, perm) for value, perm in zip(inputs, perms, strict=False)]
    result = new.op(kind, *operands)
    return result if len(perms) == len(inputs) else _permuted(new, result, perms[-1])


def _permuted(new: Builder, value: ir.Value | None, perm: Sequence[int]) -> ir.Value:
    assert value is not None
    plain = list(perm) == list(range(len(perm)))
    return value if plain else new.op("Transpose", value, attributes={"perm": list(perm)})


Plan = tuple[str, list[int], list[list[int]]]
"""Operator, order of the inputs, and for each of them (and for a product's result) the order of its axes."""


def _terms(m: Match) -> tuple[list[str], str] | None:
    """Return the labels of the inputs and of the result, one letter per axis; None if they are not plain."""
    equation = m.root.attributes.get_string("equation", "") or ""
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if not arrow or len(inputs) != len(m.root.inputs):
        return None
    ellipses = {
        (rank(value) or 0) - len(term) + 3
        for value, term in zip(m.root.inputs, inputs, strict=True)
        if "..." in term
    }
    if len(ellipses) > 1 or ("..." in output and not ellipses):
        return None
    if ellipses:
        free = [letter for letter in ascii_letters if letter not in equation]
        count = ellipses.pop()
        dims = "".join(free[: max(count, 0)])
        inputs, output = [term.replace("...", dims) for term in inputs], output.replace("...", dims)
    plain = all(len({*term}) == len(term) and "." not in term for term in (*inputs, output))
    ranked = all(rank(value) == len(term) for value, term in zip(m.root.inputs, inputs, strict=True))
    return (inputs, output) if plain and ranked else None


def _plan(m: Match, terms: tuple[list[str], str]) -> Plan | None:
    inputs, output = terms
    if len(inputs) == 1:
        return _of_one(inputs[0], output)
    if len(inputs) != 2:
        return None
    plans = []
    for order in ([0, 1], [1, 0]):
        a, b = (inputs[index] for index in order)
        plans.append(_scaled(a, b, output, order) or _product(m, a, b, output, order))
    return min((plan for plan in plans if plan is not None), key=_transposes, default=None)


def _transposes(plan: Plan) -> int:
    return sum(perm != sorted(perm) for perm in plan[2])


def _of_one(x: str, output: str) -> Plan | None:
    if sorted(x) == sorted(output):
        return "Transpose", [0], [[x.index(label) for label in output]]
    if output[:1] == x[:1] and "".join(label for label in x if label in output) == output:
        return "ReduceSum", [0], [[axis for axis, label in enumerate(x) if label not in output]]
    return None


def _scaled(a: str, b: str, output: str, order: list[int]) -> Plan | None:
    fits = a == output and a.endswith(b)
    return ("Mul", order, [list(range(len(a))), list(range(len(b)))]) if fits else None


def _product(m: Match, a: str, b: str, output: str, order: list[int]) -> Plan | None:
    """Return the plan of a matrix product: batch axes first, one axis that is summed, one of b alone."""
    summed = [label for label in a if label in b and label not in output]
    batch = [label for label in output if label in a and label in b]
    rows = [label for label in output if label in a and label not in b]
    columns = [label for label in output if label in b and label not in a]
    used = {*summed, *batch, *rows, *columns}
    if len(summed) != 1 or len(columns) != 1 or not rows or {*a, *b} != used:
        return None
    if batch and len(rows) != 1:
        return None
    values = [m.root.inputs[index] for index in order]
    if not same_dim(values[0], a.index(summed[0]), values[1], b.index(summed[0])):
        return None
    left, right, result = [*batch, *rows, *summed], [*batch, *summed, *columns], [*batch, *rows, *columns]
    perms = [
        [a.index(label) for label in left],
        [b.index(label) for label in right],
        [result.index(label) for label in output],
    ]
    plan = "MatMul", order, perms
    return plan if _transposes(plan) <= _MAX_TRANSPOSES else None


RULE = Rule("fuse_einsum", op("Einsum", each=Var("")), replace, guard)
