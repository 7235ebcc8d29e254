"""A graph under construction: which values it has, of which shape, and how a random node is added to it.

A dim is its pair of sizes in the two runs on which a graph is compared, so that symbolic dims need no
algebra: shapes are computed for each run on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

T = TypeVar("T")
Array = npt.NDArray[Any]
Dim = tuple[int, int]
Shape = tuple[Dim, ...]
RUNS = (0, 1)

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
INTS = frozenset({TensorProto.INT64, TensorProto.INT32})
BOOL = frozenset({TensorProto.BOOL})
NUMBERS = FLOATS | INTS
ALL = NUMBERS | BOOL

MAX_ELEMENTS = 3000
_MAX_BOUND: dict[int, float] = {TensorProto.FLOAT16: 200.0}
_SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5)


class Skip(Exception):
    """Raised by an operator that does not apply to what the graph has so far."""


@dataclass(frozen=True, eq=False)
class Value:
    """What is known of a value.

    Attributes:
        name: its name.
        dtype: a `TensorProto.DataType`.
        shape: its dims.
        exact: no rounding that a rewrite may change went into it: comparing it is safe.
        bound: about its largest magnitude.
    """

    name: str
    dtype: int
    shape: Shape = ()
    exact: bool = True
    bound: float = 3.0

    @property
    def rank(self) -> int:
        return len(self.shape)

    def sizes(self, run: int) -> tuple[int, ...]:
        return tuple(dim[run] for dim in self.shape)


@dataclass(frozen=True)
class Function:
    """A local function and what its inputs and outputs are wherever it is called."""

    proto: onnx.FunctionProto
    inputs: list[Value]
    outputs: list[Value]


@dataclass
class World:
    """What all graphs of one model share."""

    rng: np.random.Generator
    opset: int
    ir_version: int
    dtype: int
    """The float type of the model."""
    infinite: bool = False
    """Some constants are infinite or NaN; then nothing that makes the largest finite number of one."""
    empty: bool = False
    """Some values may hold nothing."""
    functions: list[Function] = field(default_factory=list)
    names: int = 0
    sums: int = 0
    """About how many linear operators there are."""

    def add_up(self, count: int = 1) -> None:
        """Skip all linear operators but one if there are infinities: a sum of sums depends on its order."""
        self.sums += count
        if self.infinite and self.sums > 1:
            raise Skip


class Scope:
    """The main graph, a body, or a local function."""

    def __init__(
        self, world: World, outer: Sequence[Value] = (), *, depth: int = 0, prefix: str = ""
    ) -> None:
        self.world = world
        self.rng, self.opset = world.rng, world.opset
        self.depth, self.prefix = depth, prefix
        self.holds_initializers = True
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self.values: list[Value] = list(outer)
        self.outer = len(self.values)
        self.focus: Value | None = None
        self.read: set[str] = set()

    # Chance

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, options: Sequence[T]) -> T:
        if not options:
            raise Skip
        return options[int(self.rng.integers(len(options)))]

    def between(self, low: int, high: int) -> int:
        """Return a number from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, wanted: Callable[[Value], bool], given: Value | None = None) -> Value:
        """Return the given value, or one of the graph: often that in focus, or one that nothing reads yet.

        Raises:
            Skip: there is none that is wanted.
        """
        if given is not None:
            return self.choose([given] if wanted(given) else [])
        if self.focus is not None and wanted(self.focus) and self.chance(0.7):
            return self.focus
        fitting = [value for value in self.values if wanted(value)]
        fresh = [value for value in fitting if value.name not in self.read]
        return self.choose(fresh if fresh and self.chance(0.5) else fitting)

    # Building

    def fresh(self, hint: str) -> str:
        """Return an unused name; bodies with a prefix of their own count for themselves."""
        if self.prefix:
            return f"{self.prefix}{hint}{len(self.nodes)}_{len(self.initializers)}_{len(self.values)}"
        self.world.names += 1
        return f"{hint}{self.world.names}"

    def op(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        shape: Shape,
        *,
        dtype: int | None = None,
        exact: bool | None = None,
        bound: float | None = None,
        **attributes: Any,
    ) -> Value:
        """Add a node with one output, which is of the first input's type unless told otherwise."""
        return self.op_many(op_type, inputs, [shape], dtype=dtype, exact=exact, bound=bound, **attributes)[0]

    def op_many(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        shapes: Sequence[Shape],
        *,
        dtype: int | None = None,
        exact: bool | None = None,
        bound: float | None = None,
        **attributes: Any,
    ) -> list[Value]:
        """Add a node of the standard domain.

        Raises:
            Skip: a result would be too large, in size or in magnitude.
        """
        given = [value for value in inputs if value is not None]
        dtype = given[0].dtype if dtype is None else dtype
        exact = all(value.exact for value in given) if exact is None else exact
        bound = max((value.bound for value in given), default=1.0) if bound is None else bound
        self.check(shapes, dtype, bound)
        names = [self.fresh(op_type.lower()) for _ in shapes]
        if len(names) > 1 and self.prefix:
            names = [f"{name}_{index}" for index, name in enumerate(names)]
        outputs = [
            Value(name, dtype, tuple(shape), exact, bound) for name, shape in zip(names, shapes, strict=True)
        ]
        texts = [value.name if value else "" for value in inputs]
        self.read.update(texts)
        while texts and not texts[-1]:
            texts.pop()
        kept = {name: value for name, value in attributes.items() if value is not None}
        label = f"{self.prefix}node_{names[0]}" if self.chance(0.8) else ""
        self.nodes.append(helper.make_node(op_type, texts, names, label, **kept))
        self.values.extend(outputs)
        return outputs

    def check(self, shapes: Sequence[Shape], dtype: int, bound: float) -> None:
        """Raise Skip for results that are too large, in size or magnitude, or empty where none may be."""
        if dtype in FLOATS and not bound < _MAX_BOUND.get(dtype, 1e4):
            raise Skip
        if dtype in INTS and not bound < 1e6:
            raise Skip
        for shape in shapes:
            for run in RUNS:
                size = math.prod(dim[run] for dim in shape)
                if size > MAX_ELEMENTS or len(shape) > 5 or (not size and not self.world.empty):
                    raise Skip

    def const(
        self, data: Array | Sequence[int] | int, dtype: int = TensorProto.INT64, *, hint: str = "const"
    ) -> Value:
        """Add a constant: an initializer, or a Constant node in one of its spellings.

        Args:
            data: its data; integers unless `dtype` says otherwise.
            dtype: its type.
            hint: what its name begins with.
        """
        array = np.asarray(data, dtype=helper.tensor_dtype_to_np_dtype(dtype))
        name = self.fresh(hint)
        shape = tuple((size, size) for size in array.shape)
        finite = np.isfinite(array)
        bound = float(np.abs(array[finite]).max(initial=0.0)) if dtype in NUMBERS else 1.0
        value = Value(name, dtype, shape, exact=bool(finite.all()), bound=bound)
        if hint == "weight" or self.chance(0.15):
            self.values.append(value)
        if self.holds_initializers and self.chance(0.7):
            self.initializers[name] = array
        else:
            self.nodes.append(helper.make_node("Constant", [], [name], **self._constant_attribute(array)))
        return value

    def _constant_attribute(self, array: Array) -> dict[str, Any]:
        spellings = {("f", 0): "value_float", ("f", 1): "value_floats", ("i", 0): "value_int"}
        spelling = {**spellings, ("i", 1): "value_ints"}.get((array.dtype.kind, array.ndim))
        wide = array.dtype in (np.dtype(np.float32), np.dtype(np.int64))
        if self.opset >= 12 and spelling and wide and array.size and self.chance(0.5):
            return {spelling: array.tolist()}
        return {"value": numpy_helper.from_array(array)}

    def numbers(self, shape: Sequence[int], dtype: int) -> Value:
        """Add a constant of that shape with special or random values, of either sign."""
        array: Array = np.full(shape, self.choose(_SPECIAL))
        if self.chance(0.6):
            array = self.rng.normal(size=shape)
        if dtype in FLOATS and self.world.infinite and self.chance(0.1):
            array = np.full(shape, self.choose((np.inf, -np.inf, np.nan)))
        if dtype in INTS:
            array = np.rint(array)
        return self.const(array, dtype)

    def weights(self, shape: Sequence[int], dtype: int, *, fan_in: int = 1) -> Value:
        """Add weights, or share those of the same shape that another node has."""
        sizes = tuple((size, size) for size in shape)
        known = [value for value in self.values if "weight" in value.name and value.shape == sizes]
        known = [value for value in known if value.dtype == dtype]
        if known and self.chance(0.3):
            return self.choose(known)
        array = self.rng.normal(size=shape) / math.sqrt(max(1, fan_in))
        return self.const(array, dtype, hint="weight")


