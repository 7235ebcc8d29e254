"""Patterns: a small tree of operators to find in a graph, written the way the graph is read.

    op("BatchNormalization",
       op("Conv", var("x"), const("w"), maybe(const("b")), name="conv"),
       const("scale"), const("bias"), const("mean"), const("var"))

A pattern is rooted at the operator whose output is replaced. Names capture values (`var`, `const`) and
nodes (`op(..., name=...)`); a name used twice must match the same value twice. Both operand orders of
commutative operators are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import onnx_ir as ir

from fuseonnx.core.constants import is_const

COMMUTATIVE = frozenset(
    {"Add", "Mul", "And", "Or", "Xor", "Equal", "Max", "Min", "Sum", "BitwiseAnd", "BitwiseOr", "BitwiseXor"}
)
ANY_OP = "*"


@dataclass(frozen=True)
class Var:
    """Any value."""

    name: str


@dataclass(frozen=True)
class Const:
    """A value that is known before the model runs: an initializer that is not an input, or a Constant."""

    name: str


@dataclass(frozen=True)
class Maybe:
    """An optional input: absent, or matching `pattern`."""

    pattern: Pattern


@dataclass(frozen=True)
class AnyOf:
    """The first of several alternatives that matches."""

    options: tuple[Pattern, ...]


@dataclass(frozen=True)
class Op:
    """The first output of a node of one of `types`; see `op`."""

    types: tuple[str, ...]
    inputs: tuple[Pattern, ...]
    name: str
    shared: bool
    each: Var | Const | None


Pattern = Var | Const | Maybe | AnyOf | Op
Root = Op | AnyOf


def var(name: str) -> Var:
    """Match any value and capture it."""
    return Var(name)


def const(name: str) -> Const:
    """Match a value that is known before the model runs, and capture it."""
    return Const(name)


def maybe(pattern: Pattern) -> Maybe:
    """Match `pattern`, or an input that is absent."""
    return Maybe(pattern)


def any_of(*options: Pattern) -> AnyOf:
    """Match the first of several alternatives."""
    return AnyOf(options)


def op(
    types: str | tuple[str, ...],
    *inputs: Pattern,
    name: str = "",
    shared: bool = False,
    each: Var | Const | None = None,
) -> Op:
    """Match a node of the standard domain whose inputs match.

    Args:
        types: the operator, or several; `ANY_OP` is any.
        inputs: one pattern per input; trailing `maybe` inputs may be missing.
        name: captures the node.
        shared: the node stays in the graph, so that others may use its outputs too. Without it the match is
            refused unless the match holds every use of the node, none of them a graph output.
        each: what every input must be, however many there are but for none; nothing is captured.
    """
    return Op((types,) if isinstance(types, str) else types, inputs, name, shared, each)


class Captures(NamedTuple):
    """What one way of matching has captured so far; never mutated, so that a search can turn back."""

    values: dict[str, ir.Value | None]
    nodes: dict[str, ir.Node]
    absorbed: tuple[ir.Node, ...] = ()
    """The nodes below the root that the rewrite is to replace."""

    def with_value(self, name: str, value: ir.Value | None) -> Captures | None:
        """Bind a value; None if the name is bound to another one."""
        if name in self.values:
            return self if self.values[name] is value else None
        return Captures({**self.values, name: value}, self.nodes, self.absorbed)

    def with_node(self, name: str, node: ir.Node, *, absorbed: bool) -> Captures | None:
        """Bind a node, if it has a name; None if the name is bound to another one."""
        if self.nodes.get(name, node) is not node:
            return None
        nodes = {**self.nodes, name: node} if name else self.nodes
        return Captures(self.values, nodes, (*self.absorbed, node) if absorbed else self.absorbed)


def root_types(pattern: Root) -> frozenset[str]:
    """Return the operators at which `pattern` can match."""
    options = pattern.options if isinstance(pattern, AnyOf) else (pattern,)
    return frozenset(type_ for option in options if isinstance(option, Op) for type_ in option.types)


def first_look(pattern: Root, op_type: str) -> Callable[[ir.Node], bool]:
    """Return a quick test: False only for nodes of type `op_type` at which `pattern` cannot match."""
    options = pattern.options if isinstance(pattern, AnyOf) else (pattern,)
    needs = [_needs(each) for each in options if isinstance(each, Op) and {op_type, ANY_OP} & {*each.types}]
    if () in needs:
        return lambda _node: True
    swaps = op_type in COMMUTATIVE

    def look(node: ir.Node) -> bool:
        inputs = node.inputs
        for need in needs:
            if _are_met(need, inputs) or (swaps and len(inputs) == 2 and _are_met(need, inputs[::-1])):
                return True
        return False

    return look


def match_root(pattern: Root, node: ir.Node) -> Iterator[Captures]:
    """Yield every way in which `pattern` matches at `node`."""
    for option in pattern.options if isinstance(pattern, AnyOf) else (pattern,):
        assert isinstance(option, Op), "a rule is rooted at an operator"
        yield from _match_node(option, node, Captures({}, {}), root=True)


_Needs = tuple[tuple[int, frozenset[str]], ...]


def _needs(pattern: Op) -> _Needs:
    """Return which inputs must come from which operators; from none: they must be constants."""
    needs = []
    for index, each in enumerate(pattern.inputs if pattern.each is None else (pattern.each,)):
        options = each.options if isinstance(each, AnyOf) else (each,)
        ops = [option for option in options if isinstance(option, Op) and ANY_OP not in option.types]
        if isinstance(each, Const):
            needs.append((index, frozenset[str]()))
        elif len(ops) == len(options):
            needs.append((index, frozenset(type_ for option in ops for type_ in option.types)))
    return tuple(needs)


def _are_met(needs: _Needs, inputs: Sequence[ir.Value | None]) -> bool:
    for index, types in needs:
        value = inputs[index] if index < len(inputs) else None
        if value is None:
            return False
        if not types:
            if not is_const(value):
                return False
            continue
        producer = value.producer()
        if producer is None or producer.op_type not in types:
            return False
    return True


def _match_value(pattern: Pattern, value: ir.Value | None, captures: Captures) -> Iterator[Captures]:
    if isinstance(pattern, Op):
        producer = value.producer() if value is not None else None
        if producer is not None and value is producer.outputs[0]:
            yield from _match_node(pattern, producer, captures, root=False)
    elif isinstance(pattern, Maybe):
        yield from _match_maybe(pattern, value, captures)
    elif isinstance(pattern, AnyOf):
        for option in pattern.options:
            yield from _match_value(option, value, captures)
    elif value is not None and (isinstance(pattern, Var) or is_const(value)):
        bound = captures.with_value(pattern.name, value)
        if bound is not None:
            yield bound


def _match_maybe(pattern: Maybe, value: ir.Value | None, captures: Captures) -> Iterator[Captures]:
    if value is not None:
        yield from _match_value(pattern.pattern, value, captures)
    elif isinstance(pattern.pattern, (Var, Const)):
        bound = captures.with_value(pattern.pattern.name, None)
        if bound is not None:
            yield bound
    else:
        yield captures


def _match_node(pattern: Op, node: ir.Node, captures: Captures, *, root: bool) -> Iterator[Captures]:
    if node.domain or (node.op_type not in pattern.types and ANY_OP not in pattern.types):
        return
    bound = captures.with_node(pattern.name, node, absorbed=not root and not pattern.shared)
    if bound is None:
        return
    if pattern.each is not None:
        if isinstance(pattern.each, Var) or all(
            is_const(value) for value in node.inputs if value is not None
        ):
            yield bound
        return
    for inputs in _operand_orders(node, len(pattern.inputs)):
        yield from _match_inputs(pattern.inputs, inputs, bound)


def _operand_orders(node: ir.Node, expected: int) -> Iterator[tuple[ir.Value | None, ...]]:
    inputs = tuple(node.inputs)
    if len(inputs) > expected and any(value is not None for value in inputs[expected:]):
        return
    inputs = (*inputs[:expected], *(None,) * (expected - len(inputs)))
    yield inputs
    if len(inputs) == 2 and node.op_type in COMMUTATIVE:
        yield inputs[::-1]


def _match_inputs(
    patterns: tuple[Pattern, ...], inputs: tuple[ir.Value | None, ...], captures: Captures
) -> Iterator[Captures]:
    if not patterns:
        yield captures
        return
    for bound in _match_value(patterns[0], inputs[0], captures):
        yield from _match_inputs(patterns[1:], inputs[1:], bound)
