"""Framework-neutral ONNX optimizer."""
