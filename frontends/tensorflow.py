"""TensorFlow models of all kinds: SavedModels, frozen graphs, TFLite files and live functions."""

from __future__ import annotations

from fuseonnx.frontends._graphdef import convert_graph_def
from fuseonnx.frontends._savedmodel import convert_saved_model
from fuseonnx.frontends._tf_function import convert_tf_function, is_tf_function
from fuseonnx.frontends._tflite import convert_tflite

__all__ = [
    "convert_graph_def",
    "convert_saved_model",
    "convert_tf_function",
    "convert_tflite",
    "is_tf_function",
]
