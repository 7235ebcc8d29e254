"""TensorFlow models of all kinds: SavedModels, frozen graphs, TFLite files and live functions."""

from __future__ import annotations

from fuseonnx.frontends.tensorflow.function import convert_tf_function, is_tf_function
from fuseonnx.frontends.tensorflow.graph_def import convert_graph_def
from fuseonnx.frontends.tensorflow.saved_model import convert_saved_model
from fuseonnx.frontends.tensorflow.tflite import convert_tflite

__all__ = [
    "convert_graph_def",
    "convert_saved_model",
    "convert_tf_function",
    "convert_tflite",
    "is_tf_function",
]
