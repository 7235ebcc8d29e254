"""TensorFlow functions as one flat graph with constants for the variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ASSIGNMENTS = frozenset({"AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"})
_CONTROL_FLOW = frozenset({"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"})
_MAX_BYTES = 500_000_000
"""Of weights in a tf GraphDef: as a protobuf message it may have 2 GiB, but tf2onnx holds some ten copies."""


def inlined(graph_def: Any, tensors: Sequence[str]) -> Any:
    """Return a tf GraphDef with its function calls replaced by their bodies; `graph_def` is changed.

    TensorFlow inlines no function that is to be compiled by XLA (`tf.function(jit_compile=True)`: Keras runs
    grouped convolutions so), and tf2onnx would leave the call in the graph. The marks are on calls, at any
    depth, and on the functions.

    Args:
        tensors: inputs and outputs that must keep their names.
    """
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
    from tensorflow.python.grappler import tf_optimizer

    for function in graph_def.library.function:
        for mark in ("_XlaMustCompile", "_noinline", "api_implements"):
            function.attr.pop(mark, None)
        for node in function.node_def:
            node.attr.pop("_XlaMustCompile", None)
    for node in graph_def.node:
        node.attr.pop("_XlaMustCompile", None)
    meta_graph = meta_graph_pb2.MetaGraphDef(graph_def=graph_def)
    meta_graph.collection_def["train_op"].node_list.value.extend(tensors)
    config = config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1
    rewrite.optimizers.append("function")
    rewrite.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def frozen(concrete: Any) -> tuple[Any, dict[str, Any]]:
    """Return the GraphDef of a concrete function, inlined, with constants for its variables.

    Returns:
        The GraphDef, and {placeholder: tf Variable} of the largest weights if it has no room for all.
    """
    from tensorflow.python.framework import convert_to_constants as freezing

    tensors = [tensor.name for tensor in [*concrete.inputs, *concrete.outputs]]
    flat = inlined(freezing.disable_lower_using_switch_merge(concrete.graph.as_graph_def()), tensors)
    flat = _without_assignments(flat)
    apart = _without_room(concrete, flat)

    class Converter(freezing._FunctionConverterDataInEager):  # type: ignore[misc]
        """As TensorFlow's, but of a graph inlined in our way, and with stubs for the weights apart."""

        def __init__(self) -> None:
            self._func = concrete
            freezing._ConverterData.__init__(self, flat)
            self._build_tensor_data()

        def _eval(self, tensor: Any) -> Any:
            is_apart = any(tensor is variable for variable in apart.values())
            return np.zeros((), tensor.dtype.as_numpy_dtype) if is_apart else tensor.numpy()

    graph_def, _ = freezing._replace_variables_by_constants(Converter())
    for node in graph_def.node:
        if node.name in apart:
            node.op = "Placeholder"
            del node.attr["value"]
            node.attr["shape"].shape.CopyFrom(apart[node.name].shape.as_proto())
    return graph_def, apart


def tensors_of(concrete: Any) -> tuple[list[str], list[str]]:
    """Return the names of the inputs of a concrete function that are not captured, and of its outputs."""
    captured = {inner.name for _, inner in concrete.graph.captures}
    inputs = [tensor.name for tensor in concrete.inputs if tensor.name not in captured]
    return inputs, [tensor.name for tensor in concrete.outputs]


def _without_assignments(graph_def: Any) -> Any:
    """Remove assignments to variables, such as the state that a stateful layer keeps for the next call."""
    assigned = {f"^{node.name}" for node in graph_def.node if node.op in ASSIGNMENTS}
    kept = [node for node in graph_def.node if node.op not in ASSIGNMENTS]
    for node in kept:
        inputs = [name for name in node.input if name not in assigned]
        del node.input[:]
        node.input.extend(inputs)
    return type(graph_def)(node=kept, library=graph_def.library, versions=graph_def.versions)


def _without_room(concrete: Any, flat: Any) -> dict[str, Any]:
    """Return {placeholder: tf Variable} of the largest weights, so that the others fit into the graph.

    Weights that a loop or branch reads stay in it: tf2onnx looks for recurrent layers by their constants.
    """
    variables = {id(variable.handle): variable for variable in concrete.graph.variables}
    captured = {
        inner.op.name: variables[id(outer)]
        for outer, inner in concrete.graph.captures
        if id(outer) in variables
    }
    sizes = {name: variable.shape.num_elements() * variable.dtype.size for name, variable in captured.items()}
    looped = {name.split(":")[0] for node in flat.node if node.op in _CONTROL_FLOW for name in node.input}
    looped |= {node.input[0] for node in flat.node if node.op == "ReadVariableOp" and node.name in looped}
    apart, rest = {}, sum(sizes.values())
    for name in sorted(sizes.keys() - looped, key=lambda name: (-sizes[name], name)):
        if rest <= _MAX_BYTES:
            break
        apart[name], rest = captured[name], rest - sizes[name]
    return apart
