"""Give dynamic inputs a fixed shape in the artifact itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir

from fuseonnx.core.graph import DECLARED, all_graphs
from fuseonnx.errors import OptionError
from fuseonnx.io.load import Loaded


def freeze(loaded: Loaded, shapes: Mapping[str, Sequence[int]]) -> Loaded:
    """Return the model with the shapes of some inputs fixed.

    A symbol that gets a size gets it wherever the model names it: in other inputs, outputs and value_info.

    Args:
        loaded: the model; it is changed in place.
        shapes: input name to its dims, all of them.

    Raises:
        OptionError: no such input, another rank, or a dim that is fixed to another size already.
    """
    if not shapes:
        return loaded
    sizes: dict[str, int] = {}
    inputs = {info.name: info for info in loaded.signature.inputs}
    for name, shape in shapes.items():
        if name not in inputs:
            raise OptionError(f"{loaded.path}: no input is called '{name}'; they are {', '.join(inputs)}")
        _fix(inputs[name], shape, sizes, loaded)
    for info in (*loaded.signature.inputs, *loaded.signature.outputs):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    for value, info in zip(loaded.model.graph.inputs, loaded.signature.inputs, strict=True):
        value.shape = ir.serde.deserialize_type_proto_for_shape(info.type)
    for graph in all_graphs(loaded.model):
        declared = graph.meta[DECLARED]
        for name, (type_, shape_) in declared.items():
            declared[name] = (type_, _substituted(shape_, sizes))
    return loaded


def _fix(info: onnx.ValueInfoProto, shape: Sequence[int], sizes: dict[str, int], loaded: Loaded) -> None:
    if not info.type.tensor_type.HasField("shape"):  # of unknown rank
        info.type.tensor_type.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in shape)
    dims = info.type.tensor_type.shape.dim
    if len(dims) != len(shape):
        raise OptionError(f"{loaded.path}: input '{info.name}' has {len(dims)} dims, not {len(shape)}")
    for index, (dim, size) in enumerate(zip(dims, shape, strict=True)):
        known = sizes.get(dim.dim_param) if dim.dim_param else max(dim.dim_value, 0) or None
        if size < 1 or known not in (None, size):
            raise OptionError(
                f"{loaded.path}: dim {index} of input '{info.name}' is {known or 'at least 1'}, not {size}"
            )
        if any(map(str.isalpha, dim.dim_param)):  # `?` is a dim without a name
            sizes[dim.dim_param] = size
        dim.dim_value = size


def _substituted(shape: ir.Shape | None, sizes: Mapping[str, int]) -> ir.Shape | None:
    if shape is None:
        return None
    return ir.Shape([dim if isinstance(dim, int) else sizes.get(str(dim.value), dim) for dim in shape])
