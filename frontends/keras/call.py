"""How a Keras model is called: its inputs flat, with names, shapes and dtypes, and what it returns, flat."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends.options import InputSpec

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_COLOUR = re.compile(r"\x1b\[\d*m")
_HOW_TO_GIVE = "--input 1x224x224x3:float32, or inputs=array in Python"


@dataclass(frozen=True)
class Leaf:
    """An input; a None in `shape` is a size that the model leaves open."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Call:
    """A model, the structure of its arguments, and the inputs in it, in order."""

    model: Any
    arguments: Arguments
    leaves: list[Leaf]

    def __call__(self, *tensors: Any) -> list[tuple[str, Any]]:
        """Run the model in inference mode on flat tensors; return what it returns, flat, each with a name."""
        import keras

        args, kwargs = keras.tree.pack_sequence_as(self.arguments, list(tensors))
        result = self.model(*args, **kwargs, training=False)
        found = [(path, value) for path, value in keras.tree.flatten_with_path(result) if value is not None]
        names = ["_".join(map(str, path if _has_key(path) else ("output", *path))) for path, _ in found]
        layers = _output_layers(self.model)
        if len(layers) == len(found) and not any(_has_key(path) for path, _ in found):
            names = layers
        names = distinct(names, taken=[leaf.name for leaf in self.leaves])
        return [(name, value) for name, (_, value) in zip(names, found, strict=True)]


def call_of(model: Any, inputs: Any) -> Call:
    """Return how a model is called; one that never was is called once, on the example `inputs`.

    The batch, axis 0, stays open. Other sizes that the model leaves open become those of `inputs`, if given.

    Raises:
        ExportError: the shapes of its inputs are not known, or it does not run on the examples.
        OptionError: the examples do not suit the inputs that the model declares.
    """
    declared = _declared(model)
    if declared is None and inputs is not None:
        examples = _arguments_of(model, inputs)
        if not model.built:
            _run_once(model, examples)
            declared = _declared(model)
        if declared is None:
            return _finished(model, examples)
    call = _finished(model, declared or _recorded(model))
    return call if inputs is None else replace(call, leaves=_sized(call.leaves, inputs))


