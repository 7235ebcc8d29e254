"""Random If, Loop, Scan and local functions, nested, whose bodies read values from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzzing.elementwise import activation, arithmetic, constant_for, reduce_over
from tests.fuzzing.layout import shape_tensor
from tests.fuzzing.scope import FLOATS, Function, Scope, Skip, Value, anything, is_float, is_number, static

MAX_DEPTH = 2
Grow = Callable[[Scope, int], None]
DOMAIN = "local"


def if_(g: Scope, grow: Grow, condition: Value | None = None, given: Value | None = None) -> Value:
    """Add an If; both branches change the same value, each in its way, and read others."""
    x = g.pick(is_number, given)
    condition = condition or _condition(g)
    prefix = _prefix(g)
    count = g.between(1, 2)
    bodies, results = [], []
    for branch in ("then_branch", "else_branch"):
        body = _body(g, prefix if g.chance(0.5) else _prefix(g))
        grow(body, g.between(0, 3))
        results = [_changed(body, x) for _ in range(count)]
        bodies.append((branch, graph_of(body, branch, (), results)))
    bound = max(10 * x.bound, *(value.bound for value in results))
    outputs = g.op_many(
        "If", [condition], [x.shape] * count, dtype=x.dtype, exact=False, bound=bound, **dict(bodies)
    )
    return outputs[0]


def equal_branches(g: Scope, _grow: Grow) -> Value:
    """Add an If whose branches do the same, or do it on values that differ."""
    x = g.pick(is_float)
    other = g.pick(lambda value: (value.dtype, value.shape) == (x.dtype, x.shape))
    name, bodies, result = g.choose(("Abs", "Relu", "Neg")), [], x
    for branch, source in (("then_branch", x), ("else_branch", x if g.chance(0.7) else other)):
        body = _body(g, _prefix(g))
        result = activation(body, name, source)
        bodies.append((branch, graph_of(body, branch, (), [result])))
    return g.op(
        "If", [_condition(g)], x.shape, dtype=x.dtype, exact=False, bound=result.bound, **dict(bodies)
    )


def weighted_branches(g: Scope, _grow: Grow) -> Value:
    """Add an If whose branches read weights from outside: each its own, or the same."""
    x = g.pick(lambda value: is_float(value) and value.rank > 0 and static(value.shape[-1]))
    condition, bodies = _condition(g), {}
    for branch in ("then_branch", "else_branch"):
        w = g.weights((x.shape[-1][0],), x.dtype)
        body = _body(g, _prefix(g))
        result = activation(body, "Tanh", arithmetic(body, g.choose(("Add", "Mul", "Sub")), x, w))
        bodies[branch] = graph_of(body, branch, (), [result])
    return g.op("If", [condition], x.shape, dtype=x.dtype, exact=False, bound=1.0, **bodies)


def two_ifs(g: Scope, grow: Grow) -> Value:
    """Add two Ifs of one condition, of which the second often reads the first."""
    condition = _condition(g)
    first = if_(g, grow, condition)
    return if_(g, grow, condition, first if g.chance(0.7) else None)


def loop(g: Scope, grow: Grow) -> Value:
    """Add a Loop that carries one value and collects another."""
    x = g.pick(is_float)
    times = (g.between(1, 3),) * 2
    dims = [dim for value in g.values for dim in value.shape if max(dim) <= 3]
    if dims and g.chance(0.3):
        times = g.choose(dims)
        trips = shape_tensor(g, [times])
    else:
        trips = g.const(times[0])
    keep = g.const(np.array(True), TensorProto.BOOL)
    body = _body(g, _prefix(g))
    index = Value(f"{body.prefix}index", TensorProto.INT64)
    go_on = Value(f"{body.prefix}cond", TensorProto.BOOL)
    state = Value(f"{body.prefix}state", x.dtype, x.shape, exact=False, bound=max(x.bound, 1.0))
    body.values += [index, state]
    grow(body, g.between(0, 3))
    flag = body.op("Identity", [go_on], ())
    carried = activation(body, g.choose(("Tanh", "Sigmoid")), _changed(body, state))
    collected = _changed(body, state)
    proto = graph_of(body, "loop", (index, go_on, state), (flag, carried, collected))
    return g.choose(
        g.op_many(
            "Loop",
            [trips, keep, x],
            [x.shape, (times, *x.shape)],
            dtype=x.dtype,
            exact=False,
            bound=max(collected.bound, x.bound),
            body=proto,
        )
    )


def counted_loop(g: Scope, grow: Grow) -> Value:
    """Add a Loop that goes on while what it counts is below a bound, which its limit may say too."""
    x = g.pick(is_float)
    limit, begin, step = g.between(1, 4), g.between(-2, 3), g.choose((1, 1, 1, 2))
    bound = begin + step * limit + g.choose((-1, 0, 0, 0, 1))
    kind = g.choose((TensorProto.INT64, TensorProto.INT32))
    body = _body(g, _prefix(g))
    index = Value(f"{body.prefix}index", TensorProto.INT64)
    go_on = Value(f"{body.prefix}cond", TensorProto.BOOL)
    count = Value(f"{body.prefix}count", kind, bound=99.0)
    state = Value(f"{body.prefix}state", x.dtype, x.shape, exact=False, bound=max(x.bound, 1.0))
    body.values += [index, state]
    grow(body, g.between(0, 2))
    next_ = body.op("Add", [count, body.const(np.array(step), kind)], (), bound=99.0)
    flag = _below(body, next_, bound)
    if g.chance(0.4):
        trip = body.op("Add", [index, body.const(1)], (), bound=99.0)
        flags = [flag, _below(body, trip, limit + g.choose((-1, 0, 0, 1)))]
        flag = body.op("And", flags if g.chance(0.5) else flags[::-1], (), exact=True)
    told = body.op("Cast", [go_on], (), dtype=x.dtype, exact=False, to=x.dtype)
    carried = activation(body, "Tanh", body.op("Add", [_changed(body, state), told], x.shape, bound=99.0))
    proto = graph_of(body, "loop", (index, go_on, count, state), (flag, next_, carried))
    given = [
        g.const(limit),
        g.const(np.array(g.chance(0.9)), TensorProto.BOOL),
        g.const(np.array(begin), kind),
        x,
    ]
    name, last = g.fresh("loop"), g.fresh("loop")
    g.nodes.append(helper.make_node("Loop", [value.name for value in given], [name, last], body=proto))
    g.read.add(x.name)
    results = [
        Value(name, kind, bound=99.0),
        Value(last, x.dtype, x.shape, exact=False, bound=max(x.bound, 1.0)),
    ]
    g.values.extend(results)
    return results[1]


def _below(g: Scope, x: Value, bound: int) -> Value:
    """Add a comparison that tells whether an integer is below a bound."""
    name, bound = g.choose((("Less", bound), ("LessOrEqual", bound - 1), ("Greater", bound)))
    if name == "LessOrEqual" and g.opset < 12:
        name, bound = "Less", bound + 1
    if g.chance(0.3):
        x = g.op("Cast", [x], (), dtype=TensorProto.FLOAT, to=TensorProto.FLOAT)
    inputs = [x, g.const(np.array(bound), x.dtype)]
    if name == "Greater":
        inputs = inputs[::-1]
    return g.op(name, inputs, (), dtype=TensorProto.BOOL, bound=1.0, exact=True)


def scan(g: Scope, grow: Grow) -> Value:
    """Add a Scan over the first axis of a value."""
    x = g.pick(lambda value: is_float(value) and value.rank > 0)
    start = g.pick(lambda value: value.dtype == x.dtype)
    body = _body(g, _prefix(g))
    state = Value(f"{body.prefix}state", x.dtype, start.shape, exact=False, bound=max(1.0, start.bound))
    row = Value(f"{body.prefix}row", x.dtype, x.shape[1:], x.exact, x.bound)
    body.values += [state, row]
    grow(body, g.between(0, 3))
    carried = activation(body, "Tanh", _changed(body, state))
    collected = _changed(body, row)
    proto = graph_of(body, "scan", (state, row), (carried, collected), shapes=True)
    shapes = [start.shape, x.shape]
    bound = max(collected.bound, start.bound)
    inputs = [start, x]
    return g.choose(
        g.op_many("Scan", inputs, shapes, exact=False, bound=bound, body=proto, num_scan_inputs=1)
    )


def call(g: Scope, grow: Grow) -> Value:
    """Call a local function, an old one where its inputs fit, or a new one."""
    if g.world.ir_version < 8 or g.depth > MAX_DEPTH:
        raise Skip
    if not g.world.functions or g.chance(0.5):
        g.world.functions.append(_function(g, grow))
    function = g.choose(g.world.functions)
    given = [g.pick(lambda value, wanted=wanted: _fits(value, wanted)) for wanted in function.inputs]  # type: ignore[misc]
    outputs = [
        Value(g.fresh("call") + f"_{index}", value.dtype, value.shape, exact=False, bound=value.bound)
        for index, value in enumerate(function.outputs)
    ]
    attributes: dict[str, Any] = {"slope": 0.25} if function.proto.attribute else {}
    g.nodes.append(
        helper.make_node(
            function.proto.name,
            [value.name for value in given],
            [value.name for value in outputs],
            domain=DOMAIN,
            **attributes,
        )
    )
    g.values.extend(outputs)
    g.read.update(value.name for value in given)
    return outputs[0]


def _function(g: Scope, grow: Grow) -> Function:
    world = g.world
    world.names += 1
    name = f"function{world.names}"
    inner = Scope(world, depth=g.depth + 1, prefix=f"f{world.names}_")
    inner.holds_initializers = False
    inputs = []
    for index in range(g.between(1, 2)):
        like = g.pick(anything)
        inputs.append(
            Value(f"{inner.prefix}in{index}", like.dtype, like.shape, exact=False, bound=like.bound)
        )
    inner.values += inputs
    grow(inner, g.between(1, 5))
    slopes = ["slope"] if g.chance(0.3) and inputs[0].dtype in FLOATS else []
    for slope in slopes:
        activation(inner, "LeakyRelu", inputs[0])
        node = inner.nodes[-1]
        del node.attribute[:]
        node.attribute.add(name="alpha", ref_attr_name=slope, type=onnx.AttributeProto.FLOAT)
    produced = {name for node in inner.nodes for name in node.output}
    own = [value for value in inner.values if value.name in produced]
    if not own:
        raise Skip
    outputs = list(dict.fromkeys((own[-1], g.choose(own))))
    opsets = [helper.make_opsetid("", g.opset), helper.make_opsetid(DOMAIN, 1)]
    proto = helper.make_function(
        DOMAIN,
        name,
        [value.name for value in inputs],
        [value.name for value in outputs],
        inner.nodes,
        opsets,
        slopes,
    )
    return Function(proto, inputs, outputs)


def _fits(value: Value, wanted: Value) -> bool:
    return (value.dtype, value.shape) == (wanted.dtype, wanted.shape) and value.bound <= wanted.bound


def _condition(g: Scope) -> Value:
    condition = _flag(g)
    return g.op("Not", [condition], ()) if g.chance(0.2) else condition


def _flag(g: Scope) -> Value:
    """Return a bool scalar: constant, given, or computed."""
    scalars = [value for value in g.values if value.dtype == TensorProto.BOOL and not value.rank]
    if scalars and g.chance(0.6):
        return g.choose(scalars)
    if g.chance(0.5):
        return g.const(np.array(g.chance(0.5)), TensorProto.BOOL)
    x = g.pick(lambda value: value.exact and is_number(value))
    largest = reduce_over(g, "ReduceMax", x, (), keepdims=0)
    zero = g.const(np.array(0.0), x.dtype)
    return g.op("Greater", [largest, zero], (), dtype=TensorProto.BOOL, bound=1.0, exact=True)


def _prefix(g: Scope) -> str:
    """Return what the names in a body begin with: now and then the same as in the bodies beside it."""
    if g.chance(0.3):
        return f"{g.prefix}b_"
    g.world.names += 1
    return f"{g.prefix}b{g.world.names}_"


def _body(g: Scope, prefix: str) -> Scope:
    if g.depth >= MAX_DEPTH:
        raise Skip
    body = Scope(g.world, g.values, depth=g.depth + 1, prefix=prefix)
    body.holds_initializers = g.holds_initializers and g.world.ir_version >= 4
    return body


def _changed(body: Scope, x: Value) -> Value:
    """Add something of the shape of `x`, made from it and often from other values of the body."""
    y = x
    for _ in range(body.between(0, 2)):
        c = constant_for(body, x)
        if c.rank <= x.rank and all(dim in ((1, 1), x.shape[i - c.rank]) for i, dim in enumerate(c.shape)):
            y = arithmetic(body, body.choose(("Add", "Mul", "Sub")), y, c)
    if x.dtype in FLOATS and body.chance(0.5):
        side = body.pick(lambda value: value.dtype == x.dtype)
        mean = reduce_over(body, "ReduceMean", side, (), keepdims=0)
        y = body.op("Add", [y, mean], x.shape, bound=y.bound + mean.bound, exact=False)
    if y is x or body.chance(0.2):
        y = body.op("Identity", [y], x.shape)
    return y


def graph_of(
    body: Scope, name: str, inputs: Sequence[Value], outputs: Sequence[Value], *, shapes: bool = False
) -> onnx.GraphProto:
    """Return a scope as a body, with the types of its signature and often, or always, its shapes."""

    def info(value: Value) -> onnx.ValueInfoProto:
        dims = [dim[0] if static(dim) else None for dim in value.shape]
        known = shapes or not dims or body.chance(0.4)
        return helper.make_tensor_value_info(value.name, value.dtype, dims if known else None)

    return helper.make_graph(
        body.nodes,
        name,
        list(map(info, inputs)),
        list(map(info, outputs)),
        [numpy_helper.from_array(array, key) for key, array in body.initializers.items()],
    )
