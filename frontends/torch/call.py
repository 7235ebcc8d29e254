"""How a PyTorch model is called: flat tensors on the outside, the caller's structure on the inside."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from fuseonnx.errors import ExportError
from fuseonnx.frontends.options import InputSpec

if TYPE_CHECKING:
    import torch

_CONSTANTS = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Call:
    """Example arguments as flat tensors.

    Attributes:
        names: of the tensors: the argument, and the keys that lead from there to the tensor.
        arguments: the argument of forward() that each tensor belongs to.
        tensors: the examples, on the model's device.
        leaves: what the arguments hold, flat; None stands for a tensor, whose place is in `places`.
        places: index into `leaves` of each tensor.
        spec: the pytree around the leaves.
        kept: classes other than containers whose tensors become outputs, because they are inputs too.
    """

    names: list[str]
    arguments: list[str]
    tensors: list[torch.Tensor]
    leaves: list[Any]
    places: list[int]
    spec: Any
    kept: frozenset[type]

    def unflatten(self, tensors: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments that hold `tensors`."""
        from torch.utils._pytree import tree_unflatten

        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = tree_unflatten(leaves, self.spec)
        return args, kwargs


def bind(model: torch.nn.Module, inputs: Any) -> Call:
    """Flatten example inputs; see `ExportOptions.inputs` for what they may be.

    Raises:
        ExportError: there are none, or one of them is neither a tensor nor a constant.
    """
    positional, others = forward_arguments(model)
    if inputs is None:
        names = ", ".join([*positional, *others])
        example = f"{positional[0]}=1x3x224x224:float32" if positional else "1x3x224x224:float32"
        raise ExportError(
            f"PyTorch models do not say what their inputs look like; give examples of forward({names}): "
            f"--input {example}, or inputs=tensor"
        )

    def name_of(path: list[Any]) -> list[str]:
        side, first, *rest = path
        argument = str(first) if side else _positional_name(positional, others, int(first))
        return [argument, *map(str, rest)]

    return _flattened(_split(inputs), name_of, _device_of(model))


def bind_program(module: torch.nn.Module, program: torch.export.ExportedProgram) -> Call:
    """Flatten the example inputs of an exported program, whose module is `module`."""
    names = iter(program.graph_signature.user_inputs)
    return _flattened(program.example_inputs, lambda _: [str(next(names))], _device_of(module))


def _flattened(
    tree: tuple[tuple[Any, ...], dict[str, Any]],
    name_of: Callable[[list[Any]], list[str]],
    device: torch.device,
) -> Call:
    from torch.utils._pytree import tree_flatten_with_path

    _register_caches(tree)
    paths, spec = tree_flatten_with_path(tree)
    call = Call([], [], [], [], [], spec, _node_classes(tree))
    for path, leaf in paths:
        parts = name_of([_key(key) for key in path])
        value = _as_leaf(leaf, "_".join(parts), device)
        if not isinstance(value, _CONSTANTS):
            call.names.append("_".join(parts))
            call.arguments.append(parts[0])
            call.places.append(len(call.leaves))
            call.tensors.append(value)
            value = None
        call.leaves.append(value)
    if not call.tensors:
        raise ExportError("none of the example inputs is a tensor; an ONNX model needs one at least")
    return call


def forward_arguments(model: torch.nn.Module) -> tuple[list[str], list[str]]:
    """Return the names of forward()'s positional arguments, and of its keyword-only and `*` arguments."""
    import torch

    if isinstance(model, torch.jit.ScriptModule):
        schema = model.forward.schema  # type: ignore[attr-defined]
        return [argument.name for argument in schema.arguments[1:]], []
    parameters = inspect.signature(model.forward).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return (
        [each.name for each in parameters if each.kind in plain],
        [stars.get(each.kind, "") + each.name for each in parameters if each.kind not in plain],
    )


