"""Keras 3 models, on the TensorFlow and PyTorch backends."""

from __future__ import annotations

from fuseonnx.frontends.keras.convert import convert_keras, is_keras_model
from fuseonnx.frontends.keras.load import load_keras

__all__ = ["convert_keras", "is_keras_model", "load_keras"]
