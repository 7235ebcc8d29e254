"""The other optimizers, each as a function from two paths to the action that reads one and writes the other.

python -m tools.peers onnxslim model.onnx output.onnx
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial

Action = Callable[[], object]
Tool = Callable[[str, str], Action]
"""Imports what the action needs, so that the action can be timed alone."""


def _onnxsim(model: str, output: str) -> Action:
    import onnx
    import onnxsim

    return lambda: onnx.save(onnxsim.simplify(onnx.load(model))[0], output)


def _onnxslim(model: str, output: str) -> Action:
    import onnxslim

    return lambda: onnxslim.slim(model, output)


def _onnxoptimizer(model: str, output: str) -> Action:
    import onnx
    import onnxoptimizer

    return lambda: onnx.save(onnxoptimizer.optimize(onnx.load(model)), output)


def _onnxscript(model: str, output: str) -> Action:
    import onnx
    from onnxscript import optimizer

    return lambda: onnx.save(optimizer.optimize(onnx.load(model)), output)


def onnxruntime_offline(level: str, model: str, output: str) -> Action:
    """Onnxruntime's own graph optimizations up to a `GraphOptimizationLevel`, saved."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = output
    options.log_severity_level = 3  # it warns that what it saves is for this processor
    return lambda: onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


ONNXRUNTIME = "onnxruntime offline"
OPTIMIZERS: Mapping[str, Tool] = {
    "onnxsim": _onnxsim,
    "onnxslim": _onnxslim,
    "onnxoptimizer": _onnxoptimizer,
    "onnxscript": _onnxscript,
}
"""Name of a package to what it makes of a model at its defaults."""
PEERS: Mapping[str, Tool] = {**OPTIMIZERS, ONNXRUNTIME: partial(onnxruntime_offline, "ORT_ENABLE_ALL")}


def main() -> None:
    """Let one tool optimize one model."""
    parser = argparse.ArgumentParser(description="Let another optimizer rewrite a model.")
    parser.add_argument("tool", choices=PEERS)
    parser.add_argument("model")
    parser.add_argument("output")
    options = parser.parse_args()
    PEERS[options.tool](options.model, options.output)()


if __name__ == "__main__":
    main()