def named_outputs(value: Any, kept: frozenset[type], name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what a model returns, flat, with the keys that lead there; None is left out.

    Everything but tensors, containers, dataclasses and the classes in `kept` is yielded as it is.
    """
    import torch

    children: Iterator[tuple[Any, Any]]
    if value is None:
        return
    if isinstance(value, torch.Tensor):
        yield name or "output", value
        return
    if isinstance(value, Mapping):
        children = iter(value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        children = zip(value._fields, value, strict=True)
    elif isinstance(value, tuple | list):
        name = name or "output"
        children = enumerate(value)
    elif type(value) in kept:
        from torch.utils._pytree import tree_flatten_with_path

        for path, leaf in tree_flatten_with_path(value)[0]:
            yield "_".join([name or "output", *(str(_key(key)) for key in path)]), leaf
        return
    elif dataclasses.is_dataclass(value):
        children = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    else:
        yield name or "output", value
        return
    for key, child in children:
        yield from named_outputs(child, kept, f"{name}_{key}" if name else str(key))


def flat_module(model: torch.nn.Module, call: Call, outputs: Sequence[str]) -> torch.nn.Module:
    """Return a module from the tensors of `call` to the tensors called `outputs`, in order."""
    import torch

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.training = False

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            args, kwargs = call.unflatten(tensors)
            results = dict(named_outputs(self.model(*args, **kwargs), call.kept))
            return tuple(results[name] for name in outputs)

    return Flat()


def to_torch(array: Any) -> torch.Tensor:
    """Return a copy of a numpy array, ml_dtypes' bfloat16 included."""
    import torch

    array = np.array(array)
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_numpy(tensor: torch.Tensor) -> Any:
    """Return a tensor of any device as a numpy array; bfloat16 as ml_dtypes has it."""
    import torch

    tensor = tensor.detach().cpu().contiguous().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _split(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    is_specs = isinstance(inputs, list) and all(isinstance(each, InputSpec) for each in inputs)
    each_input = tuple(inputs) if is_specs or isinstance(inputs, tuple) else (inputs,)
    named = {each.name: each for each in each_input if isinstance(each, InputSpec) and each.name}
    return tuple(each for each in each_input if not (isinstance(each, InputSpec) and each.name)), named


def _positional_name(positional: list[str], others: list[str], index: int) -> str:
    if index < len(positional):
        return positional[index]
    star = next((name[1:] for name in others if name.startswith("*") and name[1] != "*"), "input")
    return f"{star}_{index - len(positional)}"


def _as_leaf(value: Any, name: str, device: torch.device) -> Any:
    import torch

    if isinstance(value, _CONSTANTS):
        return value
    try:
        if isinstance(value, InputSpec):
            value = to_torch(value.example())
        elif isinstance(value, np.ndarray | np.generic):
            value = to_torch(value)
    except TypeError as error:
        raise ExportError(f"example input '{name}': {error}") from error
    if not isinstance(value, torch.Tensor):
        raise ExportError(
            f"example input '{name}' is a {type(value).__name__}; give tensors, numbers, or tuples, lists "
            "and dicts of them"
        )
    if value.is_complex():
        raise ExportError(f"input '{name}' is complex, which ONNX has not; take real and imaginary parts")
    return value.detach().to(device)


def _device_of(model: torch.nn.Module) -> torch.device:
    import torch

    tensors = [*model.parameters(), *model.buffers()]
    lazy = torch.nn.UninitializedParameter | torch.nn.UninitializedBuffer
    if any(isinstance(tensor, lazy) for tensor in tensors):
        raise ExportError("has lazy layers without weights; call the model once before")
    if any(tensor.is_meta for tensor in tensors):
        raise ExportError("its weights are on the meta device; load them before")
    return tensors[0].device if tensors else torch.device("cpu")


def _register_caches(tree: Any) -> None:
    """Let pytrees see into the cache of keys and values of transformers, when one is among the inputs."""
    from torch.utils._pytree import tree_leaves

    if any(type(leaf).__name__ == "DynamicCache" for leaf in tree_leaves(tree)):
        from transformers.integrations.executorch import register_dynamic_cache_export_support

        register_dynamic_cache_export_support()  # type: ignore[no-untyped-call]


def _node_classes(tree: Any) -> frozenset[type]:
    """Return the classes of a pytree's inner nodes, without the plain containers."""
    from torch.utils._pytree import SUPPORTED_NODES, tree_leaves

    classes: set[type] = set()

    def visit(node: Any) -> bool:
        classes.add(type(node))
        return False

    tree_leaves(tree, is_leaf=visit)
    return frozenset(classes & SUPPORTED_NODES.keys() - {tuple, list, dict})


def _key(key: Any) -> Any:
    """Return what a pytree key stands for: an index, a dict's key or an attribute."""
    for attribute in ("idx", "key", "name"):
        if hasattr(key, attribute):
            return getattr(key, attribute)
    return key
