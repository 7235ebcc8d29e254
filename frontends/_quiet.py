"""Silence around the frameworks: their notices are not the user's, their warnings may be."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

_LOGGERS = (
    "absl",
    "keras",
    "onnxscript",
    "tensorflow",
    "tf2onnx",
    "torch.onnx",
    "torch.export",
    "torch._dynamo",
)
_ABOVE_ALL = logging.CRITICAL + 1


@contextlib.contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Run a block without the log lines of TensorFlow, Keras, tf2onnx and torch.onnx, or Python's warnings.

    What is written to sys.stderr and sys.stdout on purpose, such as progress, still comes out. Every setting
    is put back.

    Yields:
        A list that the warnings of the block are appended to.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(_ABOVE_ALL)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield caught
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def quiet_first_import() -> Iterator[None]:
    """Import TensorFlow inside: its C++ half writes notices of oneDNN and CUDA to file descriptor 2 itself.

    The log level of that half is read once, at the import, from an environment variable.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with quiet_native(), quiet():
            yield
    finally:
        if level is None:
            del os.environ["TF_CPP_MIN_LOG_LEVEL"]


@contextlib.contextmanager
def quiet_native() -> Iterator[None]:
    """Keep file descriptor 2 closed to C++ code that writes to it itself; so is it to everything else."""
    real = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(real, 2)
        os.close(real)
