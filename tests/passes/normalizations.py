"""Shared by the tests of normalizations: the spellings of (x - mean) / √(variance + ε) over some axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from tests.helpers import f32, node
from tests.passes.fusions import Spelling

EPSILON = 1e-3
NUMBERS = {"eps": f32(EPSILON), "two": f32(2), "one": f32(1), "half": f32(0.5), "minus": f32(-0.5)}
ROOTS = {
    "divided by Sqrt": ("Sqrt", "Div"),
    "times Reciprocal": ("Sqrt", "Reciprocal", "Mul"),
    "times one over Sqrt": ("Sqrt", "one over", "Mul"),
    "divided by a power": ("half power", "Div"),
    "times a power": ("minus half power", "Mul"),
}
KERAS = ("Neg", "Sub", "without beta", "without beta, Sub")


def reduce_mean(inputs: str, output: str, axes: Sequence[int], opset: int) -> onnx.NodeProto:
    """Return a ReduceMean with axes as that opset has them."""
    if opset < 18:
        return node("ReduceMean", inputs, output, axes=list(axes))
    return node("ReduceMean", f"{inputs} axes", output)


def _over_root(x: str, output: str, steps: Sequence[str]) -> list[onnx.NodeProto]:
    """Return `output` = x / √(v + ε), from the value v."""
    nodes = [node("Add", "v eps", "shifted")]
    names = ["shifted", "root", "inverse"]
    for step in steps[:-1]:
        source, names = names[0], names[1:]
        nodes.append(
            {
                "Sqrt": node("Sqrt", source, names[0]),
                "Reciprocal": node("Reciprocal", source, names[0]),
                "one over": node("Div", f"one {source}", names[0]),
                "half power": node("Pow", f"{source} half", names[0]),
                "minus half power": node("Pow", f"{source} minus", names[0]),
            }[step]
        )
    return [*nodes, node(steps[-1], f"{x} {names[0]}", output)]


def standardized(
    axes: Sequence[int], *, root: str = "divided by Sqrt", square: str = "Mul", opset: int = 17
) -> Spelling:
    """x minus its mean, over the root of its variance."""
    nodes = [
        reduce_mean("x", "mean", axes, opset),
        node("Sub", "x mean", "d"),
        node("Pow", "d two", "dd") if square == "Pow" else node("Mul", "d d", "dd"),
        reduce_mean("dd", "v", axes, opset),
        *_over_root("d", "y", ROOTS[root]),
    ]
    return _spelling(nodes, axes)


def over_root_mean_square(
    axes: Sequence[int], *, root: str = "divided by Sqrt", square: str = "Mul", opset: int = 23
) -> Spelling:
    """x over the root of its mean square."""
    nodes = [
        node("Pow", "x two", "xx") if square == "Pow" else node("Mul", "x x", "xx"),
        reduce_mean("xx", "v", axes, opset),
        *_over_root("x", "y", ROOTS[root]),
    ]
    return _spelling(nodes, axes)


def keras(
    axes: Sequence[int], parameters: tuple[int, ...], form: str, *, gamma: bool = True, opset: int = 17
) -> Spelling:
    """x·f + (beta - mean·f) with f = gamma / √(variance + ε), as Keras and tf2onnx spell it."""
    factor = "f" if gamma else "inverse"
    nodes = [
        *standardized(axes, root="times Reciprocal", opset=opset).nodes[:-1],
        *([node("Mul", "inverse gamma", "f")] if gamma else []),
        node("Mul", f"x {factor}", "scaled"),
        *([node("Neg", "mean", "minus_mean")] if form in ("Neg", "without beta") else []),
    ]
    mean = "minus_mean" if form in ("Neg", "without beta") else "mean"
    nodes.append(node("Mul", f"{mean} {factor}", "offset"))
    if form == "Neg":
        nodes += [node("Add", "offset beta", "shift"), node("Add", "scaled shift", "y")]
    elif form == "Sub":
        nodes += [node("Sub", "beta offset", "shift"), node("Add", "scaled shift", "y")]
    else:
        nodes.append(node("Add" if form == "without beta" else "Sub", "scaled offset", "y"))
    return _spelling(nodes, axes, parameters)


def with_affine(spelling: Spelling, parameters: tuple[int, ...]) -> Spelling:
    """Multiply the result by gamma and add beta."""
    inner = [onnx.NodeProto.FromString(each.SerializeToString()) for each in spelling.nodes]
    inner[-1].output[0] = "n"
    nodes = [*inner, node("Mul", "n gamma", "ng"), node("Add", "ng beta", "y")]
    return _spelling(nodes, (), parameters, spelling)


def _spelling(
    nodes: Sequence[onnx.NodeProto],
    axes: Sequence[int],
    parameters: tuple[int, ...] = (),
    base: Spelling | None = None,
) -> Spelling:
    rng = np.random.default_rng(11)
    weights = {
        **NUMBERS,
        "axes": np.array(axes),
        "gamma": f32(rng.uniform(-2, 2, parameters)),
        "beta": f32(rng.normal(size=parameters)),
        **(base.weights if base is not None else {}),
    }
    used = {name for each in nodes for name in each.input}
    return Spelling(tuple(nodes), {name: array for name, array in weights.items() if name in used})
