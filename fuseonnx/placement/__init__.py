"""Which device runs which node of a model: what onnxruntime does by itself, and what costs least."""
