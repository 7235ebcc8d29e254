"""Which operators give the same result each time they run."""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.graph import bodies_of

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def is_deterministic(node: ir.Node) -> bool:
    """Whether a node of the standard domain gives the same result each time, its bodies included.

    Dropout counts as random: its third input or an old opset may switch training on.
    """
    if node.domain or node.op_type in _RANDOM or node.op_type == "Dropout":
        return False
    return all(is_deterministic(inner) for body in bodies_of(node) for inner in body)