def signed(g: Scope, axis: int, rank: int) -> int:
    """Return the axis, now and then as a negative number, which opset 11 made valid everywhere."""
    return axis - rank if g.opset >= 11 and g.chance(0.3) else axis


def static(dim: Dim) -> bool:
    """Whether a dim is the same in both runs."""
    return dim[0] == dim[1]


def static_shape(value: Value) -> tuple[int, ...]:
    """Return the sizes of a value; Skip if they differ from run to run."""
    if not all(map(static, value.shape)):
        raise Skip
    return value.sizes(0)


def by_run(compute: Callable[[int], Sequence[int]]) -> Shape:
    """Return the shape whose sizes `compute` gives for each run; Skip where numpy cannot."""
    try:
        first, second = compute(0), compute(1)
    except ValueError as error:
        raise Skip from error
    return tuple((int(a), int(b)) for a, b in zip(first, second, strict=True))


def broadcast(*values: Value) -> Shape:
    """Return the shape of an element-wise result."""
    return by_run(lambda run: np.broadcast_shapes(*(value.sizes(run) for value in values)))


def is_float(value: Value) -> bool:
    return value.dtype in FLOATS


def is_number(value: Value) -> bool:
    return value.dtype in NUMBERS


def anything(_value: Value) -> bool:
    return True