def distinct(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Return names with a number behind those that occur once more, or are taken."""
    seen, results = set(taken), []
    for name in names:
        fresh, number = name, 0
        while fresh in seen:
            number += 1
            fresh = f"{name}_{number}"
        seen.add(fresh)
        results.append(fresh)
    return results


def _declared(model: Any) -> Arguments | None:
    """Return the inputs of a functional model, or of a Sequential one that knows its own."""
    import keras

    if isinstance(model, keras.Sequential):
        return ((_input_of_sequential(model),), {}) if model.built else None
    return ((model.input,), {}) if hasattr(model, "_inputs_struct") else None


def _input_of_sequential(model: Any) -> Any:
    """Return the input. Its batch, that of the first call, is open unless a layer keeps state of rows."""
    if any(getattr(layer, "stateful", False) for layer in model.layers):
        return model.inputs[0]
    leaf = _leaf(model.inputs[0], "")
    return replace(leaf, shape=(None, *leaf.shape[1:]))


def _recorded(model: Any) -> Arguments:
    """Return the shapes of the call that built a subclassed model."""
    shapes = getattr(model, "_build_shapes_dict", None)
    if not shapes:
        raise ExportError(
            "was never called, so that nobody knows the shapes of its inputs and weights; call it once on an "
            f"example, or give one: {_HOW_TO_GIVE}"
        )
    parameters = _parameters(model, is_required=True)
    if len(parameters) > len(shapes):
        raise ExportError(
            f"takes {', '.join(parameters)}, and Keras keeps the shape of the first only; give examples: "
            f"--input {parameters[0]}=1x16 --input {parameters[1]}=1x16, or inputs={{name: array}} in Python"
        )
    dtype = str(model.input_dtype)
    if len(shapes) == 1:
        return (_leaves_of_shapes(next(iter(shapes.values())), dtype),), {}
    return (), {key.removesuffix("_shape"): _leaves_of_shapes(value, dtype) for key, value in shapes.items()}


def _leaves_of_shapes(shapes: Any, dtype: str) -> Any:
    if isinstance(shapes, Mapping):
        return {key: _leaves_of_shapes(value, dtype) for key, value in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return Leaf("", (None, *shapes[1:]), dtype)
    return [_leaves_of_shapes(value, dtype) for value in shapes]


def _arguments_of(model: Any, inputs: Any) -> Arguments:
    """Return example inputs as the arguments of a model that does not say what it takes."""
    parameters = _parameters(model)
    if isinstance(inputs, Mapping):
        named = dict(inputs)
    else:
        values = inputs if isinstance(inputs, tuple) else (inputs,)
        named = {value.name: value for value in values if isinstance(value, InputSpec) and value.name}
        if len(named) < len(values):
            return ((list(values),) if len(values) > len(parameters) else values), {}
    return ((), named) if named.keys() <= set(parameters) else ((named,), {})


def _parameters(model: Any, is_required: bool = False) -> list[str]:
    """Return the names of call()'s arguments that are inputs."""
    return [
        name
        for name, parameter in inspect.signature(model.call).parameters.items()
        if name not in ("training", "mask")
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and (parameter.default is parameter.empty or not is_required)
    ]


def _run_once(model: Any, examples: Arguments) -> None:
    import keras

    args, kwargs = keras.tree.map_structure(
        lambda value: value.example() if isinstance(value, InputSpec) else value, examples
    )
    try:
        model(*args, **kwargs, training=False)
    except Exception as error:
        raise ExportError(f"does not run on the example inputs: {first_line(error)}") from error


def _finished(model: Any, arguments: Arguments) -> Call:
    import keras

    parameters, leaves = _parameters(model), []
    for path, value in keras.tree.flatten_with_path(arguments):
        side, argument, *keys = path
        base = argument if side else (parameters[argument : argument + 1] or ["input"])[0]
        name = "_".join(map(str, keys if _has_key(keys) else (base, *keys)))
        leaves.append(_leaf(value, name))
    names = distinct([leaf.name for leaf in leaves])
    leaves = [replace(leaf, name=name) for leaf, name in zip(leaves, names, strict=True)]
    return Call(model, arguments, leaves)


def _leaf(value: Any, name: str) -> Leaf:
    import keras

    if isinstance(value, Leaf):
        return replace(value, name=value.name or name)
    if isinstance(value, keras.KerasTensor):
        return Leaf(value._keras_history.operation.name, tuple(value.shape), str(value.dtype))
    if not hasattr(value, "shape"):
        raise OptionError(f"example input '{name}' is a {type(value).__name__}; give an array")
    return Leaf(name, (None, *value.shape[1:]), keras.backend.standardize_dtype(value.dtype))


def _sized(leaves: Sequence[Leaf], inputs: Any) -> list[Leaf]:
    """Return the inputs with the sizes of the examples where the model leaves them open."""
    import keras

    names = [leaf.name for leaf in leaves]
    examples = dict(inputs) if isinstance(inputs, Mapping) else {}
    for index, value in enumerate([] if examples else keras.tree.flatten(inputs)):
        given = isinstance(value, InputSpec) and value.name
        examples[given or (names[index] if index < len(names) else f"number {index + 1}")] = value
    if unknown := next((name for name in examples if name not in names), None):
        raise OptionError(f"no input {unknown!r}; the inputs are {', '.join(names)}")
    return [_resized(leaf, examples[leaf.name].shape) if leaf.name in examples else leaf for leaf in leaves]


def _resized(leaf: Leaf, shape: Sequence[int]) -> Leaf:
    if len(shape) != len(leaf.shape) or any(
        size not in (None, given) for size, given in zip(leaf.shape[1:], shape[1:], strict=True)
    ):
        raise OptionError(f"input '{leaf.name}' has the shape {leaf.shape}, the example {tuple(shape)}")
    return replace(leaf, shape=(*leaf.shape[:1], *shape[1:]))


def _output_layers(model: Any) -> list[str]:
    import keras

    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    return list(getattr(model, "output_names", ()))


def _has_key(path: Sequence[Any]) -> bool:
    return any(isinstance(key, str) for key in path)


def first_line(error: Exception) -> str:
    """Return what an exception says in one line; Keras puts the layer into a line before it, in colour."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    count = 2 if lines and lines[0].startswith("Exception encountered") else 1
    return f"{type(error).__name__}: {' '.join(lines[:count])[:300]}"
